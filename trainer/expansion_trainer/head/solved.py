"""A fitted head together with how it came about, and the last step that all solvers but Softmax share: boundary and sureness.

The rows come from some solver; everything here is decided on images that they were not fitted on.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np

from expansion_trainer.head import calibration as boundary
from expansion_trainer.head import witnesses
from expansion_trainer.head.calibration import Answered, Gaps, Sureness
from expansion_trainer.head.evidence import Evidence
from expansion_trainer.head.fit import TEMPERATURE_IMAGES, BaseHead, FittedHead
from expansion_trainer.head.material import Labelled, is_photographs
from expansion_trainer.head.projection import Projected
from expansion_trainer.head.softmax import Array, Doubles, Flags, Labels, Rows, old_side
from expansion_trainer.head.witnesses import UNKNOWN


@dataclass(frozen=True, kw_only=True)
class Contender:
    """One solver's head, asked at the same steal rates as the others."""

    solver: str
    score: float  # balanced accuracy of new validation images
    ahead: float  # of the first contender
    error: float  # standard error of `ahead`


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Why this solver: for the report."""

    contenders: tuple[Contender, ...]  # the first is the default; empty: nothing was compared
    images: int  # validation images of new categories
    bystanders: int  # images of no new category; they say what offset is an equal one
    why: str


@dataclass(frozen=True, kw_only=True)
class Point:
    """What retrain.py printed every few steps."""

    step: int
    training_accuracy: float  # of the batch
    validation_accuracy: float | None  # None: there are no validation images
    cross_entropy: float  # of the batch


@dataclass(frozen=True, kw_only=True, eq=False)
class Solved(FittedHead):
    """`weights` and `bias` are the part that is linear in bottlenecks; a projection adds its own, zero for the base's columns."""

    choice: Choice | None = None
    curve: tuple[Point, ...] = ()
    settings: tuple[tuple[str, float], ...] = ()  # what the solver chose, by name
    projected: Projected | None = None

    def logits(self, bottlenecks: Array) -> Array:
        linear = super().logits(bottlenecks)
        return linear if self.projected is None else linear + self.projected.logits(bottlenecks)


@dataclass(frozen=True, kw_only=True, eq=False)
class HeldOut:
    """Images that the rows were not fitted on, and what these answer to them, without an offset."""

    bottlenecks: Array  # (n, D)
    labels: Labels  # (n,), index among the new categories; of bystanders the base's, or UNKNOWN
    rivals: Doubles  # (n,), log sum exp of the base's logits
    best_old: Doubles  # (n,), the highest of the base's logits
    logits: Array  # (n, U), new ones

    @classmethod
    def of(cls, base: Rows | None, images: Labelled, logits: Array) -> "HeldOut":
        rivals, best_old = old_side(base, images.bottlenecks)
        return cls(
            bottlenecks=images.bottlenecks,
            labels=images.labels,
            rivals=rivals,
            best_old=best_old,
            logits=logits,
        )

    def joined(self, other: "HeldOut") -> "HeldOut":
        columns = [column.name for column in fields(HeldOut)]
        return HeldOut(
            **{name: np.concatenate([getattr(self, name), getattr(other, name)]) for name in columns}
        )

    def answering(self, logits: Array) -> "HeldOut":
        return replace(self, logits=logits)

    @property
    def gaps(self) -> Doubles:
        """How far the best new category is above the base."""
        gaps: Doubles = self.logits.max(axis=1).astype(np.float64) - self.best_old
        return gaps

    @property
    def is_right(self) -> Flags:
        """Among the new categories alone."""
        is_right: Flags = self.logits.argmax(axis=1) == self.labels
        return is_right

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, kw_only=True, eq=False)
class Judged:
    """Everything that may say where the boundary of some rows lies."""

    base: BaseHead | None  # None in mode Replace
    new: HeldOut
    bystanders: HeldOut
    photographs: bool  # the bystanders are photographs, not procedural images
    counted: Doubles  # how much each bystander counts; see witnesses.py
    steal_budget: float

    @property
    def gaps(self) -> Gaps:
        return Gaps(
            new=self.new.gaps[self.new.is_right],
            bystanders=self.bystanders.gaps,
            photographs=self.photographs,
            weights=self.counted,
            reserve=boundary.reserve(self.new.best_old, self.new.rivals),
        )

    @property
    def offset(self) -> float:
        return boundary.offset(self.gaps, self.steal_budget)

    @property
    def highest_offset(self) -> float:
        """That the steal budget allows."""
        return boundary.ceiling(self.gaps, self.steal_budget)


def bystanders(evidence: Sequence[Evidence], size: int) -> Labelled:
    """Photographs where there are any, procedural images otherwise."""
    photographs = [e for e in evidence if is_photographs(e)]
    parts = photographs or list(evidence)
    return Labelled(
        bottlenecks=np.concatenate([np.zeros((0, size), np.float32), *(e.bottlenecks for e in parts)]),
        labels=np.concatenate([np.zeros(0, np.int64), *(_labels(e) for e in parts)]),
    )


def _labels(evidence: Evidence) -> Labels:
    if evidence.labels is not None:
        return evidence.labels
    return np.full(len(evidence.bottlenecks), UNKNOWN, dtype=np.int64)


def judged(
    base: BaseHead | None,
    rows: Rows,
    new: Labelled,
    calibration: Sequence[Evidence],
    steal_budget: float,
) -> Judged:
    """By images that no part of the rows comes from."""
    others = bystanders(calibration, new.bottlenecks.shape[1])
    return Judged(
        base=base,
        new=HeldOut.of(base, new, rows.logits(new.bottlenecks)),
        bystanders=HeldOut.of(base, others, rows.logits(others.bottlenecks)),
        photographs=any(is_photographs(e) for e in calibration),
        counted=witnesses.weights(base, others.bottlenecks, others.labels),
        steal_budget=steal_budget,
    )


def balanced_loss(new: HeldOut, offset: float) -> float:
    """Mean over the categories of the mean log loss, the base taken as one rival; 0 without images."""
    if len(new) == 0:
        return 0.0
    logits = new.logits.astype(np.float64) + offset
    top = np.maximum(logits.max(axis=1), new.rivals)
    total = np.exp(new.rivals - top) + np.exp(logits - top[:, None]).sum(axis=1)
    losses = top + np.log(total) - logits[np.arange(len(new)), new.labels]
    return float(losses @ balanced(new.labels))


def balanced(labels: Labels) -> Doubles:
    """(n,), weights that sum to 1 and give every category that occurs the same."""
    _, place, counts = np.unique(labels, return_inverse=True, return_counts=True)
    weights: Doubles = 1.0 / (len(counts) * counts[place])
    return weights


def sureness(seen: Judged, offset: float, seed: int) -> Sureness:
    """From new images, and base images that are a fair sample."""
    labels = seen.bystanders.labels
    known = np.flatnonzero(labels != UNKNOWN)
    base_count = 0 if seen.base is None else len(seen.base.bias)
    if not witnesses.is_fair(labels, base_count):
        known = known[:0]
    return boundary.sureness(
        _answered(seen, seen.new, np.arange(len(seen.new)), offset, seed, is_new=True),
        _answered(seen, seen.bystanders, known, offset, seed, is_new=False),
        base_count,
    )


def _answered(
    seen: Judged, images: HeldOut, chosen: Labels, offset: float, seed: int, *, is_new: bool
) -> Answered:
    chosen = np.random.default_rng(seed).permutation(chosen)[:TEMPERATURE_IMAGES]
    new = images.logits[chosen] + np.float32(offset)
    if seen.base is None:
        return Answered(logits=new, labels=images.labels[chosen])
    old = seen.base.logits(images.bottlenecks[chosen])
    first = old.shape[1] if is_new else 0
    return Answered(logits=np.hstack([old, new]), labels=images.labels[chosen] + first)


def finished(seen: Judged, rows: Rows, made: "Made") -> Solved:
    """The base's rows untouched, beside them the new ones with their offset."""
    base = seen.base or BaseHead(weights=rows.weights[:, :0], bias=rows.bias[:0])
    offset = seen.offset
    sure = sureness(seen, offset, made.seed)
    return Solved(
        weights=np.hstack([base.weights, rows.weights]),
        bias=np.concatenate([base.bias, rows.bias + np.float32(offset)]),
        base_count=len(base.bias),
        solver=made.solver,
        l2=0.0,
        offset=offset,
        temperature=sure.temperature,
        evidence_kinds=made.evidence_kinds,
        steal_rate_validation=seen.gaps.steal_rate(offset),
        steal_images=len(seen.bystanders),
        chosen_on=len(seen.new),
        scale=sure.scale,
        frozen=len(base.bias),
        curve=made.curve,
        settings=made.settings,
    )


@dataclass(frozen=True, kw_only=True)
class Made:
    """How rows came about."""

    solver: str
    seed: int
    evidence_kinds: tuple[str, ...]
    settings: tuple[tuple[str, float], ...] = ()
    curve: tuple[Point, ...] = ()


def kinds(evidence: Sequence[Evidence]) -> tuple[str, ...]:
    return tuple(sorted({e.kind for e in evidence if len(e.bottlenecks)}))
