"""Intervals of figures that are no shares: the figure of many resamplings, as if other test images had been drawn."""

from collections.abc import Sequence

import numpy as np

from expansion_contract.report import Estimate, Proportion
from expansion_trainer.head.softmax import Array, Doubles, Flags, Labels
from expansion_trainer.head.unknown import auroc

RESAMPLINGS = 2000
AUROC_RESAMPLINGS = 300
"""Each sorts all images anew."""
_TAILS = (2.5, 97.5)


def macro_recall(recalls: Sequence[Proportion]) -> Estimate | None:
    """The mean recall of the tested categories. Drawn anew: the images of each category, and the categories.

    Of n images of which a share p is right, a resampling has Binomial(n, p) right ones.
    """
    tested = [recall for recall in recalls if recall.n]
    if not tested:
        return None
    random = np.random.default_rng(0)
    n = np.array([recall.n for recall in tested])
    p = np.array([recall.value for recall in tested])
    drawn = random.integers(len(tested), size=(RESAMPLINGS, len(tested)))
    means = (random.binomial(n[drawn], p[drawn]) / n[drawn]).mean(axis=1)
    return _estimate(float(p.mean()), means, int(n.sum()))


def recalls(truth: Labels, right: Flags) -> list[Proportion]:
    """One for each category that has a test image."""
    return [
        Proportion.of(int(right[truth == category].sum()), int((truth == category).sum()))
        for category in np.unique(truth)
    ]


def mean_auroc(pairs: Sequence[tuple[Doubles, Doubles]]) -> Estimate | None:
    """Of (known, strange) numbers, each pair from another head; pairs weigh as many strange images as they have."""
    pairs = [pair for pair in pairs if len(pair[0]) and len(pair[1])]
    if not pairs:
        return None
    random = np.random.default_rng(0)
    drawn = np.array(
        [
            _mean([(_resampled(known, random), _resampled(strange, random)) for known, strange in pairs])
            for _ in range(AUROC_RESAMPLINGS)
        ]
    )
    return _estimate(_mean(pairs), drawn, sum(len(strange) for _, strange in pairs))


def _mean(pairs: Sequence[tuple[Doubles, Doubles]]) -> float:
    weights = [len(strange) for _, strange in pairs]
    return float(np.average([auroc(known, strange) for known, strange in pairs], weights=weights))


def _resampled(numbers: Doubles, random: np.random.Generator) -> Doubles:
    return numbers[random.integers(len(numbers), size=len(numbers))]


def _estimate(value: float, drawn: Doubles | Array, n: int) -> Estimate:
    low, high = np.percentile(drawn, _TAILS)
    return Estimate(value=value, low=float(low), high=float(high), n=n)
