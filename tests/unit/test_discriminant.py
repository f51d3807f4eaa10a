"""Promises of the rows in closed form: any order of arrival gives the same ones, and what cannot be placed is refused by name."""

from dataclasses import replace

import numpy as np
import pytest
from head_values import NEW, OLD, World, nothing, world

from expansion_trainer.errors import InvalidRun
from expansion_trainer.head import discriminant, statistics
from expansion_trainer.head.discriminant import Asked, discriminate
from expansion_trainer.head.evidence import Evidence
from expansion_trainer.head.fit import Labelled
from expansion_trainer.head.solved import Solved
from expansion_trainer.head.statistics import Statistics

ASKED = Asked(categories=NEW, steal_budget=0.02, seed=0)


def known(w: World, each: int = 30, seed: int = 1) -> Statistics:
    images = w.new(each, seed)
    return statistics.of(images.bottlenecks, images.labels, NEW)


def placed(w: World, sums: Statistics, *evidence: Evidence, judges: Labelled | None = None) -> Solved:
    chosen_on = w.new(10, 2) if judges is None else judges
    return discriminate(w.base, sums, chosen_on, evidence or (w.replay(30, 3),), (), ASKED)


def accuracy(head: Solved, images: Labelled, first: int = 0) -> float:
    return float((head.logits(images.bottlenecks).argmax(axis=1) == images.labels + first).mean())


def test_new_categories_are_learned_and_old_ones_kept() -> None:
    w = world()
    head = placed(w, known(w))
    assert accuracy(head, w.new(100, 4), OLD) > 0.95
    assert accuracy(head, w.old(100, 5)) > 0.93


def test_base_rows_stay_bit_identical() -> None:
    w = world()
    head = placed(w, known(w))
    assert head.weights[:, :OLD].tobytes() == w.base.weights.tobytes()
    assert head.bias[:OLD].tobytes() == w.base.bias.tobytes()


def test_categories_that_arrive_one_by_one_get_the_rows_of_categories_that_arrive_together() -> None:
    w = world(distance=0.6)
    images = w.new(30, 1)
    together = statistics.of(images.bottlenecks, images.labels, NEW)
    one_by_one = statistics.empty(0, images.bottlenecks.shape[1])
    for category in range(NEW):
        own = images.bottlenecks[images.labels == category]
        step = statistics.of(own, np.zeros(len(own), np.int64), 1)
        one_by_one = statistics.appended(one_by_one, step)
    first, second = placed(w, together), placed(w, one_by_one)
    np.testing.assert_allclose(first.weights, second.weights, atol=1e-5)
    np.testing.assert_allclose(first.bias, second.bias, atol=1e-4)
    assert first.settings == second.settings


def test_another_order_of_arrival_is_another_order_of_columns_and_nothing_else() -> None:
    w = world(distance=0.6)
    order = np.array([2, 0, 1])
    images, judges, test = w.new(30, 1), w.new(10, 2), w.new(200, 4)
    moved = replace(judges, labels=np.argsort(order)[judges.labels])
    sums = statistics.of(images.bottlenecks, np.argsort(order)[images.labels], NEW)
    straight = placed(w, known(w), judges=judges).logits(test.bottlenecks)
    turned = placed(w, sums, judges=moved).logits(test.bottlenecks)
    np.testing.assert_allclose(straight[:, OLD:][:, order], turned[:, OLD:], atol=1e-3)


def test_sums_of_other_categories_in_front_move_no_added_row_of_the_same_spread() -> None:
    """A pack's sums begin with the base's categories; the added ones are the last."""
    w = world()
    longer = statistics.appended(statistics.empty(OLD, len(w.base.weights)), known(w))
    np.testing.assert_allclose(placed(w, longer).weights, placed(w, known(w)).weights, atol=1e-5)


def test_the_steal_budget_holds_on_images_nobody_has_seen() -> None:
    """In a crowded world, where the photographs that make the covariance must also say what offset is safe."""
    stolen = []
    for seed in range(4):
        w = world(distance=0.5, seed=seed)
        head = placed(w, known(w), w.unlabelled(60, 3))
        stolen.append((head.logits(w.old(300, 9).bottlenecks).argmax(axis=1) >= OLD).mean())
    assert 0.002 < np.mean(stolen) < 0.03


def test_a_photograph_answers_as_if_it_had_been_left_out_of_the_covariance() -> None:
    random = np.random.default_rng(0)
    photographs, means = random.normal(size=(40, 6)), random.normal(size=(2, 6))
    pull = 0.02
    whole = np.eye(6) + pull * photographs.T @ photographs
    variances, axes = np.linalg.eigh(whole)
    along, inverse = photographs @ axes, 1 / variances
    found = discriminant._left_out(along, ((means @ axes) * inverse).T, inverse, pull, 1.0)
    for image, scores in zip(photographs, found, strict=True):
        without = np.linalg.inv(whole - pull * np.outer(image, image))
        grown = np.einsum("ud,de,ue->u", means, without - np.linalg.inv(whole), means)
        np.testing.assert_allclose(scores, means @ without @ image - grown / 2, atol=1e-9)


def test_few_photographs_are_refused_with_the_remedy() -> None:
    w = world()
    few = (w.replay(8, 3), replace(w.unlabelled(50, 4), kind="procedural"))
    with pytest.raises(InvalidRun, match=r"needs 50 photographs.*there are 48.*spec\.unlabelled.*Softmax"):
        placed(w, known(w), *few)


def test_a_category_of_few_images_is_not_punished_for_it() -> None:
    """Its mean is far from the truth by chance, which must not cost it its images."""
    recalls = []
    for seed in range(4):
        w = world(distance=0.7, seed=seed)
        images = w.new(60, 1)
        kept = (images.labels > 0) | (np.arange(len(images)) < 3)
        sums = statistics.of(images.bottlenecks[kept], images.labels[kept], NEW)
        test = w.new(200, 4)
        answers = placed(w, sums).logits(test.bottlenecks)[:, OLD:].argmax(axis=1)
        recalls.append((answers == 0)[test.labels == 0].mean())
    assert np.mean(recalls) > 0.7


def test_without_images_to_choose_by_it_still_places_them() -> None:
    w = world()
    head = placed(w, known(w), judges=nothing())
    assert head.chosen_on == 0
    assert accuracy(head, w.new(100, 4), OLD) > 0.9


def test_one_image_of_each_category_is_enough_to_place_them() -> None:
    w = world(distance=2.0)
    assert accuracy(placed(w, known(w, each=1)), w.new(100, 4), OLD) > 0.8
