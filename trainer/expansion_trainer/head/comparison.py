"""The best of several heads on new validation images, each at the same steals: their own offsets would compare thrift, not skill."""

from collections.abc import Sequence
from dataclasses import replace

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
    right = [_right(head, base, validation, others, rates) for head in heads]
    weights = balanced(validation.labels)
    contenders = [
        _contender(head.solver, own, right[0], weights) for head, own in zip(heads, right, strict=True)
    ]
    best = int(np.argmax([c.ahead - SURE * c.error if place else 0.0 for place, c in enumerate(contenders)]))
    choice = Choice(
        contenders=tuple(contenders),
        images=len(validation),
        bystanders=len(others),
        why=_why(contenders, best, len(validation), len(others)),
    )
    return replace(heads[best], choice=choice)


def _right(
    head: Solved, base: BaseHead, validation: Labelled, others: Labelled, rates: Sequence[float]
) -> Doubles:
    """(n,), at which share of the steal rates each image gets its own category."""
    first = head.base_count
    new, seen = (
        HeldOut.of(base, part, head.logits(part.bottlenecks)[:, first:]) for part in (validation, others)
    )
    gaps = np.sort(seen.gaps)[::-1]
    steals: Labels = np.floor(np.multiply(rates, len(gaps)) + 1e-9).astype(np.int64)
    levels = gaps[np.minimum(steals, len(gaps) - 1)]
    shares: Doubles = (new.is_right[:, None] & (new.gaps[:, None] > levels)).mean(axis=1)
    return shares


def _contender(solver: str, own: Doubles, first: Doubles, weights: Doubles) -> Contender:
    apart = own - first
    ahead = float(weights @ apart)
    error = float(np.sqrt(np.square(weights) @ np.square(apart - ahead)))
    return Contender(solver=solver, score=float(weights @ own), ahead=ahead, error=error)


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
