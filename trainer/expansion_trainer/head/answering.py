"""From a head's logits to a model's answers: every category at its index, what is gone never answers, an alias adds to its target.

Temperature and scale say how sure an answer is and never which it is. The temperature divides all logits. The scale stretches how far an
added category is ahead of the best of the frozen ones, b: a logit z > b becomes b + scale (z - b), the others stay. So no two
categories change places, and pictures that the frozen ones answer keep their scores.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from scipy.special import softmax

from expansion_contract.report import Category
from expansion_trainer.columns import NEVER, Columns
from expansion_trainer.head.fit import FittedHead
from expansion_trainer.head.softmax import Array, Doubles, Flags, Labels, Rows


@dataclass(frozen=True, kw_only=True, eq=False)
class Answering:
    """What an exported model computes from a bottleneck, in NumPy. See Columns for `source` and `answers_as`."""

    rows: Rows  # F fitted columns
    temperature: float
    source: Labels  # (C,) the fitted column of each index, or NEVER
    answers_as: Labels  # (C,) the index whose name and probability it gives, or NEVER
    scale: float = 1.0
    frozen: int = 0  # fitted columns, the first ones, that the scale leaves alone

    @classmethod
    def of(cls, rows: Rows, temperature: float, columns: Columns | None = None) -> "Answering":
        """Without `columns` every fitted column is its own index."""
        own = np.arange(len(rows.bias))
        return cls(
            rows=rows,
            temperature=temperature,
            source=own if columns is None else columns.source,
            answers_as=own if columns is None else columns.answers_as,
        )

    @classmethod
    def of_head(cls, head: FittedHead, columns: Columns | None = None) -> "Answering":
        """As sure as the head is."""
        plain = cls.of(head, head.temperature, columns)
        return replace(plain, scale=head.scale, frozen=head.frozen)

    @classmethod
    def of_model(
        cls,
        rows: Rows,
        temperature: float,
        categories: Sequence[Category],
        scale: float = 1.0,
        frozen: int = 0,
    ) -> "Answering":
        """A published model's own head, whose columns are its indices."""
        return cls(
            rows=rows,
            temperature=temperature,
            source=np.arange(len(rows.bias)),
            answers_as=np.array([_target(category, categories) for category in categories], np.int64),
            scale=scale,
            frozen=frozen,
        )

    @property
    def active(self) -> Flags:
        """(C,) which columns compete for the answer."""
        active: Flags = (self.answers_as != NEVER) & (self.source != NEVER)
        return active

    @property
    def stretched(self) -> Labels:
        """Columns that the scale moves: those that answer for an added category, where a frozen one answers, too."""
        roots = np.maximum(self.answers_as, 0)
        if self.scale == 1 or len(self.rivals) == 0:
            return roots[:0]
        return np.flatnonzero(self.active & (self.source[roots] >= self.frozen))

    @property
    def rivals(self) -> Labels:
        """Frozen columns that answer with their own name."""
        own = self.answers_as == np.arange(len(self.answers_as))
        return np.flatnonzero(self.active & own & (self.source < self.frozen))

    def logits(self, bottlenecks: Array) -> Array:
        """(n, D) to (n, C), after temperature and scale; -inf for what never answers."""
        return self.placed(self.rows.logits(bottlenecks))

    def placed(self, fitted: Array) -> Array:
        """(n, F) to (n, C): the same of logits that are there already."""
        z: Array = fitted[:, np.maximum(self.source, 0)] / np.float32(self.temperature)
        z[:, ~self.active] = -np.inf
        moved = self.stretched
        if len(moved):
            whole = folded_logits(z, self.answers_as)
            best = whole[:, self.rivals].max(axis=1, keepdims=True)
            ahead = np.maximum(whole[:, self.answers_as[moved]] - best, 0)
            # An alias moves with its target, so that their sum lies where the scale puts it.
            z[:, moved] += np.float32(self.scale - 1) * ahead
        return z

    def probabilities(self, bottlenecks: Array) -> Array:
        return folded(self.logits(bottlenecks), self.answers_as)


Logits = TypeVar("Logits", Array, Doubles)


def folded(logits: Logits, answers_as: Labels) -> Logits:
    """(n, C) to (n, C): softmax, then every alias' probability where its target's is."""
    p: Logits = softmax(folded_logits(logits, answers_as), axis=1)
    return p


def folded_logits(logits: Logits, answers_as: Labels) -> Logits:
    """(n, C) to (n, C), of which softmax gives the answers' probabilities; -inf for aliases."""
    found = aliases(answers_as)
    if len(found) == 0:
        return logits
    z = logits.copy()
    for alias in found.tolist():
        z[:, answers_as[alias]] = np.logaddexp(z[:, answers_as[alias]], z[:, alias])
        z[:, alias] = -np.inf
    return z


def aliases(answers_as: Labels) -> Labels:
    """Columns that answer with another one's name."""
    own = np.arange(len(answers_as))
    return np.flatnonzero((answers_as != NEVER) & (answers_as != own))


def _target(category: Category, categories: Sequence[Category]) -> int:
    while category.state == "active" and category.alias_of is not None:
        category = categories[category.alias_of]
    return category.index if category.state == "active" else NEVER
