"""The probes of a pack: pictures that give other bottlenecks as soon as anything before the network is another one."""

import io
from collections.abc import Callable
from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from expansion_contract.resource import Pretrained
from expansion_trainer.backbones import catalogue
from expansion_trainer.backbones.catalogue import Backbone
from expansion_trainer.bottlenecks import decode
from expansion_trainer.bottlenecks.engine import engine_of
from expansion_trainer.errors import PackRefused
from expansion_trainer.packs import probes
from expansion_trainer.packs.pack import Pack

pytestmark = [
    pytest.mark.tensorflow,
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"),
]


@pytest.fixture(scope="module")
def lite0(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    given = Pretrained(architecture="EfficientNetLite0")
    return catalogue.load(given, lambda address, path: None, tmp_path_factory.mktemp("scratch"))


@pytest.fixture(scope="module")
def pack(lite0: Backbone) -> Pack:
    return probes.bare(lite0)


def resized(pixels: tf.Tensor, size: int, **options: object) -> tf.Tensor:
    return tf.image.resize(pixels, [size, size], **options)


def pixels_of(file: bytes) -> tf.Tensor:
    return tf.io.decode_image(file, channels=3, expand_animations=False)


def upright(square: tf.Tensor, file: bytes) -> tf.Tensor:
    turn = decode.orientation(tf.constant(file))
    return decode._turned(square, turn) if turn > 1 else square


def without_antialias(file: bytes, size: int) -> tf.Tensor:
    return upright(resized(decode._middle(pixels_of(file)), size), file)


def bicubic(file: bytes, size: int) -> tf.Tensor:
    square = decode._middle(pixels_of(file))
    return upright(resized(square, size, method="bicubic", antialias=True), file)


def squashed(file: bytes, size: int) -> tf.Tensor:
    return upright(resized(pixels_of(file), size, antialias=True), file)


def as_it_lies(file: bytes, size: int) -> tf.Tensor:
    return resized(decode._middle(pixels_of(file)), size, antialias=True)


def by_pillow(file: bytes, size: int) -> tf.Tensor:
    picture = Image.open(io.BytesIO(file)).convert("RGB")
    side = min(picture.size)
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    square = picture.crop((left, top, left + side, top + side))
    return upright(tf.constant(np.asarray(square.resize((size, size), Image.Resampling.BILINEAR))), file)


def channels_swapped(file: bytes, size: int) -> tf.Tensor:
    return decode.decode(tf.constant(file), size)[..., ::-1]


def answered(pack: Pack, backbone: Backbone, pixels: Callable[[bytes, int], tf.Tensor]) -> Pack:
    """The pack of a trainer that decodes otherwise."""
    drawn = [pixels(file, backbone.input_size).numpy() for file in pack.probes.files]
    found = engine_of(backbone).bottlenecks(drawn)
    return replace(pack, probes=replace(pack.probes, bottlenecks=found))


def test_the_network_that_made_the_pack_is_recognised(pack, lite0):
    probes.must_fit(pack, lite0, "s3://packs/lite0")
    assert probes.check_probes(pack, lite0).min() > 0.999999


@pytest.mark.parametrize("precision", ["float32", "tensorfloat32"])
@pytest.mark.parametrize(
    "pixels", [without_antialias, bicubic, squashed, as_it_lies, channels_swapped], ids=lambda f: f.__name__
)
def test_other_pixels_of_the_same_files_are_refused(pack, lite0, pixels, precision):
    other = replace(answered(pack, lite0, pixels), precision=precision)
    with pytest.raises(
        PackRefused, match=r"gives other bottlenecks than the pack at s3://packs/lite0 expects"
    ):
        probes.must_fit(other, lite0, "s3://packs/lite0")


def test_another_jpeg_decoder_with_nearly_the_same_resampling_is_refused(pack, lite0):
    with pytest.raises(PackRefused, match="other bottlenecks"):
        probes.must_fit(answered(pack, lite0, by_pillow), lite0, "s3://packs/lite0")


def rounded(value: np.ndarray) -> np.ndarray:
    """To the ten binary digits after the first that TensorFloat-32 keeps."""
    mantissa, exponent = np.frexp(value)
    return np.ldexp(np.round(mantissa * 2**11) / 2**11, exponent).astype(np.float32)


def test_a_pack_that_a_gpu_made_is_good_on_a_processor(pack, lite0):
    """Weights as TensorFloat-32 sees them; a GPU rounds activations, too."""
    model = keras.models.clone_model(catalogue.untrained("EfficientNetLite0").model)
    gpu = catalogue.headless(replace(catalogue.untrained("EfficientNetLite0"), model=model))
    gpu.set_weights([rounded(weights) for weights in lite0.model.get_weights()])
    engine = engine_of(replace(lite0, model=gpu))
    found = engine.bottlenecks([engine.decode(file) for file in pack.probes.files])
    other = replace(pack, precision="tensorfloat32", probes=replace(pack.probes, bottlenecks=found))
    assert not np.array_equal(found, pack.probes.bottlenecks)
    probes.must_fit(other, lite0, "s3://packs/lite0")


def test_probes_weigh_little(pack):
    assert sum(map(len, pack.probes.files)) < 2**19
