from dataclasses import dataclass
from importlib.resources import files

import pytest
from hypothesis import given
from hypothesis import strategies as st

from expansion_contract.dataset import Listing, Role, judged, read
from expansion_contract.labels import (
    Vocabulary,
    imagenet,
    imagenet_vocabulary,
    key,
    names_of,
    normalised,
    problem_with,
    vocabulary,
    words,
)
from expansion_contract.resource import Categories, Mode, OnOverlap


@dataclass(frozen=True)
class Listed:
    key: str
    size: int = 1
    etag: str = "e"


def listing(
    *keys: str,
    mode: Mode = Mode.EXPAND,
    base: Vocabulary | None = None,
    unknown: list[str] | None = None,
    **options: object,
) -> Listing:
    categories = Categories.model_validate({"images": "s3://photos/flowers/", **options})
    entries = [
        *((Role.NEW, Listed(name)) for name in sorted(keys)),
        *((Role.UNKNOWN, Listed(name)) for name in unknown or []),
    ]
    return read(entries, categories, mode, base)


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


@pytest.mark.parametrize("decision", [OnOverlap.KEEP_BOTH, OnOverlap.MERGE, OnOverlap.REPLACE])
def test_a_name_the_base_has_is_welcome_once_somebody_decided(decision: OnOverlap):
    assert listing(*images("Egyptian cat"), *images("rose"), onOverlap=decision).errors == ()
    exception = [{"category": "Egyptian cat", "onOverlap": decision}]
    assert listing(*images("Egyptian cat"), *images("rose"), overlaps=exception).errors == ()


def test_another_word_for_what_the_base_has_is_told_with_the_base_s_word():
    found = listing(*images("mountain lions"), *images("Sea-Lion"), *images("rose"))
    assert "The base already has 'Sea-Lion', 'mountain lions' (as 'cougar')." in messages(found)


def test_the_names_of_another_base_are_asked_instead_of_imagenet_s():
    base = vocabulary([("", "rose"), ("n02125311", "cougar")])
    assert (
        listing(*images("Egyptian cat"), *images("puma"), base=base)
        .errors[0]
        .message.startswith("The base already has 'puma' (as 'cougar').")
    )
    assert listing(*images("Egyptian cat"), *images("tulip"), base=base).errors == ()


def test_a_listing_can_be_judged_beside_another_base_without_listing_again():
    found = listing(*images("Egyptian cat"), *images("tulip"))
    options = Categories(images="s3://photos/flowers/")
    again = judged(found, options, Mode.EXPAND, frozenset({"tulip"}))
    assert again.errors[0].message.startswith("The base already has 'tulip'.")
    assert judged(again, options, Mode.EXPAND) == found


UNKNOWN = {"unknownImages": "s3://photos/background/"}


def test_pictures_of_unknown_things_are_a_category_of_their_own():
    found = listing(*images("rose"), unknown=["1.jpg", "deeper/2.jpg", "notes.txt"], **UNKNOWN)
    assert found.counts == {"rose": 120, "unknown": 2}
    assert (found.images, found.ignored, found.errors) == (122, 1, ())


def test_unknown_things_are_something_that_a_single_category_is_not():
    found = listing(*images("rose"), mode=Mode.REPLACE, unknown=["1.jpg"], **UNKNOWN)
    assert found.errors == ()


def test_a_folder_called_unknown_collides_with_them():
    for folder in ("Unknown", "unknown"):
        found = listing(*images(folder), *images("rose"), unknown=["1.jpg"], **UNKNOWN)
        assert found.errors[0].reason == "CategoryNamesCollide"
        assert f"{folder!r} below s3://photos/flowers/ and spec.categories.unknownImages" in messages(found)
    assert listing(*images("unknown"), *images("rose")).errors == ()


def test_unknown_images_that_are_not_there_are_missed():
    found = listing(*images("rose"), **UNKNOWN)
    assert found.errors[0].reason == "NoUnknownImages"
    assert "s3://photos/background/" in messages(found)


def test_a_base_that_has_a_category_unknown_asks_what_to_do_with_a_second():
    base = vocabulary([("", "unknown")])
    found = listing(*images("rose"), unknown=["1.jpg"], base=base, **UNKNOWN)
    assert "The base already has 'unknown'." in messages(found)
    merged = {**UNKNOWN, "overlaps": [{"category": "unknown", "onOverlap": "Merge"}]}
    assert listing(*images("rose"), unknown=["1.jpg"], base=base, **merged).errors == ()


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
    names = ["向日葵", "नीलकमल", "Ромашка", "وردة", "שושנה", "🌻", "گل\u200cرز", "क्\u200dष"]
    assert listing(*(key for name in names for key in images(name))).problems == ()


def test_one_name_in_two_unicode_forms_is_one_category():
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    found = listing(*images(composed, 100), *(f"{decomposed}/{n}.jpg" for n in range(20)))
    assert found.counts == {composed: 120}


@pytest.mark.parametrize(
    ("unseen", "code"),
    [
        pytest.param("\u200b", "U+200B", id="zero width space"),
        pytest.param("\ufeff", "U+FEFF", id="byte order mark"),
        pytest.param("\u202e", "U+202E", id="right-to-left override"),
        pytest.param("\u2066", "U+2066", id="isolate"),
        pytest.param("\u00ad", "U+00AD", id="soft hyphen"),
    ],
)
def test_characters_that_nobody_sees_are_refused_by_their_number(unseen: str, code: str):
    found = listing(*images(f"ro{unseen}se"), *images("tulip"))
    assert found.errors[0].reason == "InvalidCategoryName"
    assert code in messages(found)
    assert unseen not in messages(found)


def test_names_that_look_the_same_collide_whatever_is_hidden_in_them():
    found = listing(*images("گل\u200cرز"), *images("گلرز"))
    assert found.errors[0].reason == "CategoryNamesCollide"


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


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Leopards", "leopard"),
        ("sea horses", "Seahorse"),
        ("strawberries", "strawberry"),
        ("wrenches", "wrench"),
        ("foxes", "fox"),
        ("black-footed_ferrets", "Black footed ferret"),
    ],
)
def test_plural_spaces_and_case_make_no_other_name(one: str, other: str):
    assert key(one) == key(other)


@pytest.mark.parametrize(
    ("one", "other"), [("bus", "bu"), ("glass", "glas"), ("iris", "iri"), ("crane", "cran")]
)
def test_an_s_that_belongs_to_the_word_stays(one: str, other: str):
    assert key(one) != key(other)


@given(st.text(min_size=1, max_size=30))
def test_the_key_of_a_key_is_itself_but_for_plurals(name: str):
    assert "".join(words(" ".join(words(name)))) in {key(name), key(key(name))}


def test_a_name_finds_the_same_and_the_related_ones():
    known = vocabulary(
        [("", "giant_panda"), ("", "lesser panda"), ("", "panda"), ("", "red fox"), ("", "crane")]
    )
    assert known.same("Pandas") == (2,)
    assert known.related("Pandas") == (0, 1)
    assert known.related("crane fly") == (4,)
    assert known.related("fox glove") == ()


def test_other_names_of_imagenet_categories_name_no_second_one():
    known = imagenet_vocabulary()
    others = {uid: names_of(name, uid)[1:] for uid, name in imagenet()}
    assert sum(map(len, others.values())) > 400
    assert {uid for uid, names in others.items() for name in names if len(known.same(name)) != 1} == set()


def test_every_other_name_belongs_to_an_imagenet_category():
    lines = files("expansion_contract").joinpath("imagenet_other_names.txt").read_text().splitlines()
    assert {line.split(" ")[0] for line in lines} <= {uid for uid, _ in imagenet()}
