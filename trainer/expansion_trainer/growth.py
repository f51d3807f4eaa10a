"""Brings a run's bottlenecks to the shape in which heads are fitted, and the fitted rows back to the model's columns. NumPy only.

*Frozen* columns are the pretrained network's and never change. *Earlier* ones were added by earlier expansions, *new* ones are
today's; the rows of both are solved again together, as one block of *added* categories: first the earlier ones that still answer,
in the order of their columns, then the new ones.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from expansion_contract.report import Overlap
from expansion_contract.resource import Solver
from expansion_trainer.dataset.split import Side
from expansion_trainer.head import statistics as sums
from expansion_trainer.head.chain import Earlier, added_material, added_statistics, joined
from expansion_trainer.head.evidence import Evidence
from expansion_trainer.head.fit import BaseHead, Labelled
from expansion_trainer.head.softmax import Array, Labels, Rows
from expansion_trainer.head.solve import Options, replaced, solve
from expansion_trainer.head.solved import Solved
from expansion_trainer.head.statistics import Statistics
from expansion_trainer.packs.core import Core
from expansion_trainer.sides import Dealt
from expansion_trainer.starting_model import StartingModel


@dataclass(frozen=True, kw_only=True, eq=False)
class Ground:
    """The model that is grown, as the mathematics needs it."""

    head: BaseHead  # (D, B), every category of the base
    frozen: int
    earlier: Labels  # base columns of earlier categories whose rows are solved again

    @classmethod
    def of(cls, starting: StartingModel) -> "Ground":
        active = [c.index for c in starting.categories[starting.frozen :] if c.state == "active"]
        return cls(head=starting.head, frozen=starting.frozen, earlier=np.array(active, np.int64))

    @property
    def size(self) -> int:
        return len(self.head.bias)

    @property
    def frozen_head(self) -> BaseHead:
        weights = np.ascontiguousarray(self.head.weights[:, : self.frozen])
        return BaseHead(weights=weights, bias=self.head.bias[: self.frozen])

    def added(self, images: Labelled) -> Labelled:
        """From base columns to places among the added categories; images of what does not answer any more are left out."""
        place = np.full(self.size, -1)
        place[self.earlier] = np.arange(len(self.earlier))
        known = place[images.labels] >= 0
        return Labelled(bottlenecks=images.bottlenecks[known], labels=place[images.labels[known]])


def grown_head(
    starting: StartingModel, dealt: Dealt, overlaps: Sequence[Overlap], options: Options
) -> Solved:
    """Columns: the base's, the earlier ones of them solved anew, then today's. `base_count` is the base's size.

    A model that mode Replace made has no frozen column: all its categories are solved again, among themselves and today's.
    """
    ground = Ground.of(starting)
    shared = shared_columns(overlaps)
    evidence, calibration = (
        tuple(without(part, starting.rows, shared) for part in side)
        for side in (dealt.evidence, dealt.calibration)
    )
    training, validation = added_material(
        earlier_material(starting, ground, dealt), dealt.taught, dealt.validation, options.seed
    )
    if ground.frozen == 0:
        return in_base_columns(replaced(training, validation, options), ground)
    fitted = solve(
        ground.frozen_head,
        training,
        validation,
        evidence,
        calibration,
        options,
        statistics=added_sums(starting, ground, dealt) if options.solver in _BY_SUMS else None,
        core=calibrating(ground, dealt) if options.solver is Solver.DISCRIMINANT else None,
    )
    return in_base_columns(fitted, ground)


_BY_SUMS = (Solver.DISCRIMINANT, Solver.AUTO)


def added_sums(starting: StartingModel, ground: Ground, dealt: Dealt) -> Statistics:
    """Of the added categories, and in the scatter of everything else that this run and the pack know."""
    size = ground.head.weights.shape[0]
    before = starting.pack.statistics if starting.pack else sums.empty(ground.size, size)
    seen = [e for e in dealt.evidence if e.kind == "replay" and e.labels is not None]
    replayed = Labelled(
        bottlenecks=np.concatenate([np.zeros((0, size), np.float32), *(e.bottlenecks for e in seen)]),
        labels=np.concatenate([np.zeros(0, np.int64), *(e.labels for e in seen if e.labels is not None)]),
    )
    return added_statistics(before, ground.earlier, dealt.training, replayed)


def calibrating(ground: Ground, dealt: Dealt) -> Labelled:
    """Of every added category the real bottlenecks that a pack keeps and nobody fits on: what a run in one step would have."""
    fresh = dealt.fresh.where(dealt.fresh.calibrates)
    today = Labelled(bottlenecks=fresh.bottlenecks, labels=fresh.labels + len(ground.earlier))
    if dealt.core is None:
        return today
    core = dealt.core.where(dealt.core.calibrates)
    return joined(ground.added(Labelled(bottlenecks=core.bottlenecks, labels=core.labels)), today)


def earlier_material(starting: StartingModel, ground: Ground, dealt: Dealt) -> Earlier | None:
    """What is at hand of earlier categories: real bottlenecks from the pack and from replay images. None for a pretrained network."""
    core = dealt.core
    if starting.pack is None or core is None or len(ground.earlier) == 0:
        return None
    fitted, calibrating = (core.where(core.calibrates == aside) for aside in (False, True))
    return Earlier(
        fitted=_at_hand(ground, fitted, dealt.relearned[Side.TRAINING]),
        calibrating=_at_hand(ground, calibrating, dealt.relearned[Side.VALIDATION]),
        statistics=starting.pack.statistics,
        columns=ground.earlier,
    )


def _at_hand(ground: Ground, core: Core, replayed: Labelled) -> Labelled:
    kept = Labelled(bottlenecks=core.bottlenecks, labels=core.labels)
    return joined(ground.added(kept), ground.added(replayed))


def in_base_columns(fitted: Solved, ground: Ground) -> Solved:
    """Every earlier row at its column; those that never answer keep the rows they had."""
    projected = fitted.projected
    if projected is not None:
        nothing = np.zeros((projected.projection.dimensions, ground.size), np.float32)
        projected = replace(projected, weights=_placed(projected.weights, nothing, ground))
    return replace(
        fitted,
        weights=_placed(fitted.weights, ground.head.weights, ground),
        bias=_placed(fitted.bias, ground.head.bias, ground),
        projected=projected,
        base_count=ground.size,
    )


def _placed(fitted: Array, before: Array, ground: Ground) -> Array:
    """(…, frozen + earlier + new) into the base's columns (…, B), and the new ones behind them."""
    first_new = ground.frozen + len(ground.earlier)
    base = before.copy()
    base[..., ground.earlier] = fitted[..., ground.frozen : first_new]
    return np.concatenate([base, fitted[..., first_new:]], axis=-1)


def shared_columns(overlaps: Iterable[Overlap]) -> frozenset[int]:
    """Base columns that mean the same as a new category: their images must not teach the new row what it is not."""
    return frozenset(o.known_index for o in overlaps if o.action in {"Merge", "Replace"})


def without(evidence: Evidence, base: Rows, shared: frozenset[int]) -> Evidence:
    """Evidence of other things only: by its labels, else by the base's own answers."""
    if not shared or evidence.kind == "procedural" or len(evidence.bottlenecks) == 0:
        return evidence
    answers = evidence.labels
    if answers is None:
        answers = base.logits(evidence.bottlenecks).argmax(axis=1)
    others = ~np.isin(answers, list(shared))
    return Evidence(
        kind=evidence.kind,
        bottlenecks=evidence.bottlenecks[others],
        labels=None if evidence.labels is None else evidence.labels[others],
        copies=None if evidence.copies is None else evidence.copies[others],
    )
