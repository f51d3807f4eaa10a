"""The few real bottlenecks of each category that a pack keeps: drawn by content, so the same whatever the order of the images."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from expansion_trainer.head.softmax import Array, Flags, Labels

SALT = "classifier-expansion core 1"
"""Makes the choice independent of an image's side, which its digest decides without salt."""
EACH = 10
"""Per category; every second one is never fitted on and calibrates."""

Keys = NDArray[np.uint64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Core:
    """In the order of labels, then of keys."""

    bottlenecks: Array  # (n, D)
    labels: Labels  # (n,), the head's columns
    keys: Keys  # (n,), the smallest of a category are kept
    calibrates: Flags  # (n,), else it is for fitting

    def __len__(self) -> int:
        return len(self.labels)

    def where(self, chosen: Flags) -> "Core":
        return Core(
            bottlenecks=self.bottlenecks[chosen],
            labels=self.labels[chosen],
            keys=self.keys[chosen],
            calibrates=self.calibrates[chosen],
        )

    def counts(self, categories: int) -> Labels:
        return np.bincount(self.labels, minlength=categories).astype(np.int64)


def empty(size: int) -> Core:
    return Core(
        bottlenecks=np.zeros((0, size), np.float32),
        labels=np.zeros(0, np.int64),
        keys=np.zeros(0, np.uint64),
        calibrates=np.zeros(0, np.bool_),
    )


def key(content_digest: str) -> int:
    """`content_digest`: the image's SHA-256 in hexadecimal."""
    return int(hashlib.sha256(f"{SALT} {content_digest}".encode()).hexdigest()[:16], 16)


def chosen(bottlenecks: Array, labels: Labels, digests: Sequence[str]) -> Core:
    """The EACH smallest keys of each category, a content once. In the order of their keys they are fitted on and calibrate in turn."""
    keys = np.array([key(digest) for digest in digests], np.uint64)
    nothing = np.zeros(len(keys), np.bool_)
    return _chosen(Core(bottlenecks=bottlenecks, labels=labels, keys=keys, calibrates=nothing))


def merged(parts: Sequence[Core]) -> Core:
    """What `chosen` would have given of all images of all parts at once."""
    return _chosen(joined(parts))


def _chosen(candidates: Core) -> Core:
    order = np.lexsort((candidates.keys, candidates.labels))
    order = order[_first_of_its_content(candidates.labels[order], candidates.keys[order])]
    rank = _rank(candidates.labels[order])
    kept = order[rank < EACH]
    return Core(
        bottlenecks=candidates.bottlenecks[kept].astype(np.float32),
        labels=candidates.labels[kept],
        keys=candidates.keys[kept],
        calibrates=rank[rank < EACH] % 2 == 1,
    )


def of_sides(training: Core, validation: Core) -> Core:
    """A run's: validation images calibrate, as far as there are any, because the run's own rows were not fitted on them.

    Both parts as `chosen` gave them, of contents that the run holds apart.
    """
    calibrating = validation.where(_rank(validation.labels) < EACH // 2)
    categories = 1 + int(np.concatenate([training.labels, validation.labels]).max(initial=-1))
    lacking = EACH // 2 - calibrating.counts(categories)
    spare = training.where(training.calibrates)
    spare = spare.where(_rank(spare.labels) < lacking[spare.labels])
    others = training.where(~np.isin(training.keys, spare.keys))
    fitted = others.where(_rank(others.labels) < EACH // 2)
    return joined([_marked(fitted, False), _marked(calibrating, True), _marked(spare, True)])


def joined(parts: Sequence[Core]) -> Core:
    """Of contents that stand in one part only."""
    labels = np.concatenate([part.labels for part in parts])
    keys = np.concatenate([part.keys for part in parts])
    order = np.lexsort((keys, labels))
    return Core(
        bottlenecks=np.concatenate([part.bottlenecks for part in parts])[order],
        labels=labels[order],
        keys=keys[order],
        calibrates=np.concatenate([part.calibrates for part in parts])[order],
    )


def _marked(part: Core, calibrates: bool) -> Core:
    return Core(
        bottlenecks=part.bottlenecks,
        labels=part.labels,
        keys=part.keys,
        calibrates=np.full(len(part), calibrates),
    )


def _rank(labels: Labels) -> Labels:
    """Of each entry among those of its label; labels ascend."""
    starts = np.searchsorted(labels, labels, side="left")
    return np.arange(len(labels)) - starts


def _first_of_its_content(labels: Labels, keys: Keys) -> Flags:
    """Copies lie side by side in the order of labels and keys."""
    same = (labels[1:] == labels[:-1]) & (keys[1:] == keys[:-1])
    return np.concatenate([np.ones(min(len(labels), 1), np.bool_), ~same])
