"""Rows in closed form, from sums alone: the same in whatever order the categories arrived.

Symbols: m_c and N_c the mean and number of images of an added category c; S_w the covariance of an image within its category;
m and S_e mean and covariance of photographs of other things; w_k the base's rows and w their mean. All scores are relative to m:

    S    = (1 - rho) ((1 - beta) S_w / t_w + beta S_e / t_e) + rho I       t: mean variance, so that neither sets the scale
    a_c  = S^-1 (m_c - m)
    s_c  = a_c (x - m) - a_c (m_c - m) / 2 + tr(S_w S^-1) / (2 N_c)         the last: what the error of a mean costs its own category
    z_c  = w x + kappa s_c / tau + offset                                 tau: RMS |a_c| / RMS |w_k - w|

This is linear discriminant analysis in the base head's gauge: softmax leaves a head free to add one vector and one number to all its
rows, and its scale is its own. The vector is w, which needs no image of an old category. A least-squares fit of W_0 to S^-1 (M - m) / tau,
M the old categories' means, finds the same vector and a tau that measures the noise of M (at one image per category thousands of times
too large), so tau comes from the length of the rows. beta, rho and kappa are those with the least balanced loss of the new images in
`chosen_on`, each at the offsets that the steal budget and small multiples of it allow. The photographs in S_e answer as if they had
been left out of it (Sherman and Morrison), so that they can set those offsets.

Means are shrunk towards m along each axis of S by n l / (n l + 1), l being the variance between categories over the one within
(empirical Bayes): hardly with a hundred images, a lot with two.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from expansion_trainer.errors import InvalidRun
from expansion_trainer.head import witnesses
from expansion_trainer.head.evidence import Evidence
from expansion_trainer.head.fit import BaseHead
from expansion_trainer.head.material import Labelled, is_photographs
from expansion_trainer.head.softmax import Array, Doubles, Labels, Rows
from expansion_trainer.head.solved import (
    HeldOut,
    Judged,
    Made,
    Solved,
    balanced_loss,
    bystanders,
    finished,
    kinds,
)
from expansion_trainer.head.statistics import Statistics
from expansion_trainer.head.watch import Watch, unwatched

SOLVER = "Discriminant"
BETAS = (0.5, 0.9)
RHOS = (0.01, 0.03, 0.1, 0.3, 0.6, 0.9)
KAPPAS = (0.25, 0.35, 0.5, 0.7, 1.0, 1.4, 2.0, 2.8, 4.0, 5.6, 8.0, 11.0, 16.0, 22.0)
STEAL_RATES = (1, 2, 4, 8)
"""Multiples of the steal budget: the choice falls on the mean over these, because the offset at one budget hangs on a few photographs."""
UNJUDGED = (0.5, 0.6, 0.7)
"""beta, rho and kappa where no new image can choose."""
LEAST_PHOTOGRAPHS = 50
"""Of other things: fewer say too little about what these look like and where the boundary lies."""
MOST_PHOTOGRAPHS = 4000
"""As many set the boundary; all of them are in S_e."""
MOST_JUDGES = 5000
"""New images, the same number of every category, among which the choices fall."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    categories: int  # U, the last ones of the statistics
    steal_budget: float
    seed: int


def discriminate(
    base: BaseHead,
    statistics: Statistics,
    chosen_on: Labelled,
    evidence: Sequence[Evidence],
    calibration: Sequence[Evidence],
    asked: Asked,
    watch: Watch = unwatched,
) -> Solved:
    """One row for each added category. Of their images only `chosen_on` takes part; InvalidRun without photographs of other things."""
    ground = _ground(base, statistics, evidence, asked.categories)
    seen = _seen(base, ground, chosen_on, calibration, asked)
    best = min(_told(_candidates(ground, seen), watch), key=lambda candidate: candidate.loss)
    return finished(
        best.judged,
        best.rows,
        Made(
            solver=SOLVER,
            seed=asked.seed,
            evidence_kinds=kinds([*evidence, *calibration]),
            settings=(("beta", best.beta), ("rho", best.rho), ("kappa", best.kappa)),
        ),
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class Ground:
    """Everything that rows are made of; places are relative to `centre`."""

    centre: Doubles  # (D,), m
    means: Doubles  # (U, D)
    counts: Labels  # (U,)
    within: Doubles  # (D, D), S_w / t_w
    around: Doubles  # (D, D), S_e / t_e
    photographs: Labelled  # those in S_e that answer, as they come
    widths: tuple[float, float]  # t_w, t_e
    pull: float  # 1 / (n t_e): what one photograph adds to S_e / t_e is pull (x - m)(x - m)^T
    shared: Doubles  # (D,), w
    length: float  # RMS |w_k - w|


@dataclass(frozen=True, kw_only=True, eq=False)
class Seen:
    """What chooses; the logits come with every candidate."""

    new: HeldOut
    photographs: HeldOut  # in S_e
    aside: HeldOut  # not in S_e
    judged: Judged  # new against all photographs


@dataclass(frozen=True, kw_only=True, eq=False)
class Candidate:
    beta: float
    rho: float
    kappa: float
    rows: Rows
    judged: Judged
    loss: float


def _ground(base: BaseHead, statistics: Statistics, evidence: Sequence[Evidence], categories: int) -> Ground:
    photographs = bystanders([e for e in evidence if is_photographs(e)], len(base.weights))
    _refuse_few(len(photographs))
    centre = photographs.bottlenecks.mean(axis=0, dtype=np.float64)
    apart = photographs.bottlenecks - centre
    around = apart.T @ apart / len(apart)
    scale = np.trace(around) / len(around)
    rows = base.weights.astype(np.float64)
    shared = rows.mean(axis=1)
    return Ground(
        centre=centre,
        means=statistics.means[-categories:] - centre,
        counts=statistics.counts[-categories:],
        within=_evened(statistics.balanced_scatter),
        around=around / scale,
        photographs=_some(photographs, MOST_PHOTOGRAPHS),
        widths=(_mean_variance(statistics, categories), float(scale)),
        pull=1.0 / (scale * max(len(apart) - 1, 1)),
        shared=shared,
        length=float(np.sqrt(np.square(rows - shared[:, None]).sum(axis=0).mean())),
    )


def _refuse_few(photographs: int) -> None:
    if photographs < LEAST_PHOTOGRAPHS:
        raise InvalidRun(
            f"spec.training.head.solver: Discriminant needs {LEAST_PHOTOGRAPHS} photographs of anything but the new categories to be fitted"
            f" on, and there are {photographs}: without them nothing says where the old categories lie. Give spec.replay, spec.unlabelled"
            " or spec.base.pack, or take solver: Softmax, which manages with drawn images."
        )


def _mean_variance(statistics: Statistics, categories: int) -> float:
    """Of one image within an added category, over all numbers: t_w. Of these categories alone, whatever else is in the scatter."""
    counts, variances = statistics.counts[-categories:], statistics.variances[-categories:]
    return float((counts @ variances).mean() / max(int(counts.sum()) - len(np.flatnonzero(counts)), 1))


def _evened(scatter: Doubles) -> Doubles:
    """Scaled to a mean variance of 1; the identity where no category has two images."""
    scale = np.trace(scatter) / len(scatter)
    return scatter / scale if scale > 0 else np.eye(len(scatter))


def _some(images: Labelled, most: int) -> Labelled:
    """Evenly spread over their order."""
    chosen = np.unique(np.linspace(0, len(images) - 1, min(most, len(images))).astype(np.int64))
    return Labelled(bottlenecks=images.bottlenecks[chosen], labels=images.labels[chosen])


def _same_of_each(images: Labelled, most: int) -> Labelled:
    """The first ones of every category."""
    counts = np.bincount(images.labels)
    each = max(1, most // max(len(counts), 1))
    order = np.argsort(images.labels, kind="stable")
    rank = np.arange(len(order)) - (np.cumsum(counts) - counts)[images.labels[order]]
    kept = np.sort(order[rank < each])
    return Labelled(bottlenecks=images.bottlenecks[kept], labels=images.labels[kept])


def _seen(
    base: BaseHead, ground: Ground, chosen_on: Labelled, calibration: Sequence[Evidence], asked: Asked
) -> Seen:
    def unanswered(images: Labelled) -> HeldOut:
        return HeldOut.of(base, images, np.zeros((len(images), asked.categories), np.float32))

    aside = bystanders([e for e in calibration if is_photographs(e)], len(base.weights))
    new, photographs = unanswered(_same_of_each(chosen_on, MOST_JUDGES)), unanswered(ground.photographs)
    beside = unanswered(_some(aside, MOST_PHOTOGRAPHS) if len(aside) else aside)
    bystanding = photographs.joined(beside)
    judged = Judged(
        base=base,
        new=new,
        bystanders=bystanding,
        photographs=True,
        counted=witnesses.weights(base, bystanding.bottlenecks, bystanding.labels),
        steal_budget=asked.steal_budget,
    )
    return Seen(new=new, photographs=photographs, aside=beside, judged=judged)


@dataclass(frozen=True, kw_only=True, eq=False)
class Axes:
    """The axes of one (1 - beta) S_w / t_w + beta S_e / t_e, and everything along them."""

    beta: float
    directions: Doubles  # (D, D), a column each
    variances: Doubles  # (D,)
    within: Doubles  # (D,), variance of S_w / t_w along each
    means: Doubles  # (U, D), shrunk
    new: Doubles  # (n, D)
    photographs: Doubles
    aside: Doubles


def _axes(ground: Ground, seen: Seen, beta: float) -> Axes:
    variances, directions = np.linalg.eigh((1 - beta) * ground.within + beta * ground.around)
    within = np.einsum("ij,ij->j", directions, ground.within @ directions)
    around = np.einsum("ij,ij->j", directions, ground.around @ directions)
    means = ground.means @ directions
    inside, outside = ground.widths
    parts = (seen.new, seen.photographs, seen.aside)
    new, photographs, aside = ((part.bottlenecks - ground.centre) @ directions for part in parts)
    return Axes(
        beta=beta,
        directions=directions,
        variances=np.maximum(variances, 0.0),
        within=within,
        means=means * _kept(within * inside, around * outside, means, ground.counts),
        new=new,
        photographs=photographs,
        aside=aside,
    )


def _kept(within: Doubles, around: Doubles, means: Doubles, counts: Labels) -> Doubles:
    """(U, D), the part of a mean that is no accident: n l / (n l + 1).

    l from photographs of other things or from the means themselves, whichever is larger: new categories may lie where old ones
    never do. No direction is taken to have no variance within categories, unless nothing is known of it: one image each.
    """
    if not within.any():
        return np.ones_like(means)
    certain = 0.9 * within + 0.1 * within.mean()
    share = 1.0 / np.maximum(counts, 1)
    own = np.square(means).mean(axis=0) - certain * share.mean()
    ratio = np.maximum(np.maximum(around - within, own), 0.0) / certain
    kept: Doubles = ratio / (ratio + share[:, None])
    return kept


def _told(candidates: Iterator[Candidate], watch: Watch) -> Iterator[Candidate]:
    most = len(BETAS) * len(RHOS) * len(KAPPAS)
    for number, candidate in enumerate(candidates, 1):
        watch(f"Choice {number} of at most {most}")
        yield candidate


def _candidates(ground: Ground, seen: Seen) -> Iterator[Candidate]:
    """Where no new image can choose, one."""
    if len(seen.new) == 0:
        beta, rho, kappa = UNJUDGED
        return iter((_Scores.of(ground, seen, _axes(ground, seen, beta), rho).candidate(kappa),))
    return (
        scores.candidate(kappa)
        for axes in (_axes(ground, seen, beta) for beta in BETAS)
        for scores in (_Scores.of(ground, seen, axes, rho) for rho in RHOS)
        for kappa in KAPPAS
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Scores:
    """s_c / tau of all who choose, for one S."""

    ground: Ground
    seen: Seen
    axes: Axes
    rho: float
    rows: Doubles  # (D, U), a_c / tau along the axes
    constant: Doubles  # (U,)
    new: Array  # (n, U)
    bystanders: Array

    @classmethod
    def of(cls, ground: Ground, seen: Seen, axes: Axes, rho: float) -> "_Scores":
        inverse = 1.0 / ((1 - rho) * axes.variances + rho)
        rows = (axes.means * inverse).T
        tau = float(np.sqrt(np.square(rows).sum(axis=0).mean())) / ground.length
        rows = rows / tau
        penalty = ground.widths[0] * (axes.within @ inverse) / tau / (2 * np.maximum(ground.counts, 1))
        constant = penalty - np.einsum("ud,du->u", axes.means, rows) / 2
        pull = (1 - rho) * axes.beta * ground.pull
        without_itself = _left_out(axes.photographs, rows, inverse, pull, tau)
        bystanders = np.concatenate([without_itself, axes.aside @ rows]) + constant
        return cls(
            ground=ground,
            seen=seen,
            axes=axes,
            rho=rho,
            rows=rows,
            constant=constant,
            new=(axes.new @ rows + constant).astype(np.float32),
            bystanders=bystanders.astype(np.float32),
        )

    def candidate(self, kappa: float) -> Candidate:
        """At a level at which no bystander is stolen; the offset comes on top."""
        level = -float(self._answered(self.bystanders, self.seen.judged.bystanders, kappa, 0.0).gaps.max())
        judged = replace(
            self.seen.judged,
            new=self._answered(self.new, self.seen.new, kappa, level),
            bystanders=self._answered(self.bystanders, self.seen.judged.bystanders, kappa, level),
        )
        return Candidate(
            beta=self.axes.beta,
            rho=self.rho,
            kappa=kappa,
            rows=self._rows(kappa, level),
            judged=judged,
            loss=_loss(judged),
        )

    def _answered(self, scores: Array, images: HeldOut, kappa: float, level: float) -> HeldOut:
        shared = (images.bottlenecks @ self.ground.shared + level).astype(np.float32)
        return images.answering(np.float32(kappa) * scores + shared[:, None])

    def _rows(self, kappa: float, level: float) -> Rows:
        weights = kappa * (self.axes.directions @ self.rows)
        bias = kappa * self.constant - self.ground.centre @ weights + level
        return Rows(
            weights=(weights + self.ground.shared[:, None]).astype(np.float32), bias=bias.astype(np.float32)
        )


def _loss(judged: Judged) -> float:
    budgets = (judged.steal_budget * multiple for multiple in STEAL_RATES)
    offsets = [replace(judged, steal_budget=min(budget, 1.0)).highest_offset for budget in budgets]
    return float(np.mean([balanced_loss(judged.new, offset) for offset in offsets]))


def _left_out(photographs: Doubles, rows: Doubles, inverse: Doubles, pull: float, tau: float) -> Doubles:
    """(n, U), a_c (x - m) / tau - (what a_c (m_c - m) / 2 grows by) of every photograph under the S without it.

    With S = S' + g d d^T, p = d S^-1 (m_c - m) and h = d S^-1 d:  d S'^-1 (m_c - m) = p / (1 - g h), and
    (m_c - m) S'^-1 (m_c - m) = (m_c - m) S^-1 (m_c - m) + g p^2 / (1 - g h).
    """
    p = photographs @ rows
    influence = pull * (np.square(photographs) @ inverse)
    freed = 1.0 / np.maximum(1.0 - influence, 1e-3)[:, None]
    return p * freed - (pull * tau / 2) * freed * np.square(p)
