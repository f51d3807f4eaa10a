"""The best of several heads on new validation images, each at the same steals: their own offsets would compare thrift, not skill."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from expansion_trainer.head.evidence import Evidence
from expansion_trainer.head.fit import BaseHead
from expansion_trainer.head.material import Labelled
from expansion_trainer.head.softmax import Doubles, Labels
from expansion_trainer.head.solved import Choice, Contender, HeldOut, Solved, balanced, bystanders

STEAL_RATES = (1, 2, 4, 8)
"""Multiples of the steal budget. Their mean hangs less on the one photograph that is stolen first."""
SURE = 1.96
"""Standard errors by which another solver must lead: as sure as every interval of the report."""
DRAWS = 200
"""Of the images of no new category, with replacement: few of them set the levels, and others would set other ones."""


def chosen(
    heads: Sequence[Solved],
    base: BaseHead,
    validation: Labelled,
    calibration: Sequence[Evidence],
    steal_budget: float,
) -> Solved:
    """The first, unless another is ahead of it by more than chance would put it there. `heads` were not fitted on either."""
    others = bystanders(calibration, len(base.weights))
    if len(heads) == 1 or len(validation) == 0 or len(others) == 0:
        why = f"{heads[0].solver}: " + _nothing_to_compare(heads, validation, others)
        choice = Choice(contenders=(), images=len(validation), bystanders=len(others), why=why)
        return replace(heads[0], choice=choice)
    rates = [min(steal_budget * multiple, 1.0) for multiple in STEAL_RATES]
    answers = [_Answers.of(head, base, validation, others) for head in heads]
    weights = balanced(validation.labels)
    contenders = [
        _contender(head.solver, own, answers[0], weights, rates)
        for head, own in zip(heads, answers, strict=True)
    ]
    best = int(np.argmax([c.ahead - SURE * c.error if place else 0.0 for place, c in enumerate(contenders)]))
    choice = Choice(
        contenders=tuple(contenders),
        images=len(validation),
        bystanders=len(others),
        why=_why(contenders, best, len(validation), len(others)),
    )
    return replace(heads[best], choice=choice)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Answers:
    """Of one head."""

    new: HeldOut
    gaps: Doubles  # (m,), of the images of no new category

    @classmethod
    def of(cls, head: Solved, base: BaseHead, validation: Labelled, others: Labelled) -> "_Answers":
        first = head.base_count
        new, seen = (
            HeldOut.of(base, part, head.logits(part.bottlenecks)[:, first:]) for part in (validation, others)
        )
        return cls(new=new, gaps=seen.gaps)

    def right(self, rates: Sequence[float], drawn: Labels | slice = slice(None)) -> Doubles:
        """(n,), at which share of the steal rates each image gets its own category. `drawn`: of the images of no new category."""
        gaps = np.sort(self.gaps[drawn])[::-1]
        steals: Labels = np.floor(np.multiply(rates, len(gaps)) + 1e-9).astype(np.int64)
        levels = gaps[np.minimum(steals, len(gaps) - 1)]
        shares: Doubles = (self.new.is_right[:, None] & (self.new.gaps[:, None] > levels)).mean(axis=1)
        return shares


def _contender(
    solver: str, own: _Answers, first: _Answers, weights: Doubles, rates: Sequence[float]
) -> Contender:
    """The error is of both samples, as if they were independent: the validation images, and those that set the levels."""
    score = own.right(rates)
    apart = score - first.right(rates)
    ahead = float(weights @ apart)
    by_images = float(np.square(weights) @ np.square(apart - ahead))
    chance, size = np.random.default_rng(0), len(own.gaps)
    leads = [
        weights @ (own.right(rates, drawn) - first.right(rates, drawn))
        for drawn in (chance.integers(size, size=size) for _ in range(DRAWS))
    ]
    error = float(np.sqrt(by_images + np.var(leads)))
    return Contender(solver=solver, score=float(weights @ score), ahead=ahead, error=error)


def _nothing_to_compare(heads: Sequence[Solved], validation: Labelled, others: Labelled) -> str:
    if len(heads) == 1:
        return "no other solver can be fitted without photographs of other things."
    missing = "validation image" if len(validation) == 0 else "held-out image of no new category"
    return f"there is no {missing} on which solvers could be compared."


def _why(contenders: Sequence[Contender], best: int, images: int, others: int) -> str:
    asked = f" on {images} validation images, at equal steals among {others} images of no new category"
    if best:
        c = contenders[best]
        return f"{c.solver}: {100 * c.ahead:.1f} points (standard error {100 * c.error:.1f}) ahead of {contenders[0].solver}{asked}."
    named = ", ".join(f"{c.solver} is {100 * c.ahead:+.1f} ({100 * c.error:.1f})" for c in contenders[1:])
    return (
        f"{contenders[0].solver}: nothing else is ahead by more than {SURE} standard errors{asked}: {named}."
    )
