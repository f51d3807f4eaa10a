"""Deals bottlenecks out to those who may see them: fitting, choosing, or measuring, and nobody gets another one's. NumPy only."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from expansion_trainer.dataset.split import Divided, Part, Side
from expansion_trainer.head.evidence import Evidence
from expansion_trainer.head.fit import Labelled

PICTURE_SIDES = (Side.TRAINING, Side.TRAINING, Side.TRAINING, Side.VALIDATION, Side.TEST)
"""Of every five procedural images three are fitted on, one calibrates and one is held out for the report."""

Array = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, eq=False)
class Bottlenecks:
    images: Array  # (n, D), a row for each scanned image
    digests: NDArray[np.str_]  # (n,), of their contents
    pictures: Array  # (m, D), a row for each procedural image; m = 0 in mode Replace


@dataclass(frozen=True, kw_only=True, eq=False)
class Dealt:
    training: Labelled
    validation: Labelled
    test: Labelled
    test_images: NDArray[np.int64]  # which scanned image each row of `test` is
    evidence: tuple[Evidence, ...]  # for fitting
    calibration: tuple[Evidence, ...]
    base_test: Labelled | None  # held-out replay images
    bystanders: Evidence | None  # held-out images of no new category: photographs if there are any


def deal(divided: Divided, bottlenecks: Bottlenecks) -> Dealt:
    held_out = {evidence.kind: evidence for evidence in _evidence(divided, bottlenecks, Side.TEST)}
    replayed = held_out.get("replay")
    return Dealt(
        training=_labelled(divided.new[Side.TRAINING], bottlenecks),
        validation=_labelled(divided.new[Side.VALIDATION], bottlenecks),
        test=_labelled(divided.new[Side.TEST], bottlenecks),
        test_images=_by_content(divided.new[Side.TEST], bottlenecks).rows,
        evidence=tuple(_evidence(divided, bottlenecks, Side.TRAINING)),
        calibration=tuple(_evidence(divided, bottlenecks, Side.VALIDATION)),
        base_test=_of_base(replayed),
        bystanders=held_out.get("unlabelled") or held_out.get("procedural"),
    )


def _labelled(part: Part, bottlenecks: Bottlenecks) -> Labelled:
    part = _by_content(part, bottlenecks)
    return Labelled(bottlenecks=bottlenecks.images[part.rows], labels=part.labels)


def _by_content(part: Part, bottlenecks: Bottlenecks) -> Part:
    """In an order that does not depend on names, so that renamed images give the same model, bit by bit."""
    order = np.argsort(bottlenecks.digests[part.rows], kind="stable")
    return Part(rows=part.rows[order], labels=part.labels[order])


def _evidence(divided: Divided, bottlenecks: Bottlenecks, side: Side) -> Iterator[Evidence]:
    """Every kind that this side has any of."""
    replay = _labelled(divided.replay[side], bottlenecks)
    unlabelled = _labelled(divided.unlabelled[side], bottlenecks)
    pictures = bottlenecks.pictures[picture_rows(len(bottlenecks.pictures), side)]
    if len(replay):
        yield Evidence(kind="replay", bottlenecks=replay.bottlenecks, labels=replay.labels)
    if len(unlabelled):
        yield Evidence(kind="unlabelled", bottlenecks=unlabelled.bottlenecks)
    if len(pictures):
        yield Evidence(kind="procedural", bottlenecks=pictures)


def picture_rows(count: int, side: Side) -> NDArray[np.int64]:
    return np.array([row for row in range(count) if PICTURE_SIDES[row % 5] is side], np.int64)


def _of_base(replayed: Evidence | None) -> Labelled | None:
    if replayed is None or replayed.labels is None:
        return None
    return Labelled(bottlenecks=replayed.bottlenecks, labels=replayed.labels)
