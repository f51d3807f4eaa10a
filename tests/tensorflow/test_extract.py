"""What extraction promises: the same numbers whatever the company, every image accounted for, nothing computed twice."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from expansion_contract.dataset import Role
from expansion_storage.errors import StorageUnavailable
from expansion_storage.folder import FolderPrefix
from expansion_trainer.bottlenecks.cache import Cache
from expansion_trainer.bottlenecks.decode import decode
from expansion_trainer.bottlenecks.extract import Extracted, extract, extract_arrays
from expansion_trainer.dataset.scan import SourceImage
from expansion_trainer.errors import DatasetChanged

pytestmark = pytest.mark.tensorflow


class Counting(FolderPrefix):
    """A folder that counts what is read from it; below() would lose the count, so images lie directly in it."""

    def __init__(self, root: Path, broken: str = "") -> None:
        super().__init__(root)
        self.read_keys: list[str] = []
        self.broken = broken

    def read(self, key: str) -> bytes:
        self.read_keys.append(key)
        if key == self.broken:
            raise StorageUnavailable(f"{key} cannot be reached")
        return super().read(key)


def nothing(done: int, total: int) -> None: ...


def sources(place: FolderPrefix) -> list[SourceImage]:
    return [
        SourceImage(role=Role.UNLABELLED, place=place, key=entry.key, size=entry.size, etag=entry.etag)
        for entry in place.list()
    ]


@pytest.fixture
def photos(tmp_path, make_pictures) -> Counting:
    make_pictures(tmp_path, "photos", 70)
    return Counting(tmp_path / "photos")


@pytest.fixture
def cache(place) -> Cache:
    return Cache(place=place)


def one_by_one(backbone, contents: list[bytes]) -> np.ndarray:
    """Bottlenecks without our engine."""
    images = tf.stack([decode(tf.constant(content), backbone.input_size) for content in contents])
    return backbone.model(images, training=False).numpy()


def test_rows_digests_and_order_are_those_of_the_images(photos, tiny_backbone, cache):
    images = sources(photos)
    found = extract(images, tiny_backbone, cache, nothing)
    contents = [image.read() for image in images]
    np.testing.assert_allclose(found.bottlenecks, one_by_one(tiny_backbone, contents), rtol=1e-5, atol=1e-5)
    assert found.digests == tuple(hashlib.sha256(content).hexdigest() for content in contents)
    assert found.ok.all()
    assert found.computed == 70
    assert found.precision == "float32"


def test_a_bottleneck_does_not_depend_on_the_images_around_it(photos, tiny_backbone, place):
    images = sources(photos)
    together = extract(images, tiny_backbone, Cache(place=place.below("a")), nothing)
    backwards = extract(images[::-1], tiny_backbone, Cache(place=place.below("b")), nothing)
    alone = extract(images[69:], tiny_backbone, Cache(place=place.below("c")), nothing)
    assert np.array_equal(together.bottlenecks, backwards.bottlenecks[::-1])
    assert np.array_equal(together.bottlenecks[69:], alone.bottlenecks)


def test_the_second_run_reads_no_image_and_computes_nothing(photos, tiny_backbone, cache, place):
    images = sources(photos)
    first = extract(images, tiny_backbone, cache, nothing)
    photos.read_keys.clear()
    objects = list(place.list())
    second = extract(images, tiny_backbone, cache, nothing)
    assert photos.read_keys == []
    assert second.computed == 0
    assert np.array_equal(first.bottlenecks, second.bottlenecks)
    assert first.digests == second.digests
    assert list(place.list()) == objects


def test_only_new_images_are_read_and_computed(photos, tiny_backbone, cache):
    images = sources(photos)
    extract(images[:50], tiny_backbone, cache, nothing)
    photos.read_keys.clear()
    assert extract(images, tiny_backbone, cache, nothing).computed == 20
    assert len(photos.read_keys) == 20


def test_a_moved_image_is_read_but_not_computed(photos, tiny_backbone, cache, tmp_path):
    before = extract(sources(photos), tiny_backbone, cache, nothing)
    (tmp_path / "photos").rename(tmp_path / "elsewhere")
    after = extract(sources(Counting(tmp_path / "elsewhere")), tiny_backbone, cache, nothing)
    assert after.computed == 0
    assert np.array_equal(before.bottlenecks, after.bottlenecks)


def test_copies_are_computed_once(photos, tiny_backbone, cache, tmp_path):
    for name in ("copy1.jpg", "copy2.jpg"):
        (tmp_path / "photos" / name).write_bytes((tmp_path / "photos/0.jpg").read_bytes())
    found = extract(sources(photos), tiny_backbone, cache, nothing)
    rows = {image.key: row for image, row in zip(sources(photos), found.bottlenecks, strict=True)}
    assert found.computed == 70
    assert np.array_equal(rows["0.jpg"], rows["copy1.jpg"])
    assert np.array_equal(rows["0.jpg"], rows["copy2.jpg"])
    assert found.ok.all()


def bad_files(folder: Path, encode, make_picture) -> None:
    (folder / "a-text.jpg").write_text("no picture")
    (folder / "b-half.jpg").write_bytes(encode(make_picture(500))[:400])
    (folder / "c-empty.png").write_bytes(b"")


def said(found: Extracted, images: list[SourceImage]) -> dict[str, str]:
    return {images[index].key: why for index, why in found.why.items()}


def test_bad_files_are_reported_one_by_one_and_harm_nobody(
    photos, tiny_backbone, place, tmp_path, encode, make_picture
):
    good = extract(sources(photos), tiny_backbone, Cache(place=place.below("good")), nothing)
    bad_files(tmp_path / "photos", encode, make_picture)
    images = sources(photos)
    found = extract(images, tiny_backbone, Cache(place=place.below("all")), nothing)
    assert said(found, images) == {
        "a-text.jpg": "not a JPEG, PNG, GIF, BMP or WebP: it begins with b'no picture'",
        "b-half.jpg": "a damaged or truncated JPEG",
        "c-empty.png": "the file is empty",
    }
    assert found.ok.tolist() == [image.key not in said(found, images) for image in images]
    assert np.array_equal(found.bottlenecks[found.ok], good.bottlenecks)
    assert not found.bottlenecks[~found.ok].any()


def test_bad_files_are_remembered(photos, tiny_backbone, cache, tmp_path, encode, make_picture):
    bad_files(tmp_path / "photos", encode, make_picture)
    images = sources(photos)
    first = extract(images, tiny_backbone, cache, nothing)
    photos.read_keys.clear()
    objects = list(cache.place.list())
    second = extract(images, tiny_backbone, cache, nothing)
    assert photos.read_keys == []
    assert list(cache.place.list()) == objects
    assert second.why == first.why
    assert second.ok.tolist() == first.ok.tolist()


def test_storage_that_fails_in_the_middle_keeps_what_was_computed(photos, tiny_backbone, cache):
    images = sources(photos)
    photos.broken = images[66].key
    with pytest.raises(StorageUnavailable):
        extract(images, tiny_backbone, cache, nothing)
    photos.broken = ""
    assert extract(images, tiny_backbone, cache, nothing).computed <= 70 - 64


def test_an_image_that_vanished_ends_the_run_as_a_changed_data_set(photos, tiny_backbone, cache, tmp_path):
    images = sources(photos)
    (tmp_path / "photos/5.jpg").unlink()
    with pytest.raises(DatasetChanged, match=r"5.jpg was listed and is gone"):
        extract(images, tiny_backbone, cache, nothing)


@pytest.mark.parametrize("ending", [".rows", ".json"])
def test_damage_in_the_cache_is_computed_again_and_named(photos, tiny_backbone, cache, tmp_path, ending):
    images = sources(photos)
    first = extract(images, tiny_backbone, cache, nothing)
    (segment,) = (tmp_path / "store").rglob(f"*{ending}")
    segment.write_bytes(b"rotten")
    second = extract(images, tiny_backbone, cache, nothing)
    assert second.computed == 70
    assert np.array_equal(first.bottlenecks, second.bottlenecks)
    assert [finding.reason for finding in second.findings] == ["CacheDamaged"]
    assert extract(images, tiny_backbone, cache, nothing).computed == 0


def test_progress_only_rises_and_ends_with_all(photos, tiny_backbone, cache):
    told: list[tuple[int, int]] = []
    extract(sources(photos), tiny_backbone, cache, lambda done, total: told.append((done, total)))
    assert told == sorted(told)
    assert told[-1] == (70, 70)
    assert len(told) > 2


def test_no_images_are_no_bottlenecks(tiny_backbone, cache):
    assert extract([], tiny_backbone, cache, nothing).bottlenecks.shape == (0, 16)
    assert extract_arrays([], 0, tiny_backbone, cache, nothing).shape == (0, 16)


def test_drawn_pictures_give_what_files_of_them_give_and_are_cached(
    tiny_backbone, place, make_picture, encode, tmp_path
):
    drawn = [np.asarray(make_picture(n, 32, 32)) for n in range(40)]
    rows = extract_arrays(drawn, 40, tiny_backbone, Cache(place=place), nothing)
    contents = [encode(make_picture(n, 32, 32), "PNG") for n in range(40)]
    np.testing.assert_allclose(rows, one_by_one(tiny_backbone, contents), rtol=1e-5, atol=1e-5)
    objects = list(place.list())
    again = extract_arrays(drawn, 40, tiny_backbone, Cache(place=place), nothing)
    assert np.array_equal(rows, again)
    assert list(place.list()) == objects
