"""Sums that stand for images: how many, where and how widely each category's bottlenecks lie. All float64; order does not matter.

With S_c the scatter of category c around its own mean m_c, N_c its images and 1 the vector of ones over the categories:

    scatter          S_w   = sum_c S_c              covariance of one image within its category: S_w / (N - C)
    balanced scatter S_bal = sum_c S_c / N_c        the same where every category counts alike:  S_bal / C
    Gram             G     = S_w + sum_c N_c m_c m_c^T,     balanced Gram = S_bal + sum_c m_c m_c^T
    variances        v_c   = diag(S_c) / N_c

so ridge regression, discriminants and Mahalanobis distances need no image. Merging two sides of one category moves its mean:
S_c = S_a + S_b + (N_a N_b / (N_a + N_b)) (m_a - m_b)(m_a - m_b)^T (Chan, Golub and LeVeque 1983).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from expansion_trainer.head.softmax import Array, Doubles, Labels

CHUNK = 4096
"""Images centred at once: 64 MB for 2048 numbers each."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Statistics:
    """A category that nothing is known of has count 0 and zeros elsewhere."""

    counts: Labels  # (C,)
    means: Doubles  # (C, D)
    scatter: Doubles  # (D, D), S_w
    balanced_scatter: Doubles  # (D, D), S_bal
    variances: Doubles  # (C, D)

    def __len__(self) -> int:
        return len(self.counts)

    @property
    def seen(self) -> Labels:
        """Categories with images."""
        return np.flatnonzero(self.counts)

    @property
    def within(self) -> Doubles:
        """(D, D), the covariance of an image within its category. Zeros while no category has two images."""
        return self.scatter / max(int(self.counts.sum()) - len(self.seen), 1)

    @property
    def balanced_within(self) -> Doubles:
        """(D, D), the mean of the categories' own covariances."""
        return self.balanced_scatter / max(len(self.seen), 1)

    @property
    def total(self) -> Doubles:
        """(D, D), within plus between: the covariance of an image whose category is drawn evenly."""
        means = self.means[self.seen]
        apart = means - means.sum(axis=0) / max(len(means), 1)
        total: Doubles = self.within + apart.T @ apart / max(len(means), 1)
        return total

    @property
    def gram(self) -> Doubles:
        """(D, D), sum over images of x x^T."""
        return self.scatter + (self.means * self.counts[:, None]).T @ self.means

    @property
    def balanced_gram(self) -> Doubles:
        """(D, D), sum over categories of the mean x x^T."""
        return self.balanced_scatter + self.means.T @ self.means


def empty(categories: int, size: int) -> Statistics:
    return Statistics(
        counts=np.zeros(categories, np.int64),
        means=np.zeros((categories, size)),
        scatter=np.zeros((size, size)),
        balanced_scatter=np.zeros((size, size)),
        variances=np.zeros((categories, size)),
    )


def of(bottlenecks: Array, labels: Labels, categories: int) -> Statistics:
    """Of all images at once; labels are category indices below `categories`."""
    counts = np.bincount(labels, minlength=categories).astype(np.int64)
    order = np.argsort(labels, kind="stable")
    means = _means(bottlenecks[order], counts)
    sums = empty(categories, bottlenecks.shape[1])
    for start in range(0, len(order), CHUNK):
        rows = order[start : start + CHUNK]
        centred = bottlenecks[rows].astype(np.float64) - means[labels[rows]]
        _add(sums, centred, labels[rows], counts)
    return replace(sums, counts=counts, means=means)


def _means(in_order: Array, counts: Labels) -> Doubles:
    means = np.zeros((len(counts), in_order.shape[1]))
    ends = np.cumsum(counts)
    for category in np.flatnonzero(counts):
        own = in_order[ends[category] - counts[category] : ends[category]]
        means[category] = own.mean(axis=0, dtype=np.float64)
    return means


def _add(sums: Statistics, centred: Doubles, labels: Labels, counts: Labels) -> None:
    """Into the arrays of `sums`: a scatter of 2048 numbers fills 32 MB, too much for a copy for every chunk."""
    shared = centred / counts[labels][:, None]
    sums.scatter[:] += centred.T @ centred
    sums.balanced_scatter[:] += centred.T @ shared
    np.add.at(sums.variances, labels, centred * shared)


def merged(a: Statistics, b: Statistics) -> Statistics:
    """Of the images of both; the same index means the same category, and the longer one says how many there are.

    All is exact but one thing: where both have images of one category, the balanced scatter has the right diagonal and
    the correlations of the two sides' sum, because no category's own scatter is kept (16 MiB each).
    """
    a, b = (_padded(part, max(len(a), len(b))) for part in (a, b))
    counts = a.counts + b.counts
    n = np.maximum(counts, 1)[:, None]
    apart = b.means - a.means
    pull = (a.counts * b.counts)[:, None] / n  # 0 where one side has no image
    variances = (a.counts[:, None] * a.variances + b.counts[:, None] * b.variances + pull * apart**2) / n
    between, balanced_between = (apart.T @ (factor * apart) for factor in (pull, pull / n))
    balanced = a.balanced_scatter + b.balanced_scatter + balanced_between
    return Statistics(
        counts=counts,
        means=(a.counts[:, None] * a.means + b.counts[:, None] * b.means) / n,
        scatter=a.scatter + b.scatter + between,
        balanced_scatter=with_diagonal(balanced, variances.sum(axis=0)) if pull.any() else balanced,
        variances=variances,
    )


def appended(a: Statistics, b: Statistics) -> Statistics:
    """The categories of `a`, then those of `b`. Exact."""
    nothing = empty(len(a), a.means.shape[1])
    moved = Statistics(
        counts=np.concatenate([nothing.counts, b.counts]),
        means=np.concatenate([nothing.means, b.means]),
        scatter=b.scatter,
        balanced_scatter=b.balanced_scatter,
        variances=np.concatenate([nothing.variances, b.variances]),
    )
    return merged(a, moved)


def removed(statistics: Statistics, categories: Sequence[int]) -> Statistics:
    """Without the images of these categories, whose indices stay. Means, counts, variances and diagonals are exact;
    the correlations remain those of all, because no category's own scatter is kept."""
    kept = np.ones(len(statistics), dtype=bool)
    kept[list(categories)] = False
    counts, variances = statistics.counts * kept, statistics.variances * kept[:, None]
    return Statistics(
        counts=counts,
        means=statistics.means * kept[:, None],
        scatter=with_diagonal(statistics.scatter, counts @ variances),
        balanced_scatter=with_diagonal(statistics.balanced_scatter, variances.sum(axis=0)),
        variances=variances,
    )


def with_diagonal(scatter: Doubles, diagonal: Doubles) -> Doubles:
    """The same correlations, other variances; as positive definite as it was."""
    own = np.diag(scatter)
    factors = np.sqrt(np.divide(diagonal, own, out=np.zeros_like(own), where=own > 0))
    return scatter * factors[:, None] * factors[None, :]


def _padded(part: Statistics, categories: int) -> Statistics:
    more = categories - len(part)
    return replace(
        part,
        counts=np.pad(part.counts, (0, more)),
        means=np.pad(part.means, ((0, more), (0, 0))),
        variances=np.pad(part.variances, ((0, more), (0, 0))),
    )
