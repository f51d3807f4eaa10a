"""Adds rows for new categories to a frozen head (`expand`), or makes a head for them alone (`replace`).

Everything that is *chosen* (L2, offset, temperature, scale) is chosen on images the answering head was not fitted on: validation images
and calibration evidence, answered by the head itself, and, fold by fold, training images and evidence, answered by heads fitted
without that fold. So a few hundred photographs serve both to fit and to set the boundary, and a data set too small for a
validation side still gets a choice.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from expansion_trainer.head import calibration as boundary
from expansion_trainer.head import softmax, witnesses
from expansion_trainer.head.calibration import Answered, Gaps, Sureness
from expansion_trainer.head.evidence import Evidence
from expansion_trainer.head.material import FOLDS, Images, Labelled, Material, material
from expansion_trainer.head.softmax import OLD, OPTIONS, Array, Doubles, Flags, Labels, Rows
from expansion_trainer.head.watch import Watch, unwatched
from expansion_trainer.head.witnesses import UNKNOWN

__all__ = ["BaseHead", "Evidence", "FittedHead", "Labelled", "expand", "replace"]

SOLVER = "Softmax"
L2_GRID = (1e-2, 3e-3, 1e-3, 3e-4, 1e-4, 3e-5, 1e-5, 3e-6)
"""From stiff to loose, in units in which bottlenecks have length 1 (see material.Scale); measured in benchmarks/README.md."""
PATIENCE = 2
"""Steps along the grid without improvement after which the looser rest is not tried."""
HOPELESS = 1.0
"""So much loss above the best ends the path at once: rows that are looser still reach farther into the old categories, and the boundary
takes more answers from the new ones."""
TEMPERATURE_IMAGES = 4000
"""Enough for one number; all 1000 logits of more images would only cost memory."""


@dataclass(frozen=True, kw_only=True, eq=False)
class BaseHead(Rows):
    """The head of the model that is grown: weights (D, C0), bias (C0,)."""


@dataclass(frozen=True, kw_only=True, eq=False)
class FittedHead(Rows):
    """Columns [:base_count] are the base's, bit-identical. The offset is folded into the new biases; temperature and scale are not:
    answering.py applies them."""

    base_count: int
    solver: str
    l2: float
    offset: float
    temperature: float
    evidence_kinds: tuple[str, ...]
    steal_rate_validation: float | None
    steal_images: int  # n of that rate
    chosen_on: int  # n of held-out new images on which L2, offset and scale were chosen
    scale: float = 1.0  # of how far added columns are ahead of the best frozen one
    frozen: int = 0  # the pretrained network's columns, the first of the base's


def expand(
    base: BaseHead,
    training: Labelled,
    validation: Labelled,
    evidence: tuple[Evidence, ...],
    calibration: tuple[Evidence, ...],
    steal_budget: float,
    seed: int,
    *,
    anchor: Rows | None = None,
    watch: Watch = unwatched,
) -> FittedHead:
    """The base's rows untouched, and one new row per label of `training`. `calibration` is evidence that is not fitted on.

    `anchor`: the rows of the first categories of `training` as an earlier version had them. The new rows stay near them.
    """
    stuff = material(base, training, validation, evidence, calibration, seed, anchor)
    best = _chosen(Task(base=base, material=stuff, steal_budget=steal_budget, watch=watch))
    kinds = tuple(sorted({e.kind for e in (*evidence, *calibration) if len(e.bottlenecks)}))
    new = stuff.scale.undo(best.rows)
    return _fitted(base, new, best, kinds, _sureness(base, stuff, best, seed))


def replace(training: Labelled, validation: Labelled, seed: int, watch: Watch = unwatched) -> FittedHead:
    """The new categories among themselves: no base, no boundary to it, no offset."""
    stuff = material(None, training, validation, (), (), seed)
    best = _chosen(Task(base=None, material=stuff, steal_budget=0.0, watch=watch))
    nothing = BaseHead(weights=training.bottlenecks[:0].T.astype(np.float32), bias=np.zeros(0, np.float32))
    return _fitted(nothing, stuff.scale.undo(best.rows), best, (), _sureness(nothing, stuff, best, seed))


@dataclass(frozen=True, kw_only=True, eq=False)
class Task:
    base: Rows | None
    material: Material
    steal_budget: float
    watch: Watch


@dataclass(frozen=True, kw_only=True, eq=False)
class HeldOut:
    """What heads of one L2 answer to images they were not fitted on."""

    logits: Array  # (m, U), new ones, without an offset
    images: Images  # those m

    @property
    def gaps(self) -> Doubles:
        gaps: Doubles = self.logits.max(axis=1) - self.images.best_old
        return gaps

    @property
    def is_new(self) -> Flags:
        is_new: Flags = self.images.targets != OLD
        return is_new


@dataclass(frozen=True, kw_only=True, eq=False)
class Candidate:
    l2: float
    rows: Rows  # new rows on scaled bottlenecks, without the offset
    held_out: HeldOut
    gaps: Gaps
    offset: float
    loss: float  # at the offset, so that candidates are compared where they would be used


@dataclass
class _Fits:
    """Of a task's rows, one after another."""

    task: Task
    begun: int = 0

    def fit(self, l2: float, start: Rows | None, *, without: int | None = None) -> Rows:
        self.begun += 1
        return softmax.fit(self.task.material.problem(without), l2, start, self._told)

    def _told(self, step: int) -> None:
        most = len(L2_GRID) * (1 + FOLDS)
        self.task.watch(f"Fit {self.begun} of at most {most}, step {step} of at most {OPTIONS['maxiter']}")


def _chosen(task: Task) -> Candidate:
    """The least loss along the path, which ends when it has stopped falling."""
    best: Candidate | None = None
    waited = 0
    for candidate in _path(task):
        waited += 1
        if best is None or candidate.loss < best.loss:
            best, waited = candidate, 0
        if waited == PATIENCE or candidate.loss > best.loss + HOPELESS:
            break
    assert best is not None
    return best


def _path(task: Task) -> Iterator[Candidate]:
    """From stiff to loose; every fit starts from its own last one, never from one that saw what it must not see."""
    fits = _Fits(task)
    whole: Rows | None = None
    parts: list[Rows | None] = [None] * FOLDS
    for l2 in L2_GRID:
        whole = fits.fit(l2, whole)
        parts = [fits.fit(l2, part, without=fold) for fold, part in enumerate(parts)]
        yield _candidate(task, l2, whole, _held_out(task.material, whole, [part for part in parts if part]))


def _held_out(stuff: Material, whole: Rows, parts: list[Rows]) -> HeldOut:
    """In the order of stuff.held_out: what was never fitted on, then of every fold, by the rows fitted without it, what is asked."""
    asked, aside = np.flatnonzero(stuff.asked), len(stuff.aside)
    logits = np.zeros((aside + len(asked), stuff.categories), dtype=np.float32)
    logits[:aside] = whole.logits(stuff.aside.bottlenecks)
    for fold, part in enumerate(parts):
        own = stuff.folds[asked] == fold
        logits[aside:][own] = part.logits(stuff.fitted.bottlenecks[asked[own]])
    return HeldOut(logits=logits, images=stuff.held_out)


def _candidate(task: Task, l2: float, rows: Rows, held_out: HeldOut) -> Candidate:
    right = held_out.is_new & (held_out.logits.argmax(axis=1) == held_out.images.targets)
    new = held_out.images.where(held_out.is_new)
    gaps = Gaps(
        new=held_out.gaps[right],
        bystanders=held_out.gaps[held_out.images.is_witness],
        photographs=task.material.photographs,
        weights=task.material.counted,
        reserve=boundary.reserve(new.best_old, new.rivals, l2),
    )
    offset = boundary.offset(gaps, task.steal_budget)
    return Candidate(
        l2=l2, rows=rows, held_out=held_out, gaps=gaps, offset=offset, loss=_loss(held_out, offset)
    )


def _loss(held_out: HeldOut, offset: float) -> float:
    """Of new images, the base taken as the one rival log sum exp of its logits.

    At temperature 1, where the base's scores are right: rows that fit the base's scale need no temperature that would spoil it.
    """
    new = np.flatnonzero(held_out.is_new)
    losses = [
        boundary.log_losses(_beside_rival(held_out, new[part], offset), 1.0)
        for part in softmax.parts(0, len(new), held_out.logits.shape[1])
    ]
    return float(np.mean(np.concatenate(losses))) if losses else 0.0


def _beside_rival(held_out: HeldOut, new: Labels, offset: float) -> Answered:
    logits = np.column_stack([held_out.logits[new] + offset, held_out.images.rivals[new]])
    return Answered(logits=logits, labels=held_out.images.targets[new])


def _sureness(base: Rows, stuff: Material, best: Candidate, seed: int) -> Sureness:
    """From held-out new images, and held-out base images that are a fair sample."""
    new, truth = best.held_out.is_new, best.held_out.images.truth
    known = ~new & (truth != UNKNOWN)
    if not witnesses.is_fair(truth[~new], len(base.bias)):
        known[:] = False
    of_new, of_base = (
        _answered(base, stuff, best, _some(np.flatnonzero(group), seed)) for group in (new, known)
    )
    return boundary.sureness(of_new, of_base, len(base.bias))


def _some(indices: Labels, seed: int) -> Labels:
    drawn: Labels = np.random.default_rng(seed).permutation(indices)[:TEMPERATURE_IMAGES]
    return drawn


def _answered(base: Rows, stuff: Material, best: Candidate, indices: Labels) -> Answered:
    images = best.held_out.images
    old = base.logits(stuff.scale.restore(images.bottlenecks[indices]))
    new = best.held_out.logits[indices] + np.float32(best.offset)
    return Answered(logits=np.hstack([old, new]), labels=images.truth[indices])


def _fitted(base: Rows, new: Rows, best: Candidate, kinds: tuple[str, ...], sureness: Sureness) -> FittedHead:
    return FittedHead(
        weights=np.hstack([base.weights, new.weights]),
        bias=np.concatenate([base.bias, new.bias + np.float32(best.offset)]),
        base_count=len(base.bias),
        solver=SOLVER,
        l2=best.l2,
        offset=best.offset,
        temperature=sureness.temperature,
        evidence_kinds=kinds,
        steal_rate_validation=best.gaps.steal_rate(best.offset),
        steal_images=len(best.gaps.bystanders),
        chosen_on=int(best.held_out.is_new.sum()),
        scale=sureness.scale,
        frozen=len(base.bias),
    )
