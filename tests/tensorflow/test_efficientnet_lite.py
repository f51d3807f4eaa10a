"""What EfficientNet-Lite0 promises: the published weights from the package see what is in a photograph."""

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from skimage import data
from sklearn.datasets import load_sample_image

from expansion_contract.resource import Pretrained, Weights
from expansion_trainer.backbones import catalogue, efficientnet_lite, weights
from expansion_trainer.bottlenecks.decode import decode
from expansion_trainer.errors import WeightsError

pytestmark = [
    pytest.mark.tensorflow,
    # Keras 3.15 saving weights under NumPy 2.
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"),
]

PACKAGED = Pretrained(architecture="EfficientNetLite0", weights=Weights(name="imagenet"))


def no_fetch(address: str, target: Path) -> None:
    raise AssertionError("the package's weights need no fetching")


@pytest.fixture(scope="module")
def lite0(tmp_path_factory):
    return catalogue.load(PACKAGED, no_fetch, tmp_path_factory.mktemp("scratch"))


@pytest.fixture(scope="module")
def tensors():
    return weights.read_pytorch(catalogue._packaged(), "the package")


def answer(backbone, picture: np.ndarray) -> str:
    content = BytesIO()
    Image.fromarray(picture).save(content, "JPEG", quality=95)
    image = decode(tf.constant(content.getvalue()), backbone.input_size)
    bottleneck = backbone.model(image[None], training=False).numpy()
    return backbone.categories[int((bottleneck @ backbone.head_weights + backbone.head_bias).argmax())].name


@pytest.mark.parametrize(
    ("picture", "name"),
    [
        pytest.param(data.chelsea, "Egyptian_cat", id="chelsea"),
        pytest.param(data.coffee, "espresso", id="coffee"),
        pytest.param(data.rocket, "missile", id="rocket"),
        pytest.param(lambda: load_sample_image("china.jpg"), "palace", id="china"),
    ],
)
def test_photographs_are_recognised(lite0, picture, name):
    assert answer(lite0, picture()) == name


def test_the_network_is_the_published_one(lite0):
    assert lite0.digest == "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
    assert (lite0.input_size, lite0.bottleneck_size, len(lite0.categories)) == (224, 1280, 1000)


def test_validation_images_are_recognised_as_measured(lite0, validation_accuracy):
    assert validation_accuracy(lite0) > 0.76


def test_a_missing_tensor_is_named(tensors):
    without = {key: value for key, value in tensors.items() if key != "_fc.bias"}
    with pytest.raises(
        WeightsError,
        match=r"x.pth does not hold the weights of EfficientNetLite0: it has no tensor '_fc.bias'",
    ):
        efficientnet_lite.assign(efficientnet_lite.network(), without, "x.pth")


def test_a_tensor_of_another_shape_is_named(tensors):
    other = {**tensors, "_conv_stem.weight": tensors["_conv_stem.weight"][:16]}
    with pytest.raises(
        WeightsError, match=r"'_conv_stem.weight' has the shape \(3, 3, 3, 16\) instead of \(3, 3, 3, 32\)"
    ):
        efficientnet_lite.assign(efficientnet_lite.network(), other, "x.pth")


def test_a_file_of_keras_serves_as_well_as_the_package(lite0, tensors, tmp_path):
    model = efficientnet_lite.network()
    efficientnet_lite.assign(model, tensors, "the package")
    path = tmp_path / "lite0.weights.h5"
    model.save_weights(path)
    given = Weights(uri=str(path), sha256=weights.file_digest(path))
    loaded = catalogue.load(
        Pretrained(architecture="EfficientNetLite0", weights=given),
        lambda address, target: target.write_bytes(Path(address).read_bytes()),
        tmp_path,
    )
    assert np.array_equal(loaded.head_weights, lite0.head_weights)
    assert answer(loaded, data.chelsea()) == "Egyptian_cat"
