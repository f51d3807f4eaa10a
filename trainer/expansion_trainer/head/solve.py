"""Which of the solvers fits the rows of the added categories, and why that one."""

from dataclasses import dataclass

from expansion_contract.resource import GradientDescent, Solver
from expansion_trainer.head import fit
from expansion_trainer.head.evidence import Evidence
from expansion_trainer.head.fit import BaseHead, FittedHead
from expansion_trainer.head.material import Labelled
from expansion_trainer.head.softmax import Rows
from expansion_trainer.head.statistics import Statistics


@dataclass(frozen=True, kw_only=True)
class Options:
    solver: Solver
    steal_budget: float  # a share, not percent
    seed: int
    gradient_descent: GradientDescent | None = None  # None: retrain.py's defaults
    random_projection: int | None = None  # dimensions


def solve(
    base: BaseHead,
    training: Labelled,
    validation: Labelled,
    evidence: tuple[Evidence, ...],
    calibration: tuple[Evidence, ...],
    options: Options,
    statistics: Statistics | None = None,
    anchor: Rows | None = None,
) -> FittedHead:
    """One row per label of `training` beside the base's untouched ones. `anchor` are the rows that the first added categories had."""
    return fit.expand(base, training, validation, evidence, calibration, options.steal_budget, options.seed)
