"""Pictures made here, and a network small enough for tests: sixteen bottleneck numbers, twelve base categories."""

import os
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from expansion_storage.folder import FolderPrefix

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

TINY_SIZE, TINY_BOTTLENECK, TINY_CATEGORIES = 32, 16, 12


def picture(seed: int, width: int = 48, height: int = 40) -> Image.Image:
    """Soft coloured blobs, another for each seed."""
    blobs = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), np.uint8)
    return Image.fromarray(blobs).resize((width, height), Image.Resampling.BICUBIC)


def encoded(image: Image.Image, file_format: str = "JPEG", **options: object) -> bytes:
    """A JPEG's quality is 95 unless said otherwise."""
    content = BytesIO()
    defaults = {"quality": 95} if file_format == "JPEG" else {}
    image.save(content, file_format, **{**defaults, **options})
    return content.getvalue()


def write_pictures(folder: Path, category: str, count: int, first_seed: int = 0) -> list[Path]:
    """JPEGs of different pictures below folder/category."""
    target = folder / category
    target.mkdir(parents=True, exist_ok=True)
    paths = [target / f"{number}.jpg" for number in range(count)]
    for number, path in enumerate(paths):
        path.write_bytes(encoded(picture(first_seed + number)))
    return paths


@pytest.fixture(scope="session")
def make_picture() -> Callable[..., Image.Image]:
    return picture


@pytest.fixture(scope="session")
def encode() -> Callable[..., bytes]:
    return encoded


@pytest.fixture(scope="session")
def make_pictures() -> Callable[..., list[Path]]:
    return write_pictures


@pytest.fixture
def place(tmp_path: Path) -> FolderPrefix:
    return FolderPrefix(tmp_path / "store")


@pytest.fixture(scope="session")
def tiny_backbone():
    """A real Backbone with random but always the same weights."""
    import keras

    from expansion_trainer.backbones.catalogue import Backbone, imagenet_categories

    random = np.random.default_rng(7)
    images = keras.layers.Input((TINY_SIZE, TINY_SIZE, 3))
    x = keras.layers.Rescaling(1 / 127.5, -1)(images)
    x = keras.layers.Conv2D(TINY_BOTTLENECK, 8, strides=4, activation="relu")(x)
    model = keras.Model(images, keras.layers.GlobalAveragePooling2D()(x))
    model.set_weights([random.normal(size=array.shape, scale=0.1) for array in model.get_weights()])
    return Backbone(
        name="Tiny",
        digest="7" * 64,
        input_size=TINY_SIZE,
        preprocessing="tiny",
        bottleneck_size=TINY_BOTTLENECK,
        head_weights=random.normal(size=(TINY_BOTTLENECK, TINY_CATEGORIES)).astype(np.float32),
        head_bias=np.zeros(TINY_CATEGORIES, np.float32),
        categories=imagenet_categories()[:TINY_CATEGORIES],
        model=model,
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What needs real weights and pictures belongs to the tier only where EXPANSION_TEST_DATA names their folder."""
    if not os.environ.get("EXPANSION_TEST_DATA"):
        wanting = [item for item in items if "test_data" in getattr(item, "fixturenames", ())]
        config.hook.pytest_deselected(items=wanting)
        items[:] = [item for item in items if item not in wanting]


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder of real weights and pictures."""
    return Path(os.environ["EXPANSION_TEST_DATA"])


@pytest.fixture
def validation_accuracy(test_data: Path, tmp_path: Path) -> Callable[..., float]:
    """Top-1 of a backbone's own head on half of the ImageNet validation images."""
    from expansion_contract.dataset import Role
    from expansion_trainer.bottlenecks.cache import Cache
    from expansion_trainer.bottlenecks.extract import extract
    from expansion_trainer.dataset.scan import SourceImage

    place = FolderPrefix(test_data / "images/imagenet-val")
    images = [
        SourceImage(
            role=Role.REPLAY, place=place, key=e.key, size=e.size, etag=e.etag, folder=e.key.split("/")[0]
        )
        for e in place.list()
    ][::2]

    def accuracy(backbone) -> float:
        cache = Cache(place=FolderPrefix(tmp_path / "cache"))
        found = extract(images, backbone, cache, lambda done, total: None)
        answers = (found.bottlenecks @ backbone.head_weights + backbone.head_bias).argmax(axis=1)
        uids = [backbone.categories[answer].uid for answer in answers]
        return float(np.mean([image.folder == uid for image, uid in zip(images, uids, strict=True)]))

    return accuracy
