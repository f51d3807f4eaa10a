"""Promises of distorted copies in a fit: they teach with their image's share, are held out with it, and judge nothing."""

from dataclasses import replace

import numpy as np
from head_values import NEW, World, nothing, world

from expansion_contract.resource import GradientDescent, Solver
from expansion_trainer.head.chain import joined
from expansion_trainer.head.evidence import Evidence
from expansion_trainer.head.fit import expand
from expansion_trainer.head.material import FOLDS, Labelled, Material, material
from expansion_trainer.head.projection import projection
from expansion_trainer.head.softmax import OLD
from expansion_trainer.head.solve import Options, solve

EACH, COPIES, SEED = 8, 2, 0


def plain(w: World) -> Labelled:
    images = w.new(EACH, 1)
    return replace(images, groups=np.arange(len(images)))


def taught(w: World) -> Labelled:
    """The same images, and COPIES of each behind them."""
    images = plain(w)
    rows = np.concatenate([np.arange(len(images)), np.repeat(np.arange(len(images)), COPIES)])
    moved = images.bottlenecks[rows] + 0.3 * np.random.default_rng(9).normal(size=(len(rows), 1))
    moved[: len(images)] = images.bottlenecks
    return Labelled(
        bottlenecks=moved.astype(np.float32),
        labels=images.labels[rows],
        groups=rows,
        is_copy=np.arange(len(rows)) >= len(images),
    )


def copied(evidence: Evidence) -> Evidence:
    noise = np.random.default_rng(8).normal(size=(len(evidence.bottlenecks), COPIES, 1))
    copies = evidence.bottlenecks[:, None, :] + 0.3 * noise
    return replace(evidence, copies=copies.astype(np.float32))


def stuff(w: World, training: Labelled, *evidence: Evidence) -> Material:
    return material(w.base, training, w.new(3, 2), evidence, (w.replay(2, 4),), SEED)


def test_what_judges_is_the_same_with_and_without_copies() -> None:
    w = world()
    without = stuff(w, plain(w), w.replay(5, 3), w.unlabelled(4, 5))
    found = stuff(w, taught(w), copied(w.replay(5, 3)), copied(w.unlabelled(4, 5)))
    assert len(found.fitted) == len(without.fitted) + COPIES * (NEW * EACH + 5 * 6 + 4 * 6)
    np.testing.assert_array_equal(found.held_out.truth, without.held_out.truth)
    np.testing.assert_array_equal(found.held_out.rivals, without.held_out.rivals)
    np.testing.assert_array_equal(found.counted, without.counted)


def test_a_copy_is_held_out_with_its_image() -> None:
    w = world()
    found = stuff(w, taught(w), copied(w.replay(5, 3)), w.unlabelled(4, 5), copied(w.unlabelled(3, 6)))
    new, replayed, loose, others = NEW * EACH, 5 * 6, 4 * 6, 3 * 6
    folds = found.folds
    own, rest = folds[:new], folds[new * (1 + COPIES) :]
    np.testing.assert_array_equal(folds[new : new * (1 + COPIES)], np.repeat(own, COPIES))
    originals, copies = rest[: replayed + loose + others], rest[replayed + loose + others :]
    with_copies = np.concatenate([originals[:replayed], originals[replayed + loose :]])
    np.testing.assert_array_equal(copies, np.repeat(with_copies, COPIES))
    for fold in range(FOLDS):
        assert (found.problem(without=fold).masses[folds == fold] == 0).all()


def test_copies_share_what_their_category_weighs() -> None:
    w = world()
    for training in (plain(w), taught(w)):
        problem = stuff(w, training, w.replay(5, 3)).problem()
        weights = np.bincount(problem.targets - OLD, weights=problem.masses)[1:]
        np.testing.assert_allclose(weights, 1 / NEW)


def test_copies_change_the_rows_and_not_the_number_that_chooses() -> None:
    w = world()
    heads = [
        expand(w.base, training, nothing(), (evidence,), (), 0.02, SEED)
        for training, evidence in (
            (plain(w), w.replay(5, 3)),
            (taught(w), w.replay(5, 3)),
            (plain(w), copied(w.replay(5, 3))),
        )
    ]
    assert {(head.chosen_on, head.steal_images) for head in heads} == {(NEW * EACH, 5 * 6)}
    assert len({head.weights.tobytes() for head in heads}) == len(heads)


def test_sums_count_an_image_once() -> None:
    w = world()
    options = Options(solver=Solver.DISCRIMINANT, steal_budget=0.02, seed=SEED)
    evidence = (w.replay(20, 3),)
    heads = [
        solve(w.base, training, w.new(3, 2), evidence, (), options) for training in (plain(w), taught(w))
    ]
    assert heads[0].weights.tobytes() == heads[1].weights.tobytes()


def test_gradient_descent_sees_copies_of_evidence() -> None:
    w = world()
    asked = GradientDescent(steps=20)
    options = Options(solver=Solver.GRADIENT_DESCENT, steal_budget=0.02, seed=SEED, gradient_descent=asked)
    heads = [
        solve(w.base, plain(w), w.new(3, 2), (evidence,), (), options)
        for evidence in (w.replay(5, 3), copied(w.replay(5, 3)))
    ]
    assert heads[0].weights.tobytes() != heads[1].weights.tobytes()


def test_a_projection_stands_beside_every_copy() -> None:
    w = world()
    drawn = projection(plain(w).bottlenecks, 16, SEED)
    (wide,) = drawn.evidence((copied(w.replay(5, 3)),))
    assert wide.copies is not None
    np.testing.assert_allclose(
        wide.copies[3, 1], drawn.beside(copied(w.replay(5, 3)).copies[3])[1], rtol=1e-6
    )


def test_copies_stay_copies_beside_earlier_categories() -> None:
    w = world()
    both = joined(plain(w), taught(w))
    assert both.is_copy is not None
    assert both.is_copy.sum() == COPIES * NEW * EACH
    assert not both.is_copy[: 2 * NEW * EACH].any()
