"""Runs a backbone on images: one traced function for decoding, one for the forward pass, always on batches of one size."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from expansion_trainer.backbones.catalogue import Backbone
from expansion_trainer.bottlenecks import decode

Pixels = NDArray[np.float32]  # (size, size, 3), RGB 0..255

_LARGE_INPUT = 320
_DECODING = (tf.errors.InvalidArgumentError, tf.errors.ResourceExhaustedError, tf.errors.DataLossError)


class Undecodable(Exception):
    """The message says what the bytes are instead of an image."""


class Engine:
    """Float32 throughout. A partial batch is filled with zeros, so nothing is traced twice and no result depends on company."""

    def __init__(self, backbone: Backbone) -> None:
        size = backbone.input_size
        self.batch_size = (
            32 if size <= _LARGE_INPUT else 8
        )  # measured: no gain above 8 on CPUs; 32 helps GPUs
        self.precision = _precision()
        self._shape = (self.batch_size, size, size, 3)
        self._decode = _traced(lambda encoded: decode.decode(encoded, size), tf.TensorSpec([], tf.string))
        self._forward = _traced(
            lambda images: backbone.model(images, training=False), tf.TensorSpec(self._shape, tf.float32)
        )

    def decode(self, content: bytes) -> Pixels:
        """Safe to call from many threads. Raises Undecodable."""
        try:
            pixels: Pixels = self._decode(tf.constant(content, tf.string)).numpy()
        except _DECODING as error:
            raise Undecodable(decode.why_undecodable(content)) from error
        return pixels

    def bottlenecks(self, images: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
        """(n, D) of at most `batch_size` images."""
        batch = np.zeros(self._shape, np.float32)
        for row, image in zip(batch, images, strict=False):
            row[:] = image
        rows: NDArray[np.float32] = self._forward(tf.constant(batch)).numpy()[: len(images)]
        return rows


def _traced(function: Callable[[Any], Any], spec: tf.TensorSpec) -> Callable[[Any], Any]:
    """Traced here and now: threads that meet an untraced function trace it once each."""
    traced: Callable[[Any], Any] = tf.function(function, input_signature=[spec]).get_concrete_function()
    return traced


def _precision() -> str:
    """TensorFlow multiplies in TensorFloat-32 on GPUs that have it: other digits, so another cache."""
    return "tensorfloat32" if tf.config.list_physical_devices("GPU") else "float32"
