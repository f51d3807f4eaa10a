"""EfficientNet-Lite0 in Keras, and how the published PyTorch weights fit into it.

EfficientNet-B0 (Tan and Le 2019) without squeeze-and-excite, with ReLU6, stem and head of fixed width; 'same' padding as
TensorFlow does it. Layers carry the names of the published state dict without the first '_', which TensorFlow cannot export.
"""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from keras import layers
from numpy.typing import NDArray

from expansion_trainer.errors import WeightsError

INPUT_SIZE = 224
_STAGES = (  # expansion, channels, repeats, stride of the first, kernel
    (1, 16, 1, 1, 3),
    (6, 24, 2, 2, 3),
    (6, 40, 2, 2, 5),
    (6, 80, 3, 2, 3),
    (6, 112, 3, 1, 5),
    (6, 192, 4, 2, 5),
    (6, 320, 1, 1, 3),
)
_STEM, _HEAD, _CATEGORIES = 32, 1280, 1000


def preprocess(images: Any) -> Any:
    return (images - 127.0) / 128.0


def network() -> keras.Model:
    """The complete classifier with random weights."""
    images = layers.Input((INPUT_SIZE, INPUT_SIZE, 3))
    x = _convolved(images, "conv_stem", _STEM, kernel=3, stride=2)
    x = _normalised(x, "bn0", active=True)
    block = 0
    for expansion, channels, repeats, stride, kernel in _STAGES:
        for repeat in range(repeats):
            x = _block(x, f"blocks.{block}", expansion, channels, stride if repeat == 0 else 1, kernel)
            block += 1
    x = _normalised(_convolved(x, "conv_head", _HEAD), "bn1", active=True)
    x = layers.GlobalAveragePooling2D()(x)
    x = layers.Dense(_CATEGORIES, activation="softmax", name="fc")(x)
    return keras.Model(images, x, name="efficientnet_lite0")


def _block(x: Any, name: str, expansion: int, channels: int, stride: int, kernel: int) -> Any:
    before, width = x, x.shape[-1]
    if expansion > 1:
        x = _normalised(_convolved(x, f"{name}._expand_conv", width * expansion), f"{name}._bn0", active=True)
    depthwise = layers.DepthwiseConv2D(
        kernel, strides=stride, padding="same", use_bias=False, name=f"{name}._depthwise_conv"
    )
    x = _normalised(depthwise(x), f"{name}._bn1", active=True)
    x = _normalised(_convolved(x, f"{name}._project_conv", channels), f"{name}._bn2", active=False)
    return layers.add([before, x]) if stride == 1 and width == channels else x


def _convolved(x: Any, name: str, channels: int, kernel: int = 1, stride: int = 1) -> Any:
    convolution = layers.Conv2D(channels, kernel, strides=stride, padding="same", use_bias=False, name=name)
    return convolution(x)


def _normalised(x: Any, name: str, *, active: bool) -> Any:
    x = layers.BatchNormalization(epsilon=1e-3, name=name)(x)
    return layers.ReLU(6.0)(x) if active else x


def assign(model: keras.Model, tensors: Mapping[str, NDArray[Any]], name: str) -> None:
    """Puts the published tensors in place. `name`: the file's, for messages."""
    for layer in model.layers:
        if layer.weights:
            layer.set_weights([_tensor(layer, i, tensors, name) for i in range(len(layer.weights))])


def _tensor(layer: Any, index: int, tensors: Mapping[str, NDArray[Any]], name: str) -> NDArray[np.float32]:
    key = f"_{layer.name}.{_part(layer, index)}"
    if key not in tensors:
        raise WeightsError(
            f"{name} does not hold the weights of EfficientNetLite0: it has no tensor {key!r}."
        )
    value = _as_keras(layer, tensors[key])
    wanted = tuple(layer.weights[index].shape)
    if value.shape != wanted:
        raise WeightsError(
            f"{name} does not hold the weights of EfficientNetLite0: {key!r} has the shape {value.shape} instead of {wanted}."
        )
    return value.astype(np.float32)


def _part(layer: Any, index: int) -> str:
    if isinstance(layer, layers.BatchNormalization):
        return ("weight", "bias", "running_mean", "running_var")[index]
    return ("weight", "bias")[index]


def _as_keras(layer: Any, value: NDArray[Any]) -> NDArray[Any]:
    """PyTorch keeps (out, in, height, width), Keras (height, width, in, out); depthwise kernels (height, width, in, 1)."""
    if value.ndim == 4:
        depthwise = isinstance(layer, layers.DepthwiseConv2D)
        return value.transpose(2, 3, 0, 1) if depthwise else value.transpose(2, 3, 1, 0)
    return value.T
