"""`kubectl clx diff` says what the operator then does: asked of the planner in a world in which plans come true."""

from dataclasses import dataclass, replace
from typing import Any

import contract_values
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st
from operator_values import at, report
from test_convergence import World, fails

from expansion_contract.resource import ClassifierExpansion
from kubectl_clx.difference import Difference, Effect, difference
from kubectl_clx.remembered import Told

EDITS: list[dict[str, Any]] = [
    {"acceptance": {"minimumAccuracy": 0.5}},
    {"acceptance": {"minimumAccuracy": 0.99}},
    {"acceptance": {"minimumNewCategoryAccuracy": 0.9}},
    {"acceptance": {"maximumBaseAccuracyDrop": 0.001}},
    {"acceptance": {"maximumBaseAccuracyDrop": 0.1}},
    {"acceptance": {}},
    {"training": {"seed": 1}},
    {"training": {"seed": 2}},
    {"training": {"stealBudgetPercent": 1}},
    {"training": {}},
    {"split": {"testPercent": 20}},
    {"split": {}},
    {"mode": "Replace"},
    {"mode": "Expand"},
    {"base": {"pretrained": {"architecture": "MobileNetV2"}}},
    {"base": {"pretrained": {"architecture": "NoSuchNet"}}},
    {"base": {"pretrained": {}}},
    {"retrain": {"revision": 1}},
    {"retrain": {"pollInterval": "1h"}},
    {"retrain": {}},
    {"serving": {"replicas": 3}},
    {"serving": {"image": "tensorflow/serving:2.19.0"}},
    {"serving": {"mode": "None"}},
    {"serving": {}},
    {"compute": {"gpusPerWorker": 0}},
    {"compute": {"podTemplate": {"resources": {"limits": {"memory": "32Gi"}}}}},
    {"compute": {}},
    {"suspend": True},
    {"suspend": False},
    {"output": {"models": "s3://models/flowers/", "keepVersions": 9}},
    {"output": {"models": "s3://models/elsewhere/"}},
    {"unlabelled": {"images": "s3://photos/anything/"}},
]
"""What people change; each replaces its part of the spec."""

Edit = st.lists(st.sampled_from(EDITS), min_size=1, max_size=3).map(
    lambda parts: {key: value for part in parts for key, value in part.items()}
)


@dataclass(frozen=True)
class Before:
    """What the world was like when the file was applied."""

    started: int
    numbers: int
    document: Any
    live: ClassifierExpansion

    @classmethod
    def of(cls, world: World) -> "Before":
        return cls(len(world.started), len(world.numbers), world.serving, world.expansion)


def edit(world: World, **spec: Any) -> None:
    """Other photographs are another listing; the same ones again are the same listing again."""
    world.edit(**spec)
    world.images = "b" if world.expansion.spec.unlabelled else "a"
    settle(world)


def settle(world: World) -> None:
    """Until nothing has happened for three looks."""
    quiet = 0
    while quiet < 3:
        before = world.status
        world.look()
        world.pass_time()
        quiet = quiet + 1 if world.status == before else 0


def predicted(world: World, **spec: Any) -> Difference:
    edited = contract_values.expansion(**{**world.spec, **spec})
    return difference(Told(live=world.expansion, edited=edited), at(world.seconds))


def done(world: World, before: Before, **spec: Any) -> Effect:
    """What the operator does about the edit, seen from outside."""
    live = before.live
    edited = contract_values.expansion(**{**world.spec, **spec})
    if edited.spec.output.models != live.spec.output.models:
        return Effect.REFUSED  # by the API server: see the tests of the resource
    edit(world, **spec)
    ready = next(c for c in world.status.conditions if c.type == "Ready")
    if edited.spec == live.spec:
        return Effect.NOTHING
    if ready.reason in {"UnknownArchitecture", "NotSupported", "InvalidSpec"}:
        return Effect.REFUSED
    if len(world.started) > before.started:
        return Effect.TRAIN
    if len(world.numbers) > before.numbers or (world.serving and before.document != world.serving):
        return Effect.PUBLISH
    return _quiet(world, live, edited)


def _quiet(world: World, live: ClassifierExpansion, edited: ClassifierExpansion) -> Effect:
    """Nothing was trained or published."""
    stalled = any(c.type == "Stalled" for c in world.status.conditions)
    regated = live.spec.acceptance != edited.spec.acceptance or live.status.run != world.status.run
    if edited.spec.suspend:
        serving = live.spec.serving != edited.spec.serving
        return Effect.SERVING if serving else Effect.NOTHING if live.spec.suspend else Effect.STOP
    if stalled and world.status.phase == "Stalled" and _trained(world) and regated:
        return Effect.GATE
    if stalled and not _trained(world) and regated:
        return Effect.REFUSED
    if live.spec.serving != edited.spec.serving:
        return Effect.SERVING
    return (
        Effect.GATE if live.spec.acceptance != edited.spec.acceptance and _trained(world) else Effect.NOTHING
    )


def _trained(world: World) -> bool:
    return any(c.type == "Trained" and c.status == "True" for c in world.status.conditions)


@settings(max_examples=200, deadline=None)
@given(st.lists(Edit, max_size=4), Edit)
def test_it_predicts_what_the_operator_then_does(
    history: list[dict[str, Any]], change: dict[str, Any]
) -> None:
    """After any history of edits that the operator has worked off, and for any edit."""
    world = World()
    settle(world)
    for past in history:
        if "output" not in past:
            edit(world, **past)
    said, before = predicted(world, **change), Before.of(world)
    did = done(world, before, **change)
    event(f"{said.effect}{' or else' if said.otherwise else ''}")
    if said.effect is not Effect.UNKNOWN:
        assert did is said.effect or did in {other.effect for other in said.otherwise}, (said, did)


def settled(**spec: Any) -> World:
    world = World()
    edit(world, **spec)
    return world


@pytest.mark.parametrize(
    ("spec", "effect", "says"),
    [
        pytest.param({"training": {"seed": 1}}, Effect.TRAIN, "A Job trains run", id="retrain"),
        pytest.param({"acceptance": {"minimumAccuracy": 0.99}}, Effect.GATE, "refuses: Accuracy", id="refused by the gate"),
        pytest.param({"acceptance": {"minimumAccuracy": 0.5}}, Effect.GATE, "accepts", id="accepted by the gate"),
        pytest.param({"serving": {"replicas": 3}}, Effect.SERVING, "Deployment", id="replicas"),
        pytest.param({"serving": {"mode": "None"}}, Effect.SERVING, "removed", id="no model servers"),
        pytest.param({"suspend": True}, Effect.STOP, "What is served stays served", id="suspend"),
        pytest.param({"retrain": {"pollInterval": "1h"}}, Effect.NOTHING, "Neither", id="poll interval"),
        pytest.param({"output": {"models": "s3://models/x/"}}, Effect.REFUSED, "spec.output.models cannot be changed", id="moved"),
        pytest.param({"base": {"pretrained": {"architecture": "NoNet"}}}, Effect.REFUSED, "UnknownArchitecture", id="no such net"),
    ],
)  # fmt: skip
def test_each_kind_of_edit_is_told_apart(spec: dict[str, Any], effect: Effect, says: str) -> None:
    said = predicted(settled(), **spec)
    assert said.effect is effect
    assert says in said.says


def test_a_revert_publishes_what_was_trained_before() -> None:
    world = settled()
    edit(world, training={"seed": 1})
    said = predicted(world, training={"seed": 0})
    assert said.effect is Effect.PUBLISH
    assert "version 1" in said.says


def test_what_fails_is_not_trained_again_by_going_back_to_it() -> None:
    world = World()
    world.look()
    world.pass_time()
    fails(world)
    settle(world)
    edit(world, training={"seed": 1})
    said = predicted(world, training={"seed": 0})
    assert said.effect is Effect.REFUSED
    assert "has failed before, BadDataset" in said.says


def test_an_edit_while_a_run_is_under_way_says_whether_it_goes_on() -> None:
    world = World()
    world.look()
    world.pass_time()
    world.look()
    assert predicted(world, training={"seed": 1}).effect is Effect.TRAIN
    said = predicted(world, acceptance={"minimumAccuracy": 0.5})
    assert (said.effect, said.says.partition(";")[0]) == (Effect.NOTHING, "The run under way goes on")


def test_a_report_gives_the_gate_s_exact_verdict() -> None:
    """Status has no recall of the worst category: without the report both are possible."""
    world = settled()
    edited = contract_values.expansion(acceptance={"minimumCategoryRecall": 0.9})
    told = Told(live=world.expansion, edited=edited)
    unsure = difference(told, at(0))
    assert {unsure.effect, *(other.effect for other in unsure.otherwise)} == {Effect.GATE}
    run = world.status.run
    assert run is not None
    sure = difference(replace(told, report=report(run.id)), at(0))
    assert "Recall of 'rose', the worst category, 0.800" in sure.says


def test_an_unresolved_resource_is_no_guess() -> None:
    said = predicted(World(), training={"seed": 1})
    assert said.effect is Effect.UNKNOWN
    assert "has not resolved the live resource's images" in said.says


def test_every_field_that_changes_is_named_with_both_values() -> None:
    said = predicted(settled(), training={"seed": 1}, serving={"replicas": 3})
    assert said.changes == ("spec.serving.replicas: 2 -> 3", "spec.training.seed: 0 -> 1")
