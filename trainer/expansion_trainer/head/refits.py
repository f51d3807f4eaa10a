"""Heads like a fitted one but made without some of its images, so that these can be asked as if they came tomorrow.

Only the rows are fitted anew, at the L2 and with the offset of the fitted head: nothing is chosen again. Cost is bounded: of many
categories and images a part is taken, the same for the same seed.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from expansion_trainer.head import softmax
from expansion_trainer.head.evidence import Evidence
from expansion_trainer.head.fit import BaseHead, FittedHead
from expansion_trainer.head.material import NEVER, Labelled, Material, material
from expansion_trainer.head.projection import Projected, narrowed
from expansion_trainer.head.softmax import Array, Labels, Rows

MOST_CATEGORIES = 48
MOST_IMAGES = 40
"""Of a category."""
TURNS = 4
"""Parts of the new categories that are left out in turn."""
L2 = 1e-4
"""Where the fitted head has none of its own."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Fitting:
    """What a head was fitted on, without a projection beside it."""

    head: FittedHead
    base: BaseHead | None  # None in mode Replace
    training: Labelled
    evidence: Sequence[Evidence]
    seed: int
    projected: Projected | None = None  # what head.logits adds to its weights' own product, if anything

    @property
    def categories(self) -> int:
        return len(self.head.bias) - self.head.base_count


@dataclass(frozen=True, kw_only=True, eq=False)
class Without:
    """A head that has never seen some of the new categories, nor some images of the others. Its columns are where they were."""

    rows: Rows  # F columns; those that are not `kept` always lose
    kept: Labels  # new categories it knows, indices among the new ones
    left_out: Labels  # those to be taken for unknown
    aside: Labelled  # training images of kept categories that it has not seen


def turns(fitting: Fitting) -> Iterator[Without]:
    """Every new category, or a part of many, is left out once. Nothing where there is only one."""
    drawn = _drawn(fitting)
    parts = [np.sort(part) for part in np.array_split(drawn, min(TURNS, len(drawn)))]
    for turn, part in enumerate(parts if len(parts) > 1 else []):
        kept = np.setdiff1d(drawn, part)
        stuff, training = _stuff(fitting, kept)
        rows = _rows(fitting, stuff, kept, turn)
        seen_later = np.flatnonzero(stuff.folds[: len(training)] == turn)
        yield Without(rows=rows, kept=kept, left_out=part, aside=_renamed(training, seen_later, kept))


def crossed(fitting: Fitting) -> tuple[Labelled, Array]:
    """Training images with the logits (n, F) of heads that were fitted without them; of many a part, none of single images."""
    kept = np.sort(_drawn(fitting))
    stuff, training = _stuff(fitting, kept)
    folds = stuff.folds[: len(training)]
    logits = np.zeros((len(training), len(fitting.head.bias)), np.float32)
    for fold in np.unique(folds[folds != NEVER]).tolist():
        rows = _rows(fitting, stuff, kept, fold)
        logits[folds == fold] = rows.logits(training.bottlenecks[folds == fold])
    asked = np.flatnonzero(folds != NEVER)
    return _renamed(training, asked, kept), logits[asked]


def _drawn(fitting: Fitting) -> Labels:
    drawn: Labels = np.random.default_rng(fitting.seed).permutation(fitting.categories)[:MOST_CATEGORIES]
    return drawn


def _stuff(fitting: Fitting, kept: Labels) -> tuple[Material, Labelled]:
    training = some(fitting.training, kept, fitting.seed)
    seen, evidence = training, fitting.evidence
    base: Rows | None = fitting.base
    if fitting.projected:
        drawn = fitting.projected.projection
        seen, evidence = drawn.images(seen), drawn.evidence(evidence)
        base = None if base is None else _beside(base, fitting.projected)
    none = Labelled(bottlenecks=seen.bottlenecks[:0], labels=seen.labels[:0])
    return material(base, seen, none, evidence, (), fitting.seed), training


def _beside(rows: Rows, projected: Projected | None) -> Rows:
    """The first columns of a head, of bottlenecks with the projection beside them."""
    if projected is None:
        return rows
    own = projected.weights[:, : len(rows.bias)]
    return Rows(weights=np.vstack([rows.weights, own]), bias=rows.bias)


def _renamed(training: Labelled, rows: Labels, kept: Labels) -> Labelled:
    """From places among the kept categories to places among the new ones."""
    return Labelled(bottlenecks=training.bottlenecks[rows], labels=kept[training.labels[rows]])


def some(images: Labelled, kept: Labels, seed: int) -> Labelled:
    """At most MOST_IMAGES of each kept category, labelled by its place among the kept ones."""
    random = np.random.default_rng(seed)
    rows = np.concatenate(
        [random.permutation(np.flatnonzero(images.labels == category))[:MOST_IMAGES] for category in kept]
    )
    rows = np.sort(rows)
    return Labelled(
        bottlenecks=images.bottlenecks[rows],
        labels=np.searchsorted(kept, images.labels[rows]),
        weights=None if images.weights is None else images.weights[rows],
        groups=None if images.groups is None else images.groups[rows],
    )


def _rows(fitting: Fitting, stuff: Material, kept: Labels, fold: int) -> Rows:
    """All columns, of the new ones only the kept, fitted without one fold."""
    head, projected = fitting.head, fitting.projected
    whole = _beside(head, projected)
    columns = head.base_count + kept
    start = Rows(weights=whole.weights[:, columns], bias=head.bias[columns] - np.float32(head.offset))
    found = softmax.fit(stuff.problem(without=fold), head.l2 or L2, stuff.scale.redo(start))
    new = stuff.scale.undo(found)
    weights, bias = whole.weights.copy(), head.bias.copy()
    weights[:, head.base_count :], bias[head.base_count :] = 0, -np.inf
    weights[:, columns], bias[columns] = new.weights, new.bias + np.float32(head.offset)
    rows = Rows(weights=weights, bias=bias)
    return rows if projected is None else narrowed(rows, projected.projection)
