"""Arrays in as few bytes as they need: symmetric matrices as triangles, measurements in half precision with a power of two per column."""

import numpy as np
from numpy.typing import NDArray

from expansion_trainer.head.softmax import Array, Doubles

Halves = NDArray[np.float16]

_LARGEST = 14.0
"""Binary digits before the point of the largest number of a column; half precision ends at 15."""


def triangle(symmetric: Doubles) -> Array:
    """(D, D) to its lower half, (D (D + 1) / 2,) in float32."""
    rows, columns = np.tril_indices(len(symmetric))
    lower: Array = symmetric[rows, columns].astype(np.float32)
    return lower


def square(lower: Array) -> Doubles:
    """The symmetric matrix again. ValueError if no square has so many numbers in its lower half."""
    size = (int(np.sqrt(8 * len(lower) + 1)) - 1) // 2
    if size * (size + 1) // 2 != len(lower):
        raise ValueError(f"{len(lower)} numbers are no triangle")
    whole = np.zeros((size, size))
    rows, columns = np.tril_indices(size)
    whole[rows, columns] = whole[columns, rows] = lower
    return whole


def halved(rows: Doubles | Array) -> tuple[Halves, Array]:
    """(n, D) as halves and (D,) factors. Factors are powers of two, so that reading and writing again changes no bit."""
    largest = np.abs(rows).max(axis=0, initial=0.0).astype(np.float64)
    exponents = np.where(largest > 0, np.ceil(np.log2(np.where(largest > 0, largest, 1.0))) - _LARGEST, 0.0)
    factors = np.exp2(np.clip(exponents, -100, 100))
    return (rows / factors).astype(np.float16), factors.astype(np.float32)


def whole(halves: Halves, factors: Array) -> Array:
    rows: Array = halves.astype(np.float32) * factors
    return rows
