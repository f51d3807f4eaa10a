"""Deals bottlenecks out to those who may see them: fitting, choosing, or measuring, and nobody gets another one's. NumPy only."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from expansion_trainer.dataset.split import Divided, Part, Side
from expansion_trainer.head.evidence import Evidence
from expansion_trainer.head.fit import Labelled
from expansion_trainer.packs import compact
from expansion_trainer.packs import core as cores
from expansion_trainer.packs.core import Core
from expansion_trainer.packs.pack import Images
from expansion_trainer.starting_model import StartingModel

PICTURE_SIDES = (Side.TRAINING, Side.TRAINING, Side.TRAINING, Side.VALIDATION, Side.TEST)
"""Of every five procedural images three are fitted on, one calibrates and one is held out for the report."""

Array = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, eq=False)
class Copies:
    """Distorted copies of images that are fitted on."""

    rows: NDArray[np.int64]  # (r,), scanned images, ascending
    bottlenecks: Array  # (r, k, D)

    def of(self, rows: NDArray[np.int64]) -> Array:
        """(m, k, D) of some of these images."""
        found: Array = self.bottlenecks[np.searchsorted(self.rows, rows)]
        return found


@dataclass(frozen=True, kw_only=True, eq=False)
class Bottlenecks:
    images: Array  # (n, D), a row for each scanned image
    digests: NDArray[np.str_]  # (n,), of their contents
    pictures: Array  # (m, D), a row for each procedural image; m = 0 in mode Replace
    copies: Copies | None = None  # of the images on the training side

    def groups(self, leaders: Mapping[int, int]) -> NDArray[np.int64]:
        """(n,), one number for pictures that are held together; in the order of contents, whatever the files are called."""
        rank = np.argsort(np.argsort(self.digests, kind="stable"), kind="stable")
        return rank[np.array([leaders.get(row, row) for row in range(len(self.digests))], np.int64)]


@dataclass(frozen=True, kw_only=True, eq=False)
class Dealt:
    training: Labelled
    taught: Labelled  # the same and, behind them, their distorted copies
    validation: Labelled
    test: Labelled
    images: dict[Side, NDArray[np.int64]]  # which scanned image each row of those three is
    fresh: Core  # of the new categories, what a pack will keep; labels are theirs
    relearned: dict[Side, Labelled]  # replay images of categories that earlier expansions added; base columns
    replayed_images: dict[
        Side, NDArray[np.int64]
    ]  # which scanned image each row of evidence of kind replay is
    core: Core | None  # what a pack carries, without today's images
    evidence: tuple[Evidence, ...]  # for fitting; none where no row is frozen: nothing would answer it
    calibration: tuple[Evidence, ...]
    base_test: Labelled | None  # held-out replay images; base columns
    bystanders: Evidence | None  # held-out images of no new category: photographs if there are any

    def kept(self, side: Side, base_count: int, digests: NDArray[np.str_]) -> Images:
        """For a pack: of new categories, and replay images, which are all that is known of old ones that the pack has none of.

        `digests`: of all scanned images. Test images have no place in it.
        """
        is_training = side is Side.TRAINING
        new, evidence = (self.training, self.evidence) if is_training else (self.validation, self.calibration)
        replayed = [e for e in evidence if e.kind == "replay"]
        rows = [self.images[side], *(self.replayed_images[side] for _ in replayed)]
        labels = [new.labels + base_count, *(e.labels for e in replayed if e.labels is not None)]
        return Images(
            bottlenecks=np.concatenate([new.bottlenecks, *(e.bottlenecks for e in replayed)]),
            labels=np.concatenate(labels),
            digests=digests[np.concatenate(rows)].tolist(),
        )

    @property
    def copies(self) -> int:
        """Distorted ones of images of new categories and of other things."""
        shapes = [e.copies.shape for e in self.evidence if e.copies is not None]
        of_evidence: int = sum(rows * each for rows, each, _ in shapes)
        return len(self.taught) - len(self.training) + of_evidence

    def replayed(self, categories: int) -> NDArray[np.int64]:
        """(B,), replay images of each of the base's categories, on any side."""
        sides = (*self.evidence, *self.calibration)
        parts = [e.labels for e in sides if e.kind == "replay" and e.labels is not None]
        parts += [side.labels for side in (*self.relearned.values(), *filter(None, [self.base_test]))]
        labels = np.concatenate([np.zeros(0, np.int64), *parts])
        return np.bincount(labels, minlength=categories).astype(np.int64)


@dataclass(frozen=True, kw_only=True, eq=False)
class Known:
    """What is known of the base without today's images."""

    frozen: int | None = None  # columns of the pretrained network; None: all of the base
    core: Core | None = None  # real bottlenecks that a pack carries; base columns

    @classmethod
    def of(cls, starting: StartingModel) -> "Known":
        return cls(frozen=starting.frozen, core=starting.pack.core if starting.pack else None)


def deal(divided: Divided, bottlenecks: Bottlenecks, known: Known = Known()) -> Dealt:
    """A pack's bottlenecks of frozen categories are evidence; those of earlier categories wait for head/chain.py."""
    known = replace(known, core=_others(known.core, bottlenecks))
    held_out: dict[str, Evidence] = {
        evidence.kind: evidence for evidence in _evidence(divided, bottlenecks, Side.TEST, known)
    }
    frozen = known.frozen
    groups = bottlenecks.groups(divided.leaders)
    return Dealt(
        training=_labelled(divided.new[Side.TRAINING], bottlenecks, groups),
        taught=_taught(divided.new[Side.TRAINING], bottlenecks, groups),
        validation=_labelled(divided.new[Side.VALIDATION], bottlenecks),
        test=_labelled(divided.new[Side.TEST], bottlenecks),
        images={side: _by_content(part, bottlenecks).rows for side, part in divided.new.items()},
        fresh=_fresh(divided, bottlenecks),
        relearned={
            side: _labelled(_earlier(part, frozen), bottlenecks) for side, part in divided.replay.items()
        },
        replayed_images={
            side: _by_content(_frozen(part, frozen), bottlenecks).rows
            for side, part in divided.replay.items()
        },
        core=known.core,
        evidence=() if frozen == 0 else tuple(_evidence(divided, bottlenecks, Side.TRAINING, known)),
        calibration=tuple(_evidence(divided, bottlenecks, Side.VALIDATION, known)),
        base_test=_of_base(divided.replay[Side.TEST], bottlenecks),
        bystanders=_bystanders(held_out, known),
    )


def _bystanders(held_out: Mapping[str, Evidence], known: Known) -> Evidence | None:
    """Photographs, where there is a frozen row that may answer them; where there is none, what the pack has of other categories."""
    if known.frozen == 0 and known.core is not None:
        core = known.core.where(known.core.calibrates)
        return Evidence(kind="pack", bottlenecks=core.bottlenecks, labels=core.labels)
    return held_out.get("unlabelled") or held_out.get("pack") or held_out.get("procedural")


def _others(core: Core | None, bottlenecks: Bottlenecks) -> Core | None:
    """Without the contents that today's images have, too: each has one side, and it is today's."""
    if core is None:
        return None
    today = np.array([cores.key(digest) for digest in bottlenecks.digests.tolist()], np.uint64)
    return core.where(~np.isin(core.keys, today))


def _fresh(divided: Divided, bottlenecks: Bottlenecks) -> Core:
    """Rounded as a pack rounds, so that a later step sees the same numbers."""
    sides = []
    for side in (Side.TRAINING, Side.VALIDATION):
        part = _by_content(divided.new[side], bottlenecks)
        digests = bottlenecks.digests[part.rows].tolist()
        sides.append(cores.chosen(bottlenecks.images[part.rows], part.labels, digests))
    core = cores.of_sides(*sides)
    return replace(core, bottlenecks=compact.whole(*compact.halved(core.bottlenecks)))


def _earlier(part: Part, frozen: int | None) -> Part:
    chosen = part.labels >= (np.inf if frozen is None else frozen)
    return Part(rows=part.rows[chosen], labels=part.labels[chosen])


def _frozen(part: Part, frozen: int | None) -> Part:
    chosen = part.labels < (np.inf if frozen is None else frozen)
    return Part(rows=part.rows[chosen], labels=part.labels[chosen])


def _labelled(part: Part, bottlenecks: Bottlenecks, groups: NDArray[np.int64] | None = None) -> Labelled:
    part = _by_content(part, bottlenecks)
    return Labelled(
        bottlenecks=bottlenecks.images[part.rows],
        labels=part.labels,
        groups=None if groups is None else groups[part.rows],
    )


def _taught(part: Part, bottlenecks: Bottlenecks, groups: NDArray[np.int64]) -> Labelled:
    """With each image's copies, in its group."""
    images, part = _labelled(part, bottlenecks, groups), _by_content(part, bottlenecks)
    if bottlenecks.copies is None:
        return images
    copies = bottlenecks.copies.of(part.rows)
    rows = np.concatenate([np.arange(len(part)), np.repeat(np.arange(len(part)), copies.shape[1])])
    return Labelled(
        bottlenecks=np.concatenate([images.bottlenecks, copies.reshape(-1, copies.shape[2])]),
        labels=part.labels[rows],
        groups=groups[part.rows][rows],
        is_copy=np.arange(len(rows)) >= len(part),
    )


def _by_content(part: Part, bottlenecks: Bottlenecks) -> Part:
    """In an order that does not depend on names, so that renamed images give the same model, bit by bit."""
    order = np.argsort(bottlenecks.digests[part.rows], kind="stable")
    return Part(rows=part.rows[order], labels=part.labels[order])


def _evidence(divided: Divided, bottlenecks: Bottlenecks, side: Side, known: Known) -> Iterator[Evidence]:
    """Every kind that this side has any of. A pack has no test side: what it calibrates with is all that may be looked at."""
    replay = _labelled(_frozen(divided.replay[side], known.frozen), bottlenecks)
    unlabelled = _labelled(divided.unlabelled[side], bottlenecks)
    pictures = bottlenecks.pictures[picture_rows(len(bottlenecks.pictures), side)]
    taught = bottlenecks.copies if side is Side.TRAINING else None
    if len(replay):
        rows = _by_content(_frozen(divided.replay[side], known.frozen), bottlenecks).rows
        copies = None if taught is None else taught.of(rows)
        yield Evidence(kind="replay", bottlenecks=replay.bottlenecks, labels=replay.labels, copies=copies)
    if known.core is not None:
        yield from _of_pack(known.core, side, known.frozen)
    if len(unlabelled):
        copies = (
            None if taught is None else taught.of(_by_content(divided.unlabelled[side], bottlenecks).rows)
        )
        yield Evidence(kind="unlabelled", bottlenecks=unlabelled.bottlenecks, copies=copies)
    if len(pictures):
        yield Evidence(kind="procedural", bottlenecks=pictures)


def _of_pack(core: Core, side: Side, frozen: int | None) -> Iterator[Evidence]:
    here = core.calibrates if side is not Side.TRAINING else ~core.calibrates
    chosen = core.where(here & (core.labels < (np.inf if frozen is None else frozen)))
    if len(chosen):
        yield Evidence(kind="pack", bottlenecks=chosen.bottlenecks, labels=chosen.labels)


def picture_rows(count: int, side: Side) -> NDArray[np.int64]:
    return np.array([row for row in range(count) if PICTURE_SIDES[row % 5] is side], np.int64)


def _of_base(part: Part, bottlenecks: Bottlenecks) -> Labelled | None:
    return _labelled(part, bottlenecks) if len(part) else None
