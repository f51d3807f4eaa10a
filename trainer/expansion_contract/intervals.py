"""Intervals of proportions, with the standard library only: the gate and the evaluation ask the same formula."""

from math import sqrt
from statistics import NormalDist


def wilson(hits: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """The Wilson score interval of hits/n (Wilson 1927). With n = 0 nothing is known: (0, 1)."""
    if n == 0:
        return 0.0, 1.0
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    share = hits / n
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return max(0.0, middle - half), min(1.0, middle + half)


def newcombe(before: int, after: int, both: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """The interval of (before - after) / n, hits before and after being of the same n images, `both` of them hit both times.

    Newcombe, "Improved confidence intervals for the difference between binomial proportions based on paired data", Statistics in
    Medicine 17 (1998), method 10: the Wilson limits of both proportions, joined as their correlation phi says.
    """
    if n == 0:
        return -1.0, 1.0
    p, q = before / n, after / n
    (p_low, p_high), (q_low, q_high) = wilson(before, n, confidence), wilson(after, n, confidence)
    phi = _correlation(before, after, both, n)
    return (
        max(-1.0, p - q - _joined_half(p - p_low, q_high - q, phi)),
        min(1.0, p - q + _joined_half(p_high - p, q - q_low, phi)),
    )


def _joined_half(first: float, second: float, phi: float) -> float:
    return sqrt(max(0.0, first * first - 2 * phi * first * second + second * second))


def _correlation(before: int, after: int, both: int, n: int) -> float:
    """Phi of the 2x2 table, its numerator lowered by n/2 as method 10 asks when it is positive."""
    margins = before * (n - before) * after * (n - after)
    excess: float = both * (n - before - after + both) - (before - both) * (after - both)
    if excess > 0:
        excess = max(0.0, excess - n / 2)
    return excess / sqrt(margins) if margins else 0.0
