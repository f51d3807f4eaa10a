"""Promises of retrain.py's solver: its defaults, its sampling, its curve."""

import numpy as np
from head_values import NEW, OLD, nothing, world

from expansion_contract.resource import GradientDescent
from expansion_trainer.head.fit import Labelled
from expansion_trainer.head.gradient_descent import descend, steps_between_points
from expansion_trainer.head.solved import Solved

SHORT = GradientDescent(steps=300, learning_rate=0.05, batch_size=20)


def accuracy(head: Solved, images: Labelled, first: int = 0) -> float:
    return float((head.logits(images.bottlenecks).argmax(axis=1) == images.labels + first).mean())


def test_in_mode_expand_new_categories_are_learned_against_all_logits_and_old_ones_kept() -> None:
    w = world()
    head = descend(w.base, w.new(30, 1), w.new(10, 2), (w.replay(20, 3),), (w.replay(20, 4),), SHORT, 0.02, 0)
    assert head.weights[:, :OLD].tobytes() == w.base.weights.tobytes()
    assert accuracy(head, w.new(100, 5), OLD) > 0.9
    assert accuracy(head, w.old(100, 6)) > 0.93


def test_in_mode_replace_the_whole_head_is_new() -> None:
    w = world()
    head = descend(None, w.new(30, 1), w.new(10, 2), (), (), SHORT, 0.0, 0)
    assert (head.base_count, head.weights.shape[1], head.offset) == (0, NEW, 0.0)
    assert accuracy(head, w.new(100, 5)) > 0.95


def test_the_curve_holds_what_retrain_py_printed_every_ten_steps() -> None:
    w = world()
    curve = descend(None, w.new(30, 1), w.new(10, 2), (), (), SHORT, 0.0, 0).curve
    assert [point.step for point in curve] == [*range(0, 300, 10), 299]
    assert curve[0].cross_entropy > 1.0 > curve[-1].cross_entropy
    assert curve[-1].training_accuracy > 0.9
    assert curve[-1].validation_accuracy is not None
    assert curve[-1].validation_accuracy > 0.9


def test_without_validation_images_the_curve_says_nothing_of_them() -> None:
    w = world()
    curve = descend(None, w.new(30, 1), nothing(), (), (), SHORT, 0.0, 0).curve
    assert curve[-1].validation_accuracy is None


def test_a_long_training_is_drawn_with_a_thousand_points_at_most() -> None:
    assert [steps_between_points(steps) for steps in (1, 4000, 10_000, 1_000_000)] == [10, 10, 10, 1000]


def test_a_category_of_few_images_is_drawn_as_often_as_one_of_many() -> None:
    w = world(distance=0.8)
    images = w.new(100, 1)
    kept = (images.labels > 0) | (np.arange(len(images)) < 4)
    few = Labelled(bottlenecks=images.bottlenecks[kept], labels=images.labels[kept])
    head = descend(None, few, nothing(), (), (), SHORT, 0.0, 0)
    test = w.new(200, 5)
    answers = head.logits(test.bottlenecks).argmax(axis=1)
    assert (answers == 0).mean() > 0.2


def test_the_same_seed_gives_the_same_head() -> None:
    w = world()
    heads = [
        descend(w.base, w.new(10, 1), w.new(5, 2), (w.replay(5, 3),), (), SHORT, 0.02, seed)
        for seed in (1, 1, 2)
    ]
    assert heads[0].weights.tobytes() == heads[1].weights.tobytes()
    assert heads[0].weights.tobytes() != heads[2].weights.tobytes()
