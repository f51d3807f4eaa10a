"""What stands for the categories that earlier expansions added, when all added rows are solved again without an image of theirs.

A pack keeps of each of them a few real bottlenecks, its mean, its variances and its count, and of all together one scatter. The real
ones are topped up with drawn ones: normal around the mean with the correlations that all categories share and the category's own
variances, cut at the lowest value a real bottleneck has (pooled activations have no negative side), and moved so that real and drawn
ones together have exactly the category's mean. Rows of a softmax head depend on a category's images through their mean and through
those near a boundary; the first is exact this way, the others are as likely as before.

Pulling the new rows to the earlier ones does not help beside this (it keeps them too short: measured 4 points of new accuracy lost
at equal steals), so nothing here asks for the earlier head.
"""

from dataclasses import dataclass, replace

import numpy as np
from scipy.linalg import cholesky

from expansion_trainer.head import statistics as sums
from expansion_trainer.head.material import Labelled
from expansion_trainer.head.softmax import Array, Doubles, Labels
from expansion_trainer.head.statistics import Statistics

EACH = 40
"""Bottlenecks of a category, real and drawn, for fitting."""
MOST_DRAWN = 60_000
"""Of all categories: 470 MB at 2048 numbers each."""
SHRUNK = 0.1
"""Part of the shared covariance that is taken to be even in all directions: it has seen fewer images than directions."""
SPREADS = (0.5, 2.0)
"""Least and greatest standard deviation of a category, relative to all: few images say little about it."""
ALMOST = 1.0 - 1e-9
"""Weight of a drawn one in its category. Below 1 means that it teaches and never judges (see Labelled)."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Earlier:
    """What is at hand of the categories that earlier expansions added; labels are their places in `columns`."""

    fitted: Labelled  # real bottlenecks to fit on
    calibrating: Labelled  # real ones that nobody fits on
    statistics: Statistics
    columns: Labels  # (k,), where each of them is in the statistics


def added_material(
    earlier: Earlier | None, training: Labelled, validation: Labelled, seed: int
) -> tuple[Labelled, Labelled]:
    """All added categories, the earlier ones first: what to fit on and what to choose by. `training` and `validation` are today's."""
    if earlier is None:
        return training, validation
    first = len(earlier.columns)
    known = topped_up(earlier.fitted, earlier.statistics, earlier.columns, seed)
    return joined(known, _moved(training, first)), joined(earlier.calibrating, _moved(validation, first))


def added_statistics(
    before: Statistics, columns: Labels, training: Labelled, replayed: Labelled | None = None
) -> Statistics:
    """Of the categories that earlier expansions added, in the order of `columns`, and today's behind them: what Discriminant is solved from.

    `before`: the pack's, in its own columns (`sums.empty` where there is none). `replayed`: training images of columns that it may know
    nothing of yet; they come in here as they will come into the next pack, so that the order of arrival does not matter. The scatters
    remain those of all columns, because no category's own is kept.
    """
    if replayed is not None:
        unknown = before.counts[replayed.labels] == 0
        images, labels = replayed.bottlenecks[unknown], replayed.labels[unknown]
        before = sums.merged(before, sums.of(images, labels, len(before)))
    earlier = replace(
        before,
        counts=before.counts[columns],
        means=before.means[columns],
        variances=before.variances[columns],
    )
    today = sums.of(training.bottlenecks, training.labels, 1 + int(training.labels.max(initial=-1)))
    return sums.appended(earlier, today)


def joined(first: Labelled, second: Labelled) -> Labelled:
    """One behind the other; photographs are held together within each only."""
    parts = (first, second)
    weights = [np.ones(len(part)) if part.weights is None else part.weights for part in parts]
    groups = [np.arange(len(part)) if part.groups is None else part.groups for part in parts]
    groups[1] = groups[1] + groups[0].max(initial=-1) + 1
    is_copy = [np.zeros(len(part), bool) if part.is_copy is None else part.is_copy for part in parts]
    return Labelled(
        bottlenecks=np.concatenate([part.bottlenecks for part in parts]),
        labels=np.concatenate([part.labels for part in parts]),
        weights=np.concatenate(weights),
        groups=np.concatenate(groups),
        is_copy=np.concatenate(is_copy),
    )


def _moved(images: Labelled, by: int) -> Labelled:
    return replace(images, labels=images.labels + by)


def topped_up(real: Labelled, known: Statistics, columns: Labels, seed: int) -> Labelled:
    """`real` and, behind it, drawn ones of every category of which more images were seen than are at hand.

    Labels are places in `columns`, which are indices into `known`. What is drawn of a category depends on no other.
    """
    each = min(EACH, MOST_DRAWN // max(len(columns), 1))
    at_hand = np.bincount(real.labels, minlength=len(columns))
    lacking = np.flatnonzero((known.counts[columns] > at_hand) & (at_hand < each)).tolist()
    if not lacking:
        return real
    root = _root(known.within)
    floor = float(real.bottlenecks.min(initial=0.0))
    members = np.split(np.argsort(real.labels, kind="stable"), np.cumsum(at_hand)[:-1])
    drawn = []
    for place in lacking:
        own = real.bottlenecks[members[place]]
        noise = np.random.default_rng((seed, place)).normal(size=(each - len(own), len(root))) @ root.T
        drawn.append(_drawn(noise, own, known, int(columns[place]), floor))
    labels = np.repeat(lacking, [len(part) for part in drawn]).astype(np.int64)
    weights = np.full(len(labels), ALMOST)
    return joined(real, Labelled(bottlenecks=np.concatenate(drawn), labels=labels, weights=weights))


def _root(within: Doubles) -> Doubles:
    """(D, D), L with L L^T the shared covariance."""
    even = max(float(np.trace(within)) / len(within), np.finfo(np.float64).tiny)
    root: Doubles = cholesky((1 - SHRUNK) * within + SHRUNK * even * np.eye(len(within)), lower=True)
    return root


def _drawn(noise: Doubles, real: Array, known: Statistics, column: int, floor: float) -> Array:
    """Around the category's mean; moved so that with the real ones they have it, but for what the floor cuts off again."""
    n, mean = int(known.counts[column]), known.means[column]
    shared = np.maximum(np.diag(known.within), np.finfo(np.float64).tiny)
    own = known.variances[column] * n / max(n - 1, 1)
    scale = np.clip(np.sqrt(own / shared), *SPREADS) if n > 1 else 1.0
    drawn = np.maximum(mean + scale * noise, floor)
    wanted = ((len(drawn) + len(real)) * mean - real.sum(axis=0, dtype=np.float64)) / len(drawn)
    moved: Array = np.maximum(drawn + (wanted - drawn.mean(axis=0)), floor).astype(np.float32)
    return moved
