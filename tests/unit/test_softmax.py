"""Promises of the softmax regression whose base rows are frozen."""

import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from head_values import NEW, OLD, SIZE, world

from expansion_trainer.head import softmax
from expansion_trainer.head.fit import BaseHead, Labelled
from expansion_trainer.head.material import NEVER, Material, balanced_masses, deal, material
from expansion_trainer.head.softmax import Problem, Rows


def problem(l2_images: int = 12) -> Problem:
    w = world()
    return material(w.base, w.new(l2_images, 1), w.new(0, 2), [w.replay(4, 3)], [], 0).problem()


def full_loss(new: Rows, base: BaseHead, images: Labelled, masses: np.ndarray) -> float:
    """Plain cross entropy over all logits, every base logit computed."""
    logits = np.hstack([base.logits(images.bottlenecks), new.logits(images.bottlenecks)]).astype(np.float64)
    chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return float(-masses @ np.log(chances[np.arange(len(logits)), images.labels]))


def test_the_gradient_is_the_slope_of_the_loss() -> None:
    p = problem()
    random = np.random.default_rng(5)
    at, direction = random.normal(size=(2, (SIZE + 1) * NEW)) * 0.3
    step = 1e-3
    ahead, behind = (softmax.loss(at + sign * step * direction, p, 0.1)[0] for sign in (1, -1))
    assert softmax.loss(at, p, 0.1)[1] @ direction == pytest.approx((ahead - behind) / (2 * step), rel=1e-3)


def test_the_label_of_an_old_image_changes_the_loss_by_a_constant_only() -> None:
    """So replay, unlabelled photographs and drawings are fitted by one formula."""
    w = world()
    old = w.old(3, 4)
    rivals, _ = softmax.old_side(w.base, old.bottlenecks)
    masses = np.full(len(old), 0.5)
    p = Problem(
        bottlenecks=old.bottlenecks,
        rivals=rivals,
        targets=np.full(len(old), softmax.OLD),
        masses=masses,
        categories=NEW,
    )
    random = np.random.default_rng(6)
    differences = []
    for _ in range(3):
        flat = random.normal(size=(SIZE + 1, NEW)) * 0.2
        rows = Rows(weights=flat[:-1].astype(np.float32), bias=flat[-1].astype(np.float32))
        differences.append(full_loss(rows, w.base, old, masses) - softmax.loss(flat.ravel(), p, 0.0)[0])
    assert differences == pytest.approx([differences[0]] * 3, rel=1e-4)


def test_a_warm_start_only_saves_time() -> None:
    p = problem()
    stiff = softmax.fit(p, 1e-1)
    np.testing.assert_allclose(softmax.fit(p, 1e-2, stiff).weights, softmax.fit(p, 1e-2).weights, atol=2e-3)


def test_a_new_category_weighs_the_same_with_ten_images_and_with_ten_thousand() -> None:
    targets = np.array([0] * 10_000 + [1] * 10 + [softmax.OLD] * 50)
    masses = balanced_masses(targets, np.ones(len(targets)), 2)
    assert masses[targets == 0].sum() == pytest.approx(masses[targets == 1].sum())


def test_what_is_held_out_weighs_nothing() -> None:
    w = world()
    stuff: Material = material(w.base, w.new(10, 1), w.new(0, 2), [w.replay(5, 3)], [], 0)
    masses = stuff.problem(without=2).masses
    assert not masses[stuff.folds == 2].any()
    assert masses.sum() == pytest.approx(stuff.problem().masses.sum())


def test_base_logits_in_chunks_equal_base_logits_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    w = world()
    images = w.old(5, 7).bottlenecks
    whole = softmax.old_side(w.base, images)
    monkeypatch.setattr(softmax, "CHUNK", 7)
    for part, all_at_once in zip(softmax.old_side(w.base, images), whole, strict=True):
        np.testing.assert_allclose(part, all_at_once, rtol=1e-5)


def test_without_a_base_there_is_no_rival() -> None:
    rivals, best = softmax.old_side(None, np.zeros((2, SIZE), np.float32))
    assert np.isneginf(rivals).all()
    assert np.isneginf(best).all()


def test_the_base_of_these_tests_knows_its_categories() -> None:
    w = world()
    old = w.old(20, 8)
    assert (w.base.logits(old.bottlenecks).argmax(axis=1) == old.labels).mean() > 0.95
    assert len(w.base.bias) == OLD


def test_rows_are_pulled_to_the_anchor_and_a_new_one_to_zero() -> None:
    w = world()
    training, random = w.new(12, 1), np.random.default_rng(7)
    anchor = Rows(
        weights=random.normal(size=(SIZE, NEW - 1)).astype(np.float32), bias=np.zeros(NEW - 1, np.float32)
    )
    stuff = material(w.base, training, w.new(0, 2), [w.replay(4, 3)], [], 0, anchor)
    stiff = stuff.scale.undo(softmax.fit(stuff.problem(), 1e6))
    np.testing.assert_allclose(stiff.weights[:, : NEW - 1], anchor.weights, atol=1e-2)
    np.testing.assert_allclose(stiff.weights[:, NEW - 1 :], 0, atol=1e-2)


def test_the_anchor_gives_the_same_logits_on_scaled_bottlenecks() -> None:
    w = world()
    scale = material(w.base, w.new(12, 1), w.new(0, 2), [], [], 0).scale
    images = w.old(5, 4).bottlenecks
    np.testing.assert_allclose(
        scale.redo(w.base).logits(scale.apply(images)), w.base.logits(images), rtol=1e-4, atol=1e-4
    )


def test_an_image_of_half_the_weight_counts_half_in_its_category() -> None:
    masses = balanced_masses(np.array([0, 0, 1, softmax.OLD]), np.array([1.0, 0.5, 1.0, 1.0]), 2)
    assert masses[0] == pytest.approx(2 * masses[1])
    assert masses[:2].sum() == pytest.approx(masses[2])


def test_what_was_drawn_from_statistics_teaches_and_judges_nothing() -> None:
    w = world()
    training = w.new(6, 1)
    weights = np.tile([1.0, 1.0, 1.0, 0.1, 0.1, 0.1], NEW)
    drawn = Labelled(bottlenecks=training.bottlenecks, labels=training.labels, weights=weights)
    stuff = material(w.base, drawn, w.new(0, 2), [], [], 0)
    assert ((stuff.folds == NEVER) == (weights < 1)).all()
    assert (stuff.problem().masses > 0).all()


def test_copies_of_one_photograph_are_held_out_together() -> None:
    groups = np.repeat(np.arange(20), 4)
    folds = deal(np.repeat([0, 1], 40), groups, 0)
    assert all(len(set(folds[groups == group])) == 1 for group in range(20))
    assert np.bincount(folds).tolist() == [16] * 5
    assert (deal(np.zeros(4, np.int64), np.zeros(4, np.int64), 0) == NEVER).all(), "one photograph"


def many(images: int, categories: int, size: int = 8) -> Problem:
    random = np.random.default_rng(3)
    return Problem(
        bottlenecks=random.normal(size=(images, size)).astype(np.float32),
        rivals=random.normal(size=images),
        targets=np.arange(images) % (categories + 1) + softmax.OLD,
        masses=np.full(images, 1 / images),
        categories=categories,
    )


def test_images_that_are_not_computed_at_once_add_up_to_the_same_loss_and_slope() -> None:
    p = many(5000, 4096, size=2)
    assert p.categories * len(p.targets) > softmax.LOGITS
    at = np.random.default_rng(4).normal(size=3 * 4096)
    parts = [softmax.loss(at, part, 0.0) for part in (_some(p, slice(0, 2500)), _some(p, slice(2500, None)))]
    value, slope = softmax.loss(at, p, 0.0)
    assert value == pytest.approx(sum(lost for lost, _ in parts), rel=1e-9)
    np.testing.assert_allclose(slope, parts[0][1] + parts[1][1], atol=1e-6)


def test_how_many_threads_there_are_changes_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    p = many(3000, 256, size=2)
    assert p.categories * len(p.targets) > softmax.FEW_LOGITS
    at = np.random.default_rng(4).normal(size=3 * 256)
    value, slope = softmax.loss(at, p, 0.1)
    monkeypatch.setattr(softmax, "ThreadPoolExecutor", lambda _: ThreadPoolExecutor(1))
    alone, slope_alone = softmax.loss(at, p, 0.1)
    assert (alone, slope_alone.tobytes()) == (value, slope.tobytes())


def test_images_that_weigh_nothing_cost_nothing_where_there_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    p, asked, loss = many(3000, 256, size=2), set[int](), softmax.loss

    def counted(flat: softmax.Doubles, seen: Problem, l2: float) -> tuple[float, softmax.Doubles]:
        asked.add(len(seen.targets))
        return loss(flat, seen, l2)

    monkeypatch.setattr(softmax, "loss", counted)
    held_out = replace(p, masses=np.where(np.arange(3000) % 5, p.masses, 0.0))
    found, alone = softmax.fit(held_out, 1e-2), softmax.fit(held_out.without_weightless(), 1e-2)
    assert asked == {2400}
    np.testing.assert_array_equal(found.weights, alone.weights)


def test_every_step_is_told() -> None:
    heard: list[int] = []
    softmax.fit(many(200, 3), 1e-3, watch=heard.append)
    assert heard == list(range(1, len(heard) + 1))
    assert 2 < len(heard) <= softmax.OPTIONS["maxiter"]


def _some(p: Problem, rows: slice) -> Problem:
    return replace(
        p,
        bottlenecks=p.bottlenecks[rows],
        rivals=p.rivals[rows],
        targets=p.targets[rows],
        masses=p.masses[rows],
    )


def test_ten_thousand_categories_of_two_images_are_fitted_in_bounded_memory() -> None:
    """All logits at once would be three arrays of 1.6 GB, and twenty remembered steps at 1280 numbers for each bottleneck 4.6 GB."""
    p = many(20_000, 10_000)
    at = np.zeros(9 * 10_000)
    tracemalloc.start()
    softmax.loss(at, p, 1e-3)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 600e6
    weights = (1280 + 1) * 10_000
    assert 8 * weights * (2 * softmax._remembered(weights) + 5) < 2 * 2**30
    assert softmax._remembered(1281 * 1000) == softmax.MOST_STEPS
