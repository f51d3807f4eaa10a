"""What an exported model says beside the names: known, unsure or unknown, computed as head/unknown.py does, in TensorFlow.

In float64 from the logits on: of 1 - p with p near 1 float32 would leave nothing but the rounding of one processor.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from expansion_trainer.head.unknown import BEST, EXPONENT, KNOWN, OUTCOMES, UNKNOWN, UNSURE, Detector, Space


@dataclass(frozen=True, kw_only=True, eq=False)
class Answered:
    """A batch on its way through the graph."""

    bottlenecks: tf.Tensor  # (n, D), float32
    logits: tf.Tensor  # (n, C), float64, after temperature; -inf for what never answers
    probabilities: tf.Tensor  # (n, C), float64, of the names


Outcome = Callable[[Answered], tuple[tf.Tensor, tf.Tensor]]
"""To (n,) outcomes and (n,) known scores."""


def outcome(detector: Detector | None, module: tf.Module) -> Outcome:
    """`module` keeps what is too large for a graph. Without a detector nothing is claimed: unsure, 0."""
    if detector is None:
        return _unsure
    number, level = _number(detector, module), _level(detector)
    groups = tf.constant(detector.groups, tf.int64)
    sure = tf.constant([one.sure for one in detector.levels], tf.float64)
    words = tf.constant(OUTCOMES)

    def told(answered: Answered) -> tuple[tf.Tensor, tf.Tensor]:
        answer = tf.argmax(answered.probabilities, axis=1)
        group = tf.gather(groups, answer)
        share = level(number(answered), group)
        is_sure = tf.reduce_max(answered.probabilities, axis=1) >= tf.gather(sure, group)
        is_unknown = (share < 1 - detector.coverage) | (answer == detector.background)
        said = tf.where(is_unknown, UNKNOWN, tf.where(is_sure, KNOWN, UNSURE))
        return tf.gather(words, said), tf.cast(share, tf.float32)

    return told


def _unsure(answered: Answered) -> tuple[tf.Tensor, tf.Tensor]:
    n = tf.shape(answered.bottlenecks)[:1]
    return tf.fill(n, OUTCOMES[UNSURE]), tf.zeros(n, tf.float32)


def _number(detector: Detector, module: tf.Module) -> Callable[[Answered], tf.Tensor]:
    """familiarity() of the chosen method."""
    if detector.space is not None:
        return _closeness(detector.space, module)
    return {"Gen": _gen, "MaxProbability": _highest, "Energy": _energy}[detector.method]


def _highest(answered: Answered) -> tf.Tensor:
    return tf.reduce_max(answered.probabilities, axis=1)


def _energy(answered: Answered) -> tf.Tensor:
    return tf.reduce_logsumexp(answered.logits, axis=1)


def _gen(answered: Answered) -> tf.Tensor:
    p = tf.math.top_k(answered.probabilities, min(BEST, answered.probabilities.shape[1])).values
    return -tf.reduce_sum(tf.pow(tf.maximum(p * (1 - p), 0), tf.constant(EXPONENT, tf.float64)), axis=1)


def _closeness(space: Space, module: tf.Module) -> Callable[[Answered], tf.Tensor]:
    module.unknown_centre = tf.Variable(space.centre, trainable=False, name="unknown_centre")
    module.unknown_directions = tf.Variable(space.directions, trainable=False, name="unknown_directions")
    module.unknown_means = tf.Variable(space.means, trainable=False, name="unknown_means")
    shrink = tf.constant(space.shrink)

    def closeness(answered: Answered) -> tf.Tensor:
        lengths = tf.norm(answered.bottlenecks, axis=1, keepdims=True)
        unit = answered.bottlenecks / tf.maximum(lengths, 1e-12)
        z = tf.matmul(unit - module.unknown_centre, module.unknown_directions)
        to_means = tf.reduce_sum(tf.square(module.unknown_means), axis=1) - 2 * tf.matmul(
            z, module.unknown_means, transpose_b=True
        )
        to_all = tf.reduce_sum(tf.square(z) * (shrink - 1), axis=1)
        return tf.cast(to_all - tf.reduce_min(to_means, axis=1), tf.float64)

    return closeness


def _level(detector: Detector) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    """Level.of, for every image with its own group's knots."""
    most = max(len(one.knots) for one in detector.levels)
    knots, shares = (
        tf.constant(
            [np.pad(getattr(one, name), (0, most - len(one.knots)), "edge") for one in detector.levels]
        )
        for name in ("knots", "shares")
    )
    width = tf.constant([one.width for one in detector.levels], tf.float64)

    def level(number: tf.Tensor, group: tf.Tensor) -> tf.Tensor:
        own_knots, own_shares, own_width = (tf.gather(table, group) for table in (knots, shares, width))
        above = tf.reduce_sum(tf.cast(number[:, None] >= own_knots, tf.int32), axis=1)
        right = tf.clip_by_value(above, 1, most - 1) if most > 1 else tf.zeros_like(above)
        low, high, floor, ceiling = (
            tf.gather(table, place, batch_dims=1)
            for table in (own_knots, own_shares)
            for place in (tf.maximum(right - 1, 0), right)
        )
        inside = floor + (ceiling - floor) * tf.math.divide_no_nan(number - low, high - low)
        first, last = own_shares[:, 0], own_shares[:, -1]
        below = first * tf.exp(tf.minimum(number - own_knots[:, 0], 0) / own_width)
        beyond = last + (1 - last) * -tf.math.expm1(-tf.maximum(number - own_knots[:, -1], 0) / own_width)
        return tf.where(number < own_knots[:, 0], below, tf.where(number >= own_knots[:, -1], beyond, inside))

    return level
