"""Finds unlabelled photographs that show new categories: as evidence against these they would teach the opposite. NumPy only.

A photograph is suspected if it is both near to a new category and on its side, measured by what images of that category score that
were not looked at. Near: cosine to the nearest image of the category. Side: a ridge regression of new images against unlabelled
photographs, fold by fold without those it judges.

How far that goes is found from the counts. Limits that miss a share q of the new images should find n (1 - q)^2 of n photographs
that show new categories. If looser limits find many more than stricter ones let expect, they now take other photographs, and those
that merely look like a new category are the best evidence there is.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from expansion_contract.dataset import UNKNOWN, listed
from expansion_contract.report import Finding
from expansion_trainer.dataset.scan import SourceImage
from expansion_trainer.dataset.split import Divided, Part, Side

Array = NDArray[np.float32]
Doubles = NDArray[np.float64]
Indices = NDArray[np.int64]
Flags = NDArray[np.bool_]

MISSED = (0.35, 0.2, 0.1, 0.05, 0.03, 0.02, 0.01)
SLACK = 1.1
FEWEST = 10
"""With fewer images of either kind there is nothing to measure by."""
MOST = 20_000
"""Images of either kind that are fitted on; all are judged."""
FOLDS = 5
OWN = 8
"""Images of a category from which on it is measured by its own; below, by those of all."""
BLOCK = 2048


def without_new_categories(
    divided: Divided, bottlenecks: Array, images: Sequence[SourceImage], digests: Sequence[str]
) -> Divided:
    """`bottlenecks`: (n, D), `images` and `digests`: n of them, all as they were divided."""
    photographs = _by_content(np.concatenate([part.rows for part in divided.unlabelled.values()]), digests)
    new = _new_images(divided, digests)
    if min(len(new), len(photographs)) < FEWEST:
        return divided
    known = _Known.of(bottlenecks, new)
    found = _suspected(known, bottlenecks, photographs)
    left = {side: _without(part, photographs[found >= 0]) for side, part in divided.unlabelled.items()}
    said = _finding(photographs, found, divided.categories, images)
    return replace(divided, unlabelled=left, findings=(*divided.findings, *said))


def _by_content(rows: Indices, digests: Sequence[str]) -> Indices:
    return np.array(sorted(rows.tolist(), key=lambda row: digests[row]), np.int64)


def _new_images(divided: Divided, digests: Sequence[str]) -> Part:
    """Of training, in the order of their content, and evenly of all categories; unknown things may be on any photograph."""
    part = divided.new[Side.TRAINING]
    label_of = dict(zip(part.rows.tolist(), part.labels.tolist(), strict=True))
    unknown = divided.categories.index(UNKNOWN) if UNKNOWN in divided.categories else -1
    rows = [row for row in _by_content(part.rows, digests).tolist() if label_of[row] != unknown]
    most = max(OWN, MOST // max(len(divided.categories), 1))
    counts = dict.fromkeys(label_of.values(), 0)
    kept = []
    for row in rows:
        counts[label_of[row]] += 1
        if counts[label_of[row]] <= most:
            kept.append(row)
    return Part(rows=np.array(kept, np.int64), labels=np.array([label_of[row] for row in kept], np.int64))


def _without(part: Part, rows: Indices) -> Part:
    stays = ~np.isin(part.rows, rows)
    return Part(rows=part.rows[stays], labels=part.labels[stays])


@dataclass(frozen=True, kw_only=True, eq=False)
class _Known:
    """Images of new categories and how near each is to the others of its category."""

    units: Array  # (m, D), of length 1
    labels: Indices  # (m,)
    nearest: Doubles  # (m,), cosine; -1 if it is the only one

    @classmethod
    def of(cls, bottlenecks: Array, new: Part) -> "_Known":
        units = _units(bottlenecks[new.rows])
        nearest = np.full(len(new), -1.0)
        for label in np.unique(new.labels):
            mine = np.flatnonzero(new.labels == label)
            for start in range(0, len(mine), BLOCK):
                part = mine[start : start + BLOCK]
                cosines = units[part] @ units[mine].T
                cosines[np.arange(len(part)), start + np.arange(len(part))] = -1
                nearest[part] = cosines.max(axis=1)
        return cls(units=units, labels=new.labels, nearest=nearest)

    def limits(self, missed: float) -> Doubles:
        """(m,) the cosine that all but `missed` of the images of each one's category reach; 2 (nobody) where none can say."""
        counts = np.bincount(self.labels)
        paired = self.nearest[counts[self.labels] > 1]
        pooled = np.quantile(paired, missed) if len(paired) >= OWN else 2.0
        limits = np.full(len(self.labels), pooled)
        for label in np.flatnonzero(counts >= OWN):
            mine = self.labels == label
            limits[mine] = np.quantile(self.nearest[mine], missed)
        return limits


def _units(bottlenecks: Array) -> Array:
    lengths = np.linalg.norm(bottlenecks, axis=1, keepdims=True)
    units: Array = bottlenecks / np.maximum(lengths, np.float32(1e-12))
    return units


def _suspected(known: _Known, bottlenecks: Array, photographs: Indices) -> Indices:
    """(p,) the new category each photograph is taken for, or -1."""
    units = _units(bottlenecks[photographs])
    sides, own_sides = _out_of_fold(units, known.units)
    excess, labels = _closeness(units, known)
    found, all_of_them = np.full(len(photographs), -1, np.int64), np.inf
    for step, missed in enumerate(MISSED):
        taken = (sides >= np.quantile(own_sides, missed)) & (excess[step] >= 0)
        expected = all_of_them * (1 - missed) ** 2
        if taken.sum() > SLACK * expected + 2 * np.sqrt(expected):
            break
        found = np.where(taken, labels[step], -1)
        all_of_them = min(all_of_them, max(taken.sum(), 1) / (1 - missed) ** 2)
    return found


def _closeness(units: Array, known: _Known) -> tuple[Doubles, Indices]:
    """For each of MISSED: (p,) by how much the best category's limit is exceeded, and (p,) which category that is."""
    limits = np.stack([known.limits(missed) for missed in MISSED])
    excess = np.empty((len(MISSED), len(units)))
    labels = np.empty((len(MISSED), len(units)), np.int64)
    for start in range(0, len(units), BLOCK):
        part = slice(start, start + BLOCK)
        cosines = units[part] @ known.units.T
        for step, limit in enumerate(limits):
            over = cosines - limit
            best = over.argmax(axis=1)
            excess[step, part], labels[step, part] = over.max(axis=1), known.labels[best]
    return excess, labels


def _out_of_fold(photographs: Array, new: Array) -> tuple[Doubles, Doubles]:
    """Towards 1: new; towards -1: photographs. Each scored by a ridge regression that was fitted without its fold."""
    scores = np.empty(len(photographs)), np.empty(len(new))
    folds = np.arange(len(photographs)) % FOLDS, np.arange(len(new)) % FOLDS
    moments = [_Moments.of(photographs[:MOST][folds[0][:MOST] == fold]) for fold in range(FOLDS)]
    others = [_Moments.of(new[folds[1] == fold]) for fold in range(FOLDS)]
    for fold in range(FOLDS):
        direction, middle = _separating(_joined(moments, fold), _joined(others, fold))
        for units, places, score in zip((photographs, new), folds, scores, strict=True):
            score[places == fold] = units[places == fold] @ direction - middle
    return scores


@dataclass(frozen=True, kw_only=True, eq=False)
class _Moments:
    count: int
    total: Doubles  # (D,)
    gram: Doubles  # (D, D)

    @classmethod
    def of(cls, units: Array) -> "_Moments":
        return cls(
            count=len(units),
            total=units.sum(axis=0, dtype=np.float64),
            gram=(units.T @ units).astype(np.float64),
        )


def _joined(parts: Sequence[_Moments], without: int) -> _Moments:
    kept = [part for fold, part in enumerate(parts) if fold != without]
    return _Moments(
        count=sum(part.count for part in kept),
        total=np.sum([part.total for part in kept], axis=0),
        gram=np.sum([part.gram for part in kept], axis=0),
    )


def _separating(photographs: _Moments, new: _Moments) -> tuple[Doubles, float]:
    """Ridge regression on both kinds at equal weight, +1 for new and -1 for photographs; the ridge is as strong as the data."""
    ones, others = new.total / new.count, photographs.total / photographs.count
    centre = (ones + others) / 2
    scatter = (new.gram / new.count + photographs.gram / photographs.count) / 2 - np.outer(centre, centre)
    scatter[np.diag_indices_from(scatter)] += max(np.trace(scatter) / len(scatter), 1e-12)
    direction: Doubles = np.linalg.solve(scatter, (ones - others) / 2).astype(np.float64)
    return direction, float(centre @ direction)


def _finding(
    photographs: Indices, found: Indices, categories: Sequence[str], images: Sequence[SourceImage]
) -> Iterator[Finding]:
    taken = np.flatnonzero(found >= 0)
    if not len(taken):
        return
    counts = np.bincount(found[taken], minlength=len(categories))
    most = [
        f"{categories[label]} ({counts[label]})"
        for label in np.argsort(-counts, kind="stable")
        if counts[label]
    ]
    first = images[int(photographs[taken[0]])].address
    yield Finding(
        severity="warning",
        reason="UnlabelledAreNew",
        message=f"{len(taken)} of {len(photographs)} images of spec.unlabelled seem to show new categories: {listed(most)}, for example"
        f" {first}. They are left out: against the new categories they would prove the wrong thing. Unlabelled images should show"
        " anything but these.",
    )
