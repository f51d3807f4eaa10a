"""Writes backbone and head as one SavedModel: bytes of images in, names with scores out, and whether they are known at all.

Every weight is stored once: Keras' own export stores each twice (keras#23553), so a plain tf.Module tracks the variables.
Nothing is compiled with XLA: TensorFlow Serving refuses such functions unless it is started for them.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from expansion_contract import layout
from expansion_contract.dataset import UNKNOWN
from expansion_contract.report import Category
from expansion_trainer.backbones.catalogue import Backbone
from expansion_trainer.bottlenecks.decode import decode
from expansion_trainer.columns import NEVER, Columns
from expansion_trainer.export.loaded_model import INPUT, PROBABILITIES, SERVING
from expansion_trainer.export.outcome import Answered, outcome
from expansion_trainer.head.answering import Answering, aliases
from expansion_trainer.head.fit import FittedHead
from expansion_trainer.head.unknown import OUTCOMES, Detector
from expansion_trainer.head.unknown import UNKNOWN as IS_UNKNOWN

BEST = 5
"""Answers of serving_default for one image, or fewer if there are fewer categories."""
_DECODED_AT_ONCE = 16
_LEAST_PROBABILITY = 1e-300
"""Whose logarithm is a number."""

Array = NDArray[np.float32]


class Matrix(Protocol):
    @property
    def matrix(self) -> Array: ...  # (D, P)


class Projected(Protocol):
    """Random features beside the bottleneck x: relu(x R) times weights is added to the logits."""

    @property
    def projection(self) -> Matrix: ...
    @property
    def weights(self) -> Array: ...  # (P, F), zeros for the base's columns


@dataclass(frozen=True, kw_only=True, eq=False)
class Exported:
    """What becomes a SavedModel."""

    backbone: Backbone
    head: FittedHead
    categories: Sequence[Category]
    columns: Columns | None = None  # None: every fitted column is its own index
    detector: Detector | None = None
    unknown_in_answers: bool = False  # the word unknown stands first where that is the outcome
    projected: Projected | None = None  # what head.logits adds to its weights' own product, if anything

    @property
    def answering(self) -> Answering:
        return Answering.of_head(self.head, self.columns)

    @property
    def weights(self) -> Array:
        """(D, C), a column for each index; zeros where none was fitted."""
        return self.placed(self.head.weights)

    @property
    def bias(self) -> Array:
        """(C,)"""
        return self.placed(self.head.bias)

    def placed(self, fitted: Array) -> Array:
        """(…, F) to (…, C)"""
        source = self.answering.source
        placed: Array = np.ascontiguousarray(fitted[..., np.maximum(source, 0)])
        placed[..., source == NEVER] = 0
        return placed


def write(folder: Path, exported: Exported) -> None:
    """A new SavedModel in `folder`, with the list of its categories in assets.extra."""
    module, signatures = _module(exported)
    tf.saved_model.save(module, str(folder), signatures=signatures)
    listed = json.dumps(
        [category.to_wire() for category in exported.categories], ensure_ascii=False, indent=0
    )
    target = folder / layout.CATEGORIES
    target.parent.mkdir(exist_ok=True)
    target.write_text(f"{listed}\n", encoding="utf-8")


def _module(exported: Exported) -> tuple[tf.Module, dict[str, Any]]:
    module = tf.Module()
    module.backbone = [variable.value for variable in exported.backbone.model.variables]
    module.head_weights = tf.Variable(exported.weights, trainable=False, name="head_weights")
    module.head_bias = tf.Variable(exported.bias, trainable=False, name="head_bias")
    mask = np.where(exported.answering.active, 0, -np.inf).astype(np.float32)
    module.head_mask = tf.Variable(mask, trainable=False, name="head_mask")
    names = [category.name for category in exported.categories]
    module.names = tf.Variable(names, trainable=False, name="names")
    return module, _signatures(_answers(exported, module), _served(exported, module))


def _logits(exported: Exported, module: tf.Module) -> Callable[[tf.Tensor], tf.Tensor]:
    """What never answers is masked beside the rows, which stay as they are; so does what a projection adds."""
    projected = exported.projected
    if projected is None:
        return lambda x: tf.matmul(x, module.head_weights) + module.head_bias + module.head_mask
    module.projection = tf.Variable(projected.projection.matrix, trainable=False, name="projection")
    weights = exported.placed(projected.weights)
    module.projected_weights = tf.Variable(weights, trainable=False, name="projected_weights")

    def logits(x: tf.Tensor) -> tf.Tensor:
        features = tf.nn.relu(tf.matmul(x, module.projection))
        plain = tf.matmul(x, module.head_weights) + module.head_bias + module.head_mask
        return plain + tf.matmul(features, module.projected_weights)

    return logits


def _answers(exported: Exported, module: tf.Module) -> Callable[[tf.Tensor], Answered]:
    """From files to probabilities."""
    backbone, size = exported.backbone, exported.backbone.input_size
    raw, fold = _logits(exported, module), _fold(exported.answering)
    stretch = _stretch(exported.answering, fold)

    def answered(image_bytes: tf.Tensor) -> Answered:
        images = tf.map_fn(
            lambda encoded: decode(encoded, size),
            image_bytes,
            fn_output_signature=tf.TensorSpec([size, size, 3], tf.float32),
            parallel_iterations=_DECODED_AT_ONCE,
        )
        bottlenecks = tf.cast(backbone.model(images, training=False), tf.float32)
        logits = stretch(tf.cast(raw(bottlenecks), tf.float64) / exported.head.temperature)
        return Answered(bottlenecks=bottlenecks, logits=logits, probabilities=fold(tf.nn.softmax(logits)))

    return answered


def _stretch(
    answering: Answering, fold: Callable[[tf.Tensor], tf.Tensor]
) -> Callable[[tf.Tensor], tf.Tensor]:
    """Answering.placed, the scale of it. An alias moves with its target, so that their sum lies where the scale puts it."""
    if len(answering.stretched) == 0:
        return lambda logits: logits
    is_moved = np.isin(np.arange(len(answering.answers_as)), answering.stretched)
    roots, rivals = np.maximum(answering.answers_as, 0), answering.rivals

    def stretch(logits: tf.Tensor) -> tf.Tensor:
        whole = tf.math.log(tf.maximum(fold(tf.nn.softmax(logits)), _LEAST_PROBABILITY))
        best = tf.reduce_max(tf.gather(whole, rivals, axis=1), axis=1, keepdims=True)
        ahead = tf.maximum(tf.gather(whole, roots, axis=1) - best, 0)
        return logits + tf.where(is_moved, (answering.scale - 1) * ahead, 0.0)

    return stretch


def _fold(answering: Answering) -> Callable[[tf.Tensor], tf.Tensor]:
    """An alias' probability where its target's is."""
    found = aliases(answering.answers_as)
    if len(found) == 0:
        return lambda probabilities: probabilities
    target = np.where(
        answering.answers_as == NEVER, np.arange(len(answering.answers_as)), answering.answers_as
    )

    def fold(probabilities: tf.Tensor) -> tf.Tensor:
        summed = tf.math.unsorted_segment_sum(tf.transpose(probabilities), target, len(target))
        return tf.transpose(summed)

    return fold


def _served(exported: Exported, module: tf.Module) -> Callable[[Answered], dict[str, tf.Tensor]]:
    tell = outcome(exported.detector, module)
    best = min(BEST, int(np.sum(exported.answering.answers_as == np.arange(len(exported.categories)))))

    def served(answered: Answered) -> dict[str, tf.Tensor]:
        scores, indices = tf.math.top_k(answered.probabilities, k=best, sorted=True)
        names = tf.gather(module.names, indices)
        said, known = tell(answered)
        if exported.unknown_in_answers:
            first = tf.where(said == OUTCOMES[IS_UNKNOWN], UNKNOWN, names[:, 0])
            names = tf.concat([first[:, None], names[:, 1:]], axis=1)
        scores = tf.cast(scores, tf.float32)
        return {"names": names, "scores": scores, "outcome": said, "known_score": known}

    return served


def _signatures(
    answers: Callable[[tf.Tensor], Answered], served: Callable[[Answered], dict[str, tf.Tensor]]
) -> dict[str, Any]:
    @tf.function  # type: ignore[untyped-decorator]
    def serve(image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        return served(answers(image_bytes))

    @tf.function  # type: ignore[untyped-decorator]
    def serve_probabilities(image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        return {PROBABILITIES: tf.cast(answers(image_bytes).probabilities, tf.float32)}

    images = tf.TensorSpec([None], tf.string, name=INPUT)
    return {
        SERVING: serve.get_concrete_function(images),
        PROBABILITIES: serve_probabilities.get_concrete_function(images),
    }
