"""How `expansion pack build` understands folders: as replay folders are, with a word on each it cannot use."""

from pathlib import Path

import pytest

from expansion_contract.report import Category
from expansion_storage.folder import FolderPrefix
from expansion_trainer.errors import BadDataset
from expansion_trainer.packs.source import Source, blocks, source

NAMES = ("Persian cat", "crane", "crane", "jay", "café")
CATEGORIES = tuple(Category(index=i, name=name, uid=f"n{i:08}", group="base") for i, name in enumerate(NAMES))


def put(folder: Path, counts: dict[str, int]) -> None:
    for name, count in counts.items():
        target = folder / name
        target.mkdir(parents=True)
        for number in range(count):
            (target / f"{number}.jpg").write_bytes(b"x")


@pytest.fixture
def folder(tmp_path) -> Path:
    put(tmp_path, {"n00000003": 4, "n00000001": 2, "crane": 3, "unicorn": 5})
    put(tmp_path, {"persian_cat": 6, "n00000000": 1, "cafe\N{COMBINING ACUTE ACCENT}": 2})
    (tmp_path / "jay").mkdir()
    (tmp_path / "jay" / "notes.txt").write_text("no image")
    (tmp_path / "stray.jpg").write_bytes(b"x")
    return tmp_path


def found(folder: Path) -> Source:
    return source(FolderPrefix(folder), CATEGORIES)


def test_folders_are_named_by_id_or_by_a_name_that_only_one_category_has(folder):
    assert dict(found(folder).counts) == {0: 7, 1: 2, 3: 4, 4: 2}
    assert found(folder).images == 15


def test_folders_that_name_nothing_or_more_than_one_category_are_said(folder):
    assert found(folder).unused == ("crane", "unicorn")


def test_categories_without_an_image_are_said(folder):
    assert [category.index for category in found(folder).without_image(CATEGORIES)] == [2]


def test_every_image_of_a_category_is_found_in_all_its_folders(folder):
    keys = [image.key for image in found(folder).images_of(0)]
    assert len(keys) == 7
    assert {key.split("/")[0] for key in keys} == {"persian_cat", "n00000000"}
    assert len(list(found(folder).images_of(4))) == 2


def test_the_listing_is_known_by_its_digest(folder):
    before = found(folder).digest
    assert found(folder).digest == before
    (folder / "n00000003" / "9.jpg").write_bytes(b"more")
    assert found(folder).digest != before


@pytest.mark.parametrize("most", [1, 3, 7, 9, 100])
def test_blocks_hold_whole_categories_in_their_order(folder, most):
    everything = found(folder)
    seen = list(blocks(everything, most))
    labels = [label for block in seen for label in block.labels]
    assert labels == [0] * 7 + [1] * 2 + [3] * 4 + [4] * 2
    assert seen[-1].last == 3
    for block in seen:
        assert len(block.images) == len(block.labels)
        assert len(block.images) <= most or len(set(block.labels)) == 1


def test_categories_that_are_done_are_not_listed_again(folder):
    assert [block.labels for block in blocks(found(folder), 100, first=2)] == [[3] * 4 + [4] * 2]
    assert list(blocks(found(folder), 100, first=4)) == []


@pytest.mark.parametrize("counts", [{}, {"unicorn": 3}, {"crane": 2}], ids=["empty", "unknown", "ambiguous"])
def test_images_of_no_category_make_no_pack(tmp_path, counts):
    put(tmp_path, counts)
    with pytest.raises(BadDataset, match=r"none that names a category of the network.*WordNet id"):
        found(tmp_path)
