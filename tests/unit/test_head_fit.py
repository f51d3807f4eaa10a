"""Promises of growing a head: nothing old changes but for steals, and those are held to the budget."""

from dataclasses import replace as changed

import numpy as np
import pytest
from head_values import NEW, OLD, SIZE, World, nothing, world

from expansion_trainer.head import softmax
from expansion_trainer.head.answering import Answering
from expansion_trainer.head.calibration import Answered, temperature
from expansion_trainer.head.fit import L2_GRID, Evidence, FittedHead, Labelled, expand, replace
from expansion_trainer.head.material import FOLDS, material


def grown(w: World, *evidence: Evidence, each: int = 30, budget: float = 0.02, seed: int = 0) -> FittedHead:
    return expand(w.base, w.new(each, 1), w.new(15, 2), evidence, (), budget, seed)


def accuracy(head: FittedHead, images: Labelled, offset: int = 0) -> float:
    return float((head.logits(images.bottlenecks).argmax(axis=1) == images.labels + offset).mean())


def steals(head: FittedHead, images: Labelled) -> float:
    return float((head.logits(images.bottlenecks).argmax(axis=1) >= head.base_count).mean())


def test_base_rows_stay_bit_identical() -> None:
    w = world()
    head = grown(w, w.replay(10, 3))
    assert head.base_count == OLD
    assert head.weights.shape == (SIZE, OLD + NEW)
    assert head.weights[:, :OLD].tobytes() == w.base.weights.tobytes()
    assert head.bias[:OLD].tobytes() == w.base.bias.tobytes()


@pytest.mark.parametrize("kind", ["replay", "unlabelled"])
def test_new_categories_are_learned_and_old_ones_kept(kind: str) -> None:
    w = world()
    evidence = w.replay(30, 3) if kind == "replay" else w.unlabelled(30, 3)
    head = grown(w, evidence)
    assert accuracy(head, w.new(100, 4), OLD) > 0.95
    assert accuracy(head, w.old(100, 5)) > 0.95


def test_a_pack_s_bottlenecks_count_as_photographs() -> None:
    w = world()
    head = grown(w, changed(w.replay(10, 3), kind="pack"))
    assert head.evidence_kinds == ("pack",)
    assert head.steal_images == 10 * OLD


def test_replay_and_the_same_images_without_labels_give_the_same_new_rows() -> None:
    w = world()
    labelled, unlabelled = grown(w, w.replay(20, 3)), grown(w, w.unlabelled(20, 3))
    np.testing.assert_array_equal(labelled.weights, unlabelled.weights)


def test_the_steal_budget_holds_on_images_nobody_has_seen() -> None:
    """Crowded clusters, where new rows do steal: a tight budget must show."""
    rates = {budget: [] for budget in (0.01, 0.2)}
    for seed in range(3):
        w = world(distance=0.55, seed=seed)
        for budget, seen in rates.items():
            seen.append(steals(grown(w, w.unlabelled(60, 3), budget=budget), w.old(200, 9)))
    assert np.mean(rates[0.01]) < 0.02
    assert np.mean(rates[0.2]) > 2 * np.mean(rates[0.01])


def around_one_old_category(seed: int) -> World:
    """All new categories lie around the first old one; the others are far away."""
    means = 2.0 * np.random.default_rng(seed).normal(size=(OLD + NEW, SIZE))
    means[OLD:] = means[0] + 0.15 * (means[OLD:] - means[0])
    return World(means=means)


def test_many_pictures_of_the_one_old_category_near_the_new_ones_do_not_shut_these_out() -> None:
    """They teach, but for the boundary they count as one category of six."""
    alone, beside = [], []
    for seed in range(3):
        w = around_one_old_category(seed)
        images = w.draw(np.zeros(300, np.int64), 7)
        near = Evidence(kind="replay", bottlenecks=images, labels=np.zeros(300, np.int64))
        alone.append(accuracy(grown(w, w.unlabelled(60, 3), budget=0.05), w.new(300, 4), OLD))
        beside.append(accuracy(grown(w, near, w.unlabelled(60, 3), budget=0.05), w.new(300, 4), OLD))
    assert np.mean(beside) > np.mean(alone) - 0.02


def test_the_same_inputs_and_seed_give_the_same_head() -> None:
    w = world()
    first, second = grown(w, w.replay(5, 3)), grown(w, w.replay(5, 3))
    assert first.weights.tobytes() == second.weights.tobytes()
    assert (first.l2, first.offset, first.temperature) == (second.l2, second.offset, second.temperature)


def test_the_offset_is_folded_into_the_new_biases_only() -> None:
    w = world(distance=0.6)
    tight, loose = grown(w, w.replay(40, 3), budget=0.005), grown(w, w.replay(40, 3), budget=0.5)
    assert tight.offset < loose.offset
    if tight.l2 == loose.l2:
        np.testing.assert_allclose(
            loose.bias[OLD:] - tight.bias[OLD:], loose.offset - tight.offset, atol=1e-4
        )


def test_one_new_category_is_enough() -> None:
    w = world()
    training = w.new(20, 1)
    only = Labelled(bottlenecks=training.bottlenecks[:20], labels=training.labels[:20])
    head = expand(w.base, only, nothing(), (w.replay(10, 3),), (), 0.02, 0)
    assert head.weights.shape == (SIZE, OLD + 1)
    assert steals(head, w.old(50, 5)) < 0.1
    fresh = w.new(20, 8)
    assert accuracy(head, Labelled(bottlenecks=fresh.bottlenecks[:20], labels=fresh.labels[:20]), OLD) > 0.9


def test_a_category_with_a_single_image_gets_a_row_that_knows_it_and_is_never_held_out() -> None:
    w = world()
    training = w.new(20, 1)
    keep = np.r_[0, 20:60]
    few = Labelled(bottlenecks=training.bottlenecks[keep], labels=training.labels[keep])
    head = expand(w.base, few, nothing(), (w.replay(10, 3),), (), 0.02, 0)
    assert head.logits(few.bottlenecks[:1]).argmax() == OLD
    assert head.chosen_on == 40


def test_without_validation_images_the_choices_fall_on_training_images_answered_fold_by_fold() -> None:
    w = world()
    head = expand(w.base, w.new(20, 1), nothing(), (w.replay(10, 3),), (), 0.02, 0)
    assert head.chosen_on == 20 * NEW
    assert accuracy(head, w.new(100, 4), OLD) > 0.9


def test_without_any_evidence_nothing_is_claimed_about_steals_and_the_offset_is_not_raised() -> None:
    w = world()
    head = grown(w)
    assert head.steal_rate_validation is None
    assert head.evidence_kinds == ()
    assert head.offset <= 0


def test_procedural_images_never_raise_the_offset() -> None:
    w = world(distance=0.6)
    drawn = changed(w.unlabelled(40, 3), kind="procedural")
    assert grown(w, drawn, budget=0.5).offset <= 0
    assert grown(w, w.unlabelled(40, 3), budget=0.5).offset > 0


def test_photographs_speak_for_the_boundary_where_there_are_any() -> None:
    w = world()
    drawn = Evidence(kind="procedural", bottlenecks=w.old(50, 6).bottlenecks)
    head = grown(w, w.replay(10, 3), drawn)
    assert head.steal_images == 10 * OLD
    assert head.evidence_kinds == ("procedural", "replay")


def test_drawn_images_teach_a_tenth_of_what_photographs_do_where_there_are_any() -> None:
    w = world()
    drawn = changed(w.unlabelled(2, 6), kind="procedural")

    def masses(*evidence: Evidence) -> np.ndarray:
        found = material(w.base, w.new(3, 1), nothing(), evidence, (), 0).problem()
        return found.masses[found.targets == softmax.OLD]

    beside = masses(w.replay(1, 3), drawn)
    assert beside[OLD:] == pytest.approx(beside[0] / 10)
    assert beside.sum() == pytest.approx(masses(drawn).sum()), "all evidence together weighs the same"
    assert np.ptp(masses(drawn)) == 0


def test_calibration_evidence_is_counted_beside_the_folds() -> None:
    w = world()
    head = expand(w.base, w.new(20, 1), w.new(5, 2), (w.replay(10, 3),), (w.replay(4, 7),), 0.02, 0)
    assert head.steal_images == 14 * OLD


def test_calibration_evidence_is_not_fitted_on() -> None:
    w = world()
    one, other = (
        expand(w.base, w.new(20, 1), nothing(), (w.replay(10, 3),), (w.replay(4, seed),), 0.02, 0)
        for seed in (7, 8)
    )
    np.testing.assert_array_equal(one.weights, other.weights)


def test_every_fit_and_step_is_told() -> None:
    w, said = world(), list[str]()
    expand(w.base, w.new(10, 1), nothing(), (w.replay(10, 3),), (), 0.02, 0, watch=said.append)
    fits = len(L2_GRID) * (1 + FOLDS)
    assert said[:2] == [f"Fit 1 of at most {fits}, step {step} of at most 300" for step in (1, 2)]
    told = list(dict.fromkeys(text.partition(",")[0] for text in said))
    assert told == [f"Fit {number} of at most {fits}" for number in range(1, len(told) + 1)]
    assert len(told) % (1 + FOLDS) == 0


def test_looser_rows_are_not_fitted_once_the_boundary_has_taken_most_answers() -> None:
    """Clusters upon each other, and some of the new one among the photographs of other things: the second L2 is far worse."""
    w, said = world(distance=0.3), list[str]()
    mixed = np.concatenate([w.unlabelled(30, 3).bottlenecks, w.new(4, 9).bottlenecks])
    evidence = Evidence(kind="unlabelled", bottlenecks=mixed)
    head = expand(w.base, w.new(30, 1), w.new(15, 2), (evidence,), (), 0.02, 0, watch=said.append)
    assert said[-1].startswith(f"Fit {2 * (1 + FOLDS)} of ")
    assert head.l2 == L2_GRID[0]


def test_a_category_without_training_images_is_refused_by_its_index() -> None:
    w = world()
    training = w.new(5, 1)
    part = Labelled(bottlenecks=training.bottlenecks[:10], labels=training.labels[:10])
    with pytest.raises(ValueError, match=r"of 3 these have none: \[2\]"):
        expand(w.base, part, w.new(2, 2), (), (), 0.01, 0)


def test_replacing_makes_a_head_of_the_new_categories_alone() -> None:
    w = world()
    head = replace(w.new(30, 1), w.new(10, 2), 0)
    assert (head.base_count, head.offset, head.steal_rate_validation) == (0, 0.0, None)
    assert head.weights.shape == (SIZE, NEW)
    assert accuracy(head, w.new(100, 4)) > 0.95


def test_scaling_all_bottlenecks_and_the_base_alike_changes_no_logit() -> None:
    """One L2 grid serves backbones whose bottlenecks are of different lengths."""
    w = world()
    plain = grown(w, w.replay(10, 3))
    factor = 40.0
    base = changed(w.base, weights=w.base.weights / np.float32(factor))

    def times(images: Labelled) -> Labelled:
        return Labelled(bottlenecks=images.bottlenecks * np.float32(factor), labels=images.labels)

    replay = w.replay(10, 3)
    larger = expand(
        base,
        times(w.new(30, 1)),
        times(w.new(15, 2)),
        (changed(replay, bottlenecks=replay.bottlenecks * np.float32(factor)),),
        (),
        0.02,
        0,
    )
    images = w.new(50, 4)
    np.testing.assert_allclose(
        larger.logits(times(images).bottlenecks), plain.logits(images.bottlenecks), atol=0.05
    )


def test_without_labelled_base_images_the_new_ones_alone_do_not_set_the_temperature() -> None:
    """The base's own scores are right at 1, so the temperature stays between 1 and what would suit the new categories."""
    w = world(distance=0.5)
    boastful = changed(w.base, weights=w.base.weights * 8, bias=w.base.bias * 8)
    head = expand(boastful, w.new(10, 1), w.new(15, 2), (w.unlabelled(40, 3),), (), 0.5, 0)
    fresh = w.new(400, 4)
    suits_new = temperature([Answered(logits=head.logits(fresh.bottlenecks), labels=fresh.labels + OLD)])
    assert abs(np.log(suits_new)) > 0.2
    assert np.log(head.temperature) / np.log(suits_new) == pytest.approx(0.5, abs=0.25)


def test_the_scale_makes_up_for_what_held_out_new_images_are_less_sure_than_right() -> None:
    """Clear pictures, of which rows that were fitted on blurred ones are too unsure."""
    w = world(distance=0.5)
    clear = changed(w, spread=0.4)
    head = expand(w.base, w.new(20, 1), clear.new(100, 2), (w.replay(20, 3),), (w.replay(20, 5),), 0.02, 0)
    fresh = clear.new(1000, 4)
    right = (head.logits(fresh.bottlenecks).argmax(axis=1) == fresh.labels + OLD).mean()
    lacking = [
        right - model.probabilities(fresh.bottlenecks).max(axis=1).mean()
        for model in (Answering.of(head, head.temperature), Answering.of_head(head))
    ]
    assert 0 < lacking[1] < lacking[0] / 2
