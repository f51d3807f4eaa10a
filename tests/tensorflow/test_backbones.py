"""What the catalogue promises: every network in one shape with its own answers, and a sentence for every wrong file."""

import hashlib
import inspect
import shutil
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
from keras.src.legacy.saving import legacy_h5_format

from expansion_contract import architectures
from expansion_contract.resource import Pretrained, Weights
from expansion_storage.errors import ObjectMissing, StorageUnavailable
from expansion_trainer.backbones import catalogue
from expansion_trainer.backbones.catalogue import Backbone
from expansion_trainer.errors import WeightsError, WeightsUnavailable

pytestmark = [
    pytest.mark.tensorflow,
    # Keras 3.15 saving weights under NumPy 2.
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"),
]


def fetch(address: str, target: Path) -> None:
    if not Path(address).exists():
        raise ObjectMissing(f"{address} does not exist.")
    shutil.copyfile(address, target)


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def from_file(name: str, path: Path, scratch: Path, sha256: str | None = None) -> Backbone:
    given = Weights(uri=str(path), sha256=sha256 or digest(path))
    scratch.mkdir(exist_ok=True)
    return catalogue.load(Pretrained(architecture=name, weights=given), fetch, scratch)


def save(model: keras.Model, path: Path) -> None:
    """In Keras 3's format, or in the older one in which Keras publishes its weights and which it no longer writes itself."""
    if path.name.endswith(".weights.h5"):
        model.save_weights(path)
        return
    with h5py.File(path, "w") as file:
        legacy_h5_format.save_weights_to_hdf5_group(file, model)


def logits(backbone: Backbone, images: np.ndarray) -> np.ndarray:
    return backbone.model(images, training=False).numpy() @ backbone.head_weights + backbone.head_bias


def softmax(values: np.ndarray) -> np.ndarray:
    powers = np.exp(values - values.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


@pytest.fixture(scope="module")
def images(make_picture) -> np.ndarray:
    return np.stack([np.asarray(make_picture(n, 224, 224), np.float32) for n in range(2)])


@pytest.fixture
def mobilenet(tmp_path) -> tuple[keras.Model, Path]:
    """A complete MobileNetV2 with random weights, and its file."""
    model = keras.applications.MobileNetV2(weights=None)
    path = tmp_path / "mobilenet_v2.weights.h5"
    model.save_weights(path)
    return model, path


def test_the_known_names_are_the_classifiers_of_the_installed_keras():
    classifiers = {name for name, value in vars(keras.applications).items() if inspect.isfunction(value)}
    assert set(architectures.KERAS) == classifiers


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("MobileNet", id="MobileNet: a convolution as its top"),
        pytest.param("MobileNetV3Small", id="MobileNetV3Small: any size, preprocessing inside"),
        pytest.param("EfficientNetV2B0", id="EfficientNetV2B0: preprocessing inside"),
        pytest.param("ResNet50", id="ResNet50: blue before red"),
    ],
)
def test_bottleneck_and_head_together_answer_as_the_network_does(name, images):
    network = catalogue.untrained(name)
    backbone = catalogue.backbone(network, "digest")
    module = inspect.getmodule(getattr(keras.applications, name))
    whole = network.model(module.preprocess_input(images.copy()), training=False).numpy()
    np.testing.assert_allclose(softmax(logits(backbone, images)), whole, rtol=1e-4, atol=1e-6)
    assert backbone.input_size == 224
    assert backbone.head_weights.shape == (backbone.bottleneck_size, 1000)
    assert [backbone.categories[n].uid for n in (0, 999)] == ["n01440764", "n15075141"]


@pytest.mark.parametrize("ending", [".weights.h5", ".h5"])
def test_a_keras_file_of_either_kind_loads_whatever_its_name(mobilenet, images, tmp_path, ending):
    model, _ = mobilenet
    path = tmp_path / f"x{ending}"
    save(model, path)
    renamed = path.rename(tmp_path / "downloaded")
    backbone = from_file("MobileNetV2", renamed, tmp_path / "scratch")
    whole = model(keras.applications.mobilenet_v2.preprocess_input(images.copy()), training=False)
    np.testing.assert_allclose(softmax(logits(backbone, images)), whole.numpy(), rtol=1e-4, atol=1e-6)
    assert backbone.digest == digest(renamed)


def test_a_file_with_another_digest_is_refused_with_both(mobilenet, tmp_path):
    _, path = mobilenet
    with pytest.raises(WeightsError) as refused:
        from_file("MobileNetV2", path, tmp_path, sha256="0" * 64)
    for words in (str(path), digest(path), "0" * 64, "correct sha256"):
        assert words in refused.value.message


def test_a_file_that_is_not_there_is_refused_with_its_address(tmp_path):
    with pytest.raises(WeightsError, match=r"weights.uri: /nowhere/x.h5 does not exist"):
        from_file("MobileNetV2", Path("/nowhere/x.h5"), tmp_path, sha256="0" * 64)


def test_storage_that_does_not_answer_is_no_fault_of_the_weights(tmp_path):
    def unreachable(address: str, target: Path) -> None:
        raise StorageUnavailable("no answer")

    weights = Weights(uri="s3://models/x.h5", sha256="0" * 64)
    with pytest.raises(StorageUnavailable):
        catalogue.load(Pretrained(weights=weights), unreachable, tmp_path)


@pytest.mark.parametrize("ending", [".weights.h5", ".h5"])
def test_weights_of_another_network_are_refused_with_file_and_network(mobilenet, tmp_path, ending):
    model, _ = mobilenet
    path = tmp_path / f"mobilenet{ending}"
    save(model, path)
    with pytest.raises(
        WeightsError, match=rf"{path} does not hold the weights of MobileNet, complete with its top of 1000"
    ):
        from_file("MobileNet", path, tmp_path / "scratch")


def test_weights_without_the_top_are_refused(tmp_path):
    path = tmp_path / "notop.weights.h5"
    keras.applications.MobileNetV2(weights=None, include_top=False, input_shape=(224, 224, 3)).save_weights(
        path
    )
    with pytest.raises(WeightsError, match="complete with its top of 1000 categories"):
        from_file("MobileNetV2", path, tmp_path / "scratch")


def test_a_damaged_file_is_refused(mobilenet, tmp_path):
    _, path = mobilenet
    half = tmp_path / "half.weights.h5"
    half.write_bytes(path.read_bytes()[:100_000])
    with pytest.raises(WeightsError, match=rf"{half} "):
        from_file("MobileNetV2", half, tmp_path / "scratch")


def test_weights_that_are_not_finite_are_refused(tmp_path):
    model = keras.applications.MobileNetV2(weights=None)
    head = model.layers[-1]
    head.set_weights([np.full_like(array, np.nan) for array in head.get_weights()])
    path = tmp_path / "nan.weights.h5"
    model.save_weights(path)
    with pytest.raises(WeightsError, match="numbers that are not finite"):
        from_file("MobileNetV2", path, tmp_path / "scratch")


def test_a_pytorch_file_is_refused_by_networks_of_keras(tmp_path):
    path = tmp_path / "x.pth"
    path.write_bytes(b"PK\x03\x04")
    with pytest.raises(WeightsError, match="is a PyTorch file; MobileNetV2 needs a Keras weights file"):
        from_file("MobileNetV2", path, tmp_path / "scratch")


def test_an_unknown_network_is_refused_with_the_nearest_names(tmp_path):
    with pytest.raises(WeightsError, match=r"Did you mean .*InceptionV3"):
        catalogue.load(Pretrained(architecture="InceptonV3"), fetch, tmp_path)


def test_a_network_whose_top_is_not_linear_on_a_vector_is_refused_by_name():
    images = keras.layers.Input((32, 32, 3))
    model = keras.Model(images, keras.layers.Conv2D(1000, 1, name="everywhere")(images))
    network = catalogue.Network(name="Strange", model=model, preprocess=lambda x: x, preprocessing="none")
    with pytest.raises(
        WeightsError,
        match=r"Strange cannot be grown: its last layer 'everywhere' .* These can: EfficientNetLite0",
    ):
        catalogue.backbone(network, "digest")


def test_weights_that_cannot_be_downloaded_say_what_to_give_instead(tmp_path, monkeypatch):
    monkeypatch.setattr("keras.src.backend.config._KERAS_DIR", str(tmp_path))
    # urllib makes its opener once, from the environment, for the whole process.
    monkeypatch.setattr("urllib.request._opener", None)
    for variable in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(variable, "http://127.0.0.1:9")
    with pytest.raises(WeightsUnavailable) as refused:
        catalogue.load(Pretrained(architecture="MobileNet"), fetch, tmp_path)
    assert "could not download the ImageNet weights of MobileNet (URL fetch failure" in refused.value.message
    assert "spec.base.pretrained.weights.uri and sha256" in refused.value.message


def test_an_efficientnet_file_gives_what_keras_own_download_gives(tmp_path, monkeypatch, images):
    """Keras puts a layer into the network only when it downloads the weights itself."""
    path = tmp_path / "efficientnet.weights.h5"
    model = keras.applications.EfficientNetB0(weights=None)
    layer = next(layer for layer in model.layers if isinstance(layer, keras.layers.Normalization))
    layer.set_weights([np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225]) ** 2, np.array(0)])
    model.save_weights(path)
    monkeypatch.setattr("keras.src.utils.file_utils.get_file", lambda *_, **__: str(path))
    downloaded = catalogue.load(Pretrained(architecture="EfficientNetB0"), fetch, tmp_path)
    given = from_file("EfficientNetB0", path, tmp_path / "scratch")
    ours, keras_own = (backbone.model(images, training=False).numpy() for backbone in (given, downloaded))
    np.testing.assert_allclose(ours, keras_own, rtol=1e-3, atol=1e-6)
    assert given.preprocessing != downloaded.preprocessing


def test_real_mobilenet_weights_answer_as_measured(test_data, tmp_path, validation_accuracy):
    path = test_data / "weights/mobilenet_v2_imagenet.weights.h5"
    assert validation_accuracy(from_file("MobileNetV2", path, tmp_path)) > 0.70
