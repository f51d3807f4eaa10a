"""What `expansion pack build` promises: one pass, the same pack however it was interrupted, and a word on every image left out."""

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from expansion_contract.dataset import Role
from expansion_storage import StorageUnavailable
from expansion_storage.folder import FolderPrefix
from expansion_trainer.bottlenecks.cache import Cache
from expansion_trainer.bottlenecks.extract import extract
from expansion_trainer.dataset.scan import SourceImage
from expansion_trainer.errors import BadDataset, PackRefused
from expansion_trainer.head import statistics
from expansion_trainer.packs import build, core, files
from expansion_trainer.packs.build import Built, Places
from expansion_trainer.packs.pack import Pack
from expansion_trainer.packs.source import Source, source

pytestmark = pytest.mark.tensorflow


class Counting(FolderPrefix):
    """A folder that counts what is read from it."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.read_keys: list[str] = []

    def read(self, key: str) -> bytes:
        self.read_keys.append(key)
        return super().read(key)


class Full(FolderPrefix):
    """Takes nothing."""

    def write(self, key: str, content: bytes, content_type: str = "") -> None:
        raise StorageUnavailable(f"{key}: no space left")

    def upload(self, key: str, path: Path) -> None:
        raise StorageUnavailable(f"{key}: no space left")


def nothing(done: int) -> None: ...


@pytest.fixture
def photos(tmp_path, make_pictures, tiny_backbone) -> Counting:
    """Of four of the twelve categories: by id, by name, and one by both."""
    folder = tmp_path / "photos"
    known = tiny_backbone.categories
    make_pictures(folder, known[0].uid, 3, first_seed=0)
    make_pictures(folder, known[2].name, 25, first_seed=100)
    make_pictures(folder, known[2].uid, 4, first_seed=200)
    make_pictures(folder, known[5].uid, 1, first_seed=300)
    make_pictures(folder, known[7].uid, 12, first_seed=400)
    return Counting(folder)


def places(tmp_path: Path, name: str = "pack", **changes: Any) -> Places:
    scratch = tmp_path / f"scratch of {name}"
    scratch.mkdir(exist_ok=True)
    values = Places(out=FolderPrefix(tmp_path / name), cache=None, scratch=scratch)
    return replace(values, **changes)


def listing(photos: FolderPrefix, backbone: Any) -> Source:
    return source(photos, backbone.categories)


def built(photos: FolderPrefix, backbone: Any, where: Places) -> tuple[Built, Pack]:
    made = build.build(backbone, listing(photos, backbone), where, nothing)
    return made, files.read(where.out, made.digest)


def bytes_of(where: Places) -> dict[str, bytes]:
    return {entry.key: where.out.read(entry.key) for entry in where.out.list()}


def test_the_pack_holds_what_all_images_at_once_say(tmp_path, photos, tiny_backbone):
    made, pack = built(photos, tiny_backbone, places(tmp_path))
    label = {tiny_backbone.categories[i].uid: i for i in range(12)} | {tiny_backbone.categories[2].name: 2}
    images = [
        SourceImage(role=Role.REPLAY, place=photos, key=e.key, size=e.size, etag=e.etag)
        for e in photos.list()
    ]
    cache = Cache(place=FolderPrefix(tmp_path / "cache"))
    found = extract(images, tiny_backbone, cache, lambda done, total: None)
    labels = np.array([label[image.key.split("/")[0]] for image in images])
    expected = statistics.of(found.bottlenecks, labels, 12)
    assert pack.statistics.counts.tolist() == [3, 0, 29, 0, 0, 1, 0, 12, 0, 0, 0, 0]
    for name in ("means", "scatter", "balanced_scatter"):
        np.testing.assert_allclose(
            getattr(pack.statistics, name), getattr(expected, name), rtol=1e-5, atol=1e-7
        )
    chosen = core.chosen(found.bottlenecks, labels, found.digests)
    assert pack.core.keys.tolist() == chosen.keys.tolist()
    assert pack.core.labels.tolist() == chosen.labels.tolist()
    assert (made.used, made.seen, made.unreadable) == (45, 4, 0)
    assert pack.frozen == len(pack) == 12


@pytest.mark.parametrize("chunk", [2, 7, 13])
def test_memory_for_a_few_images_gives_the_same_pack(tmp_path, photos, tiny_backbone, chunk):
    """Two and seven are fewer than a category has; its balanced scatter is exact all the same."""
    _, whole = built(photos, tiny_backbone, places(tmp_path))
    _, pieces = built(photos, tiny_backbone, places(tmp_path, "pieces", chunk=chunk))
    for column in fields(whole.statistics):
        np.testing.assert_allclose(
            getattr(pieces.statistics, column.name),
            getattr(whole.statistics, column.name),
            rtol=1e-3 if column.name == "variances" else 1e-5,
            atol=1e-6,
        )
    assert pieces.core.keys.tolist() == whole.core.keys.tolist()
    assert pieces.core.calibrates.tolist() == whole.core.calibrates.tolist()


@pytest.mark.parametrize("chunk", [3, 100])
def test_copies_count_once(tmp_path, photos, tiny_backbone, chunk):
    folder = Path(photos.uri) / tiny_backbone.categories[7].uid
    for number in range(5):
        (folder / f"copy of {number}.jpg").write_bytes((folder / f"{number}.jpg").read_bytes())
    made, pack = built(photos, tiny_backbone, places(tmp_path, chunk=chunk))
    assert pack.statistics.counts[7] == 12
    assert made.used == 45


@pytest.mark.parametrize("stop_after", [1, 4, 33, 44])
def test_a_build_that_was_stopped_goes_on_and_makes_the_same_pack(
    tmp_path, photos, tiny_backbone, stop_after
):
    def stop(done: int) -> None:
        if done >= stop_after:
            raise KeyboardInterrupt

    whole, stopped = places(tmp_path, chunk=8), places(tmp_path, "stopped", chunk=8)
    built(photos, tiny_backbone, whole)
    photos.read_keys.clear()
    with pytest.raises(KeyboardInterrupt):
        build.build(tiny_backbone, listing(photos, tiny_backbone), stopped, stop)
    built(photos, tiny_backbone, stopped)
    assert bytes_of(stopped) == bytes_of(whole)
    again = len(photos.read_keys) - len(set(photos.read_keys))
    assert (
        again <= 29
    )  # at most what one block holds is read twice: a block is eight images, or one larger category


class Killed(Exception):
    """Without the last word that Ctrl-C leaves."""


class Mortal(FolderPrefix):
    """Takes nothing more once its writer is dead."""

    dead = False

    def write(self, key: str, content: bytes, content_type: str = "") -> None:
        if self.dead:
            raise StorageUnavailable("too late")
        super().write(key, content)


def test_what_was_put_aside_in_time_is_not_read_again(tmp_path, photos, tiny_backbone):
    """A build that is killed leaves no last word: it lives on what it put aside every few minutes."""
    now, out = [0.0], Mortal(tmp_path / "pack")

    def die(done: int) -> None:
        now[0] += 1000
        if done == 45:
            out.dead = True
            raise Killed

    where = places(tmp_path, chunk=8, clock=lambda: now[0], out=out)
    with pytest.raises(Killed):
        build.build(tiny_backbone, listing(photos, tiny_backbone), where, die)
    photos.read_keys.clear()
    built(photos, tiny_backbone, places(tmp_path, chunk=8))
    assert {key.split("/")[0] for key in photos.read_keys} == {tiny_backbone.categories[7].uid}


def test_what_was_put_aside_of_other_images_is_not_used(tmp_path, photos, tiny_backbone, make_pictures):
    def stop(done: int) -> None:
        if done >= 40:
            raise KeyboardInterrupt

    where = places(tmp_path, chunk=8)
    with pytest.raises(KeyboardInterrupt):
        build.build(tiny_backbone, listing(photos, tiny_backbone), where, stop)
    make_pictures(Path(photos.uri), tiny_backbone.categories[0].uid, 6, first_seed=900)
    made, pack = built(photos, tiny_backbone, where)
    assert pack.statistics.counts[0] == 6
    assert made.used == 48


def test_with_a_cache_every_run_finds_the_bottlenecks(tmp_path, photos, tiny_backbone):
    cache = FolderPrefix(tmp_path / "cache")
    built(photos, tiny_backbone, places(tmp_path, cache=cache))
    photos.read_keys.clear()
    built(photos, tiny_backbone, places(tmp_path, "second", cache=cache))
    assert photos.read_keys == []


def test_nothing_but_the_pack_is_left(tmp_path, photos, tiny_backbone):
    where = places(tmp_path, chunk=8, clock=iter(range(0, 10_000, 200)).__next__)
    built(photos, tiny_backbone, where)
    assert "unfinished.npz" not in bytes_of(where)
    assert not (where.scratch / "bottlenecks").exists()


def test_the_same_command_again_finds_its_pack(tmp_path, photos, tiny_backbone):
    made, _ = built(photos, tiny_backbone, places(tmp_path))
    photos.read_keys.clear()
    again, _ = built(photos, tiny_backbone, places(tmp_path))
    assert again == replace(made, is_old=True)
    assert photos.read_keys == []


def test_another_pack_is_not_written_over(tmp_path, photos, tiny_backbone, make_pictures):
    built(photos, tiny_backbone, places(tmp_path))
    make_pictures(Path(photos.uri), tiny_backbone.categories[0].uid, 6, first_seed=900)
    with pytest.raises(PackRefused, match=r"There is a pack at .*pack/ already.*another --out"):
        built(photos, tiny_backbone, places(tmp_path))


def test_what_cannot_be_read_is_counted_and_named(tmp_path, photos, tiny_backbone):
    broken = Path(photos.uri) / tiny_backbone.categories[7].uid / "3.jpg"
    broken.write_bytes(b"%PDF no picture")
    made, pack = built(photos, tiny_backbone, places(tmp_path))
    assert pack.statistics.counts[7] == 11
    assert made.unreadable == 1
    assert "3.jpg (PDF is not supported" in made.examples[0]


def test_a_category_of_which_nothing_can_be_read_is_not_seen(tmp_path, photos, tiny_backbone):
    (Path(photos.uri) / tiny_backbone.categories[5].uid / "0.jpg").write_bytes(b"")
    made, pack = built(photos, tiny_backbone, places(tmp_path, chunk=1))
    assert pack.statistics.counts[5] == 0
    assert made.seen == 3


def test_images_none_of_which_can_be_read_make_no_pack(tmp_path, tiny_backbone):
    folder = tmp_path / "photos" / tiny_backbone.categories[0].uid
    folder.mkdir(parents=True)
    (folder / "1.jpg").write_bytes(b"")
    with pytest.raises(BadDataset, match=r"Not one of the 1 images .* can be read.*the file is empty"):
        built(FolderPrefix(tmp_path / "photos"), tiny_backbone, places(tmp_path))


def test_a_place_that_takes_nothing_is_what_is_reported(tmp_path, photos, tiny_backbone):
    """And not that the unfinished work could not be put aside, either."""
    with pytest.raises(StorageUnavailable, match=r"no space left"):
        built(photos, tiny_backbone, places(tmp_path, out=Full(tmp_path / "full")))
