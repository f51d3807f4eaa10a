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
OPTIONS = {"maxiter": 300, "maxcor": 20, "ftol": 1e-7, "gtol": 1e-6}


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
            options=OPTIONS,
        )
    solution = found.x.reshape(shape).astype(np.float32)
    return Rows(weights=solution[:-1], bias=solution[-1])


def loss(flat: Doubles, problem: Problem, l2: float) -> tuple[float, Doubles]:
    """Value and gradient at the weights and, last, the bias: (D + 1) * U numbers. Products in float32, sums in float64."""
    W = flat.reshape(-1, problem.categories)
    Z = (problem.bottlenecks @ W[:-1].astype(np.float32)).astype(np.float64) + W[-1]
    top = np.maximum(problem.rivals, Z.max(axis=1))
    raised = np.exp(Z - top[:, None])
    total = np.exp(problem.rivals - top) + raised.sum(axis=1)
    new = np.flatnonzero(problem.targets != OLD)
    own = problem.rivals.copy()
    own[new] = Z[new, problem.targets[new]]
    residual = raised / total[:, None]
    residual[new, problem.targets[new]] -= 1.0
    residual *= problem.masses[:, None]
    strayed = W[:-1] if problem.anchor is None else W[:-1] - problem.anchor
    slope = problem.bottlenecks.T @ residual.astype(np.float32) + l2 * strayed
    value = float(problem.masses @ (top + np.log(total) - own)) + l2 / 2 * float(np.square(strayed).sum())
    return value, np.vstack([slope, residual.sum(axis=0)]).ravel()
