"""Which new categories the base is said to know: by what it answers to a few of their images, and by name."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from expansion_contract.dataset import Role
from expansion_contract.report import Category, Overlap
from expansion_contract.resource import Categories
from expansion_storage.folder import FolderPrefix
from expansion_trainer.dataset import overlap
from expansion_trainer.dataset.overlap import Answers, CategoryOverlap, answered, overlaps, refuse, sample
from expansion_trainer.dataset.scan import SourceImage
from expansion_trainer.errors import BadDataset

BASE = tuple(
    Category(index=index, name=name, uid=f"n{index}", group="base")
    for index, name in enumerate(
        ("giant_panda", "lesser_panda", "daisy", "African_elephant", "Indian_elephant", "switch", "mouse", "crane", "crane")
    )
)  # fmt: skip
PANDA, LESSER, DAISY, AFRICAN, INDIAN, SWITCH, MOUSE, CRANE, OTHER_CRANE = range(9)


def wanted(action: str = "Refuse", **single: str) -> Categories:
    entries = [{"category": name, "onOverlap": choice} for name, choice in single.items()]
    return Categories.model_validate({"images": "s3://photos/x/", "onOverlap": action, "overlaps": entries})


def seen(answers: dict[str, list[int]], sure: float = 0.9) -> tuple[Answers, np.ndarray, list[str]]:
    """What the base answers to the images of each new category."""
    labels = np.repeat(np.arange(len(answers)), [len(best) for best in answers.values()])
    best = np.array([index for indices in answers.values() for index in indices], np.int64)
    return Answers(best=best, confidence=np.full(len(best), sure)), labels, list(answers)


def known(answers: dict[str, list[int]], categories: Categories | None = None, **options) -> list[tuple]:
    found = overlaps(*seen(answers, **options), BASE, categories or wanted())
    return [(one.category, one.known_index, one.share.hits, one.action) for one in found]


def said(answers: dict[str, list[int]], reason: str, categories: Categories | None = None) -> list[str]:
    told = overlap.findings(*seen(answers), BASE, categories or wanted())
    return [finding.message for finding in told if finding.reason == reason]


@pytest.mark.parametrize(
    ("agreeing", "is_known"),
    [pytest.param(4, True, id="half"), pytest.param(3, False, id="less than half")],
)
def test_one_answer_to_half_of_the_sample_is_knowledge(agreeing, is_known):
    answers = [DAISY] * agreeing + [MOUSE, CRANE, SWITCH, PANDA, INDIAN][: 8 - agreeing]
    assert known({"Margerite": answers}) == ([("Margerite", DAISY, 4, "Refuse")] if is_known else [])


def test_two_images_that_agree_say_nothing():
    assert known({"Margerite": [DAISY, DAISY]}) == []


def test_a_guess_is_no_knowledge():
    assert known({"nine": [SWITCH] * 10}, sure=0.1) == []


def test_one_base_category_for_three_new_ones_is_only_the_nearest_thing():
    answers = {"3": [SWITCH] * 6, "6": [SWITCH] * 7, "9": [SWITCH] * 8}
    assert known(answers) == []
    assert said(answers, "NearestInBase") == [
        "To most images of '3', '6', '9' the base answers 'switch': the nearest it has. Some 'switch' may be answered with one of"
        " them."
    ]


def test_many_new_categories_of_one_name_are_still_that_one():
    answers = {f"daisy {n}": [DAISY] * 6 for n in range(4)}
    assert [index for _, index, *_ in known(answers)] == [DAISY] * 4


def test_a_shorter_name_counts_where_the_answers_agree_and_all_it_may_mean_are_told():
    answers = {"elephants": [AFRICAN] * 3 + [INDIAN] * 2 + [MOUSE] * 4 + [CRANE]}
    assert known(answers) == [("elephants", AFRICAN, 3, "Refuse"), ("elephants", INDIAN, 2, "Refuse")]
    assert known({"elephants": [AFRICAN, INDIAN] + [MOUSE, DAISY, CRANE, SWITCH] * 2}) == []


def test_a_related_name_without_answers_is_told_beside_it():
    answers = {"panda": [PANDA] * 8}
    assert known(answers) == [("panda", PANDA, 8, "Refuse")]
    assert "The name 'panda' is like 'lesser_panda' of the base" in said(answers, "RelatedNames")[0]


def test_the_same_name_is_an_overlap_whatever_is_answered():
    assert known({"Daisies": [SWITCH, MOUSE]}) == [("Daisies", DAISY, 0, "Refuse")]
    assert known({"crane": [OTHER_CRANE] * 2}) == [
        ("crane", OTHER_CRANE, 2, "Refuse"),
        ("crane", CRANE, 0, "Refuse"),
    ]


def test_another_thing_of_the_same_name_is_not_meant_first():
    assert known({"mouse": [DAISY] * 8}, wanted("Merge")) == [
        ("mouse", DAISY, 8, "Merge"),
        ("mouse", MOUSE, 0, "KeepBoth"),
    ]


def test_every_category_may_be_decided_for_itself_and_only_the_first_known_is_merged_or_replaced():
    answers = {"elephant": [AFRICAN] * 5 + [INDIAN] * 3, "my daisies": [DAISY] * 8, "bears": [PANDA] * 8}
    categories = wanted("Refuse", elephant="Merge", bears="KeepBoth")
    assert known(answers, categories) == [
        ("elephant", AFRICAN, 5, "Merge"),
        ("elephant", INDIAN, 3, "KeepBoth"),
        ("my daisies", DAISY, 8, "Refuse"),
        ("bears", PANDA, 8, "KeepBoth"),
    ]


def test_the_refusal_lists_new_and_old_with_shares_and_every_way_out():
    found = overlaps(*seen({"panda": [PANDA] * 6 + [MOUSE] * 2, "Margerite": [DAISY] * 8}), BASE, wanted())
    with pytest.raises(CategoryOverlap) as refused:
        refuse(found)
    message = refused.value.message
    assert "'panda' -> 'giant_panda' (75% of 8 images, and by name)" in message
    assert "'Margerite' -> 'daisy' (100% of 8 images)" in message
    for way in ("spec.categories.overlaps", "Merge", "Replace", "KeepBoth", "spec.categories.include"):
        assert way in message


def test_what_was_decided_is_not_refused_and_is_written_down():
    answers = {"panda": [PANDA] * 8}
    for action, words in (("KeepBoth", "is kept beside"), ("Merge", "counts for"), ("Replace", "replaces")):
        refuse(overlaps(*seen(answers), BASE, wanted(action)))
        assert said(answers, "CategoryOverlap", wanted(action)) == [
            f"'panda' {words} 'giant_panda' of the base (100% of 8 images, and by name)."
        ]


def test_many_decisions_are_told_together():
    answers = {f"daisy {n}": [DAISY] * 4 for n in range(30)}
    (message,) = said(answers, "CategoryOverlap", wanted("Merge"))
    assert message.startswith("The base knows 30 categories ('daisy 0', 'daisy 1', ")
    assert message.endswith("and 22 more): Merge, as spec.categories says.")


def test_a_refusal_names_a_hundred_and_counts_the_rest():
    answers = {f"daisy {n}": [DAISY] * 4 for n in range(130)}
    with pytest.raises(
        CategoryOverlap, match=r"'daisy 99' -> 'daisy'.* and 30 more\. For each say"
    ) as refused:
        refuse(overlaps(*seen(answers), BASE, wanted()))
    assert "daisy 100" not in refused.value.message


def test_merging_into_what_another_one_replaces_is_refused():
    found = overlaps(
        *seen({"a": [DAISY] * 8, "b": [DAISY] * 8}), BASE, wanted("Refuse", a="Merge", b="Replace")
    )
    with pytest.raises(BadDataset, match=r"merges 'a' into 'daisy' of the base, which 'b' replaces"):
        refuse(found)


def test_a_decision_without_an_object_is_told():
    categories = wanted("Refuse", rose="Merge", tulip="KeepBoth")
    assert said({"rose": [MOUSE, CRANE, SWITCH, DAISY, PANDA]}, "OverlapUnused", categories) == [
        "spec.categories.overlaps says Merge of 'rose', but the base knows nothing like it. Nothing follows.",
        "spec.categories.overlaps says KeepBoth of 'tulip', but there is no such folder. Nothing follows.",
    ]


def test_what_never_answers_is_not_known_and_an_alias_answers_for_its_target():
    base = (
        BASE[PANDA],
        BASE[LESSER].model_copy(update={"state": "retired"}),
        BASE[DAISY].model_copy(update={"alias_of": 0}),
    )
    logits = np.log(np.array([[0.3, 0.5, 0.2]], np.float32))
    answers = answered(lambda rows: rows @ logits, np.ones((3, 1), np.float32), base)
    assert answers.best.tolist() == [0, 0, 0]
    np.testing.assert_allclose(answers.confidence, 1)
    assert overlaps(answers, np.zeros(3, np.int64), ["daisy"], base, wanted())[0].known_index == 0


def test_answers_do_not_depend_on_how_many_are_asked_at_once():
    rng = np.random.default_rng(0)
    rows, weights = rng.normal(size=(50, 4)).astype(np.float32), rng.normal(size=(4, 9)).astype(np.float32)
    whole = answered(lambda x: x @ weights, rows, BASE)
    parts = answered(lambda x: x @ weights, rows, BASE, at_once=7)
    assert whole.best.tolist() == parts.best.tolist() == (rows @ weights).argmax(axis=1).tolist()
    np.testing.assert_allclose(whole.confidence, parts.confidence)
    assert len(answered(lambda x: x @ weights, rows[:0], BASE).best) == 0


def image(key: str, etag: str, role: Role = Role.NEW) -> SourceImage:
    folder = key.partition("/")[0]
    return SourceImage(role=role, place=FolderPrefix(Path("x")), key=key, size=1, etag=etag, folder=folder)


def test_the_sample_is_the_same_images_whatever_they_are_called():
    images = [image(f"a/{n:03}.jpg", f"content {n}") for n in range(200)]
    renamed = [replace(one, key=f"a/{199 - n:03}.png") for n, one in enumerate(images)]
    contents = [{photos[index].etag for index in sample(photos)} for photos in (images, renamed[::-1])]
    assert contents[0] == contents[1]
    assert len(contents[0]) == overlap.SAMPLE


def test_the_sample_has_some_of_every_new_category_each_content_once_and_nothing_else():
    images = [
        *(image(f"a/{n}.jpg", f"a{n % 3}") for n in range(9)),
        *(image(f"b/{n}.jpg", f"b{n}") for n in range(9)),
        *(image(f"old/{n}.jpg", f"o{n}", Role.REPLAY) for n in range(9)),
    ]
    assert [images[index].folder for index in sample(images, 5)] == ["a"] * 3 + ["b"] * 5


def test_growing_a_category_changes_its_sample_by_what_was_added_only():
    few = [image(f"a/{n}.jpg", f"c{n}") for n in range(100)]
    many = [image(f"a/{n}.jpg", f"c{n}") for n in range(110)]
    before, after = ({photos[index].etag for index in sample(photos)} for photos in (few, many))
    assert after - before <= {f"c{n}" for n in range(100, 110)}


def test_pictures_of_unknown_things_overlap_with_a_category_of_that_name_only():
    assert known({"unknown": [DAISY] * 10}) == []
    base = (*BASE, Category(index=9, name="Unknown", group="base"))
    (one,) = overlaps(*seen({"unknown": [DAISY] * 10}), base, wanted("Merge"))
    assert (one.known_index, one.action) == (9, "Merge")
    unknown = [replace(image(f"{n}.jpg", f"u{n}", Role.UNKNOWN), folder="unknown") for n in range(40)]
    assert len(sample(unknown)) == overlap.SAMPLE


def test_ten_thousand_categories_of_two_images_are_asked_about_at_once():
    images = [image(f"thing {n // 2}/{n % 2}.jpg", f"c{n}") for n in range(20_000)]
    assert len(sample(images)) == 20_000
    answers = {f"thing {n}": [DAISY, MOUSE] for n in range(9_999)} | {"my daisy": [DAISY, DAISY]}
    assert known(answers) == []
    assert len(overlap.findings(*seen(answers), BASE, wanted())) < 5


def test_an_overlap_can_be_written_to_the_report():
    (one,) = overlaps(*seen({"panda": [PANDA] * 8}), BASE, wanted())
    assert Overlap.model_validate_json(one.model_dump_json()) == one
