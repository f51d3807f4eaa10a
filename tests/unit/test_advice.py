"""Promises about what a report advises: every figure follows from the run's own, and what follows from nothing has none."""

import re
from typing import Any

import pytest

from expansion_contract.intervals import wilson
from expansion_contract.report import BaseDrop, CategoryScore, Metrics, NearCategory, Proportion
from expansion_trainer.head.calibration import allowed
from expansion_trainer.report.advice import Boundary, advice, findings

TEST_PERCENT = 10


def score(name: str, hits: int, n: int, training: int = 160, validation: int = 20) -> CategoryScore:
    return CategoryScore(
        name=name,
        training_images=training,
        validation_images=validation,
        test_images=n,
        recall=Proportion.of(hits, n) if n else None,
    )


def metrics(**changes: Any) -> Metrics:
    settled = {
        "overall": Proportion.of(960, 1000),
        "new": Proportion.of(960, 1000),
        "new_closed": Proportion.of(962, 1000),
        "new_top5": Proportion.of(1000, 1000),
        "steals": Proportion.of(0, 2000),
        "base_drop": BaseDrop(measured=True, source="replay", lost=0, n=2000, value=0, low=0, high=0.002),
        "categories": [score("tulip", 480, 500), score("sunflower", 480, 500)],
    }
    return Metrics(**settled | changes)


def boundary(**changes: Any) -> Boundary:
    settled = {
        "kinds": frozenset({"replay"}),
        "budget": 0.005,
        "images": 4000,
        "base_categories": 1000,
        "near": (),
    }
    return Boundary(**settled | changes)


def said(line: Boundary | None = None, test_percent: int = TEST_PERCENT, **changes: Any) -> str:
    sentences = advice(metrics(**changes), line or boundary(), test_percent)
    return "\n".join(sentences).replace("\u00a0", " ")


def near(name: str, *new: str, images: int = 0) -> NearCategory:
    return NearCategory(index=3, name=name, uid=f"n{len(name):08}", near=list(new), images=images)


def test_a_run_that_lacks_nothing_is_advised_nothing() -> None:
    assert said() == ""


def test_near_old_categories_are_named_with_the_new_ones_and_their_folders() -> None:
    some = [near("daisy", "sunflower", "tulip"), near("bee", "tulip"), near("pot", "tulip", images=4)]
    (sentence,) = advice(metrics(), boundary(near=some), TEST_PERCENT)
    assert sentence.startswith(
        "One picture of each of these 2 base categories, near 'sunflower', 'tulip', would help most: daisy (n00000005), bee (n00000003)."
    )
    (finding,) = findings(some)
    assert (finding.severity, finding.reason, finding.message) == ("note", "PicturesWouldHelp", sentence)


def test_of_many_near_ones_the_sentence_names_the_first_and_counts_the_rest() -> None:
    some = [near(f"kind{n}", "tulip") for n in range(170)]
    sentence = said(boundary(near=some))
    assert "each of these 170 base categories" in sentence
    assert "and 162 more" in sentence
    assert len(sentence) < 600


def test_nothing_is_asked_for_where_every_near_one_was_shown() -> None:
    some = [near("daisy", "tulip", images=1)]
    assert said(boundary(near=some)) == ""
    assert list(findings(some)) == []


@pytest.mark.parametrize("budget", [0.005, 0.01, 0.02, 0.3, 1.0])
def test_so_many_pictures_verify_a_budget_and_one_less_does_not(budget: float) -> None:
    needed = boundary(budget=budget).needed
    assert allowed(needed, budget) >= 0
    assert needed == 0 or allowed(needed - 1, budget) < 0


def test_too_few_photographs_for_the_budget_are_said_with_how_many_would_do() -> None:
    sentence = said(boundary(images=60))
    assert "The steal budget of 0.5 % cannot be verified with 60 pictures" in sentence
    assert "199 are the fewest that can. About 155 more would do" in sentence, (
        "139 and their tenth for the test"
    )
    assert said(boundary(images=199)) == ""


def test_pictures_drawn_by_a_program_verify_nothing_however_many() -> None:
    sentence = said(boundary(kinds=frozenset({"procedural"})))
    assert "under-state steals" in sentence
    assert "199 are the fewest that can verify a budget of 0.5 %" in sentence
    assert "fewest" not in said(boundary(kinds=frozenset({"procedural"}), budget=0.0))


def test_the_bound_of_steals_is_said_for_300_photographs_more() -> None:
    sentence = said(steals=Proportion.of(1, 100))
    now, then = wilson(1, 100), wilson(1, 130)
    assert f"between {now[0]:.1%} and {now[1]:.1%}".replace("%", " %") in sentence
    assert "With 300 more, of which about 30 would be held out" in sentence
    assert f"between {then[0]:.1%} and {then[1]:.1%}".replace("%", " %") in sentence
    assert "below the budget" not in sentence, "twice the budget already: more of the same would not help"


def test_how_many_held_out_photographs_would_bring_the_bound_below_the_budget() -> None:
    sentence = said(steals=Proportion.of(0, 100))
    (count,) = re.findall(r"About (\d+) held-out ones would bring it below the budget of 0.5 %", sentence)
    assert wilson(0, int(count))[1] <= 0.005 < wilson(0, int(0.95 * int(count)))[1]
    assert said(steals=Proportion.of(0, 1000)) == "", "verified already"


def test_an_estimated_loss_says_what_one_image_of_each_old_category_would_measure() -> None:
    drop = BaseDrop(measured=False, source="procedural", lost=0, n=100, value=0, low=0, high=0.04)
    sentence = said(base_drop=drop)
    assert "One image of each of its 1000 categories (spec.replay) would measure it" in sentence
    assert f"none lost of 100 means at most {100 * wilson(0, 100)[1]:.1f} %" in sentence


def test_what_the_boundary_costs_is_the_most_that_evidence_can_win_back() -> None:
    sentence = said(new=Proportion.of(900, 1000))
    assert "costs the new ones 62 of 1000 test images" in sentence
    assert "90.0 % would become 96.2 %" in sentence


def test_few_images_are_said_with_what_is_known_of_their_recall() -> None:
    few = [score("rose", 2, 2, training=9, validation=1), score("moss", 0, 0, training=9, validation=1)]
    sentence = said(categories=few)
    assert "Fewer than 20 images: rose (12), moss (10)." in sentence
    now, then = wilson(2, 2), wilson(10, 10)
    assert f"2 of 2 test images are right: its recall lies between {100 * now[0]:.1f} %" in sentence
    assert f"the same share would mean between {100 * then[0]:.1f} %" in sentence


def test_few_images_without_a_test_image_say_that_nothing_is_known() -> None:
    few = [score("moss", 0, 0, training=3, validation=0)]
    assert "Not one of their images is a test image" in said(categories=few)


def test_a_wide_interval_of_the_new_accuracy_says_what_four_times_the_images_would_make_of_it() -> None:
    sentence = said(new=Proportion.of(48, 50), new_closed=Proportion.of(48, 50))
    then = wilson(192, 200)
    assert f"would mean between {100 * then[0]:.1f} % and {100 * then[1]:.1f} %" in sentence


def test_new_categories_that_are_hard_among_themselves_are_not_helped_by_evidence() -> None:
    hard = [score("rose", 10, 100), score("tulip", 99, 100)]
    sentence = said(new=Proportion.of(710, 1000), new_closed=Proportion.of(714, 1000), categories=hard)
    assert "told apart in 71.4 % of test images" in sentence
    assert "of 'rose', 'tulip' first" in sentence


def test_mode_replace_is_advised_about_its_own_images_alone() -> None:
    sentences = advice(metrics(new=Proportion.of(900, 1000), base_drop=None, steals=None), None, TEST_PERCENT)
    assert sentences == []
