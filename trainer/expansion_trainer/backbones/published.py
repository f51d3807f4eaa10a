"""The network of a published version: rebuilt by name without any download, and filled with the version's own variables."""

from pathlib import Path
from typing import Any

import keras
import tensorflow as tf
from numpy.typing import NDArray

from expansion_contract import architectures
from expansion_contract.pack import Extractor
from expansion_contract.report import Category
from expansion_trainer.backbones import catalogue
from expansion_trainer.backbones.catalogue import Backbone, Network
from expansion_trainer.errors import BadWeights
from expansion_trainer.head.projection import Projected, Projection
from expansion_trainer.head.softmax import Rows

_CHECKPOINT = "variables/variables"
_VALUE = "/.ATTRIBUTES/VARIABLE_VALUE"
_KEY = f"backbone/{{}}{_VALUE}"
"""Of the network's variables, in their order, as export/saved_model.py keeps them."""
_PROJECTION, _PROJECTED = f"projection{_VALUE}", f"projected_weights{_VALUE}"


def backbone(
    extractor: Extractor, head: Rows, categories: tuple[Category, ...], folder: Path, address: str
) -> Backbone:
    """`head`, `categories`: the pretrained network's own. `folder`: with the version's variables.

    The digest is that of the weights it was loaded from once, so that cached bottlenecks are found again.
    """
    network = _network(extractor, folder, address)
    model = catalogue.headless(network)
    return Backbone(
        name=network.name,
        digest=extractor.weights,
        input_size=model.input_shape[1],
        preprocessing=network.preprocessing,
        bottleneck_size=model.output_shape[-1],
        head_weights=head.weights,
        head_bias=head.bias,
        categories=categories,
        model=model,
    )


def projected(folder: Path) -> Projected | None:
    """What the version's logits are beside its head's, if anything: too large for a pack, so it comes from the variables, too."""
    checkpoint = tf.train.load_checkpoint(str(folder / _CHECKPOINT))
    if not checkpoint.has_tensor(_PROJECTED):
        return None
    projection = Projection(matrix=checkpoint.get_tensor(_PROJECTION))
    return Projected(projection=projection, weights=checkpoint.get_tensor(_PROJECTED))


def _network(extractor: Extractor, folder: Path, address: str) -> Network:
    name, preprocessing = extractor.architecture, extractor.preprocessing
    if problem := architectures.problem_with(name):
        raise BadWeights(f"The network of {address} cannot be rebuilt: {problem}")
    network = catalogue.rebuilt(name, preprocessing)
    _fill(catalogue.headless(network), folder, address)
    for layer in network.model.layers:
        if isinstance(layer, keras.layers.Normalization):
            layer.finalize_state()  # it computes with copies of its variables
    published = preprocessing.endswith(catalogue.AS_PUBLISHED)
    return catalogue.as_published(network) if published else network


def _fill(model: keras.Model, folder: Path, address: str) -> None:
    checkpoint = tf.train.load_checkpoint(str(folder / _CHECKPOINT))
    shapes = checkpoint.get_variable_to_shape_map()
    variables = model.variables
    if _KEY.format(len(variables)) in shapes or _KEY.format(len(variables) - 1) not in shapes:
        raise _unlike(model, address)
    for place, variable in enumerate(variables):
        value: NDArray[Any] = checkpoint.get_tensor(_KEY.format(place))
        if value.shape != tuple(variable.shape):
            raise _unlike(model, address)
        variable.assign(value)


def _unlike(model: keras.Model, address: str) -> BadWeights:
    return BadWeights(
        f"The variables of {address} are not those of {model.name}, which its pack names: another release built that network"
        " otherwise. Grow it with the trainer's image of the release that published it."
    )
