"""Writes backbone and head as one SavedModel: bytes of images in, names with scores out.

Every weight is stored once: Keras' own export stores each twice (keras#23553), so a plain tf.Module tracks the variables.
Nothing is compiled with XLA: TensorFlow Serving refuses such functions unless it is started for them.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf

from expansion_contract import layout
from expansion_contract.report import Category
from expansion_trainer.backbones.catalogue import Backbone
from expansion_trainer.bottlenecks.decode import decode
from expansion_trainer.export.loaded_model import INPUT, PROBABILITIES, SERVING
from expansion_trainer.head.fit import FittedHead

BEST = 5
"""Answers of serving_default for one image, or fewer if there are fewer categories."""
_DECODED_AT_ONCE = 16


def write(folder: Path, backbone: Backbone, head: FittedHead, categories: Sequence[Category]) -> None:
    """A new SavedModel in `folder`, with the list of its categories in assets.extra."""
    module, signatures = _module(backbone, head, [category.name for category in categories])
    tf.saved_model.save(module, str(folder), signatures=signatures)
    listed = json.dumps([category.to_wire() for category in categories], ensure_ascii=False, indent=0)
    target = folder / layout.CATEGORIES
    target.parent.mkdir(exist_ok=True)
    target.write_text(f"{listed}\n", encoding="utf-8")


def _module(backbone: Backbone, head: FittedHead, names: Sequence[str]) -> tuple[tf.Module, dict[str, Any]]:
    module = tf.Module()
    module.backbone = [variable.value for variable in backbone.model.variables]
    module.head_weights = tf.Variable(head.weights, trainable=False, name="head_weights")
    module.head_bias = tf.Variable(head.bias, trainable=False, name="head_bias")
    module.names = tf.Variable(list(names), trainable=False, name="names")

    def probabilities(image_bytes: tf.Tensor) -> tf.Tensor:
        images = tf.map_fn(
            lambda encoded: decode(encoded, backbone.input_size),
            image_bytes,
            fn_output_signature=tf.TensorSpec([backbone.input_size, backbone.input_size, 3], tf.float32),
            parallel_iterations=_DECODED_AT_ONCE,
        )
        bottlenecks = tf.cast(backbone.model(images, training=False), tf.float32)
        logits = tf.matmul(bottlenecks, module.head_weights) + module.head_bias
        return tf.nn.softmax(logits / head.temperature)

    return module, _signatures(probabilities, module.names, min(BEST, len(names)))


def _signatures(
    probabilities: Callable[[tf.Tensor], tf.Tensor], names: tf.Variable, best: int
) -> dict[str, Any]:
    @tf.function  # type: ignore[untyped-decorator]
    def serve(image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        scores, indices = tf.math.top_k(probabilities(image_bytes), k=best, sorted=True)
        return {"names": tf.gather(names, indices), "scores": scores}

    @tf.function  # type: ignore[untyped-decorator]
    def serve_probabilities(image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        return {PROBABILITIES: probabilities(image_bytes)}

    images = tf.TensorSpec([None], tf.string, name=INPUT)
    return {
        SERVING: serve.get_concrete_function(images),
        PROBABILITIES: serve_probabilities.get_concrete_function(images),
    }
