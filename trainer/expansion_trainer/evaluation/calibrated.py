"""What scores are worth: how far they are from the share of right answers, beside what so few images would show of perfect ones."""

import numpy as np

from expansion_contract.report import Calibration, CalibrationError, ScoreBin
from expansion_trainer.evaluation.metrics import binned, calibration_error
from expansion_trainer.head.softmax import Doubles, Flags

SIMULATIONS = 200


def calibration(score: Doubles, right: Flags, is_new: Flags) -> Calibration | None:
    """None without a labelled test image."""
    overall = error_of(score, right)
    if overall is None:
        return None
    return Calibration(
        overall=overall,
        base=error_of(score[~is_new], right[~is_new]),
        new=error_of(score[is_new], right[is_new]),
        bins=[
            ScoreBin(score=float(score[members].mean()), right=float(right[members].mean()), n=len(members))
            for members in binned(score)
        ],
    )


def error_of(score: Doubles, right: Flags) -> CalibrationError | None:
    value = calibration_error(score, right)
    return None if value is None else CalibrationError(value=value, floor=floor(score), n=len(score))


def floor(score: Doubles) -> float:
    """The mean error of simulated answers of which each is right with exactly the probability that its score says."""
    random = np.random.default_rng(0)
    ordered = np.sort(score)
    starts = np.array([0, *np.cumsum([len(members) for members in binned(score)])[:-1]])
    simulated = random.random((SIMULATIONS, len(score))) < ordered
    apart = np.add.reduceat(simulated - ordered, starts, axis=1)
    return float(np.abs(apart).sum(axis=1).mean() / len(score))
