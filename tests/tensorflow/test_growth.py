"""Promises about growing in steps, in bottlenecks alone: through packs as they lie on the disk, without a picture or a network."""

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from expansion_contract.pack import Expansion
from expansion_contract.report import Category
from expansion_contract.resource import Solver, Split
from expansion_storage.folder import FolderPrefix
from expansion_trainer.backbones.catalogue import Backbone
from expansion_trainer.columns import columns
from expansion_trainer.dataset.split import Divided, Part, Side, side_of
from expansion_trainer.growth import grown_head
from expansion_trainer.head.answering import Answering
from expansion_trainer.head.fit import BaseHead
from expansion_trainer.head.projection import beside
from expansion_trainer.head.softmax import Rows
from expansion_trainer.head.solve import Options
from expansion_trainer.head.solved import Solved
from expansion_trainer.packs import files, pack, probes
from expansion_trainer.packs.pack import Answers
from expansion_trainer.sides import Bottlenecks, Dealt, Known, deal
from expansion_trainer.starting_model import StartingModel

pytestmark = pytest.mark.tensorflow

NEW = ("ant", "bee", "cow", "dog", "elk", "fox")
EACH, REPLAYED = 30, 16
SPLIT = Split(validation_percent=15, test_percent=10)


class World:
    """Clusters of bottlenecks: where the tiny network's rows point, and new ones."""

    def __init__(self, backbone: Backbone) -> None:
        self.backbone = backbone
        random = np.random.default_rng(11)
        old = 2.5 * backbone.head_weights.T / np.linalg.norm(backbone.head_weights, axis=0)[:, None]
        new = random.normal(size=(len(NEW), backbone.bottleneck_size))
        self.means = {**dict(enumerate(old)), **dict(zip(NEW, new, strict=True))}

    def draw(self, name: int | str, count: int, seed: int) -> np.ndarray:
        random = np.random.default_rng((seed, list(self.means).index(name)))
        noise = random.normal(size=(count, self.backbone.bottleneck_size))
        return (self.means[name] + 1.1 * noise).astype(np.float32)

    @property
    def start(self) -> StartingModel:
        backbone = self.backbone
        return StartingModel(
            backbone=backbone,
            head=BaseHead(weights=backbone.head_weights, bias=backbone.head_bias),
            temperature=1.0,
            categories=backbone.categories,
            frozen=len(backbone.categories),
            pack=None,
            address="Tiny",
        )

    def dealt(
        self, names: tuple[str, ...], replayed: int, starting: StartingModel
    ) -> tuple[Dealt, np.ndarray]:
        """As a run deals it, with so many replay images of each category of the network, the same in every step."""
        old = range(len(self.backbone.categories) if replayed else 0)
        drawn = [(name, self.draw(name, EACH, 1)) for name in sorted(names)]
        drawn += [(index, self.draw(index, replayed, 2)) for index in old]
        digests = np.array(
            [
                hashlib.sha256(f"{name} {n}".encode()).hexdigest()
                for name, some in drawn
                for n in range(len(some))
            ]
        )
        labels = np.repeat(np.array([*range(len(names)), *old]), [len(some) for _, some in drawn])
        is_new = np.arange(len(labels)) < EACH * len(names)
        sides = np.array([side_of(digest, SPLIT) for digest in digests.tolist()])
        divided = Divided(
            categories=tuple(sorted(names)),
            new={side: _part(is_new & (sides == side), labels) for side in Side},
            replay={side: _part(~is_new & (sides == side), labels) for side in Side},
            unlabelled={side: _part(np.zeros(len(labels), bool), labels) for side in Side},
            duplicates=0,
            findings=(),
        )
        images = np.concatenate([some for _, some in drawn])
        found = Bottlenecks(images=images, digests=digests, pictures=images[:0])
        return deal(divided, found, Known.of(starting)), digests


def _part(chosen: np.ndarray, labels: np.ndarray) -> Part:
    rows = np.flatnonzero(chosen)
    return Part(rows=rows, labels=labels[rows].astype(np.int64))


class Step:
    """One expansion, and what the next one starts from."""

    def __init__(
        self,
        world: World,
        starting: StartingModel,
        names: tuple[str, ...],
        folder: Path,
        options: Options,
        replayed: int,
    ) -> None:
        self.dealt, digests = world.dealt(names, replayed, starting)
        self.head = grown_head(starting, self.dealt, (), options)
        self.columns = columns(starting.categories, sorted(names))
        after = Answers(
            categories=self.columns.categories,
            head=Rows(weights=self.head.weights, bias=self.head.bias),
            source=self.columns.source,
            temperature=self.head.temperature,
            expansion=Expansion(offset=self.head.offset, scale=self.head.scale),
        )
        sides = [
            self.dealt.kept(side, self.head.base_count, digests) for side in (Side.TRAINING, Side.VALIDATION)
        ]
        before = starting.pack or probes.bare(world.backbone)
        if self.head.base_count == 0:
            before = pack.emptied(before)
        files.write(folder, pack.grown(before, after, *sides))
        self.pack = files.read(FolderPrefix(folder))

    def names(self, bottlenecks: np.ndarray) -> list[str]:
        model = Answering.of_head(self.head, self.columns)
        listed = self.columns.categories
        return [listed[index].name for index in model.probabilities(bottlenecks).argmax(axis=1).tolist()]

    def next(self, world: World) -> StartingModel:
        known: list[Category] = [one.model_copy(update={"group": "base"}) for one in self.pack.categories]
        return StartingModel(
            backbone=world.backbone,
            head=BaseHead(weights=self.pack.head.weights, bias=self.pack.head.bias),
            temperature=self.pack.temperature,
            categories=tuple(known),
            frozen=self.pack.frozen,
            pack=self.pack,
            address="step",
            projected=self.head.projected,
            scale=self.pack.scale,
        )


@pytest.fixture(scope="module")
def world(tiny_backbone: Backbone) -> World:
    return World(tiny_backbone)


def grown(
    world: World, steps: list[tuple[str, ...]], folder: Path, replayed: int = REPLAYED, **options: object
) -> Step:
    starting = world.start
    asked = Options(**{"solver": Solver.DISCRIMINANT, "steal_budget": 0.02, "seed": 0, **options})  # type: ignore[arg-type]
    for number, names in enumerate(steps):
        step = Step(world, starting, names, folder / f"pack-{number}", asked, replayed)
        starting = step.next(world)
    return step


@pytest.mark.parametrize(
    "steps",
    [
        pytest.param([NEW[:3], NEW[3:]], id="two steps"),
        pytest.param([(name,) for name in NEW], id="six steps"),
        pytest.param([(name,) for name in reversed(NEW)], id="six steps backwards"),
        pytest.param([NEW[4:], NEW[:1], NEW[1:4]], id="three steps in another order"),
    ],
)
def test_a_discriminant_grown_in_steps_changes_no_label_of_one_grown_at_once(
    world: World, steps: list[tuple[str, ...]], tmp_path: Path
) -> None:
    once = grown(world, [NEW], tmp_path / "once")
    later = grown(world, steps, tmp_path / "later")
    shown = np.concatenate([world.draw(name, 200, 9) for name in world.means])
    assert len(set(once.names(shown))) > len(NEW) + 8
    assert sum(a != b for a, b in zip(once.names(shown), later.names(shown), strict=True)) == 0


def test_a_step_after_replay_has_real_bottlenecks_of_old_categories_without_a_picture_of_them(
    world: World, tmp_path: Path
) -> None:
    first = Step(
        world,
        world.start,
        NEW[:3],
        tmp_path / "pack",
        Options(solver=Solver.SOFTMAX, steal_budget=0.02, seed=0),
        REPLAYED,
    )
    starting = first.next(world)
    assert starting.pack is not None
    assert (starting.pack.statistics.counts[: starting.frozen] > 5).all()
    later, _ = world.dealt(NEW[3:], 0, starting)
    for side in (later.evidence, later.calibration):
        (packed,) = side
        assert packed.kind == "pack"
        assert packed.labels is not None
        assert len(set(packed.labels.tolist())) > 8
    held_out = first.dealt.base_test
    assert held_out is not None
    kept = {row.tobytes() for row in starting.pack.core.bottlenecks.astype(np.float16)}
    assert not kept & {row.tobytes() for row in held_out.bottlenecks.astype(np.float16)}


def test_a_version_is_as_sure_when_it_is_grown_as_it_was_exported(world: World, tmp_path: Path) -> None:
    first = grown(world, [NEW[:3]], tmp_path, solver=Solver.SOFTMAX)
    shown = np.concatenate([world.draw(name, 50, 9) for name in world.means])
    starting = replace(first.next(world), scale=2.5).answering
    exported = Answering.of_head(replace(first.head, scale=2.5), first.columns)
    assert starting.frozen == len(world.backbone.categories)
    np.testing.assert_allclose(starting.probabilities(shown), exported.probabilities(shown), atol=1e-6)


def test_a_projected_head_is_grown_on_by_rows_that_see_the_bottleneck_alone(
    world: World, tmp_path: Path
) -> None:
    first = grown(world, [NEW[:3]], tmp_path / "first", solver=Solver.SOFTMAX, random_projection=64)
    starting = first.next(world)
    shown = np.concatenate([world.draw(name, 50, 9) for name in world.means])
    assert [
        starting.categories[i].name for i in starting.answering.logits(shown).argmax(axis=1)
    ] == first.names(shown)
    plain = Options(solver=Solver.SOFTMAX, steal_budget=0.02, seed=0)
    later = Step(world, starting, NEW[3:], tmp_path / "later", plain, REPLAYED)
    assert later.head.projected is None
    never_projected = grown(world, [NEW[:3], NEW[3:]], tmp_path / "plain", solver=Solver.SOFTMAX)
    assert later.names(shown) == never_projected.names(shown)


def test_a_model_that_replaced_its_base_is_grown_among_its_own(world: World, tmp_path: Path) -> None:
    alone = replace(world.start, head=_no_rows(world), categories=(), frozen=0)
    plain = Options(solver=Solver.SOFTMAX, steal_budget=0.02, seed=0)
    first = Step(world, alone, NEW[:3], tmp_path / "first", plain, 0)
    starting = first.next(world)
    assert (starting.frozen, [c.name for c in starting.categories]) == (0, list(NEW[:3]))
    later = Step(world, starting, NEW[3:], tmp_path / "later", plain, 0)
    once = Step(world, alone, NEW, tmp_path / "once", plain, 0)
    assert [c.name for c in later.columns.categories] == list(NEW)
    right = [sum(step.names(world.draw(name, 50, 9)).count(name) for name in NEW) for step in (later, once)]
    assert right[0] > 0.9 * right[1] > 25 * len(NEW)
    assert later.dealt.bystanders is not None
    assert later.dealt.bystanders.kind == "pack"


def _no_rows(world: World) -> BaseHead:
    rows = world.start.head
    return BaseHead(weights=rows.weights[:, :0], bias=rows.bias[:0])


def test_a_projection_of_a_later_step_stands_at_the_columns_that_are_solved_again(
    world: World, tmp_path: Path
) -> None:
    later: Solved = grown(
        world, [NEW[:3], NEW[3:]], tmp_path, solver=Solver.SOFTMAX, random_projection=64
    ).head
    assert later.projected is not None
    assert later.projected.weights.shape == (64, len(world.backbone.categories) + len(NEW))
    used = np.abs(later.projected.weights).max(axis=0) > 0
    assert used.tolist() == [False] * len(world.backbone.categories) + [True] * len(NEW)
    base = beside(Rows(weights=later.weights, bias=later.bias), later.projected)
    shown = world.draw("ant", 5, 9)
    np.testing.assert_allclose(base.logits(shown), later.logits(shown), rtol=1e-6)
