"""Promises of the one door to all solvers: base rows never move, choices are explained, what cannot be done is refused by name."""

from dataclasses import replace

import numpy as np
import pytest
from head_values import NEW, OLD, SIZE, World, nothing, world

from expansion_contract.resource import GradientDescent, Solver
from expansion_trainer.errors import InvalidRun
from expansion_trainer.head import fit
from expansion_trainer.head.evidence import Evidence
from expansion_trainer.head.fit import Labelled
from expansion_trainer.head.projection import projection
from expansion_trainer.head.solve import Options, replaced, solve
from expansion_trainer.head.solved import Solved

OPTIONS = Options(
    solver=Solver.SOFTMAX,
    steal_budget=0.02,
    seed=0,
    gradient_descent=GradientDescent(steps=300, learning_rate=0.05),
)


def solved(
    w: World,
    options: Options,
    *evidence: Evidence,
    validation: Labelled | None = None,
    calibration: Evidence | None = None,
) -> Solved:
    return solve(
        w.base,
        w.new(20, 1),
        w.new(10, 2) if validation is None else validation,
        evidence or (w.replay(20, 3),),
        (w.replay(20, 4) if calibration is None else calibration,),
        options,
    )


def accuracy(head: Solved, images: Labelled, first: int = 0) -> float:
    return float((head.logits(images.bottlenecks).argmax(axis=1) == images.labels + first).mean())


@pytest.mark.parametrize(
    ("solver", "dimensions"),
    [
        pytest.param(Solver.SOFTMAX, None, id="Softmax"),
        pytest.param(Solver.DISCRIMINANT, None, id="Discriminant"),
        pytest.param(Solver.GRADIENT_DESCENT, None, id="GradientDescent"),
        pytest.param(Solver.AUTO, None, id="Auto"),
        pytest.param(Solver.SOFTMAX, 64, id="Softmax, projected"),
        pytest.param(Solver.GRADIENT_DESCENT, 64, id="GradientDescent, projected"),
    ],
)
def test_every_solver_learns_the_new_categories_and_leaves_the_base_alone(
    solver: Solver, dimensions: int | None
) -> None:
    w = world()
    head = solved(w, replace(OPTIONS, solver=solver, random_projection=dimensions))
    assert head.weights.shape == (SIZE, OLD + NEW)
    assert head.weights[:, :OLD].tobytes() == w.base.weights.tobytes()
    assert accuracy(head, w.new(100, 5), OLD) > 0.95
    assert accuracy(head, w.old(100, 6)) > 0.95


FIT, CHOICE, STEP = "Fit 1 of at most 48, step 1 of at most 300", "Choice 1 of at most 168", "Step 1 of 300"


@pytest.mark.parametrize(
    ("solver", "dimensions", "said"),
    [
        pytest.param(Solver.SOFTMAX, None, [FIT], id="Softmax"),
        pytest.param(Solver.DISCRIMINANT, None, [CHOICE], id="Discriminant"),
        pytest.param(Solver.GRADIENT_DESCENT, None, [STEP], id="GradientDescent"),
        pytest.param(Solver.AUTO, 64, [FIT, CHOICE, FIT], id="Auto, also projected"),
        pytest.param(Solver.GRADIENT_DESCENT, 64, [STEP], id="GradientDescent, projected"),
    ],
)
def test_every_solver_says_what_it_is_at(solver: Solver, dimensions: int | None, said: list[str]) -> None:
    heard: list[str] = []
    solved(world(), replace(OPTIONS, solver=solver, random_projection=dimensions, watch=heard.append))
    assert [text for text in heard if text in {FIT, CHOICE, STEP}] == said
    assert len(heard) > 20


@pytest.mark.parametrize(("solver", "said"), [(Solver.SOFTMAX, FIT), (Solver.GRADIENT_DESCENT, STEP)])
def test_in_mode_replace_it_says_so_too(solver: Solver, said: str) -> None:
    heard: list[str] = []
    w = world()
    replaced(w.new(20, 1), w.new(10, 2), replace(OPTIONS, solver=solver, watch=heard.append))
    assert heard[0] == said


def test_softmax_is_the_fit_it_always_was() -> None:
    w = world()
    before = fit.expand(w.base, w.new(20, 1), w.new(10, 2), (w.replay(20, 3),), (w.replay(20, 4),), 0.02, 0)
    head = solved(w, OPTIONS)
    assert head.weights.tobytes() == before.weights.tobytes()
    assert (head.solver, head.l2, head.offset) == (before.solver, before.l2, before.offset)


def test_auto_says_which_solver_won_and_on_how_many_images() -> None:
    w = world()
    choice = solved(w, replace(OPTIONS, solver=Solver.AUTO)).choice
    assert choice is not None
    assert [c.solver for c in choice.contenders] == ["Softmax", "Discriminant"]
    assert (choice.images, choice.bystanders) == (10 * NEW, 20 * OLD)
    assert choice.why.startswith("Softmax")
    assert "30 validation images" in choice.why


def test_auto_takes_softmax_without_photographs_and_says_why() -> None:
    w = world()
    drawn = replace(w.unlabelled(40, 3), kind="procedural")
    head = solved(w, replace(OPTIONS, solver=Solver.AUTO), drawn, calibration=drawn)
    assert head.solver == "Softmax"
    assert head.choice is not None
    assert "without photographs" in head.choice.why


def test_auto_takes_softmax_where_nothing_was_held_out() -> None:
    w = world()
    head = solved(w, replace(OPTIONS, solver=Solver.AUTO), validation=nothing())
    assert head.solver == "Softmax"
    assert head.choice is not None
    assert "no validation image" in head.choice.why


def test_a_projection_finds_what_no_row_can_separate() -> None:
    """Two categories, each on both sides of the other: a linear row has nothing to hold on to."""
    w = world()
    random = np.random.default_rng(0)

    def rings(each: int, seed: int) -> Labelled:
        draw = np.random.default_rng(seed)
        labels = np.repeat([0, 1], each)
        sides = draw.choice([-1.0, 1.0], size=(2 * each, 1)) * np.where(labels, 5.0, 2.0)[:, None]
        points = w.means[OLD] + sides * axis + 0.3 * draw.normal(size=(2 * each, SIZE))
        return Labelled(bottlenecks=points.astype(np.float32), labels=labels)

    axis = random.normal(size=SIZE) / np.sqrt(SIZE)
    linear, projected = (
        solve(
            w.base,
            rings(60, 1),
            rings(20, 2),
            (w.replay(20, 3),),
            (w.replay(20, 4),),
            replace(OPTIONS, solver=solver, random_projection=dimensions),
        )
        for solver, dimensions in ((Solver.SOFTMAX, None), (Solver.AUTO, 256))
    )
    assert accuracy(linear, rings(100, 5), OLD) < 0.8
    assert projected.solver == "Softmax with random projection"
    assert accuracy(projected, rings(100, 5), OLD) > 0.9
    assert projected.choice is not None
    assert "ahead of Softmax" in projected.choice.why


def test_a_projection_adds_nothing_to_the_base_logits() -> None:
    w = world()
    head = solved(w, replace(OPTIONS, random_projection=64))
    assert head.projected is not None
    assert not head.projected.weights[:, :OLD].any()
    images = w.old(50, 7).bottlenecks
    np.testing.assert_array_equal(head.projected.logits(images)[:, :OLD], 0)


def test_a_projection_is_drawn_from_its_seed() -> None:
    images = np.abs(world().old(20, 1).bottlenecks)
    same, again, other = (projection(images, 64, seed).matrix for seed in (1, 1, 2))
    assert same.tobytes() == again.tobytes() != other.tobytes()


def test_a_projection_that_does_not_fit_into_memory_is_refused_with_what_would_fit() -> None:
    w = world()
    asked = replace(OPTIONS, random_projection=5_000_000)
    with pytest.raises(InvalidRun, match=r"randomProjection\.dimensions: 5000000.*Ask for at most \d+"):
        solved(w, asked)


def test_a_projection_of_sums_is_refused() -> None:
    with pytest.raises(InvalidRun, match=r"spec\.training\.head\.randomProjection goes with solver: Auto"):
        solved(world(), replace(OPTIONS, solver=Solver.DISCRIMINANT, random_projection=64))


def test_in_mode_replace_there_is_no_base_to_place_anything_beside() -> None:
    w = world()
    for solver in (Solver.AUTO, Solver.SOFTMAX, Solver.GRADIENT_DESCENT):
        head = replaced(w.new(20, 1), w.new(10, 2), replace(OPTIONS, solver=solver))
        assert head.base_count == 0
        assert accuracy(head, w.new(50, 3)) > 0.95
    with pytest.raises(
        InvalidRun, match="Discriminant places new categories beside a pretrained network's own"
    ):
        replaced(w.new(20, 1), w.new(10, 2), replace(OPTIONS, solver=Solver.DISCRIMINANT))
