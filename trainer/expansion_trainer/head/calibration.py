"""Where the boundary between old and new lies (one offset on all new logits) and how sure the scores are (one temperature
for all, and one scale for answers with a new category).

The gap of an image is its best new logit minus its best base logit: with offset d a new category answers exactly when gap + d > 0.
All gaps here come from images that the answering head was not fitted on; on its own images a head is surer than it may be.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import floor, inf, log, sqrt

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp

from expansion_trainer.head.softmax import Array, Doubles, Labels, parts

COST = 0.01
"""Share of rightly answered new images that may be given up for the safety of the base; measured in benchmarks/README.md."""
TAIL = 0.04
"""Share of the base, that nearest to new categories, from which the few steals of a budget are reckoned; measured in benchmarks/README.md."""
MARGIN = 3.0
"""Logits, a factor of 20 between the scores: as far from a steal as an image needs to be."""
UNSEEN, UNSEEN_LOOSER, UNSEEN_AT = 3.4, 1.8, 1e-4
"""Logits in reserve for each unit of likeness at an L2 of 1e-4, and more of them for every factor of e that rows are looser; measured in
benchmarks/README.md."""
LEAST, MOST = 0.2, 5.0
"""Of a temperature or a scale."""
BEYOND_CHANCE = 1.96
"""Standard errors."""
PRIOR_WIDTH = 0.5
"""Standard deviation of the logarithm of either before anything is seen: few images hardly move it from 1."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Gaps:
    new: Doubles  # of new images that get the right answer among the new categories
    bystanders: Doubles  # (m,), of images of no new category
    photographs: bool  # the bystanders are photographs, not procedural images
    weights: Doubles | None = None  # (m,), how much each bystander counts, the greatest 1; None: all alike
    reserve: float = 0.0  # how far below 0 the offset stays where no photograph says what is stolen

    def steals(self, offset: float) -> int:
        return int(np.sum(self.bystanders + offset > 0))

    def steal_rate(self, offset: float) -> float | None:
        """Every bystander counted as much as it does; None where there are none."""
        if len(self.bystanders) == 0:
            return None
        return float(np.average(self.bystanders + offset > 0, weights=self.weights))


@dataclass(frozen=True, kw_only=True, eq=False)
class Answered:
    """Logits over some categories and the right ones."""

    logits: Array  # (n, C)
    labels: Labels  # (n,)

    def __len__(self) -> int:
        return len(self.labels)


def allowed(n: int, rate: float) -> int:
    """How many of n may go wrong so that the *next* one does with probability at most `rate`; -1: n is too small to say.

    Of n + 1 exchangeable images the last is among the k + 1 worst with probability (k + 1) / (n + 1): conformal prediction
    (Vovk, Gammerman and Shafer 2005). The plain quantile, k = rate * n, lets through up to 1/n more.
    """
    return floor(rate * (n + 1) + 1e-9) - 1


def offset(gaps: Gaps, steal_budget: float) -> float:
    """The highest that keeps the steals in the budget, or a lower one that costs new images next to nothing."""
    return min(ceiling(gaps, steal_budget), thrifty(gaps))


def ceiling(gaps: Gaps, steal_budget: float) -> float:
    """Above 0 only on the word of enough photographs: procedural images, and few of anything, under-state steals.

    Where there are only procedural ones the offset keeps a reserve.
    """
    if len(gaps.bystanders) == 0:
        return 0.0
    level, is_known = _level(gaps, steal_budget)
    if not gaps.photographs:
        return min(-level, -gaps.reserve)
    return -level if is_known else min(-level, 0.0)


def reserve(best_old: Doubles, rivals: Doubles, l2: float = UNSEEN_AT) -> float:
    """(n,) the highest of the base's logits of new images, and their log sum exp. 0 where there is no base.

    Nothing but these tells how near old images come to new categories when there is no photograph of anything old: by so much as new
    ones come near to the old, which is how sure the base is of its wrong answers (likeness, 0 to 1). Looser rows reach farther.
    """
    seen = np.isfinite(rivals)
    likeness = float(np.exp(best_old[seen] - rivals[seen]).mean()) if seen.any() else 0.0
    return likeness * max(0.0, UNSEEN + UNSEEN_LOOSER * log(UNSEEN_AT / l2))


def _level(gaps: Gaps, rate: float) -> tuple[float, bool]:
    """The gap above which the next bystander lies with probability `rate`, and whether enough were seen to say so; else the highest."""
    order = np.argsort(-gaps.bystanders)
    seen = gaps.bystanders[order]
    weights = np.ones(len(seen)) if gaps.weights is None else gaps.weights[order]
    left = rate * (weights.sum() + 1.0) - 1.0 + 1e-9
    if left < 0:
        return float(seen[0]), False
    if (weights == weights[0]).all():
        return _conformal(seen, left, rate), True
    return max(_tail(seen, weights, rate), _quantile(seen, weights, rate)), True


def _conformal(seen: Doubles, left: float, rate: float) -> float:
    """k = floor(left) = allowed(n, rate) lie above it. What the budget has left is used up between the k-th and the next, as far
    as what was seen, that next one included, keeps the budget, too."""
    k = int(left)
    if k + 1 >= len(seen) or k + 1 > rate * len(seen):
        return float(seen[min(k, len(seen) - 1)])
    return float(seen[k] + (left - k) * (seen[k + 1] - seen[k]))


def _quantile(seen: Doubles, weights: Doubles, rate: float) -> float:
    """At most `rate` of the weight that was seen lies above it."""
    stolen = np.cumsum(weights)
    k = int(np.searchsorted(stolen, rate * stolen[-1] + 1e-9, side="right"))
    return float(seen[min(k, len(seen) - 1)])


def _tail(seen: Doubles, weights: Doubles, rate: float) -> float:
    """The level if gaps fall off beyond u, which TAIL of the weight reaches, like an exponential distribution, or faster.

    Next images come from parts of the base that count differently, so their places among those seen say too little, and the worst
    of a part decides. With z of the weight beyond u, e its mean excess and m = (sum w)^2 / sum w^2 images' worth of it, the next image
    lies above u + m e ((z / rate)^(1/m) - 1) with probability `rate`: e is only estimated.
    """
    k = max(1, int(np.searchsorted(np.cumsum(weights), TAIL * weights.sum(), side="right")))
    beyond, u = weights[:k], seen[min(k, len(seen) - 1)]
    z, m = beyond.sum() / weights.sum(), beyond.sum() ** 2 / np.square(beyond).sum()
    excess = float(np.average(seen[:k] - u, weights=beyond))
    return float(u + m * excess * (max(z / rate, 1.0) ** (1 / m) - 1.0))


def thrifty(gaps: Gaps) -> float:
    """The lowest offset at which a further new image is lost with probability at most COST; infinite if too few can say.

    No lower than where every bystander is MARGIN away from being stolen: beyond that, lost answers would buy nothing. Where
    there are no bystanders, they never would.
    """
    lost = allowed(len(gaps.new), COST)
    if lost < 0:
        return inf
    cheapest = -float(np.nextafter(np.sort(gaps.new)[lost], -inf))
    return max(cheapest, -MARGIN - float(gaps.bystanders.max(initial=-inf)))


def temperature(groups: Sequence[Answered]) -> float:
    """Minimises the mean log loss of softmax(logits / T) in which every group (new, base) weighs the same."""
    seen = [group for group in groups if len(group)]

    def loss(t: float) -> float:
        return float(np.mean([log_loss(group, t) for group in seen]))

    return _likeliest(loss, sum(map(len, seen)))


def _likeliest(loss: Callable[[float], float], images: int) -> float:
    """The positive number at which their mean loss is least, 1 beforehand."""
    if images == 0:
        return 1.0

    def surprise(logarithm: float) -> float:
        return images * loss(float(np.exp(logarithm))) + (logarithm / PRIOR_WIDTH) ** 2 / 2

    found = minimize_scalar(surprise, bounds=(np.log(LEAST), np.log(MOST)), method="bounded")
    return float(np.exp(found.x))


def scale(new: Answered, base_count: int, temperature: float) -> float:
    """How far new categories should be ahead of the best old one, for what they are now, where they answer; see answering.py.

    At the scale found, new images have a mean score as high as the share of them that is answered rightly. The log loss would make those
    answers as sure as they are right among new images, and the others, which the boundary gives to the base for the sake of old images
    and which are all wrong, would stand beside them uncounted. The number of right answers is taken as normally distributed.

    1 unless they are less sure than chance explains. Never below: the boundary makes new answers unsure, nothing but the temperature
    makes them too sure, and rows fitted without a fold are right less often than those that are exported.
    """
    if base_count == 0 or len(new) == 0:
        return 1.0
    z = new.logits.astype(np.float64) / temperature
    ahead = z - z[:, :base_count].max(axis=1, keepdims=True)
    right = float((ahead.argmax(axis=1) == new.labels).mean())
    variance = max(right * (1 - right), 1 / len(new))

    def lacking(s: float) -> float:
        return right - _mean_score(ahead, base_count, s)

    if lacking(1.0) <= BEYOND_CHANCE * sqrt(variance / len(new)):
        return 1.0
    return _likeliest(lambda s: lacking(s) ** 2 / (2 * variance), len(new))


def _mean_score(ahead: Doubles, base_count: int, scale: float) -> float:
    """Of logits less the best old one."""
    rivals, added = logsumexp(ahead[:, :base_count], axis=1), ahead[:, base_count:]
    stretched = np.where(added > 0, scale * added, added)
    total = np.logaddexp(rivals, logsumexp(stretched, axis=1))
    return float(np.exp(np.maximum(stretched.max(axis=1), 0) - total).mean())


@dataclass(frozen=True, kw_only=True)
class Sureness:
    temperature: float
    scale: float


def sureness(new: Answered, base: Answered, base_count: int) -> Sureness:
    """`base`: images of base categories that are a fair sample of them, or none. Without a base the temperature is all there is."""
    found = temperature([new, base])
    if base_count == 0:
        return Sureness(temperature=found, scale=1.0)
    cool = halfway(found)
    return Sureness(temperature=cool, scale=scale(new, base_count, cool))


def halfway(temperature: float) -> float:
    """Between it and 1, geometrically: for a head that has a base, whose scores are right as they are, at 1, as far as anybody knows.

    New images must not speak for the base alone, and base images that somebody has are mostly its own training images, of which it is
    surer and more often right than of others: measured in benchmarks/README.md.
    """
    return float(np.sqrt(temperature))


def log_loss(group: Answered, temperature: float) -> float:
    losses = [
        log_losses(Answered(logits=group.logits[part], labels=group.labels[part]), temperature)
        for part in parts(0, len(group), group.logits.shape[1])
    ]
    return float(np.mean(np.concatenate(losses)))


def log_losses(group: Answered, temperature: float) -> Doubles:
    """(n,), of each image."""
    z = group.logits.astype(np.float64) / temperature
    losses: Doubles = logsumexp(z, axis=1) - z[np.arange(len(z)), group.labels]
    return losses
