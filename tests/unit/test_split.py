"""What the split promises: content decides the side, copies count once, contradictions teach nobody."""

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from expansion_contract.dataset import Role
from expansion_contract.report import Category
from expansion_contract.resource import Split
from expansion_storage.folder import FolderPrefix
from expansion_trainer.dataset.scan import SourceImage
from expansion_trainer.dataset.split import Divided, Side, divide, side_of
from expansion_trainer.errors import BadDataset

SPLIT = Split(validation_percent=10, test_percent=20)
PHOTOS = FolderPrefix(Path("photos"))
BASE = (
    Category(index=0, name="tench", uid="n01440764", group="base"),
    Category(index=1, name="crane", uid="n02012849", group="base"),
    Category(index=2, name="crane", uid="n03126707", group="base"),
    Category(index=3, name="Persian cat", uid="n02123394", group="base"),
    Category(index=4, name="sunglass", uid="n04355933", group="base"),
    Category(index=5, name="sunglasses", uid="n04356056", group="base"),
    Category(index=6, name="cougar", uid="n02125311", group="base"),
    Category(index=7, name="rose", group="base"),
    Category(index=8, name="rose", group="base"),
)


def digest(content: object) -> str:
    return hashlib.sha256(str(content).encode()).hexdigest()


def image(key: str, role: Role = Role.NEW) -> SourceImage:
    folder = "" if role is Role.UNLABELLED else key.partition("/")[0]
    return SourceImage(role=role, place=PHOTOS, key=key, size=1, etag="e", folder=folder)


def divided(
    *pairs: tuple[SourceImage, object], ok: list[bool] | None = None, near: list[list[int]] | None = None
) -> Divided:
    """From images and their contents. `near`: groups of pictures that are nearly the same."""
    images, contents = zip(*pairs, strict=True)
    usable = np.array([True] * len(images) if ok is None else ok)
    names = [digest(content) for content in contents]
    first = {index: min(group, key=lambda i: names[i]) for group in near or [] for index in group}
    return divide(images, names, usable, BASE, SPLIT, first)


def sides_of(result: Divided, rows: list[int]) -> list[Side]:
    """Of new images."""
    side = {int(row): side for side, part in result.new.items() for row in part.rows}
    return [side[row] for row in rows]


def on(side: Side, count: int, start: int = 0) -> list[int]:
    """Contents that fall on this side."""
    found = (number for number in range(start, 100_000) if side_of(digest(number), SPLIT) is side)
    return [next(found) for _ in range(count)]


def all_rows(sides: object) -> list[int]:
    return sorted(int(row) for part in sides.values() for row in part.rows)


def test_percentages_hold_within_statistics():
    n = 20_000
    sides = [side_of(digest(number), SPLIT) for number in range(n)]
    for side, share in ((Side.TEST, 0.2), (Side.VALIDATION, 0.1), (Side.TRAINING, 0.7)):
        assert abs(sides.count(side) / n - share) < 4 * np.sqrt(share * (1 - share) / n)


@given(st.binary(), st.integers(5, 40), st.integers(5, 50))
def test_a_larger_percentage_takes_no_image_from_a_held_out_side(content, validation, test):
    small = side_of(hashlib.sha256(content).hexdigest(), Split(validation_percent=5, test_percent=5))
    large = side_of(
        hashlib.sha256(content).hexdigest(), Split(validation_percent=validation, test_percent=test)
    )
    assert large is small or small is Side.TRAINING


def test_renaming_and_moving_an_image_never_changes_its_side():
    before = divided(*((image(f"daisy/{n}.jpg"), n) for n in range(200)))
    after = divided(*((image(f"moved/deeper/{999 - n}.png"), n) for n in range(200)))
    for side in Side:
        assert before.new[side].rows.tolist() == after.new[side].rows.tolist()
        assert len(before.new[side]) > 0


def test_growing_a_data_set_moves_no_image():
    few = divided(*((image(f"daisy/{n}.jpg"), n) for n in range(100)))
    many = divided(*((image(f"daisy/{n}.jpg"), n) for n in range(300)))
    for side in Side:
        assert set(few.new[side].rows.tolist()) <= set(many.new[side].rows.tolist())


def test_labels_index_the_sorted_new_categories():
    result = divided((image("tulip/1.jpg"), 1), (image("daisy/1.jpg"), 2), (image("tulip/2.jpg"), 3))
    labels = {
        int(r): int(y) for part in result.new.values() for r, y in zip(part.rows, part.labels, strict=True)
    }
    assert result.categories == ("daisy", "tulip")
    assert labels == {0: 1, 1: 0, 2: 1}


def test_images_of_unknown_things_are_divided_like_any_new_category():
    unknown = [replace(image(f"{n}.jpg", Role.UNKNOWN), folder="unknown") for n in range(30)]
    result = divided((image("zebra/1.jpg"), "z"), *((one, n) for n, one in enumerate(unknown)))
    assert result.categories == ("unknown", "zebra")
    assert sum(result.counts(side)[0] for side in Side) == 30
    assert all_rows(result.unlabelled) == []


def test_all_three_sides_are_there_even_if_empty():
    result = divided((image("daisy/1.jpg"), 1))
    assert set(result.new) == set(result.replay) == set(result.unlabelled) == set(Side)
    assert sum(len(part) for part in result.replay.values()) == 0


def test_the_same_content_twice_in_one_category_counts_once():
    result = divided((image("daisy/1.jpg"), "same"), (image("daisy/copy.jpg"), "same"))
    assert all_rows(result.new) == [0]
    assert result.duplicates == 1
    assert [finding.reason for finding in result.findings] == ["Duplicates"]


def test_the_same_content_in_two_categories_is_left_out_and_both_are_named():
    result = divided(
        (image("daisy/1.jpg"), "same"), (image("tulip/9.jpg"), "same"), (image("daisy/2.jpg"), "other")
    )
    assert all_rows(result.new) == [2]
    assert result.duplicates == 2
    (finding,) = result.findings
    assert finding.reason == "ContradictingLabels"
    assert "'daisy'" in finding.message
    assert "'tulip'" in finding.message
    assert "photos/daisy/1.jpg and photos/tulip/9.jpg" in finding.message


def test_a_new_image_that_is_also_a_base_category_s_replay_is_left_out_of_both():
    result = divided((image("daisy/1.jpg"), "same"), (image("n01440764/1.jpg", Role.REPLAY), "same"))
    assert all_rows(result.new) == all_rows(result.replay) == []


def test_an_unlabelled_copy_of_a_new_image_is_no_evidence_against_it():
    result = divided((image("x/1.jpg", Role.UNLABELLED), "same"), (image("daisy/1.jpg"), "same"))
    assert all_rows(result.new) == [1]
    assert all_rows(result.unlabelled) == []


def test_what_could_not_be_decoded_is_on_no_side():
    result = divided((image("daisy/1.jpg"), 1), (image("daisy/2.jpg"), 2), ok=[False, True])
    assert all_rows(result.new) == [1]
    assert result.duplicates == 0


@pytest.mark.parametrize(
    ("folder", "index"),
    [
        pytest.param("n01440764", 0, id="WordNet id"),
        pytest.param("Tench", 0, id="name in another case"),
        pytest.param("persian_cat", 3, id="name with an underscore"),
        pytest.param("n03126707", 2, id="id of an ambiguous name"),
        pytest.param("tenches", 0, id="plural"),
        pytest.param("sunglass", 4, id="its own name before a plural"),
        pytest.param("puma", 6, id="another word for it"),
    ],
)
def test_a_replay_folder_is_found_by_id_or_by_name(folder, index):
    result = divided((image(f"{folder}/1.jpg", Role.REPLAY), 1))
    assert [part.labels.tolist() for part in result.replay.values() if len(part)] == [[index]]
    assert result.findings == ()


def test_an_ambiguous_replay_folder_is_not_used_and_the_ids_are_named():
    result = divided((image("crane/1.jpg", Role.REPLAY), 1), (image("tench/1.jpg", Role.REPLAY), 2))
    assert all_rows(result.replay) == [1]
    assert "Name the folder n02012849 or n03126707" in result.findings[0].message


def test_two_earlier_categories_of_one_name_cannot_be_told_apart_by_a_folder():
    result = divided((image("rose/1.jpg", Role.REPLAY), 1), (image("tench/1.jpg", Role.REPLAY), 2))
    assert all_rows(result.replay) == [1]
    assert result.findings[0].message.endswith("No name of a folder can tell them apart.")


def test_some_unknown_replay_folders_are_named_and_left_out():
    result = divided((image("unicorn/1.jpg", Role.REPLAY), 1), (image("tench/1.jpg", Role.REPLAY), 2))
    assert all_rows(result.replay) == [1]
    assert "'unicorn'" in result.findings[0].message


def test_replay_without_any_base_category_is_refused():
    with pytest.raises(
        BadDataset, match=r"No folder of spec.replay.images names a category of the base: 'unicorn', 'crane'"
    ):
        divided((image("unicorn/1.jpg", Role.REPLAY), 1), (image("crane/1.jpg", Role.REPLAY), 2))


def test_counts_are_per_category_and_side():
    result = divided(*((image(f"{'ab'[n % 2]}/{n}.jpg"), n) for n in range(100)))
    sums = np.sum([result.counts(side) for side in Side], axis=0)
    assert sums.tolist() == [50, 50]


def test_the_side_ignores_what_the_store_says_of_an_image():
    renamed = replace(image("daisy/1.jpg"), etag="another", size=7)
    one, other = divided((image("daisy/1.jpg"), "x")), divided((renamed, "x"))
    assert [len(one.new[side]) for side in Side] == [len(other.new[side]) for side in Side]


def test_nearly_the_same_pictures_are_on_the_side_of_the_smallest_digest():
    contents = [*on(Side.TRAINING, 3), *on(Side.TEST, 2), *on(Side.VALIDATION, 2)]
    pairs = [(image(f"daisy/{n}.jpg"), content) for n, content in enumerate(contents)]
    for group in ([0, 3], [1, 4, 5]):
        smallest = min(group, key=lambda index: digest(contents[index]))
        result = divided(*pairs, near=[group])
        assert set(sides_of(result, group)) == {side_of(digest(contents[smallest]), SPLIT)}
        assert all_rows(result.new) == list(range(7))
        (finding,) = result.findings
        assert f"{len(group)} pictures are nearly the same as another one, in 1 groups" in finding.message


def test_nearly_the_same_pictures_of_two_categories_are_kept_together_and_told():
    contents = [*on(Side.TRAINING, 4), *on(Side.TEST, 4)]
    names = ["daisy", "tulip"] * 4
    pairs = [
        (image(f"{name}/{n}.jpg"), content)
        for n, (name, content) in enumerate(zip(names, contents, strict=True))
    ]
    result = divided(*pairs, near=[[0, 5]])
    assert len(set(sides_of(result, [0, 5]))) == 1
    (finding,) = [f for f in result.findings if f.reason == "ContradictingLabels"]
    assert (
        "'daisy' are nearly the same as one of 'tulip', for example photos/daisy/0.jpg and photos/tulip/5.jpg"
        in finding.message
    )
    assert "They are kept" in finding.message


def test_an_unlabelled_picture_that_is_nearly_a_new_image_is_left_out():
    pairs = [(image(f"daisy/{n}.jpg"), n) for n in range(4)]
    pairs += [(image(f"x/{n}.jpg", Role.UNLABELLED), 10 + n) for n in range(3)]
    result = divided(*pairs, near=[[1, 5], [4, 6]])
    assert all_rows(result.unlabelled) == [4, 6]
    assert result.duplicates == 1
    assert "1 unlabelled pictures are nearly the same as a labelled one" in " ".join(
        f.message for f in result.findings
    )


def test_a_category_of_one_picture_over_and_over_is_not_emptied_but_told():
    contents = [*on(Side.TRAINING, 5), *on(Side.TEST, 1), *on(Side.VALIDATION, 1)]
    pairs = [(image(f"daisy/{n}.jpg"), content) for n, content in enumerate(contents)]
    result = divided(*pairs, near=[[0, 1, 2, 5, 6]])
    assert [len(result.new[side]) for side in Side] == [5, 1, 1]
    (finding,) = result.findings
    assert (finding.reason, finding.category) == ("UniformCategory", "daisy")


def test_groups_that_all_fall_on_one_side_do_not_empty_the_others():
    contents = [*on(Side.TRAINING, 6), *on(Side.TEST, 3)]
    pairs = [(image(f"daisy/{n}.jpg"), content) for n, content in enumerate(contents)]
    near = [[0, 1, 6], [2, 3, 7], [4, 5, 8]]
    leaders_on_test = [[6, 0, 1], [7, 2, 3], [8, 4, 5]]
    for groups in (near, leaders_on_test):
        result = divided(*pairs, near=groups)
        assert len(result.new[Side.TRAINING]) > 0
        assert len(result.new[Side.TEST]) > 0


def test_exact_copies_are_counted_once_before_near_ones_are_looked_at():
    pairs = [(image("daisy/1.jpg"), "same"), (image("daisy/2.jpg"), "same"), (image("daisy/3.jpg"), "near")]
    pairs += [(image(f"daisy/{n}.jpg"), n) for n in range(4, 9)]
    result = divided(*pairs, near=[[0, 1, 2]])
    assert len(all_rows(result.new)) == 7
    assert len(set(sides_of(result, [0, 2]))) == 1


def test_ten_thousand_categories_of_two_images_are_divided_in_one_go():
    pairs = [(image(f"thing {n // 2:05}/{n % 2}.jpg"), n) for n in range(20_000)]
    result = divided(*pairs, near=[[0, 1]])
    assert len(result.categories) == 10_000
    assert sum(len(part) for part in result.new.values()) == 20_000
    assert len(result.findings) == 1
