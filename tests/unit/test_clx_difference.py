"""`kubectl clx diff` says what the operator then does: asked of the planner in a world in which plans come true."""

import copy
from dataclasses import replace
from typing import Any

import contract_values
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st
from operator_values import at, report
from test_convergence import World, fails

from expansion_contract.resource import ClassifierExpansion, Serving
from expansion_operator.publication import PUBLISHING
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
    {"serving": {"version": 1}},
    {"serving": {"version": 2}},
    {"serving": {"version": 77}},
    {"retrain": {"updatePolicy": "Finish"}},
    {"retrain": {"maxRunsPerDay": 1}},
    {"retrain": {"maxRunsPerDay": 3}},
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


def edit(world: World, **spec: Any) -> None:
    begin(world, **spec)
    settle(world)


def begin(world: World, **spec: Any) -> None:
    """Other photographs are another listing; the same ones again are the same listing again."""
    world.edit(**spec)
    world.images = "b" if world.expansion.spec.unlabelled else "a"


def settle(world: World) -> None:
    """Until nothing has happened for two looks."""
    quiet = 0
    while quiet < 2:
        before = world.status
        world.look()
        world.pass_time()
        quiet = quiet + 1 if world.status == before else 0


def told(world: World, **spec: Any) -> Told:
    edited = contract_values.expansion(**{**world.spec, **spec})
    live = world.expansion
    return Told(live=live, edited=live.model_copy(update={"spec": edited.spec}))


def predicted(world: World, **spec: Any) -> Difference:
    return difference(told(world, **spec), at(world.seconds))


def done(world: World, **spec: Any) -> Effect:
    """What the operator does because of the edit: the same world goes on with it and without it."""
    live, without, before = world.expansion, copy.deepcopy(world), copy.deepcopy(world)
    edited = contract_values.expansion(**{**world.spec, **spec})
    if edited.spec.output.models != live.spec.output.models:
        return Effect.REFUSED  # by the API server: see the tests of the resource
    settle(without)
    edit(world, **spec)
    if edited.spec == live.spec:
        return Effect.NOTHING
    if ready(world) in {"UnknownArchitecture", "NotSupported", "InvalidSpec"}:
        return Effect.REFUSED
    waits = ready(world) == "BudgetSpent" and run_of(world.expansion) != run_of(without.expansion)
    if set(world.started) - set(without.started) or waits:
        return Effect.TRAIN
    if _published(world, without, before):
        return Effect.PUBLISH
    # One that is being published may be named by now, one of a run under way may not.
    nameable = world if ready(before) == PUBLISHING else before
    return _quiet(world, live, edited, {seen.manifest.version for seen in nameable.versions})


def _published(world: World, without: World, before: World) -> bool:
    """Is another version there or served, of a run that had ended before the edit? Of one under way its own report decides."""
    told, known = world.serving, {seen.manifest.version for seen in without.versions}
    if any(v.manifest.version not in known and v.manifest.run_id in before.reports for v in world.versions):
        return True
    others = {before.serving and before.serving.version, without.serving and without.serving.version}
    return told is not None and told.version not in others and told.run_id in before.reports


def _quiet(world: World, live: ClassifierExpansion, edited: ClassifierExpansion, there: set[int]) -> Effect:
    """Nothing was trained or published. `there`: versions."""
    serving = unpinned(live) != unpinned(edited)
    regated = live.spec.acceptance != edited.spec.acceptance or run_of(live) != run_of(world.expansion)
    asked = edited.spec.serving.version
    if edited.spec.suspend:
        return Effect.SERVING if serving else Effect.NOTHING if live.spec.suspend else Effect.STOP
    if ready(world) == "GateRefused" and regated:
        return Effect.GATE
    if not _trained(world) and regated and any(c.type == "Stalled" for c in world.status.conditions):
        return Effect.REFUSED
    if asked not in {None, live.spec.serving.version, *there}:
        return Effect.REFUSED
    if serving:
        return Effect.SERVING
    return (
        Effect.GATE if live.spec.acceptance != edited.spec.acceptance and _trained(world) else Effect.NOTHING
    )


def run_of(expansion: ClassifierExpansion) -> str | None:
    return expansion.status.run.id if expansion.status.run else None


def ready(world: World) -> str:
    return next(c.reason for c in world.status.conditions if c.type == "Ready")


def unpinned(expansion: ClassifierExpansion) -> Serving:
    """What stands in the Deployment."""
    return expansion.spec.serving.model_copy(update={"version": None})


def _trained(world: World) -> bool:
    return any(c.type == "Trained" and c.status == "True" for c in world.status.conditions)


@settings(max_examples=200)
@given(st.lists(Edit, max_size=2), Edit)
def test_it_predicts_what_the_operator_then_does(
    history: list[dict[str, Any]], change: dict[str, Any]
) -> None:
    """After any history of edits that the operator has worked off, and for any edit."""
    must_come_true(lived(history), change)


@settings(max_examples=200)
@given(st.lists(Edit, max_size=1), Edit, st.integers(1, 4), Edit)
def test_it_predicts_what_the_operator_then_does_in_the_middle_of_a_run(
    history: list[dict[str, Any]], last: dict[str, Any], looks: int, change: dict[str, Any]
) -> None:
    """While old Jobs end, a Job starts, trains, is published, or is announced."""
    world = lived(history)
    if "output" not in last:
        begin(world, **last)
    for _ in range(looks):
        world.look()
        world.pass_time()
    world.look()
    must_come_true(world, change)


def test_new_thresholds_for_a_run_under_way_are_told_beside_what_happens_at_once() -> None:
    world = lived([])
    begin(world, training={"seed": 1})
    world.look()
    both = {"acceptance": {"minimumAccuracy": 0.99}, "serving": {"replicas": 3}}
    said = predicted(world, **both)
    (coming,) = said.later
    assert (said.effect, coming.effect) == (Effect.SERVING, Effect.GATE)
    assert "the gate will hold its model to the new thresholds" in coming.says
    assert done(world, **both) is Effect.GATE


def test_a_run_that_the_budget_holds_back_is_told_beside_what_is_served_at_once() -> None:
    world = lived([{"training": {"seed": 1}, "serving": {"version": 1}}, {"retrain": {"maxRunsPerDay": 1}}])
    both = {"serving": {}, "unlabelled": {"images": "s3://photos/anything/"}}
    said = predicted(world, **both)
    assert said.effect is Effect.PUBLISH
    (coming,) = [one for one in said.later if one.effect is Effect.TRAIN]
    assert "A Job will train a new run, but not yet." in coming.says
    assert done(world, **both) is Effect.TRAIN


def test_a_version_that_a_run_under_way_may_become_is_refused_today() -> None:
    world = lived([])
    begin(world, training={"seed": 1})
    for _ in range(2):
        world.look()
        world.pass_time()
    said, did = predicted(world, serving={"version": 2}), done(world, serving={"version": 2})
    assert (said.effect, did) == (Effect.REFUSED, Effect.REFUSED)


def lived(history: list[dict[str, Any]]) -> World:
    world = World()
    settle(world)
    for past in history:
        if "output" not in past:
            edit(world, **past)
    return world


def must_come_true(world: World, change: dict[str, Any]) -> None:
    said = predicted(world, **change)
    did = done(world, **change)
    event(f"{said.effect}{' or else' if said.otherwise else ''}")
    if said.effect is not Effect.UNKNOWN:
        assert did in {said.effect, *(one.effect for one in (*said.otherwise, *said.later))}, (said, did)


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
        pytest.param({"serving": {"version": 9}}, Effect.REFUSED, "9 is no published version", id="no such version"),
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
    assert said.says.startswith("Version 1, trained before, is served.")


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
    said = predicted(world, retrain={"pollInterval": "1h"})
    assert (said.effect, said.says.partition(";")[0]) == (Effect.NOTHING, "The run under way goes on")
    said = predicted(world, acceptance={"minimumAccuracy": 0.5})
    assert (said.effect, said.says.partition("; ")[2]) == (
        Effect.GATE,
        "the gate will hold its model to the new thresholds.",
    )


def test_an_edit_of_what_a_waiting_job_was_made_from_says_that_it_is_made_anew() -> None:
    world = World()
    world.look()
    world.look()
    (waiting,) = world.jobs.values()
    said = predicted(world, compute={"gpusPerWorker": 0})
    assert said.effect is Effect.NOTHING
    assert said.says.startswith(f"Job {waiting.name} is made anew if no pod of it has begun.")
    world.pass_time()
    world.look()
    assert "made anew" not in predicted(world, compute={"gpusPerWorker": 0}).says


@pytest.mark.parametrize("edit", [{"activeDeadlineSeconds": 3600}, {"backoffLimit": 1}])
def test_an_edit_of_a_jobs_limits_says_that_it_reaches_the_job(edit: dict[str, int]) -> None:
    world = World()
    world.look()
    world.look()
    (job,) = world.jobs.values()
    said = predicted(world, compute=edit)
    assert (said.effect, said.says.partition(".")[0]) == (
        Effect.NOTHING,
        f"Job {job.name}, which is under way, is given the new limits",
    )


@pytest.mark.parametrize("looks", [0, 1], ids=["not created yet", "created"])
def test_a_run_that_is_about_to_start_is_held_to_the_new_thresholds(looks: int) -> None:
    world = settled()
    begin(world, training={"seed": 1})
    world.look()
    for _ in range(looks):
        world.pass_time()
        world.look()
    assert predicted(world, acceptance={"minimumAccuracy": 0.99}).effect is Effect.GATE


def test_a_version_that_is_being_published_counts_although_status_does_not_name_it_yet() -> None:
    world = settled()
    begin(world, training={"seed": 1})
    while ready(world) != "Publishing":
        world.look()
        world.pass_time()
    back, asked = predicted(world, training={"seed": 0}), predicted(world, serving={"version": 2})
    assert Effect.PUBLISH in effects(back)
    assert Effect.REFUSED not in effects(asked)


def effects(said: Difference) -> set[Effect]:
    return {said.effect, *(other.effect for other in said.otherwise)}


def test_a_run_that_the_budget_holds_back_is_still_a_run() -> None:
    world = settled(retrain={"maxRunsPerDay": 1})
    said = predicted(world, training={"seed": 1})
    assert said.effect is Effect.TRAIN
    assert "but not yet. spec.retrain.maxRunsPerDay (1) is spent" in said.says


def test_more_budget_starts_the_run_that_waits_for_it() -> None:
    world = settled(retrain={"maxRunsPerDay": 1})
    edit(world, training={"seed": 1})
    assert predicted(world, retrain={"maxRunsPerDay": 2}).effect is Effect.TRAIN
    assert predicted(world, serving={"replicas": 3}).effect is Effect.SERVING


def test_a_run_that_began_long_ago_is_not_taken_for_hung() -> None:
    """Status has no sign of life, only the start."""
    world = World()
    world.look()
    world.pass_time()
    world.look()
    week = told(world, retrain={"pollInterval": "1h"})
    assert difference(week, at(7 * 86400)).effect is Effect.NOTHING


def test_a_report_gives_the_gate_s_exact_verdict() -> None:
    """Status has no recall of the worst category: without the report both are possible."""
    world = settled()
    asked = told(world, acceptance={"minimumCategoryRecall": 0.9})
    unsure = difference(asked, at(0))
    assert {unsure.effect, *(other.effect for other in unsure.otherwise)} == {Effect.GATE}
    run = world.status.run
    assert run is not None
    sure = difference(replace(asked, report=report(run.id)), at(0))
    assert "Recall of 'rose', the worst category, 0.800" in sure.says


def test_an_unresolved_resource_is_no_guess() -> None:
    said = predicted(World(), training={"seed": 1})
    assert said.effect is Effect.UNKNOWN
    assert "has not resolved the live resource's images" in said.says


def test_every_field_that_changes_is_named_with_both_values() -> None:
    said = predicted(settled(), training={"seed": 1}, serving={"replicas": 3})
    assert said.changes == ("spec.serving.replicas: 2 -> 3", "spec.training.seed: 0 -> 1")
