"""Tells pictures of nothing the model knows from the rest: known, unsure or unknown, from a bottleneck and its logits.

Every method gives a number that is higher the more a picture looks like what the model knows:

    Gen                  -sum_j (p_j (1 - p_j))^0.1 over the highest 20 probabilities (Liu, Lochman and Zach 2023)
    MaxProbability       the highest probability (Hendrycks and Gimpel 2017)
    Energy               log sum exp of the logits (Liu and others 2020)
    RelativeMahalanobis  -min_c |z - z_c|^2 + sum_j z_j^2 / (1 + l_j)     (Ren and others 2021)

The last one, on bottlenecks of length 1, in the basis z = (x - m) V that whitens the covariance within the categories, V^T S_w V = 1,
and has the one between them diagonal, V^T S_b V = diag(l): where l_j = 0 the two distances cancel, so a few directions are enough.

Such a number means nothing by itself. What is exported is its conformal level (Vovk, Gammerman and Shafer 2005): which share of
held-out images of the answer's group (the base, each expansion) looks as strange or stranger. Below 1 - coverage it is unknown.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_triangular
from scipy.special import logsumexp
from scipy.stats import rankdata

from expansion_trainer.columns import NEVER
from expansion_trainer.head.answering import folded
from expansion_trainer.head.softmax import Array, Doubles, Labels
from expansion_trainer.head.statistics import Statistics

Method = Literal["Gen", "MaxProbability", "Energy", "RelativeMahalanobis"]
FROM_LOGITS: tuple[Method, ...] = ("Gen", "MaxProbability", "Energy")
METHODS: tuple[Method, ...] = (*FROM_LOGITS, "RelativeMahalanobis")
Source = Literal["own", "pooled", "drawn"]
"""Of a level: the group's own held-out images, those of all groups, or pictures drawn by a program."""
OUTCOMES = ("known", "unsure", "unknown")
KNOWN, UNSURE, UNKNOWN = range(3)

FEW = 60
"""Held-out images below which a group shares the levels of all groups together."""
BEST = 20
"""Probabilities that Gen looks at: the hundred of its authors, made for a thousand categories, measured worse here."""
EXPONENT = 0.1
CLEARLY = 0.02
"""By how much another method must be better than Gen, which was the best or nearly so wherever it was measured."""
KNOTS = 64
DRAWN_AGAINST_REAL = 6
NARROWEST = 0.01
"""Of a tail: a single image would make it a step, which falls on one side or the other by rounding."""
DIRECTIONS = 256
SHRINKAGE = 0.5
"""Of the covariance towards a sphere: fewer images than numbers leave most directions unseen."""

Outcomes = NDArray[np.int64]  # (n,), index into OUTCOMES


@dataclass(frozen=True, kw_only=True, eq=False)
class Space:
    """Where relative Mahalanobis distances are taken; of K directions and M categories with images."""

    centre: Array  # (D,)
    directions: Array  # (D, K)
    means: Array  # (M, K)
    shrink: Array  # (K,), 1 / (1 + l)

    def closeness(self, bottlenecks: Array) -> Doubles:
        """(n,), higher is nearer to a category than to everything."""
        z = (unit(bottlenecks) - self.centre) @ self.directions
        nearest = (np.square(self.means).sum(axis=1) - 2 * z @ self.means.T).min(axis=1)
        closeness: Doubles = np.square(z) @ (self.shrink - 1) - nearest
        return closeness.astype(np.float64)


def unit(bottlenecks: Array) -> Array:
    lengths = np.linalg.norm(bottlenecks, axis=1, keepdims=True)
    of_length_one: Array = bottlenecks / np.maximum(lengths, np.float32(1e-12))
    return of_length_one


def space(statistics: Statistics) -> Space | None:
    """None if there are too few images to say how widely a category spreads.

    The statistics are of bottlenecks as they come. Those of unit length follow from them as if every image of a category were as
    long as its root mean square: it costs 0.005 of the area under the curve against the exact ones.
    """
    seen = statistics.seen
    if len(seen) < 2 or int(statistics.counts.sum()) == len(seen):
        return None
    squares = np.square(statistics.means[seen]).sum(axis=1) + statistics.variances[seen].sum(axis=1)
    means = statistics.means[seen] / np.sqrt(np.maximum(squares, 1e-12))[:, None]
    within = shrunk(statistics.within / max(float(squares.mean()), 1e-12))
    centre = means.mean(axis=0)
    apart = means - centre
    lower = np.linalg.cholesky(within)
    whitened = solve_triangular(lower, apart.T, lower=True)
    axes, lengths, _ = np.linalg.svd(whitened, full_matrices=False)
    most = min(DIRECTIONS, len(seen) - 1, len(within))
    directions = solve_triangular(lower.T, axes[:, :most], lower=False)
    spread = np.square(lengths[:most]) / len(seen)
    return Space(
        centre=centre.astype(np.float32),
        directions=directions.astype(np.float32),
        means=(apart @ directions).astype(np.float32),
        shrink=(1 / (1 + spread)).astype(np.float32),
    )


def shrunk(within: Doubles) -> Doubles:
    size = len(within)
    shrunk: Doubles = (1 - SHRINKAGE) * within
    shrunk[np.diag_indices(size)] += SHRINKAGE * np.trace(within) / size + 1e-12
    return shrunk


def familiarity(
    method: Method, bottlenecks: Array, logits: Array, answers_as: Labels, place: Space | None
) -> Doubles:
    """(n,), of the method alone. `logits`: (n, C) as Answering.logits gives them."""
    if method == "RelativeMahalanobis":
        assert place is not None
        return place.closeness(bottlenecks)
    z = logits.astype(np.float64)
    if method == "Energy":
        energy: Doubles = logsumexp(z, axis=1)
        return energy
    # In float64: of 1 - p with p near 1 float32 would leave nothing but its rounding.
    p = folded(z, answers_as)
    if method == "MaxProbability":
        highest: Doubles = p.max(axis=1)
        return highest
    best = -np.partition(-p, min(BEST, p.shape[1]) - 1, axis=1)[:, :BEST]
    terms: Doubles = np.power(np.maximum(best * (1 - best), 0), EXPONENT).sum(axis=1)
    return -terms


@dataclass(frozen=True, kw_only=True, eq=False)
class Level:
    """Turns a method's number into the share of a group's held-out images that look as strange or stranger."""

    knots: Doubles  # (K,), ascending
    shares: Doubles  # (K,), of the knots
    sure: float  # a highest probability below is unsure
    images: int  # n that it comes from
    source: Source

    def of(self, numbers: Doubles) -> Doubles:
        """(n,) from 0 to 1. Beyond the strangest and the most familiar image it goes on, so that all keep their order."""
        inside = np.interp(numbers, self.knots, self.shares)
        below = self.shares[0] * np.exp(np.minimum(numbers - self.knots[0], 0) / self.width)
        above = (1 - self.shares[-1]) * -np.expm1(-np.maximum(numbers - self.knots[-1], 0) / self.width)
        shares: Doubles = np.where(numbers < self.knots[0], below, inside + above)
        return shares

    @property
    def width(self) -> float:
        """Of the exponential tails on both sides."""
        return max(float(self.knots[-1] - self.knots[0]) / 4, NARROWEST)


@dataclass(frozen=True, kw_only=True, eq=False)
class HeldOut:
    """Images of what the model knows that its rows were not fitted on; of one without a label only the answer is known."""

    numbers: Doubles  # (n,), of the method
    highest: Doubles  # (n,), probability of the answer
    group: Labels  # (n,), of the answer
    belongs: Labels  # (n,), group of the truth
    right: NDArray[np.bool_]  # (n,), the answer is known to be right

    def where(self, chosen: NDArray[np.bool_]) -> "HeldOut":
        return HeldOut(
            numbers=self.numbers[chosen],
            highest=self.highest[chosen],
            group=self.group[chosen],
            belongs=self.belongs[chosen],
            right=self.right[chosen],
        )


def level(held_out: HeldOut, coverage: float, source: Source) -> Level:
    ordered = np.sort(held_out.numbers)
    n = len(ordered)
    ranks = np.unique(np.round(np.linspace(0, 1, KNOTS) ** 2 * (n - 1)).astype(np.int64))
    return Level(
        knots=ordered[ranks],
        shares=(ranks + 1) / (n + 1),
        sure=_sure(held_out.highest[held_out.right], coverage),
        images=n,
        source=source,
    )


def _sure(highest: Doubles, coverage: float) -> float:
    """What `coverage` of the next right answers are above, at least: rank ceil((n + 1)(1 - coverage)) less one of n."""
    rank = ceil((len(highest) + 1) * (1 - coverage) - 1e-9) - 1
    return float(np.sort(highest)[rank - 1]) if rank >= 1 else 0.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Detector:
    method: Method
    coverage: float
    answers_as: Labels  # (C,)
    groups: Labels  # (C,), of each index: 0 is the base
    levels: tuple[Level, ...]  # of each group
    space: Space | None  # of RelativeMahalanobis
    background: int = (
        NEVER  # the index, if any, of a category of pictures of other things: its answer is unknown
    )

    def scores(self, bottlenecks: Array, logits: Array) -> Doubles:
        """(n,) in (0, 1], higher is more known. `logits`: as Answering.logits gives them."""
        answer, _ = _answers(logits, self.answers_as)
        return self._levelled(self._numbers(bottlenecks, logits), self.groups[answer])

    def outcomes(self, bottlenecks: Array, logits: Array) -> Outcomes:
        """(n,), indices into OUTCOMES."""
        answer, highest = _answers(logits, self.answers_as)
        group = self.groups[answer]
        strange = self._levelled(self._numbers(bottlenecks, logits), group) < 1 - self.coverage
        unknown = strange | (answer == self.background)
        sure = highest >= np.array([one.sure for one in self.levels])[group]
        outcomes: Outcomes = np.where(unknown, UNKNOWN, np.where(sure, KNOWN, UNSURE))
        return outcomes

    def _numbers(self, bottlenecks: Array, logits: Array) -> Doubles:
        return familiarity(self.method, bottlenecks, logits, self.answers_as, self.space)

    def _levelled(self, numbers: Doubles, group: Labels) -> Doubles:
        each = np.stack([one.of(numbers) for one in self.levels])
        levelled: Doubles = each[group, np.arange(len(numbers))]
        return levelled

    def state(self) -> Mapping[str, NDArray[np.generic]]:
        """Plain arrays, for a pack."""
        return {
            "unknown_method": np.array(self.method),
            "unknown_coverage": np.array(self.coverage),
            "unknown_knots": np.concatenate([one.knots for one in self.levels]),
            "unknown_shares": np.concatenate([one.shares for one in self.levels]),
            "unknown_knot_counts": np.array([len(one.knots) for one in self.levels]),
            "unknown_sure": np.array([one.sure for one in self.levels]),
        }


def _answers(logits: Array, answers_as: Labels) -> tuple[Labels, Doubles]:
    p = folded(logits.astype(np.float64), answers_as)
    answer = p.argmax(axis=1)
    return answer, p[np.arange(len(p)), answer]


def held_out(
    method: Method, images: "Known", answers_as: Labels, groups: Labels, place: Space | None
) -> HeldOut:
    answer, highest = _answers(images.logits, answers_as)
    return HeldOut(
        numbers=familiarity(method, images.bottlenecks, images.logits, answers_as, place),
        highest=highest,
        group=groups[answer],
        belongs=groups[images.truth],
        right=answer == images.truth,
    )


def levels(images: HeldOut, drawn: Doubles, groups: int, coverage: float) -> tuple[Level, ...]:
    """One for each group. Those with few held-out images share the one of all; those with none go by drawn pictures."""
    return tuple(_level_of(group, images, drawn, coverage) for group in range(groups))


def _level_of(group: int, images: HeldOut, drawn: Doubles, coverage: float) -> Level:
    own = images.where(images.group == group)
    if not (images.belongs == group).any() and len(drawn) >= FEW:
        return drawn_level(drawn)
    if len(own.numbers) >= FEW:
        return level(own, coverage, "own")
    return level(images, coverage, "pooled")


def drawn_level(drawn: Doubles) -> Level:
    """For a group of which nothing is held out: how strange drawn pictures look, which show nothing at all.

    Of 648 validation photographs a head of ImageNet finds 3 % as strange as 30 % of the drawn pictures and 6 to 8 % as strange as
    half of them (MobileNetV2 and Inception v3, by Gen). So a share of the drawn ones stands for a sixth of it.
    """
    shares = np.linspace(0, 1, KNOTS)[1:]
    return Level(
        knots=np.quantile(drawn, shares),
        shares=shares / DRAWN_AGAINST_REAL,
        sure=0.5,
        images=len(drawn),
        source="drawn",
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class Known:
    """Images that a model was not fitted on; `truth` means nothing of drawn pictures."""

    bottlenecks: Array  # (n, D)
    logits: Array  # (n, C), as Answering.logits gives them
    truth: Labels  # (n,) indices


@dataclass(frozen=True, kw_only=True, eq=False)
class Trial:
    """New categories that a head has never seen, beside images of what it knows."""

    known: Known
    strangers: Known  # of the left-out categories; their truth is one that this head cannot answer
    photographs: Known  # nobody knows of what; to choose by, they count as known
    space: Space | None


@dataclass(frozen=True, kw_only=True)
class Tried:
    method: Method
    auroc: float


def chosen(
    trials: Sequence[Trial], answers_as: Labels, place: Space | None
) -> tuple[Method, tuple[Tried, ...]]:
    """The method that tells left-out categories best, and how well each did; Gen, if it is as good, or nothing could be left out."""
    everywhere = place is not None and all(trial.space is not None for trial in trials)
    methods = METHODS if everywhere else FROM_LOGITS
    if not trials:
        return METHODS[0], ()
    tried = tuple(Tried(method=method, auroc=_mean_auroc(method, trials, answers_as)) for method in methods)
    best = max(tried, key=lambda one: one.auroc)
    return (best if best.auroc > tried[0].auroc + CLEARLY else tried[0]).method, tried


def _mean_auroc(method: Method, trials: Sequence[Trial], answers_as: Labels) -> float:
    found = []
    for trial in trials:
        known, photographs, strange = (
            familiarity(method, part.bottlenecks, part.logits, answers_as, trial.space)
            for part in (trial.known, trial.photographs, trial.strangers)
        )
        found.append(auroc(np.concatenate([known, photographs]), strange))
    return float(np.average(found, weights=[len(trial.strangers.truth) for trial in trials]))


def auroc(known: Doubles, strange: Doubles) -> float:
    """How often a known image has the higher number; ties count half."""
    ranks = rankdata(np.concatenate([known, strange]))[: len(known)]
    return float((ranks.mean() - (len(known) + 1) / 2) / len(strange))


def detector(
    images: Known,
    drawn: Known,
    trials: Sequence[Trial],
    answers_as: Labels,
    groups: Labels,
    place: Space | None,
    coverage: float,
) -> tuple[Detector, tuple[Tried, ...]]:
    method, tried = chosen(trials, answers_as, place)
    used = place if method == "RelativeMahalanobis" else None
    seen, strange = (held_out(method, part, answers_as, groups, used) for part in (images, drawn))
    made = Detector(
        method=method,
        coverage=coverage,
        answers_as=answers_as,
        groups=groups,
        levels=levels(seen, strange.numbers, int(groups.max(initial=0)) + 1, coverage),
        space=used,
    )
    return made, tried
