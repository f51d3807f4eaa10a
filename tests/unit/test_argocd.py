"""What Argo CD shows of a resource and does to it, by the Lua that examples/gitops gives it."""

import re
from typing import Any

import contract_values
import pytest
from argo_lua import act, actions, health
from hypothesis import given, settings
from hypothesis import strategies as st
from lupa.lua51 import LuaError
from operator_values import SETTLED, kstatus
from test_convergence import HAPPENINGS, World

from expansion_contract.resource import ClassifierExpansion, HistoryEntry

AGREED = {"Current": "Healthy", "Failed": "Degraded", "InProgress": "Progressing"}


def live(world: World) -> dict[str, Any]:
    return world.expansion.to_wire()


def settled(**spec: Any) -> World:
    world = World(spec=spec)
    world.settle()
    return world


def with_versions(*published: int, **spec: Any) -> dict[str, Any]:
    """A live resource that published these, newest first; the first of them is its model."""
    world = settled()
    world.edit(**spec)
    world.settle()
    history = [HistoryEntry(run_id=f"r{n}", outcome="Published", version=n) for n in published]
    refused = HistoryEntry(run_id="r9", outcome="Refused")
    assert world.status.model is not None
    model = world.status.model.model_copy(update={"version": published[0]})
    world.status = world.status.model_copy(update={"history": [refused, *history], "model": model})
    return live(world)


# Health


@settings(max_examples=150)
@given(st.lists(st.sampled_from(sorted(HAPPENINGS)), max_size=25))
def test_argo_and_flux_never_disagree(happenings: list[str]) -> None:
    world = World()
    for happening in happenings:
        HAPPENINGS[happening](world)
        status, message = health(live(world))
        assert message
        if status == "Suspended":
            assert world.spec["suspend"]
            assert kstatus(world.expansion) in {"Current", "InProgress"}
        else:
            assert status == AGREED[kstatus(world.expansion)]


def test_a_resource_the_operator_never_saw_is_not_healthy():
    body = World().expansion.to_wire()
    assert health(body)[0] == "Progressing"
    del body["status"]
    assert health(body) == ("Progressing", "Waits for the operator to look at it.")


def test_an_edited_resource_is_not_healthy_until_the_operator_saw_the_edit():
    world = settled()
    assert health(live(world))[0] == "Healthy"
    world.edit(acceptance={"minimumAccuracy": 0.5})
    assert health(live(world))[0] == "Progressing"


def test_a_healthy_resource_says_what_answers():
    assert health(live(settled())) == (
        "Healthy",
        "Version 1 with 1002 categories answers on 2 model servers.",
    )


def test_a_refused_gate_is_degraded_and_says_the_threshold():
    status, message = health(live(settled(acceptance={"minimumAccuracy": 0.99})))
    assert status == "Degraded"
    assert message.startswith("GateRefused: Accuracy 0.950")
    assert "spec.acceptance.minimumAccuracy" in message


def test_a_running_run_says_how_far_it_is():
    world = World()
    world.look()
    world.pass_time()
    world.look()
    assert world.status.run is not None
    run = world.status.run.model_copy(update={"stage": "bottlenecks", "percent": 40})
    world.status = world.status.model_copy(update={"run": run})
    status, message = health(live(world))
    assert status == "Progressing"
    assert re.fullmatch(r"Running: Job flowers-\w+ trains run \w+\. bottlenecks, 40 %\.", message)


def test_a_suspended_resource_is_suspended_and_what_it_serves_is_no_matter():
    for world in (settled(), World()):
        world.edit(suspend=True)
        world.look()
        assert health(live(world))[0] == "Suspended"


def test_what_is_being_worked_on_is_not_healthy_however_ready_it_says_it_is():
    """kstatus asks for Reconciling first."""
    body = live(settled())
    body["status"]["conditions"].append({"type": "Reconciling", "status": "True", "reason": "Busy"})
    assert health(body)[0] == "Progressing"


def test_a_refused_resource_is_degraded_even_while_suspended():
    world = World(
        spec={"compute": {"workers": 2}, "suspend": True, "base": {"pretrained": {"architecture": "NoNet"}}}
    )
    world.look()
    assert health(live(world))[0] == "Degraded"


def test_what_no_operator_writes_is_still_answered():
    """Argo shows a script's error on the whole Application; ours has none, whatever is in status."""
    for status in ({}, {"observedGeneration": 1}, {"observedGeneration": 1, "conditions": []}):
        body = SETTLED.expansion.to_wire() | {"status": status}
        assert health(body)[0] == "Progressing"


# Actions


def test_actions_touch_the_one_field_they_name():
    body = with_versions(7, 5)
    assert act("suspend", body) == {"spec": {"suspend": True}}
    assert act("resume", with_versions(7, 5, suspend=True)) == {"spec": {"suspend": False}}
    assert act("roll-back", body) == {"spec": {"serving": {"version": 5}}}
    patch = act("retrain", body)
    asked = patch["metadata"]["annotations"].pop("classifierexpansion.dev/retrain-requested-at")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", asked)
    assert patch == {"metadata": {"annotations": {}}}


def test_empty_maps_and_lists_of_the_resource_survive_an_action():
    """Lua has one empty table for both; a resource that sets neither must not be changed by suspending it."""
    body = with_versions(7, compute={"podTemplate": {"labels": {}, "tolerations": []}})
    assert body["spec"]["compute"]["podTemplate"]["labels"] == {}
    assert act("suspend", body) == {"spec": {"suspend": True}}


def test_annotations_of_others_survive_a_retrain():
    body = with_versions(7)
    body["metadata"]["annotations"] = {"team": "vision"}
    assert set(act("retrain", body)["metadata"]["annotations"]) == {
        "classifierexpansion.dev/retrain-requested-at"
    }


def test_rolling_back_goes_to_the_published_version_below_the_served_one():
    body = with_versions(5, 7, 6, 5, 3)
    assert act("roll-back", body) == {"spec": {"serving": {"version": 3}}}
    body["spec"]["serving"]["version"] = 6
    assert act("roll-back", body) == {"spec": {"serving": {"version": 5}}}


def test_rolling_back_goes_where_it_is_told():
    assert act("roll-back", with_versions(7, 6, 5), version="5") == {"spec": {"serving": {"version": 5}}}
    assert act("roll-back", with_versions(7, 6), version="") == {"spec": {"serving": {"version": 6}}}


@pytest.mark.parametrize("version", ["4", "six", "9"])
def test_rolling_back_to_what_was_never_published_is_refused(version: str):
    with pytest.raises(LuaError, match=f"spec.serving.version cannot be {version}: status.history knows"):
        act("roll-back", with_versions(7, 6, 5), version=version)


def test_without_an_earlier_version_there_is_nothing_to_roll_back_to():
    body = live(settled())
    assert actions(body)["roll-back"]["disabled"] is True
    with pytest.raises(LuaError, match="no published version before 1"):
        act("roll-back", body)


def test_what_was_rolled_back_can_go_forward_again():
    body = with_versions(7, 5)
    assert actions(body)["serve-newest"]["disabled"] is True
    body["spec"]["serving"]["version"] = 5
    assert actions(body)["serve-newest"]["disabled"] is False
    assert act("serve-newest", body) == {"spec": {"serving": {"version": None}}}


def offered(body: dict[str, Any]) -> set[str]:
    return {name for name, action in actions(body).items() if not action.get("disabled")}


def test_only_what_makes_sense_is_offered():
    assert offered(World().expansion.to_wire()) == {"retrain", "suspend"}
    assert offered(with_versions(7, 5)) == {"retrain", "suspend", "roll-back"}
    assert offered(with_versions(7, suspend=True)) == {"resume"}


def test_the_menu_proposes_the_version_before():
    assert actions(with_versions(7, 5))["roll-back"]["params"] == [{"name": "version", "default": "5"}]


@pytest.mark.parametrize("name", ["suspend", "resume", "retrain"])
def test_an_action_leaves_a_resource_that_is_accepted(name: str):
    body: dict[str, Any] = contract_values.body()
    patched = ClassifierExpansion.model_validate(
        {
            **body,
            "spec": body["spec"] | act(name, body).get("spec", {}),
            "metadata": body["metadata"] | act(name, body).get("metadata", {}),
        }
    )
    assert patched.spec.suspend is (name == "suspend")
