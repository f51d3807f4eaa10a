"""Softmax regression over all logits in which only the rows of new categories move, with L-BFGS.

Let a = log sum exp(base logits) of an image, constant because the base rows are frozen, and z its new logits. Then
log sum exp(all logits) = log(e^a + sum e^z), so of the C0 base logits one number per image is enough, and

    loss = sum_i s_i (log(e^a_i + sum_j e^z_ij) - z_i,y_i)     for an image of a new category y
    loss = sum_i s_i (log(e^a_i + sum_j e^z_ij) - a_i)         for evidence: -log(1 - p(new))

For evidence whose base category t is known, -log p(t) differs from the second line by a_i - z_i,t, which no new row can change:
labels of replay images, the base's own soft or hard answers, and "not new" all give exactly the same new rows.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import count, pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import logsumexp
from threadpoolctl import threadpool_limits

Array = NDArray[np.float32]
Doubles = NDArray[np.float64]
Labels = NDArray[np.int64]
Flags = NDArray[np.bool_]

OLD = -1
"""The target of evidence: any category but a new one."""
CHUNK = 8192
"""Images whose base logits are computed at once: 1000 base categories take 32 MB."""
LOGITS = 2**22
"""Computed at once by one thread: 32 MiB, however many images and categories there are."""
FEW_LOGITS = 2**19
"""Are worth neither a second thread nor a copy of the images that weigh something."""
HEAPS = 4
"""Of images, where there are more: so many threads work side by side. A fixed number, so that the sums, and with them the rows, are the
same however many cores there are."""
OPTIONS = {"maxiter": 300, "ftol": 1e-7, "gtol": 1e-6}
MOST_STEPS, FEWEST_STEPS = 20, 4
"""That L-BFGS remembers; each takes two numbers for every weight."""
REMEMBERED = 2**26
"""Numbers in each of its two memories: 512 MiB."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Rows:
    """A linear map from bottlenecks to logits."""

    weights: Array  # (D, C)
    bias: Array  # (C,)

    def logits(self, bottlenecks: Array) -> Array:  # (n, D) -> (n, C)
        return bottlenecks @ self.weights + self.bias


@dataclass(frozen=True, kw_only=True, eq=False)
class Problem:
    bottlenecks: Array  # (n, D)
    rivals: Doubles  # (n,), log sum exp of the base's logits; -inf where there is no base
    targets: Labels  # (n,), index among the new categories, or OLD
    masses: Doubles  # (n,), weight of each image in the loss
    categories: int  # U, how many rows to fit
    anchor: Doubles | None = None  # (D, U), where L2 pulls the weights to; None: to zero

    @property
    def is_large(self) -> bool:
        return len(self.targets) * self.categories > FEW_LOGITS

    def without_weightless(self) -> "Problem":
        kept = self.masses > 0
        return replace(
            self,
            bottlenecks=self.bottlenecks[kept],
            rivals=self.rivals[kept],
            targets=self.targets[kept],
            masses=self.masses[kept],
        )


def old_side(base: Rows | None, bottlenecks: Array) -> tuple[Doubles, Doubles]:
    """Log sum exp and maximum of the base's logits, (n,) each; -inf where there is no base."""
    rivals = np.full(len(bottlenecks), -np.inf)
    best = rivals.copy()
    if base is None:
        return rivals, best
    for start in range(0, len(bottlenecks), CHUNK):
        part = slice(start, start + CHUNK)
        logits = base.logits(bottlenecks[part])
        rivals[part] = logsumexp(logits.astype(np.float64), axis=1)
        best[part] = logits.max(axis=1)
    return rivals, best


def fit(
    problem: Problem, l2: float, start: Rows | None = None, watch: Callable[[int], None] = lambda _: None
) -> Rows:
    """The minimum of the loss + l2/2 |W - anchor|^2, with the bias free. `start` only saves time. `watch` hears of every step's number,
    at most OPTIONS["maxiter"]."""
    steps = count(1)
    if problem.is_large:
        problem = problem.without_weightless()
    shape = (problem.bottlenecks.shape[1] + 1, problem.categories)
    first = np.zeros(shape) if start is None else np.vstack([start.weights, start.bias])
    # A few columns leave BLAS' threads nothing to share but a lock: ten times the CPU seconds on a busy machine.
    with threadpool_limits(limits=1, user_api="blas"):
        found = minimize(
            loss,
            first.astype(np.float64).ravel(),
            args=(problem, l2),
            jac=True,
            method="L-BFGS-B",
            callback=lambda _: watch(next(steps)),
            options={**OPTIONS, "maxcor": _remembered(first.size)},
        )
    solution = found.x.reshape(shape).astype(np.float32)
    return Rows(weights=solution[:-1], bias=solution[-1])


def _remembered(weights: int) -> int:
    return max(FEWEST_STEPS, min(MOST_STEPS, REMEMBERED // weights))


def loss(flat: Doubles, problem: Problem, l2: float) -> tuple[float, Doubles]:
    """Value and gradient at the weights and, last, the bias: (D + 1) * U numbers. Products in float32, sums in float64."""
    W = flat.reshape(-1, problem.categories)
    weights = W[:-1].astype(np.float32)
    strayed = W[:-1] if problem.anchor is None else W[:-1] - problem.anchor
    value, slope = l2 / 2 * float(np.square(strayed).sum()), np.vstack([l2 * strayed, np.zeros(len(W[0]))])
    for lost, slope_of_weights, slope_of_bias in _of_heaps(problem, weights, W[-1]):
        value += lost
        slope[:-1] += slope_of_weights
        slope[-1] += slope_of_bias
    return value, slope.ravel()


_Sums = tuple[float, Array | Doubles, Doubles]
"""Of some images: their loss, and its slope by the weights, (D, U), and by the bias, (U,)."""


def parts(first: int, end: int, categories: int) -> list[slice]:
    """Of so many images each as are computed at once."""
    at_once = max(1, LOGITS // max(1, categories))
    return [slice(start, min(start + at_once, end)) for start in range(first, end, at_once)]


def _of_heaps(problem: Problem, weights: Array, bias: Doubles) -> list[_Sums]:
    images = len(problem.targets)
    if not problem.is_large:
        return [_of_images(problem, weights, bias, slice(0, images))]
    edges = np.linspace(0, images, HEAPS + 1).astype(int).tolist()
    heaps = [parts(first, end, problem.categories) for first, end in pairwise(edges)]
    with ThreadPoolExecutor(HEAPS) as threads:
        return list(threads.map(lambda heap: _added(problem, weights, bias, heap), heaps))


def _added(problem: Problem, weights: Array, bias: Doubles, heap: list[slice]) -> _Sums:
    value, slope, of_bias = 0.0, np.zeros(weights.shape), np.zeros(bias.shape)
    for part in heap:
        lost, more, more_of_bias = _of_images(problem, weights, bias, part)
        value += lost
        slope += more
        of_bias += more_of_bias
    return value, slope, of_bias


def _of_images(problem: Problem, weights: Array, bias: Doubles, part: slice) -> _Sums:
    Z = (problem.bottlenecks[part] @ weights).astype(np.float64) + bias
    lost, residual = _lost(Z, problem.rivals[part], problem.targets[part])
    residual *= problem.masses[part, None]
    slope = problem.bottlenecks[part].T @ residual.astype(np.float32)
    return float(problem.masses[part] @ lost), slope, residual.sum(axis=0)


def _lost(Z: Doubles, rivals: Doubles, targets: Labels) -> tuple[Doubles, Doubles]:
    """(n,), -log of what the target gets, and (n, U), its slope by each of the new logits. Z is used up."""
    new = np.flatnonzero(targets != OLD)
    own = rivals.copy()
    own[new] = Z[new, targets[new]]
    top = np.maximum(rivals, Z.max(axis=1))
    Z -= top[:, None]
    residual = np.exp(Z, out=Z)
    total = np.exp(rivals - top) + residual.sum(axis=1)
    residual /= total[:, None]
    residual[new, targets[new]] -= 1.0
    return top + np.log(total) - own, residual
