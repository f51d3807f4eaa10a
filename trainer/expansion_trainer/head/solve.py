"""Which of the solvers fits the rows of the added categories, and why that one."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from expansion_contract.resource import GradientDescent, Solver
from expansion_trainer.errors import InvalidRun
from expansion_trainer.head import fit, gradient_descent
from expansion_trainer.head import statistics as sums
from expansion_trainer.head.comparison import chosen
from expansion_trainer.head.discriminant import LEAST_PHOTOGRAPHS, Asked, discriminate
from expansion_trainer.head.evidence import Evidence
from expansion_trainer.head.fit import BaseHead, FittedHead
from expansion_trainer.head.material import Labelled, count, is_photographs
from expansion_trainer.head.projection import Projection, narrowed, projection, widened
from expansion_trainer.head.softmax import Array, Rows
from expansion_trainer.head.solved import Solved
from expansion_trainer.head.statistics import Statistics
from expansion_trainer.head.watch import Watch, unwatched

MOST_NUMBERS = 2**29
"""Of bottlenecks with a projection beside them: 2 GiB."""


@dataclass(frozen=True, kw_only=True)
class Options:
    solver: Solver
    steal_budget: float  # a share, not percent
    seed: int
    gradient_descent: GradientDescent | None = None  # None: retrain.py's defaults
    random_projection: int | None = None  # dimensions
    watch: Watch = unwatched


def solve(
    base: BaseHead,
    training: Labelled,
    validation: Labelled,
    evidence: tuple[Evidence, ...],
    calibration: tuple[Evidence, ...],
    options: Options,
    statistics: Statistics | None = None,
    anchor: Rows | None = None,
    *,
    core: Labelled | None = None,
) -> Solved:
    """One row per label of `training` beside the base's untouched ones.

    `statistics`: of real training images; the added categories are the last ones. `anchor`: rows that the first of them had before;
    only Softmax can be pulled to them. `core`: of every added category the real bottlenecks that calibrate and that a pack keeps. Where
    Discriminant chooses on them and on nothing else, the order in which categories arrived does not matter; otherwise it chooses
    on `validation`.
    """
    task = _Task(
        base=base,
        training=training,
        validation=validation,
        evidence=evidence,
        calibration=calibration,
        options=options,
        statistics=statistics,
        anchor=anchor,
        core=core,
    )
    match options.solver:
        case Solver.SOFTMAX:
            return task.with_projection() if options.random_projection else task.softmax()
        case Solver.GRADIENT_DESCENT:
            return task.with_projection() if options.random_projection else task.gradient_descent()
        case Solver.DISCRIMINANT:
            return task.discriminant()
        case Solver.AUTO:
            return _best(task)


def replaced(training: Labelled, validation: Labelled, options: Options) -> Solved:
    """The new categories among themselves: no base, no boundary to it. Auto takes Softmax: it is chosen on the same images."""
    if options.random_projection:
        return _replaced_with_projection(training, validation, options, options.random_projection)
    if options.solver is Solver.GRADIENT_DESCENT:
        asked = options.gradient_descent or GradientDescent()
        return gradient_descent.descend(
            None, training, validation, (), (), asked, 0.0, options.seed, options.watch
        )
    if options.solver is Solver.DISCRIMINANT:
        raise InvalidRun(
            "spec.training.head.solver: Discriminant places new categories beside a pretrained network's own, and there are none: mode:"
            " Replace left them out, here or in the model that is grown. Take solver: Softmax or GradientDescent, or mode: Expand."
        )
    return _solved(fit.replace(training, validation, options.seed, options.watch))


def _replaced_with_projection(
    training: Labelled, validation: Labelled, options: Options, dimensions: int
) -> Solved:
    _refuse_too_many((training.bottlenecks, validation.bottlenecks), dimensions)
    drawn = projection(training.bottlenecks, dimensions, options.seed)
    plain = replace(options, random_projection=None)
    return _narrowed(replaced(drawn.images(training), drawn.images(validation), plain), drawn)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Task:
    base: BaseHead
    training: Labelled
    validation: Labelled
    evidence: tuple[Evidence, ...]
    calibration: tuple[Evidence, ...]
    options: Options
    statistics: Statistics | None
    anchor: Rows | None
    core: Labelled | None

    @property
    def parts(self) -> list[Array]:
        images = [self.training.bottlenecks, self.validation.bottlenecks]
        return images + [e.bottlenecks for e in (*self.evidence, *self.calibration)]

    def softmax(self) -> Solved:
        head = fit.expand(
            self.base,
            self.training,
            self.validation,
            self.evidence,
            self.calibration,
            self.options.steal_budget,
            self.options.seed,
            anchor=self.anchor,
            watch=self.options.watch,
        )
        return _solved(head)

    def gradient_descent(self) -> Solved:
        return gradient_descent.descend(
            self.base,
            self.training,
            self.validation,
            self.evidence,
            self.calibration,
            self.options.gradient_descent or GradientDescent(),
            self.options.steal_budget,
            self.options.seed,
            self.options.watch,
        )

    def discriminant(self) -> Solved:
        if self.options.random_projection:
            raise InvalidRun(
                "spec.training.head.randomProjection goes with solver: Auto, Softmax or GradientDescent. Discriminant is solved from sums"
                " over bottlenecks, which say nothing about their projections."
            )
        return self._discriminant()

    def _discriminant(self) -> Solved:
        categories = count(self.training, self.validation)
        return discriminate(
            self.base,
            self.statistics or _statistics(self.training, categories),
            self.validation if self.core is None else self.core,
            self.evidence,
            self.calibration,
            Asked(categories=categories, steal_budget=self.options.steal_budget, seed=self.options.seed),
            self.options.watch,
        )

    def with_projection(self) -> Solved:
        """The same solver on bottlenecks with a projection beside them."""
        dimensions = self.options.random_projection
        assert dimensions is not None
        _refuse_too_many(self.parts, dimensions)
        drawn = projection(self.training.bottlenecks, dimensions, self.options.seed)
        wide = replace(
            self,
            base=BaseHead(**_named(widened(self.base, dimensions))),
            training=drawn.images(self.training),
            validation=drawn.images(self.validation),
            evidence=drawn.evidence(self.evidence),
            calibration=drawn.evidence(self.calibration),
            options=replace(self.options, random_projection=None),
            anchor=None if self.anchor is None else widened(self.anchor, dimensions),
        )
        by_steps = self.options.solver is Solver.GRADIENT_DESCENT
        return _narrowed(wide.gradient_descent() if by_steps else wide.softmax(), drawn)


def _best(task: _Task) -> Solved:
    heads = [task.softmax()]
    photographs = sum(len(e.bottlenecks) for e in task.evidence if is_photographs(e))
    if photographs >= LEAST_PHOTOGRAPHS:
        heads.append(task._discriminant())
    if task.options.random_projection:
        heads.append(task.with_projection())
    return chosen(heads, task.base, task.validation, task.calibration, task.options.steal_budget)


def _statistics(training: Labelled, categories: int) -> Statistics:
    """Of real images, each once."""
    real = np.ones(len(training), bool) if training.weights is None else training.weights >= 1
    if training.is_copy is not None:
        real &= ~training.is_copy
    return sums.of(training.bottlenecks[real], training.labels[real], categories)


def _refuse_too_many(parts: Sequence[Array], dimensions: int) -> None:
    images, size = sum(map(len, parts)), parts[0].shape[1]
    most = MOST_NUMBERS // max(images, 1) - size
    if dimensions > most:
        raise InvalidRun(
            f"spec.training.head.randomProjection.dimensions: {dimensions} numbers beside the {size} of each of {images} bottlenecks do"
            f" not fit into memory. "
            + (f"Ask for at most {most}." if most >= 64 else "Remove randomProjection.")
        )


def _narrowed(head: Solved, drawn: Projection) -> Solved:
    """Linear part and projected part apart; the solver's name says that there are two."""
    rows = narrowed(head, drawn)
    return replace(
        head,
        weights=rows.weights,
        projected=rows.projected,
        solver=f"{head.solver} with random projection",
    )


def _solved(head: FittedHead) -> Solved:
    return Solved(**_named(head))


def _named(value: Rows) -> dict[str, Any]:
    return {column.name: getattr(value, column.name) for column in fields(value)}
