"""Softmax regression over all logits in which only the rows of new categories move, with L-BFGS.

Let a = log sum exp(base logits) of an image, constant because the base rows are frozen, and z its new logits. Then
log sum exp(all logits) = log(e^a + sum e^z), so of the C0 base logits one number per image is enough, and

    loss = sum_i s_i (log(e^a_i + sum_j e^z_ij) - z_i,y_i)     for an image of a new category y
    loss = sum_i s_i (log(e^a_i + sum_j e^z_ij) - a_i)         for evidence: -log(1 - p(new))

For evidence whose base category t is known, -log p(t) differs from the second line by a_i - z_i,t, which no new row can change:
labels of replay images, the base's own soft or hard answers, and "not new" all give exactly the same new rows.
"""

from dataclasses import dataclass

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
LOGITS = 2**24
"""Of new categories, computed at once: 128 MiB, however many images and categories there are."""
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


def fit(problem: Problem, l2: float, start: Rows | None = None) -> Rows:
    """The minimum of the loss + l2/2 |W - anchor|^2, with the bias free. `start` only saves time."""
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
    at_once = max(1, LOGITS // problem.categories)
    for start in range(0, len(problem.targets), at_once):
        part = slice(start, start + at_once)
        Z = (problem.bottlenecks[part] @ weights).astype(np.float64) + W[-1]
        lost, residual = _lost(Z, problem.rivals[part], problem.targets[part])
        residual *= problem.masses[part, None]
        value += float(problem.masses[part] @ lost)
        slope[:-1] += problem.bottlenecks[part].T @ residual.astype(np.float32)
        slope[-1] += residual.sum(axis=0)
    return value, slope.ravel()


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
