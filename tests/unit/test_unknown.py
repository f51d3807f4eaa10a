"""Promises of the detector of unknown pictures: it keeps its word on known ones, and falls for few of the others."""

from dataclasses import replace as changed

import numpy as np
import pytest
from head_values import NEW, OLD, SIZE, World, nothing, world

from expansion_contract.report import Category
from expansion_trainer.columns import columns
from expansion_trainer.head import detection, refits, statistics, unknown
from expansion_trainer.head.answering import Answering
from expansion_trainer.head.detection import Detection, Given
from expansion_trainer.head.fit import Evidence, Labelled, expand, replace
from expansion_trainer.head.refits import Fitting
from expansion_trainer.head.unknown import FEW, UNKNOWN, HeldOut, Known, Trial

W = world(distance=1.2)
COVERAGE = 0.9


def fitting(world: World = W, each: int = 20) -> Fitting:
    evidence = (world.replay(20, 3),)
    training = world.new(each, 1)
    head = expand(world.base, training, world.new(10, 2), evidence, (), 0.05, 0)
    return Fitting(head=head, base=world.base, training=training, evidence=evidence, seed=0)


@pytest.fixture(scope="module")
def fitted() -> Fitting:
    return fitting()


def given(fitted: Fitting, world: World = W, validation: int = 40, replayed: int = 20) -> Given:
    calibration = (world.replay(replayed, 5),) if replayed else ()
    return detection.given(fitted, world.new(validation, 4), calibration, COVERAGE)


@pytest.fixture(scope="module")
def found(fitted: Fitting) -> Detection:
    made = detection.detection(given(fitted))
    assert made is not None
    return made


def logits(fitted: Fitting, bottlenecks: np.ndarray) -> np.ndarray:
    return Answering.of_head(fitted.head).logits(bottlenecks)


def strangers(each: int, seed: int, distance: float = 1.2) -> np.ndarray:
    """Of categories that nobody has ever seen."""
    other = world(distance, seed=99)
    return other.draw(np.repeat(np.arange(OLD + NEW), each), seed)


def test_known_images_are_let_through_as_often_as_was_asked(found: Detection, fitted: Fitting) -> None:
    images = np.concatenate([W.old(200, 11).bottlenecks, W.new(200, 12).bottlenecks])
    outcomes = found.detector.outcomes(images, logits(fitted, images))
    assert COVERAGE - 0.05 < (outcomes != UNKNOWN).mean() < COVERAGE + 0.05


def test_more_coverage_means_fewer_unknown(fitted: Fitting) -> None:
    images, shares = strangers(20, 1), []
    for coverage in (0.5, 0.8, 0.95):
        made = detection.detection(changed(given(fitted), coverage=coverage))
        assert made
        shares.append((made.detector.outcomes(images, logits(fitted, images)) == UNKNOWN).mean())
    assert shares == sorted(shares, reverse=True)
    assert shares[0] > shares[-1]


def test_images_of_nothing_known_score_lower(found: Detection, fitted: Fitting) -> None:
    known, strange = W.new(50, 12).bottlenecks, strangers(30, 1)
    numbers = [found.detector.scores(images, logits(fitted, images)) for images in (known, strange)]
    assert unknown.auroc(*numbers) > 0.8
    assert all((part >= 0).all() and (part <= 1).all() for part in numbers)


def test_an_unsure_answer_is_less_sure_than_nearly_all_right_ones(found: Detection, fitted: Fitting) -> None:
    images = W.new(200, 12)
    z = logits(fitted, images.bottlenecks)
    sure = found.detector.levels[1].sure
    highest = np.exp(z - z.max(axis=1, keepdims=True))
    highest = highest.max(axis=1) / highest.sum(axis=1)
    right = z.argmax(axis=1) == images.labels + OLD
    assert (highest[right] >= sure).mean() > COVERAGE - 0.05
    outcomes = found.detector.outcomes(images.bottlenecks, z)
    assert set(np.unique(outcomes[highest < sure])) <= {unknown.UNSURE, UNKNOWN}


def test_the_method_that_tells_left_out_categories_best_is_chosen(found: Detection) -> None:
    """By a hair's breadth it is Gen all the same, so that the noise of few images does not choose."""
    assert len(found.tried) >= 3
    by_method = {one.method: one.auroc for one in found.tried}
    best = max(by_method, key=lambda method: by_method[method])
    assert found.detector.method == (best if by_method[best] > by_method["Gen"] + unknown.CLEARLY else "Gen")
    assert found.left_out == NEW * (20 + 40), "every new image was a stranger once"


def test_what_is_clearly_better_than_gen_is_chosen() -> None:
    """One answer for sure and one torn between two: the highest probability tells them, the highest logit does not."""
    known = known_as(np.array([[9.0, 0.0, 0.0]] * 20))
    torn = known_as(np.array([[9.5, 9.5, 0.0]] * 20))
    trial = Trial(known=known, strangers=torn, photographs=none_of(3), space=None)
    method, tried = unknown.chosen([trial], np.arange(3), None)
    by_method = {one.method: one.auroc for one in tried}
    assert (method, by_method["Energy"], by_method["MaxProbability"]) == ("Gen", 0.0, 1.0)
    loud = known_as(np.array([[90.0, 80.0, 80.0, 70.0]] * 20))
    quiet = known_as(np.array([[9.0, -9.0, -9.0, -9.0]] * 20))
    trial = Trial(known=loud, strangers=quiet, photographs=none_of(4), space=None)
    assert unknown.chosen([trial], np.arange(4), None)[0] == "Energy"


def test_distances_are_tried_only_where_they_can_be_taken_in_every_trial() -> None:
    """Of two categories one is left when the other is left out: there is nothing between categories then."""
    known = known_as(np.array([[9.0, 0.0, 0.0]] * 20))
    torn = known_as(np.array([[9.5, 9.5, 0.0]] * 20))
    trial = Trial(known=known, strangers=torn, photographs=none_of(3), space=None)
    images = np.random.default_rng(0).normal(size=(60, SIZE)).astype(np.float32)
    place = unknown.space(statistics.of(images, np.repeat([0, 1, 2], 20), 3))
    _, tried = unknown.chosen([trial], np.arange(3), place)
    assert "RelativeMahalanobis" not in {one.method for one in tried}


def test_photographs_choose_the_method_where_no_base_image_is_labelled(fitted: Fitting) -> None:
    """Among new images alone the method would be chosen for a tenth of what the model is asked."""
    photographs = Evidence(kind="unlabelled", bottlenecks=W.old(30, 5).bottlenecks)
    with_them, without = (
        detection.detection(detection.given(fitted, W.new(40, 4), calibration, COVERAGE))
        for calibration in ((photographs,), ())
    )
    assert with_them
    assert without
    assert [one.auroc for one in with_them.tried] != [one.auroc for one in without.tried]


def known_as(logits: np.ndarray) -> Known:
    n = len(logits)
    return Known(
        bottlenecks=np.zeros((n, 2), np.float32),
        logits=logits.astype(np.float32),
        truth=np.zeros(n, np.int64),
    )


def none_of(categories: int) -> Known:
    return known_as(np.zeros((0, categories)))


def test_a_left_out_category_leaves_no_trace_in_the_head_that_left_it_out(fitted: Fitting) -> None:
    """The same heads come out whatever its images show. So nothing that is measured with them has been seen."""
    first, others = next(iter(refits.turns(fitted))), fitted.training
    moved = np.isin(others.labels, first.left_out)
    elsewhere = np.where(moved[:, None], others.bottlenecks[::-1] * 3, others.bottlenecks)
    training = changed(others, bottlenecks=elsewhere.astype(np.float32))
    again = next(iter(refits.turns(changed(fitted, training=training))))
    np.testing.assert_array_equal(first.rows.weights, again.rows.weights)
    columns = OLD + first.left_out
    assert (fitted.head.logits(others.bottlenecks)[:, columns] > -np.inf).all()
    assert (first.rows.logits(others.bottlenecks)[:, columns] == -np.inf).all()


def test_images_that_stand_for_new_ones_were_not_fitted_on(fitted: Fitting) -> None:
    for turn in refits.turns(fitted):
        assert np.isin(turn.aside.labels, turn.kept).all()
        assert len(turn.aside) > 0
    images, answered = refits.crossed(fitted)
    assert len(images) == len(fitted.training)
    own = fitted.head.logits(images.bottlenecks)
    rows, columns = np.arange(len(images)), OLD + images.labels
    assert answered[rows, columns].mean() < own[rows, columns].mean(), (
        "a head is surer of what it was fitted on"
    )


def test_every_new_category_is_left_out_once(fitted: Fitting) -> None:
    left_out = np.concatenate([turn.left_out for turn in refits.turns(fitted)])
    assert sorted(left_out.tolist()) == list(range(NEW))


def test_of_very_many_categories_and_images_a_part_is_taken() -> None:
    labels = np.repeat(np.arange(3), 200)
    images = Labelled(bottlenecks=np.zeros((600, 2), np.float32), labels=labels)
    some = refits.some(images, np.array([0, 2]), 0)
    assert np.bincount(some.labels).tolist() == [refits.MOST_IMAGES, refits.MOST_IMAGES]


def test_a_single_new_category_cannot_be_left_out_and_still_has_a_detector() -> None:
    one = Labelled(bottlenecks=W.new(30, 1).bottlenecks[:30], labels=np.zeros(30, np.int64))
    evidence = (W.replay(20, 3),)
    head = expand(W.base, one, nothing(), evidence, (), 0.05, 0)
    made = detection.detection(
        detection.given(
            Fitting(head=head, base=W.base, training=one, evidence=evidence, seed=0), nothing(), (), COVERAGE
        )
    )
    assert made
    assert (made.detector.method, made.tried, made.left_out, made.turns) == ("Gen", (), 0, ())


def test_every_index_belongs_to_the_group_of_its_category(fitted: Fitting) -> None:
    """A retired category keeps its index, so today's columns stand elsewhere than they were fitted."""
    base = tuple(Category(index=index, name=f"old {index}", group="base") for index in range(OLD))
    made = columns(base, ["ash", "birch", "cedar"], given=("gone", "cedar"))
    answering = Answering.of_head(fitted.head, made)
    found = detection.given(fitted, W.new(40, 4), (), COVERAGE, answering, made.fitted_answers_as)
    assert found.groups.tolist() == [0 if c.group == "base" else 1 for c in made.categories]
    assert len(found.groups) == OLD + NEW + 1
    made_detector = detection.detection(found)
    assert made_detector
    assert len(made_detector.turns) == NEW


def test_without_any_held_out_image_there_is_no_detector() -> None:
    """One image of each category: all are fitted on."""
    single = W.new(1, 1)
    head = expand(W.base, single, nothing(), (W.replay(5, 3),), (), 0.05, 0)
    made = Fitting(head=head, base=W.base, training=single, evidence=(W.replay(5, 3),), seed=0)
    assert detection.detection(detection.given(made, nothing(), (), COVERAGE)) is None


def test_a_model_without_a_base_goes_by_its_own_statistics_if_they_serve_better() -> None:
    training, validation = W.new(20, 1), W.new(30, 2)
    head = replace(training, validation, 0)
    made = detection.detection(
        detection.given(
            Fitting(head=head, base=None, training=training, evidence=(), seed=0), validation, (), COVERAGE
        )
    )
    assert made
    assert "RelativeMahalanobis" in {one.method for one in made.tried}


def test_statistics_of_single_images_are_not_trusted(fitted: Fitting) -> None:
    """One image says where a category is, not how far its images go."""
    single = statistics.of(W.old(1, 3).bottlenecks, W.old(1, 3).labels, OLD)
    many = statistics.of(W.old(20, 3).bottlenecks, W.old(20, 3).labels, OLD)
    own = statistics.of(fitted.training.bottlenecks, fitted.training.labels, NEW)
    for base, tried in ((single, False), (many, True)):
        known = changed(given(fitted), statistics=statistics.appended(base, own))
        made = detection.detection(known)
        assert made
        assert ("RelativeMahalanobis" in {one.method for one in made.tried}) == tried


# Relative Mahalanobis


def test_the_few_directions_give_the_distances_of_all_of_them() -> None:
    images = W.old(30, 3)
    known = statistics.of(unknown.unit(images.bottlenecks), images.labels, OLD)
    place = unknown.space(known)
    assert place
    assert place.directions.shape == (SIZE, OLD - 1)
    asked = strangers(3, 1)
    np.testing.assert_allclose(
        centred(place.closeness(asked)), centred(plain_closeness(known, unknown.unit(asked))), atol=1e-3
    )


def centred(numbers: np.ndarray) -> np.ndarray:
    return numbers - numbers.mean()


def plain_closeness(known: statistics.Statistics, x: np.ndarray) -> np.ndarray:
    """By the definition, with full covariances."""
    squares = np.square(known.means).sum(axis=1) + known.variances.sum(axis=1)
    means = known.means / np.sqrt(squares)[:, None]
    within = known.within / squares.mean()
    within = (1 - unknown.SHRINKAGE) * within + unknown.SHRINKAGE * np.trace(within) / SIZE * np.eye(SIZE)
    apart = means - means.mean(axis=0)
    total = within + apart.T @ apart / len(means)
    to_each = np.stack([mahalanobis(x - mean, within) for mean in means])
    return -to_each.min(axis=0) + mahalanobis(x - means.mean(axis=0), total)


def mahalanobis(x: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    return np.einsum("ij,jk,ik->i", x, np.linalg.inv(covariance), x)


def test_statistics_without_a_second_image_make_no_space() -> None:
    images = W.old(1, 3)
    assert unknown.space(statistics.of(images.bottlenecks, images.labels, OLD)) is None


# Levels


def held_out(n: int, group: int = 0, seed: int = 0) -> HeldOut:
    numbers = np.random.default_rng(seed).normal(size=n)
    same = np.full(n, group)
    return HeldOut(
        numbers=numbers, highest=np.full(n, 0.9), group=same, belongs=same, right=np.ones(n, dtype=bool)
    )


def joined(*parts: HeldOut) -> HeldOut:
    names = ("numbers", "highest", "group", "belongs", "right")
    return HeldOut(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in names})


@pytest.mark.parametrize("n", [FEW, 500, 5000])
def test_the_next_known_image_falls_below_a_level_no_oftener_than_it_says(n: int) -> None:
    below = []
    for seed in range(400):
        level = unknown.level(held_out(n, seed=seed), 0.9, "own")
        below.append(level.of(np.random.default_rng(10_000 + seed).normal(size=50)) < 0.1)
    assert 0.08 < np.mean(below) < 0.115


def test_levels_rise_with_the_number_on_both_sides_of_what_was_seen() -> None:
    level = unknown.level(held_out(200), 0.9, "own")
    shares = level.of(np.linspace(-30, 30, 500))
    assert (np.diff(shares) >= 0).all()
    assert 0 <= shares[0] < shares[250] < shares[-1] <= 1
    assert np.diff(level.of(np.array([-9.0, -8.0])))[0] > 0


def test_a_group_with_few_images_shares_the_level_of_all() -> None:
    few, many = held_out(FEW - 1, 1), held_out(FEW, 0)
    first, second = unknown.levels(joined(many, few), np.zeros(0), 2, COVERAGE)
    assert (first.source, first.images) == ("own", FEW)
    assert (second.source, second.images) == ("pooled", 2 * FEW - 1)


def test_a_group_of_which_nothing_is_held_out_goes_by_drawn_pictures() -> None:
    """Never by the other groups: their images may look ten times more familiar."""
    drawn = np.linspace(-1, 1, 100)
    base, new = unknown.levels(held_out(FEW, 1), drawn, 2, COVERAGE)
    assert (base.source, base.images) == ("drawn", 100)
    assert new.source == "own"
    assert base.of(np.array([np.quantile(drawn, 0.3)]))[0] == pytest.approx(0.05, abs=0.005)


def test_an_answer_by_mistake_is_no_image_of_its_group() -> None:
    mistaken = changed(held_out(3, 0), belongs=np.ones(3, np.int64))
    base, _ = unknown.levels(joined(held_out(FEW, 1), mistaken), np.linspace(-1, 1, 100), 2, COVERAGE)
    assert base.source == "drawn"


def test_photographs_without_a_label_set_no_level(fitted: Fitting) -> None:
    """They may show anything, so they are no images of what the model knows."""
    images = Evidence(kind="unlabelled", bottlenecks=strangers(20, 1))
    with_them, without = (
        detection.detection(detection.given(fitted, W.new(40, 4), calibration, COVERAGE))
        for calibration in ((images,), ())
    )
    assert with_them
    assert without
    for one, other in zip(with_them.detector.levels, without.detector.levels, strict=True):
        assert (one.source, one.images) == (other.source, other.images)


def test_the_answer_to_an_image_does_not_depend_on_its_company(found: Detection, fitted: Fitting) -> None:
    images = strangers(10, 3)
    z = logits(fitted, images)
    np.testing.assert_allclose(
        found.detector.scores(images[:3], z[:3]), found.detector.scores(images, z)[:3], rtol=1e-9
    )


def test_the_state_is_plain_arrays(found: Detection) -> None:
    state = found.detector.state()
    assert all(isinstance(value, np.ndarray) and value.dtype != object for value in state.values())
