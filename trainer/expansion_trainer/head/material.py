"""What a head is fitted on and what it is judged by, laid out once: centred, scaled, and dealt into folds.

Centring and scaling make one L2 mean the same for every backbone: after it the mean squared length of a bottleneck is 1.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from expansion_trainer.head import witnesses
from expansion_trainer.head.evidence import Evidence
from expansion_trainer.head.softmax import OLD, Array, Doubles, Flags, Labels, Problem, Rows, old_side
from expansion_trainer.head.witnesses import UNKNOWN

FOLDS = 5
NEVER = -1
"""The fold of an image that is never held out: the only one of its category."""
EVIDENCE_MASS = 50.0
"""Weight of all evidence together against all new categories together; measured in benchmarks/README.md."""
DRAWN_BESIDE = 0.1
"""What a drawn image weighs beside photographs, which show better where the old categories lie; measured in benchmarks/README.md."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Labelled:
    """Bottlenecks with their category's index: among the new categories, or among the base's for base images."""

    bottlenecks: Array  # (n, D)
    labels: Labels  # (n,)
    weights: Doubles | None = (
        None  # (n,), at most 1; what weighs less than 1 (drawn from statistics) teaches, but judges nothing
    )
    groups: Labels | None = None  # (n,), rows of one group (copies of one photograph) are held out together
    is_copy: Flags | None = None  # (n,), distorted copies: held out with their group, but they judge nothing

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, kw_only=True, eq=False)
class Scale:
    centre: Array  # (D,)
    length: float

    @classmethod
    def of(cls, bottlenecks: Array) -> "Scale":
        centre = bottlenecks.mean(axis=0, dtype=np.float64).astype(np.float32)
        squares = np.square(bottlenecks - centre).sum(axis=1, dtype=np.float64)
        return cls(centre=centre, length=float(np.sqrt(squares.mean())) or 1.0)

    def apply(self, bottlenecks: Array) -> Array:
        return (bottlenecks - self.centre) / np.float32(self.length)

    def restore(self, scaled: Array) -> Array:
        return scaled * np.float32(self.length) + self.centre

    def redo(self, rows: Rows) -> Rows:
        """The rows that give the same logits on scaled bottlenecks."""
        bias = rows.bias + self.centre.astype(np.float64) @ rows.weights.astype(np.float64)
        return Rows(weights=rows.weights * np.float32(self.length), bias=bias.astype(np.float32))

    def undo(self, rows: Rows) -> Rows:
        """The rows that give the same logits on bottlenecks as they come."""
        weights = rows.weights.astype(np.float64) / self.length
        bias = rows.bias - self.centre.astype(np.float64) @ weights
        return Rows(weights=weights.astype(np.float32), bias=bias.astype(np.float32))


@dataclass(frozen=True, kw_only=True, eq=False)
class Images:
    """New images and evidence side by side."""

    bottlenecks: Array  # (n, D), scaled
    rivals: Doubles  # (n,), log sum exp of the base's logits
    best_old: Doubles  # (n,), the highest of the base's logits
    truth: Labels  # (n,), index among all categories, base first, or UNKNOWN
    targets: Labels  # (n,), index among the new categories, or OLD
    weights: Doubles  # (n,), of an image within its category
    is_witness: Flags  # (n,), evidence that may say where the boundary lies

    def __len__(self) -> int:
        return len(self.truth)

    def where(self, chosen: Flags) -> "Images":
        return Images(**{column.name: getattr(self, column.name)[chosen] for column in fields(self)})


def joined(parts: Sequence[Images]) -> Images:
    columns = (column.name for column in fields(Images))
    return Images(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in columns})


@dataclass(frozen=True, kw_only=True, eq=False)
class Material:
    scale: Scale
    fitted: Images  # training images and evidence
    folds: Labels  # of those
    asked: Flags  # which of those are held out in some fold and judge
    aside: Images  # validation images and calibration evidence
    held_out: Images  # `aside`, then of `fitted` what is asked
    photographs: bool  # the witnesses are photographs, not procedural images
    counted: Doubles  # how much each witness among `held_out` counts; see witnesses.py
    categories: int  # U, new ones
    anchor: Doubles | None  # (D, U), where L2 pulls the scaled weights to

    def problem(self, without: int | None = None) -> Problem:
        """All that is fitted, or all but one fold: what is held out weighs nothing."""
        kept = np.ones(len(self.fitted), dtype=bool) if without is None else self.folds != without
        return Problem(
            bottlenecks=self.fitted.bottlenecks,
            rivals=self.fitted.rivals,
            targets=self.fitted.targets,
            masses=balanced_masses(self.fitted.targets, kept * self.fitted.weights, self.categories),
            categories=self.categories,
            anchor=self.anchor,
        )


def material(
    base: Rows | None,
    training: Labelled,
    validation: Labelled,
    evidence: Sequence[Evidence],
    calibration: Sequence[Evidence],
    seed: int,
    anchor: Rows | None = None,
) -> Material:
    categories = count(training, validation)
    scale = Scale.of(np.concatenate([training.bottlenecks, *(e.bottlenecks for e in evidence)]))
    photographs = any(is_photographs(e) for e in (*evidence, *calibration))
    present = [e for e in evidence if len(e.bottlenecks)]
    fitted = _images(base, scale, training, [*present, *copies(present)], photographs)
    aside = _images(base, scale, validation, calibration, photographs)
    folds = deal(fitted.targets, _groups(training, present), seed)
    folds[fitted.weights < 1] = NEVER
    asked = (folds != NEVER) & ~_are_copies(training, present)
    held_out = joined([aside, fitted.where(asked)])
    seen = held_out.where(held_out.is_witness)
    return Material(
        scale=scale,
        fitted=fitted,
        folds=folds,
        asked=asked,
        aside=aside,
        held_out=held_out,
        photographs=photographs,
        counted=witnesses.weights(base, scale.restore(seen.bottlenecks), seen.truth),
        categories=categories,
        anchor=None if anchor is None else _pull(scale.redo(anchor), categories),
    )


def _pull(anchor: Rows, categories: int) -> Doubles:
    """Zero for the categories that the anchor does not know."""
    pull = np.zeros((len(anchor.weights), categories))
    pull[:, : len(anchor.bias)] = anchor.weights
    return pull


def is_photographs(evidence: Evidence) -> bool:
    return evidence.kind != "procedural" and len(evidence.bottlenecks) > 0


def count(training: Labelled, validation: Labelled) -> int:
    """How many new categories there are; ValueError if one of them has nothing to learn from."""
    labels = np.concatenate([training.labels, validation.labels])
    categories = int(labels.max(initial=-1)) + 1
    empty = np.flatnonzero(np.bincount(training.labels, minlength=categories) == 0)
    if categories == 0 or len(empty):
        raise ValueError(
            f"Every new category needs a training image, but of {categories} these have none: {empty.tolist()}."
        )
    return categories


def balanced_masses(targets: Labels, weights: Doubles, categories: int) -> Doubles:
    """Every new category weighs 1/U, whatever its images; all evidence together weighs EVIDENCE_MASS."""
    sums = np.bincount(targets - OLD, weights=weights, minlength=categories + 1)
    shares = np.full(categories + 1, 1.0 / categories)
    shares[0] = EVIDENCE_MASS
    each: Doubles = (shares / np.where(sums > 0, sums, 1.0))[targets - OLD]
    return each * weights


def deal(targets: Labels, groups: Labels, seed: int) -> Labels:
    """Each category's groups dealt evenly over the folds, in an order drawn from the seed."""
    random = np.random.default_rng(seed)
    folds = np.full(len(targets), NEVER, dtype=np.int64)
    for target in np.unique(targets):
        members = np.flatnonzero(targets == target)
        names, group = np.unique(groups[members], return_inverse=True)
        if len(names) > 1:
            dealt = (np.arange(len(names)) + random.integers(FOLDS)) % FOLDS
            folds[members] = random.permutation(dealt)[group]
    return folds


def copies(evidence: Sequence[Evidence]) -> list[Evidence]:
    """Each one's copies as evidence of their own, those of one row side by side."""
    found = []
    for one in evidence:
        if one.copies is not None:
            each, size = one.copies.shape[1:]
            labels = None if one.labels is None else np.repeat(one.labels, each)
            bottlenecks = one.copies.reshape(-1, size)
            found.append(Evidence(kind=one.kind, bottlenecks=bottlenecks, labels=labels))
    return found


def _groups(training: Labelled, evidence: Sequence[Evidence]) -> Labels:
    """Every row on its own but for the groups of training images, and copies of evidence, which go with their original."""
    rows = len(training) + sum(len(e.bottlenecks) for e in evidence)
    groups = -1 - np.arange(rows)
    if training.groups is not None:
        groups[: len(training)] = training.groups
    originals = np.split(groups[len(training) :], np.cumsum([len(e.bottlenecks) for e in evidence])[:-1])
    of_copies = [
        np.repeat(own, e.copies.shape[1])
        for own, e in zip(originals, evidence, strict=False)
        if e.copies is not None
    ]
    return np.concatenate([groups, *of_copies])


def _are_copies(training: Labelled, evidence: Sequence[Evidence]) -> Flags:
    own = np.zeros(len(training), dtype=bool) if training.is_copy is None else training.is_copy
    originals = sum(len(e.bottlenecks) for e in evidence)
    copied = sum(len(e.bottlenecks) for e in copies(evidence))
    return np.concatenate([own, np.zeros(originals, dtype=bool), np.ones(copied, dtype=bool)])


def _images(
    base: Rows | None, scale: Scale, new: Labelled, evidence: Sequence[Evidence], photographs: bool
) -> Images:
    bottlenecks = np.concatenate([new.bottlenecks, *(e.bottlenecks for e in evidence)])
    rivals, best_old = old_side(base, bottlenecks)
    sizes = [len(e.bottlenecks) for e in evidence]
    witnesses = [np.full(n, is_photographs(e) == photographs) for n, e in zip(sizes, evidence, strict=True)]
    base_count = 0 if base is None else len(base.bias)
    return Images(
        bottlenecks=scale.apply(bottlenecks),
        rivals=rivals,
        best_old=best_old,
        truth=np.concatenate([new.labels + base_count, *(_truth(e) for e in evidence)]),
        targets=np.concatenate([new.labels, np.full(sum(sizes), OLD, dtype=np.int64)]),
        weights=np.concatenate(
            [np.ones(len(new)) if new.weights is None else new.weights, *map(_weights, witnesses)]
        ),
        is_witness=np.concatenate([np.zeros(len(new), dtype=bool), *witnesses]),
    )


def _weights(is_witness: Flags) -> Doubles:
    """Only drawn images beside photographs are no witnesses."""
    weights: Doubles = np.where(is_witness, 1.0, DRAWN_BESIDE)
    return weights


def _truth(evidence: Evidence) -> Labels:
    if evidence.labels is not None:
        return evidence.labels
    return np.full(len(evidence.bottlenecks), UNKNOWN, dtype=np.int64)
