"""Promises of the boundary between old and new, of the temperature, and of the scale."""

from dataclasses import replace
from math import inf
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from expansion_trainer.head import calibration
from expansion_trainer.head.answering import Answering
from expansion_trainer.head.calibration import (
    Answered,
    Gaps,
    allowed,
    ceiling,
    halfway,
    offset,
    reserve,
    thrifty,
)
from expansion_trainer.head.softmax import Doubles, Rows


def gaps(new: object, bystanders: object, photographs: bool = True, **more: Any) -> Gaps:
    return Gaps(
        new=np.asarray(new, np.float64),
        bystanders=np.asarray(bystanders, np.float64),
        photographs=photographs,
        **more,
    )


SOLID = np.linspace(5, 9, 500)
"""Gaps of new images far on the right side."""


@pytest.mark.parametrize(
    ("n", "rate", "expected"),
    [
        pytest.param(199, 0.005, 0, id="just enough images to allow none"),
        pytest.param(198, 0.005, -1, id="one too few"),
        pytest.param(1000, 0.005, 4, id="one less than the plain quantile"),
        pytest.param(0, 0.005, -1, id="nothing seen"),
    ],
)
def test_how_many_may_go_wrong_is_chosen_for_the_next_image(n: int, rate: float, expected: int) -> None:
    assert allowed(n, rate) == expected


def test_the_next_image_is_stolen_no_more_often_than_the_budget_says() -> None:
    random = np.random.default_rng(0)
    stolen = [random.normal() + ceiling(gaps(SOLID, random.normal(size=120)), 0.05) > 0 for _ in range(4000)]
    assert np.mean(stolen) < 0.05 + 3 * np.sqrt(0.05 * 0.95 / 4000)
    assert np.mean(stolen) > 0.03, "and the budget is used"


@given(
    bystanders=st.lists(st.floats(-20, 20), min_size=1, max_size=60),
    budget=st.floats(0.001, 0.5),
    photographs=st.booleans(),
)
def test_the_steals_that_were_seen_never_exceed_the_budget(
    bystanders: list[float], budget: float, photographs: bool
) -> None:
    g = gaps(SOLID, bystanders, photographs)
    assert g.steals(offset(g, budget)) <= budget * len(bystanders)


def of_two_kinds(random: np.random.Generator, near: int, far: int) -> Doubles:
    """Gaps: of the near old categories, which are a fifth of the base, and of the others."""
    return np.concatenate([random.normal(size=near), random.normal(-4, size=far)])


def test_the_budget_is_kept_and_used_where_near_categories_were_asked_for() -> None:
    """A fair sample of 200, and 160 more of the near categories."""
    random, budget = np.random.default_rng(0), 0.01
    weights = np.repeat([0.2 / 200, 0.8 / 160], [200, 160])
    stolen = []
    for _ in range(400):
        seen = gaps(SOLID, of_two_kinds(random, 200, 160), weights=weights / weights.max())
        stolen.append(np.mean(of_two_kinds(random, 400, 1600) + ceiling(seen, budget) > 0))
    assert 0.8 * budget < np.mean(stolen) < 1.05 * budget, "met on average"


@given(
    bystanders=st.lists(st.tuples(st.floats(-20, 20), st.floats(0.05, 1.0)), min_size=1, max_size=60),
    budget=st.floats(0.001, 0.5),
)
def test_the_weight_that_was_seen_stolen_never_exceeds_the_budget(
    bystanders: list[tuple[float, float]], budget: float
) -> None:
    seen, weights = np.array(bystanders).T
    g = gaps(SOLID, seen, weights=weights / weights.max())
    rate = g.steal_rate(offset(g, budget))
    assert rate is not None
    assert rate <= budget + 1e-9


def test_only_enough_photographs_raise_the_offset() -> None:
    safe = np.full(400, -6.0)
    assert ceiling(gaps(SOLID, safe), 0.01) == 6.0
    assert ceiling(gaps(SOLID, safe, photographs=False), 0.01) == 0.0
    assert ceiling(gaps(SOLID, safe[:50]), 0.01) == 0.0
    assert ceiling(gaps(SOLID, []), 0.01) == 0.0


def test_what_the_budget_has_left_is_used_between_two_photographs() -> None:
    """Of 301 images at most 1.505 may be stolen, the next one among them: half of the way from the worst to the second."""
    seen = np.concatenate([[4.0, 2.0], np.full(298, -9.0)])
    assert ceiling(gaps(SOLID, seen), 0.005) == pytest.approx(-2.99)
    assert ceiling(gaps(SOLID, seen[:199]), 0.005) == -4.0, "199 images allow none"


def test_a_photograph_counts_as_much_as_it_weighs() -> None:
    seen, weights = np.concatenate([[5.0, 4.0], np.full(398, -9.0)]), np.ones(400)
    even = ceiling(gaps(SOLID, seen), 0.005)
    weights[:2] = 0.1
    assert ceiling(gaps(SOLID, seen, weights=weights), 0.005) > even + 5
    assert gaps(SOLID, seen, weights=weights).steal_rate(0.0) == pytest.approx(0.2 / 398.2)


def test_without_photographs_the_offset_keeps_a_reserve() -> None:
    safe = np.full(400, -6.0)
    assert ceiling(gaps(SOLID, safe, photographs=False, reserve=1.5), 0.005) == -1.5
    assert ceiling(gaps(SOLID, safe, reserve=1.5), 0.005) == 6.0, "photographs know better"


def test_the_reserve_grows_with_the_likeness_of_old_and_new_and_with_the_looseness_of_rows() -> None:
    sure, unsure = (np.log([[top, 1 - top]]).max(axis=1) for top in (0.9, 0.5))
    rivals = np.zeros(1)
    assert reserve(sure, rivals) > reserve(unsure, rivals) > 0
    assert reserve(sure, rivals, 1e-5) > reserve(sure, rivals, 1e-4) > reserve(sure, rivals, 1e-3) >= 0
    assert reserve(np.full(3, -inf), np.full(3, -inf)) == 0.0, "there is no base"


def test_procedural_images_may_lower_it() -> None:
    assert ceiling(gaps(SOLID, np.full(400, 2.0), photographs=False), 0.01) == -2.0


def test_an_offset_is_lowered_while_that_costs_new_images_next_to_nothing() -> None:
    g = gaps(SOLID, np.full(400, -1.0))
    chosen = offset(g, 0.01)
    assert chosen < ceiling(g, 0.01)
    assert np.mean(g.new + chosen <= 0) <= calibration.COST


def test_it_is_not_lowered_beyond_what_makes_old_images_safe() -> None:
    g = gaps(np.linspace(50, 90, 500), np.full(400, -1.0))
    assert offset(g, 0.01) == 1.0 - calibration.MARGIN


def test_few_new_images_cannot_say_what_lowering_costs() -> None:
    assert thrifty(gaps(SOLID[:50], [])) == inf


def scaled(temperature: float, n: int = 4000) -> Answered:
    """Logits that are right after division by `temperature`."""
    random = np.random.default_rng(1)
    honest = random.normal(size=(n, 5)) * 2
    labels = (honest + random.gumbel(size=honest.shape)).argmax(axis=1)
    return Answered(logits=(honest * temperature).astype(np.float32), labels=labels)


@pytest.mark.parametrize("truth", [0.5, 1.0, 3.0])
def test_temperature_is_recovered(truth: float) -> None:
    assert calibration.temperature([scaled(truth)]) == pytest.approx(truth, rel=0.06)


def test_a_large_group_does_not_outvote_a_small_one() -> None:
    even = calibration.temperature([scaled(2.0, 2000), scaled(0.5, 2000)])
    assert calibration.temperature([scaled(2.0, 8000), scaled(0.5, 1000)]) == pytest.approx(even, rel=0.15)


def beside(n: int = 4000) -> Answered:
    """Images of two new categories beside three old ones, of which the boundary gives some to the old ones."""
    random = np.random.default_rng(2)
    labels = 3 + random.integers(2, size=n)
    logits = random.normal(size=(n, 5)) + 2.5 * np.eye(5)[labels] - [0, 0, 0, 1, 1]
    return Answered(logits=logits.astype(np.float32), labels=labels)


def mean_score(images: Answered, scale: float, temperature: float) -> float:
    """As the model that is exported gives it."""
    rows = Rows(weights=np.eye(5, dtype=np.float32), bias=np.zeros(5, np.float32))
    model = replace(Answering.of(rows, temperature), scale=scale, frozen=3)
    return float(model.probabilities(images.logits).max(axis=1).mean())


def share_right(images: Answered) -> float:
    return float((images.logits.argmax(axis=1) == images.labels).mean())


@pytest.mark.parametrize("temperature", [1.0, 1.5])
def test_the_scale_makes_new_images_as_sure_as_they_are_right(temperature: float) -> None:
    images, right = beside(), share_right(beside())
    assert mean_score(images, 1.0, temperature) < right - 0.02
    found = calibration.scale(images, 3, temperature)
    assert mean_score(images, found, temperature) == pytest.approx(right, abs=0.005)


def test_a_scale_makes_nothing_less_sure() -> None:
    """Rows fitted without a fold are right less often than those that are exported."""
    images = beside()
    assert mean_score(images, 1.0, 0.4) > share_right(images) + 0.02
    assert calibration.scale(images, 3, 0.4) == 1.0


def test_what_may_be_chance_moves_no_scale() -> None:
    few = beside(25)
    assert mean_score(few, 1.0, 1.0) < share_right(few)
    assert calibration.scale(few, 3, 1.0) == 1.0
    assert calibration.scale(beside(0), 3, 1.0) == 1.0


def test_the_scale_is_found_at_the_temperature_and_is_nothing_without_a_base() -> None:
    nothing = beside(0)
    found = calibration.sureness(beside(), nothing, 3)
    assert found.temperature == halfway(calibration.temperature([beside()]))
    assert found.scale == calibration.scale(beside(), 3, found.temperature)
    alone = calibration.sureness(scaled(2.0), nothing, 0)
    assert (alone.temperature, alone.scale) == (pytest.approx(2.0, rel=0.06), 1.0)


def test_few_images_hardly_move_the_temperature() -> None:
    assert abs(np.log(calibration.temperature([scaled(4.0, 3)]))) < abs(np.log(2.0))
    assert calibration.temperature([]) == 1.0


@pytest.mark.parametrize("found", [0.5, 1.0, 4.0])
def test_a_base_s_scores_are_moved_half_as_far_as_what_was_seen_says(found: float) -> None:
    assert np.log(halfway(found)) == pytest.approx(np.log(found) / 2)
