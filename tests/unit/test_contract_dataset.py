from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from expansion_contract.dataset import Listing, Role, read
from expansion_contract.labels import imagenet, normalised, problem_with
from expansion_contract.resource import Categories, Mode, OnOverlap


@dataclass(frozen=True)
class Listed:
    key: str
    size: int = 1
    etag: str = "e"


def listing(*keys: str, mode: Mode = Mode.EXPAND, **options: object) -> Listing:
    categories = Categories.model_validate({"images": "s3://photos/flowers/", **options})
    return read(((Role.NEW, Listed(key)) for key in sorted(keys)), categories, mode)


def messages(found: Listing) -> str:
    return "\n".join(problem.message for problem in found.errors)


def images(category: str, n: int = 120) -> list[str]:
    return [f"{category}/{i:04}.jpg" for i in range(n)]


def test_folders_are_categories_and_their_images_are_counted():
    found = listing(*images("tulip", 120), *images("rose", 150))
    assert found.counts == {"rose": 150, "tulip": 120}
    assert found.images == 270
    assert found.problems == ()


def test_what_is_no_image_is_not_counted_but_remembered():
    found = listing(
        *images("rose"), *images("tulip"), "rose/readme.txt", "loose.jpg", "rose/.hidden.jpg", "empty/"
    )
    assert found.images == 240
    assert found.ignored == 3


def test_a_bucket_without_folders_says_how_it_should_look():
    found = listing("1.jpg", "2.jpg")
    assert found.errors[0].reason == "NoCategories"
    assert "Put the images of each category into a folder" in messages(found)
    assert "s3://photos/flowers/sunflower/1.jpg" in messages(found)


def test_one_category_is_refused_only_where_nothing_else_could_be_answered():
    assert listing(*images("rose"), mode=Mode.REPLACE).errors[0].reason == "OneCategory"
    expanded = listing(*images("rose"))
    assert expanded.errors == ()
    assert "Only one category, 'rose', is added" in expanded.problems[0].message


@pytest.mark.parametrize("n", [3, 15])
def test_few_images_are_said_but_not_refused(n: int):
    found = listing(*images("rose", n), *images("tulip"))
    assert found.errors == ()
    assert f"Fewer than 20 images: rose ({n})." in found.problems[0].message


def test_a_name_the_base_has_is_refused_with_the_way_out():
    found = listing(*images("Egyptian cat"), *images("rose"))
    assert found.errors[0].reason == "CategoryOverlap"
    assert "The base already has 'Egyptian cat'." in messages(found)
    assert "spec.categories.onOverlap" in messages(found)


def test_a_name_the_base_has_may_be_kept_twice():
    assert listing(*images("Egyptian cat"), *images("rose"), onOverlap=OnOverlap.KEEP_BOTH).errors == ()
    exception = [{"category": "Egyptian cat", "onOverlap": "KeepBoth"}]
    assert listing(*images("Egyptian cat"), *images("rose"), overlaps=exception).errors == ()


def test_replace_does_not_ask_what_the_base_knows():
    assert listing(*images("Egyptian cat"), *images("rose"), mode=Mode.REPLACE).errors == ()


def test_two_folders_of_one_name_are_named_both():
    found = listing(*images("sun flower"), *images("Sun_Flower"))
    assert found.errors[0].reason == "CategoryNamesCollide"
    assert "'Sun_Flower' and 'sun flower'" in messages(found)


@pytest.mark.parametrize("folder", ["..", "bell\x07", "zero\u0000", "a\\b"])
def test_a_folder_that_is_no_name_is_refused(folder: str):
    found = listing(*images(folder), *images("rose"))
    assert found.errors[0].reason == "InvalidCategoryName"
    assert repr(folder) in messages(found)


def test_only_included_folders_count_and_missing_ones_are_named():
    found = listing(*images("rose"), *images("tulip"), include=["rose", "dahlia"])
    assert found.counts == {"rose": 120}
    assert "spec.categories.include names 'dahlia'" in messages(found)


def test_names_in_any_script_are_welcome():
    assert listing(*images("向日葵"), *images("नीलकमल"), *images("Ромашка")).problems == ()


def digest(*objects: Listed, role: Role = Role.NEW) -> str:
    return read(((role, entry) for entry in objects), Categories(images="s3://photos/x/"), Mode.EXPAND).digest


def test_the_digest_changes_with_key_size_etag_and_role():
    one = Listed("a/1.jpg")
    different = {
        digest(one),
        digest(Listed("a/2.jpg")),
        digest(Listed("a/1.jpg", size=2)),
        digest(Listed("a/1.jpg", etag="f")),
        digest(one, role=Role.REPLAY),
    }
    assert len(different) == 5


def test_the_digest_ignores_what_training_ignores():
    assert digest(Listed("a/1.jpg")) == digest(Listed("a/1.jpg"), Listed("a/notes.txt"))


def test_imagenet_has_a_thousand_categories_in_keras_order():
    assert len(imagenet()) == 1000
    assert imagenet()[285] == ("n02124075", "Egyptian_cat")
    assert imagenet()[388] == ("n02510455", "giant_panda")
    assert len({uid for uid, _ in imagenet()}) == 1000


@given(st.text(min_size=1, max_size=30))
def test_normalising_twice_changes_nothing(name: str):
    assert normalised(normalised(name)) == normalised(name)


@given(st.text(alphabet=st.characters(categories=["L", "N"]), min_size=1, max_size=30))
def test_letters_and_digits_of_any_script_are_a_name(name: str):
    assert problem_with(name) is None
