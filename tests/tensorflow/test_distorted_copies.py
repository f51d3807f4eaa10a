"""Promises of distorted copies through a real network: what they show, that none is computed twice, and that a run says so."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from striped_runs import IMAGES, Grown, expansion, photograph

from expansion_contract import layout
from expansion_contract.dataset import Role
from expansion_storage.folder import FolderPrefix
from expansion_trainer.bottlenecks.cache import Cache
from expansion_trainer.bottlenecks.decode import decode, distorted
from expansion_trainer.bottlenecks.distortion import Distortion
from expansion_trainer.bottlenecks.extract import extract, extract_copies
from expansion_trainer.dataset.scan import SourceImage
from expansion_trainer.errors import DatasetChanged

pytestmark = pytest.mark.tensorflow

DRAWN = [Distortion(mirrored=True), Distortion(), Distortion(left=0.25, side=0.5, brightness=1.2)]
SIZE = 32


def nothing(done: int, total: int) -> None: ...


def square(colours: int = 64) -> Image.Image:
    pixels = np.random.default_rng(3).integers(0, 128, size=(colours, colours, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def encoded(picture: Image.Image, place: Path) -> tf.Tensor:
    picture.save(place)
    return tf.constant(place.read_bytes())


def parts(*drawn: Distortion) -> tf.Tensor:
    return tf.constant([(d.left, d.top, d.side, d.brightness, float(d.mirrored)) for d in drawn], tf.float32)


def test_an_untouched_part_is_the_image(tmp_path: Path) -> None:
    picture = encoded(square(), tmp_path / "a.png")
    (whole,) = distorted(picture, parts(Distortion()), SIZE).numpy()
    np.testing.assert_array_equal(whole, decode(picture, SIZE).numpy())


def test_a_mirrored_crop_is_what_somebody_who_cuts_and_mirrors_the_picture_gets(tmp_path: Path) -> None:
    picture = square()
    cut = picture.crop((16, 8, 48, 40)).transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    asked = Distortion(left=0.25, top=0.125, side=0.5, mirrored=True)
    (found,) = distorted(encoded(picture, tmp_path / "a.png"), parts(asked), SIZE).numpy()
    np.testing.assert_allclose(found, decode(encoded(cut, tmp_path / "b.png"), SIZE).numpy(), atol=1e-3)


def test_brightness_multiplies_and_ends_at_white(tmp_path: Path) -> None:
    picture = encoded(square(), tmp_path / "a.png")
    (found,) = distorted(picture, parts(Distortion(brightness=3.0)), SIZE).numpy()
    np.testing.assert_allclose(found, np.minimum(3 * decode(picture, SIZE).numpy(), 255), rtol=1e-5)


def test_a_part_of_a_turned_photograph_is_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    square().save(tmp_path / "turned.jpg", exif=exif, quality=95)
    turned = tf.constant((tmp_path / "turned.jpg").read_bytes())
    (whole,) = distorted(turned, parts(Distortion()), SIZE).numpy()
    np.testing.assert_allclose(whole, decode(turned, SIZE).numpy(), atol=1e-3)


@pytest.fixture
def photos(tmp_path, make_pictures) -> list[SourceImage]:
    make_pictures(tmp_path, "photos", 20)
    place = FolderPrefix(tmp_path / "photos")
    return [
        SourceImage(role=Role.UNLABELLED, place=place, key=entry.key, size=entry.size, etag=entry.etag)
        for entry in place.list()
    ]


def copies(photos, backbone, cache: Cache, drawn=DRAWN) -> np.ndarray:
    digests = [hashlib.sha256(photo.read()).hexdigest() for photo in photos]
    return extract_copies(photos, digests, lambda _: drawn, backbone, cache, nothing)


def test_every_image_has_its_copies_and_an_untouched_one_is_its_own_bottleneck(photos, tiny_backbone, place):
    cache = Cache(place=place)
    own = extract(photos, tiny_backbone, cache, nothing).bottlenecks
    found = copies(photos, tiny_backbone, cache)
    assert found.shape == (len(photos), len(DRAWN), tiny_backbone.bottleneck_size)
    np.testing.assert_array_equal(found[:, 1], own)
    assert (np.abs(found[:, [0, 2]] - own[:, None]).max(axis=2) > 0).all()


@pytest.mark.parametrize("number", range(len(DRAWN)))
def test_a_copy_is_the_same_whichever_others_are_computed_beside_it(
    photos, tiny_backbone, place, tmp_path, number
):
    found = copies(photos, tiny_backbone, Cache(place=place))
    alone = copies(photos[3:4], tiny_backbone, Cache(place=FolderPrefix(tmp_path / "alone")), [DRAWN[number]])
    np.testing.assert_allclose(alone[0, 0], found[3, number], atol=1e-5)


def test_a_second_run_reads_no_image_and_finds_the_same_copies(photos, tiny_backbone, place, tmp_path):
    cache = Cache(place=place)
    digests = [hashlib.sha256(photo.read()).hexdigest() for photo in photos]
    first = extract_copies(photos, digests, lambda _: DRAWN, tiny_backbone, cache, nothing)
    for path in (tmp_path / "photos").rglob("*.*"):
        path.unlink()
    again = extract_copies(photos, digests, lambda _: DRAWN, tiny_backbone, cache, nothing)
    np.testing.assert_array_equal(first, again)


def test_an_image_that_changed_under_its_name_ends_the_run_as_a_changed_data_set(
    photos, tiny_backbone, place
):
    digests = ["0" * 64 for _ in photos]
    with pytest.raises(DatasetChanged, match="was changed during the run"):
        extract_copies(photos, digests, lambda _: DRAWN, tiny_backbone, Cache(place=place), nothing)


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory) -> Grown:
    place = tmp_path_factory.mktemp("distorted")
    photos = photograph(place / "photos", "rot", "gruen", "blau")
    asked = {"flipLeftRight": True, "randomCropPercent": 10, "copies": 2}
    spec = expansion(place, "distorted", photos, distortions=asked, training={"head": {"solver": "Softmax"}})
    return Grown(spec, tmp_path_factory.mktemp("scratch"))


def test_a_run_counts_its_images_as_before_and_says_how_many_copies_taught(grown: Grown) -> None:
    report = grown.report
    assert report.dataset is not None
    assert report.head is not None
    assert report.head.distorted_copies == 2 * report.dataset.training_images
    counted = report.dataset.training_images + report.dataset.validation_images + report.dataset.test_images
    assert counted == report.dataset.images == 3 * IMAGES
    assert report.head.chosen_on <= counted - report.dataset.test_images
    page = grown.version.parents[1] / layout.run(grown.run.run_id) / layout.REPORT_PAGE
    assert f"{report.head.distorted_copies} of images on the training side" in page.read_text()
