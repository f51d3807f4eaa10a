"""Runs a backbone on images: one traced function for decoding, one for the forward pass, always on batches of one size."""

from collections.abc import Callable, Sequence
from functools import cached_property, lru_cache
from threading import Lock
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from expansion_trainer.backbones.catalogue import Backbone
from expansion_trainer.bottlenecks import decode
from expansion_trainer.bottlenecks.distortion import Distortion

Pixels = NDArray[np.float32]  # (size, size, 3), RGB 0..255

_LARGE_INPUT = 320
_DECODING = (tf.errors.InvalidArgumentError, tf.errors.ResourceExhaustedError, tf.errors.DataLossError)


class _Traced:
    """A graph made at the first call, and only once however many threads make that call."""

    def __init__(self, function: Callable[..., Any], *spec: tf.TensorSpec) -> None:
        self._function, self._spec, self._lock = function, spec, Lock()

    @cached_property
    def _graph(self) -> Callable[..., Any]:
        graph: Callable[..., Any] = tf.function(
            self._function, input_signature=self._spec
        ).get_concrete_function()
        return graph

    def __call__(self, *arguments: Any) -> Any:
        with self._lock:
            graph = self._graph
        return graph(*arguments)


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
        self._decode = _Traced(lambda encoded: decode.decode(encoded, size), tf.TensorSpec([], tf.string))
        self._distort = _Traced(
            lambda encoded, parts: decode.distorted(encoded, parts, size),
            tf.TensorSpec([], tf.string),
            tf.TensorSpec([None, 5], tf.float32),
        )
        self._forward = _Traced(
            lambda images: backbone.model(images, training=False), tf.TensorSpec(self._shape, tf.float32)
        )

    def decode(self, content: bytes) -> Pixels:
        """Safe to call from many threads. Raises Undecodable."""
        return self._decoded(self._decode, content)

    def distorted(self, content: bytes, distortions: Sequence[Distortion]) -> Pixels:
        """(k, size, size, 3) of one image that is decoded once. Safe to call from many threads. Raises Undecodable."""
        parts = [(d.left, d.top, d.side, d.brightness, float(d.mirrored)) for d in distortions]
        return self._decoded(self._distort, content, tf.constant(parts, tf.float32))

    def _decoded(self, graph: _Traced, content: bytes, *more: tf.Tensor) -> Pixels:
        try:
            pixels: Pixels = graph(tf.constant(content, tf.string), *more).numpy()
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


@lru_cache(maxsize=1)
def engine_of(backbone: Backbone) -> Engine:
    """One for each network, so that its graphs are made once in a run."""
    return Engine(backbone)


def _precision() -> str:
    """TensorFlow multiplies in TensorFloat-32 on GPUs that have it: other digits, so another cache."""
    return "tensorfloat32" if tf.config.list_physical_devices("GPU") else "float32"
