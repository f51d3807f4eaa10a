"""retrain.py's own solver: plain gradient descent on batches, with its defaults, and what it printed on the way.

In mode Replace it is retrain.py: first weights from a truncated normal of 0.001, biases 0, every image of a batch from a category
drawn evenly. In mode Expand every batch gets as many images of no new category beside it, and all logits compete.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import truncnorm

from expansion_contract.resource import GradientDescent
from expansion_trainer.head.evidence import Evidence
from expansion_trainer.head.fit import BaseHead
from expansion_trainer.head.material import Labelled, copies, count
from expansion_trainer.head.softmax import OLD, Array, Doubles, Labels, Rows, old_side
from expansion_trainer.head.solved import Made, Point, Solved, finished, judged, kinds
from expansion_trainer.head.watch import Watch, unwatched

SOLVER = "GradientDescent"
FIRST = 0.001
"""Standard deviation of the first weights; cut at twice that."""
EVERY = 10
"""Steps between two points, as in retrain.py."""
MOST_POINTS = 1000
VALIDATION_IMAGES = 100
"""Asked at every point, drawn anew."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Images:
    bottlenecks: Array  # (n, D)
    targets: Labels  # (n,), index among the new categories, or OLD
    rivals: Doubles  # (n,), log sum exp of the base's logits; -inf where there is no base

    def some(self, chosen: Labels) -> "Images":
        return Images(
            bottlenecks=self.bottlenecks[chosen], targets=self.targets[chosen], rivals=self.rivals[chosen]
        )

    def __len__(self) -> int:
        return len(self.targets)


def descend(
    base: BaseHead | None,
    training: Labelled,
    validation: Labelled,
    evidence: Sequence[Evidence],
    calibration: Sequence[Evidence],
    asked: GradientDescent,
    steal_budget: float,
    seed: int,
    watch: Watch = unwatched,
) -> Solved:
    """One row per label of `training`, beside the base's untouched ones where there is a base."""
    categories = count(training, validation)
    rows, curve = _descended(base, training, validation, evidence, asked, categories, seed, watch)
    seen = judged(base, rows, validation, calibration, steal_budget)
    settings = (
        ("steps", asked.steps),
        ("learningRate", asked.learning_rate),
        ("batchSize", asked.batch_size),
    )
    made = Made(
        solver=SOLVER,
        seed=seed,
        evidence_kinds=kinds([*evidence, *calibration]),
        settings=tuple((name, float(value)) for name, value in settings),
        curve=curve,
    )
    return finished(seen, rows, made)


def _descended(
    base: BaseHead | None,
    training: Labelled,
    validation: Labelled,
    evidence: Sequence[Evidence],
    asked: GradientDescent,
    categories: int,
    seed: int,
    watch: Watch,
) -> tuple[Rows, tuple[Point, ...]]:
    random = np.random.default_rng(seed)
    new, asked_of = (_images(base, part) for part in (training, validation))
    old = _images(base, _negatives(evidence, training.bottlenecks.shape[1]))
    members = [np.flatnonzero(training.labels == category) for category in range(categories)]
    weights, bias = _first(training.bottlenecks.shape[1], categories, random)
    every = steps_between_points(asked.steps)
    curve = []
    for step in range(asked.steps):
        batch = _batch(new, members, old, asked.batch_size, random)
        chances = _chances(batch, weights, bias)
        if step % every == 0 or step + 1 == asked.steps:
            curve.append(_point(step, batch, chances, asked_of, weights, bias, random))
            watch(f"Step {step + 1} of {asked.steps}")
        slope = _slope(batch, chances) * np.float32(asked.learning_rate / len(batch))
        weights -= batch.bottlenecks.T @ slope
        bias -= slope.sum(axis=0)
    return Rows(weights=weights, bias=bias), tuple(curve)


def steps_between_points(steps: int) -> int:
    return max(EVERY, -(-steps // MOST_POINTS))


def _images(base: BaseHead | None, images: Labelled) -> Images:
    return Images(
        bottlenecks=images.bottlenecks,
        targets=images.labels,
        rivals=old_side(base, images.bottlenecks)[0],
    )


def _negatives(evidence: Sequence[Evidence], size: int) -> Labelled:
    everything = (*evidence, *copies(evidence))
    bottlenecks = np.concatenate([np.zeros((0, size), np.float32), *(e.bottlenecks for e in everything)])
    return Labelled(bottlenecks=bottlenecks, labels=np.full(len(bottlenecks), OLD, dtype=np.int64))


def _first(size: int, categories: int, random: np.random.Generator) -> tuple[Array, Array]:
    drawn = truncnorm.rvs(-2, 2, scale=FIRST, size=(size, categories), random_state=random)
    return drawn.astype(np.float32), np.zeros(categories, np.float32)


def _batch(
    new: Images, members: Sequence[Labels], old: Images, size: int, random: np.random.Generator
) -> Images:
    """A category drawn evenly, then one of its images; as many others, drawn evenly, where there are any."""
    drawn = random.integers(len(members), size=size)
    places = random.random(size)
    own = new.some(
        np.array([members[c][int(p * len(members[c]))] for c, p in zip(drawn, places, strict=True)])
    )
    if len(old) == 0:
        return own
    others = old.some(random.integers(len(old), size=size))
    return Images(
        bottlenecks=np.concatenate([own.bottlenecks, others.bottlenecks]),
        targets=np.concatenate([own.targets, others.targets]),
        rivals=np.concatenate([own.rivals, others.rivals]),
    )


def _chances(images: Images, weights: Array, bias: Array) -> Array:
    """(n, U + 1): of the new categories and, last, of all old ones together."""
    logits = np.column_stack([images.bottlenecks @ weights + bias, images.rivals])
    raised = np.exp(logits - logits.max(axis=1, keepdims=True))
    chances: Array = (raised / raised.sum(axis=1, keepdims=True)).astype(np.float32)
    return chances


def _slope(batch: Images, chances: Array) -> Array:
    """(n, U), of the summed cross entropy by the new logits."""
    slope = chances[:, :-1].copy()
    new = np.flatnonzero(batch.targets != OLD)
    slope[new, batch.targets[new]] -= 1
    return slope


def _point(
    step: int,
    batch: Images,
    chances: Array,
    validation: Images,
    weights: Array,
    bias: Array,
    random: np.random.Generator,
) -> Point:
    # OLD is -1: the last column.
    of_truth = chances[np.arange(len(batch)), batch.targets]
    found = None
    if len(validation):
        some = validation.some(random.integers(len(validation), size=VALIDATION_IMAGES))
        found = _accuracy(some, _chances(some, weights, bias))
    return Point(
        step=step,
        training_accuracy=_accuracy(batch, chances),
        validation_accuracy=found,
        cross_entropy=float(-np.log(np.maximum(of_truth, np.finfo(np.float32).tiny)).mean()),
    )


def _accuracy(images: Images, chances: Array) -> float:
    answers = chances.argmax(axis=1)
    return float((answers == images.targets % chances.shape[1]).mean())
