"""What `kubectl clx status` shows of a resource."""

from datetime import datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from operator_values import NOW, at
from test_convergence import HAPPENINGS, World

from kubectl_clx.drawing import Paper, drawn
from kubectl_clx.tree import Branch, State, age, tree

LATER = 7200.0


def settled(**spec: Any) -> World:
    world = World(spec=spec)
    world.settle()
    return world


def pod(name: str = "flowers-serving-7c-x", component: str = "model-server", **status: Any) -> dict[str, Any]:
    return {
        "metadata": {
            "name": name,
            "labels": {"app.kubernetes.io/component": component},
            "creationTimestamp": "2026-11-22T11:00:00Z",
        },
        "spec": {"nodeName": "gpu-1"},
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}], **status},
    }


def seen(world: World, *pods: dict[str, Any]) -> Branch:
    return tree(world.expansion.to_wire(), pods, at(LATER))


def branch(of: Branch, name: str) -> Branch:
    return next(child for child in of.children if child.name == name)


def text(world: World, *pods: dict[str, Any], **paper: Any) -> str:
    return drawn(seen(world, *pods), Paper(**paper))


def test_a_ready_resource_is_told_in_six_lines() -> None:
    run = settled().status.run
    assert run is not None
    assert text(settled(), pod()) == "\n".join(
        (
            "team/flowers  ok      Ready",
            "│  Version 1 with 1002 categories answers on 2 model servers.",
            "├─ data     ok      200 images in 2 new categories, changed 2 h ago (a)",
            f"├─ run      ok      {run.id} succeeded 1 h ago",
            "├─ gate     ok      accepted: accuracy 0.9500, new 0.9500, base lost 0.0040",
            "├─ version  ok      1 with 1002 categories, published 2 h ago: s3://models/flowers/versions/1",
            "└─ pods     ok      2 of 2 answer with version 1 at"
            " http://flowers-serving.team.svc.cluster.local:8501/v1/models/flowers:predict",
            "   └─ flowers-serving-7c-x  ok      model-server, Ready, since 3 h, on gpu-1",
        )
    )


def test_a_refused_gate_says_the_threshold_at_the_gate_and_once() -> None:
    shown = text(settled(acceptance={"minimumAccuracy": 0.99}))
    assert "team/flowers  failed  Stalled: GateRefused" in shown
    assert "├─ gate     failed  refused: accuracy 0.9500" in shown
    assert shown.count("is not at least spec.acceptance.minimumAccuracy 0.990") == 1


def test_an_edit_the_operator_has_not_seen_is_no_old_news() -> None:
    world = settled()
    world.edit(suspend=True)
    root = seen(world)
    assert (root.state, root.text) == (State.WAITS, "the operator has not seen this edit yet")
    assert "It looked at generation 1 last; this is 2." in root.notes[0]


def test_a_running_run_says_how_far_it_is_and_when_it_is_done() -> None:
    world = World()
    world.look()
    world.pass_time()
    world.look()
    assert world.status.run is not None
    run = world.status.run.model_copy(
        update={
            "stage": "bottlenecks",
            "percent": 40,
            "images_per_second": "123.5",
            "eta": stamp(LATER + 1500),
        }
    )
    world.status = world.status.model_copy(update={"run": run})
    shown = branch(seen(world), "run")
    assert shown.state is State.WORKS
    assert shown.text == f"{run.id} bottlenecks, 40 %, 123.5 images/s, done in about 25 min, started 2 h ago"


def test_the_next_time_of_a_schedule_is_told_at_the_run_and_one_that_has_come_says_what_it_waits_for() -> (
    None
):
    world = settled(retrain={"schedule": "30 15 * * *"})
    assert branch(seen(world), "run").notes == (
        "The next time of spec.retrain.schedule comes in 1 h (2026-11-22T15:30:00Z).",
    )
    (note,) = branch(tree(world.expansion.to_wire(), (), at(4 * 3600)), "run").notes
    assert "came 30 min ago (2026-11-22T15:30:00Z) and waits for a run to end" in note


def stamp(seconds: float) -> str:
    return at(seconds).isoformat()


def test_a_pod_without_a_node_says_so_in_the_scheduler_s_words() -> None:
    words = "0/3 nodes are available: 3 Insufficient nvidia.com/gpu."
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": words}
    waiting = pod("flowers-1a-x", "trainer", phase="Pending", conditions=[condition])
    (shown,) = branch(seen(World(), waiting), "pods").children
    assert shown.state is State.WAITS
    assert shown.text.startswith("trainer, Unschedulable, since 3 h")
    assert words in shown.notes[0]


@pytest.mark.parametrize(
    ("status", "says", "state"),
    [
        pytest.param({}, "Ready", State.OK, id="ready"),
        pytest.param({"conditions": []}, "Running", State.WORKS, id="running"),
        pytest.param({"phase": "Succeeded"}, "Succeeded", State.OK, id="ended well"),
        pytest.param({"phase": "Failed"}, "Failed", State.FAILED, id="failed"),
    ],
)
def test_a_pod_says_its_phase(status: dict[str, Any], says: str, state: State) -> None:
    (shown,) = branch(seen(World(), pod(**status)), "pods").children
    assert (shown.text.split(", ")[1], shown.state) == (says, state)


def test_a_pod_that_was_restarted_says_how_often() -> None:
    restarted = pod(
        containerStatuses=[{"name": "agent", "restartCount": 2}, {"name": "server", "restartCount": 1}]
    )
    (shown,) = branch(seen(World(), restarted), "pods").children
    assert "3 restarts" in shown.text


def test_nothing_served_yet_is_no_failure() -> None:
    world = World()
    world.look()
    assert branch(seen(world), "pods").state is State.WAITS
    assert branch(seen(settled(serving={"mode": "None"})), "pods").state is State.NONE


def test_a_pinned_version_is_named() -> None:
    body = settled().expansion.to_wire()
    body["spec"]["serving"]["version"] = 1
    assert branch(tree(body, (), NOW), "version").notes == (
        "spec.serving.version is 1: that version is served.",
    )


def test_a_resource_that_is_being_deleted_says_so() -> None:
    body = settled().expansion.to_wire()
    body["metadata"]["deletionTimestamp"] = "2026-11-22T12:00:00Z"
    assert tree(body, (), NOW).text == "is being deleted"


def test_what_a_newer_operator_says_is_no_error() -> None:
    body = settled().expansion.to_wire()
    body["spec"]["fieldOfTomorrow"] = 1
    body["status"]["fieldOfTomorrow"] = {"a": 1}
    assert tree(body, (), NOW).state is State.OK


@settings(max_examples=100)
@given(st.lists(st.sampled_from(sorted(HAPPENINGS)), max_size=20))
def test_every_reason_that_stands_in_the_way_is_shown(happenings: list[str]) -> None:
    world = World()
    for happening in happenings:
        HAPPENINGS[happening](world)
    world.look()
    shown = text(world)
    for condition in world.status.conditions:
        if condition.type in {"Ready", "Stalled", "Reconciling"} and condition.type != "Ready":
            assert condition.reason in shown
            assert condition.message in shown


# Drawing


def test_colour_adds_nothing_but_colour() -> None:
    world = settled(acceptance={"minimumAccuracy": 0.99})
    coloured = text(world, pod(), colour=True)
    for code in ("\x1b[31m", "\x1b[32m", "\x1b[33m", "\x1b[0m"):
        assert code in coloured
        coloured = coloured.replace(code, "")
    assert coloured == text(world, pod())


def test_a_terminal_without_line_characters_gets_none() -> None:
    assert text(settled(), pod(), lines=False).isascii()


@pytest.mark.parametrize("width", [72, 80, 120])
def test_no_line_is_wider_than_the_terminal_but_for_one_long_word(width: int) -> None:
    world = settled(acceptance={"minimumAccuracy": 0.99, "minimumNewCategoryAccuracy": 0.99})
    lines = text(world, pod(), width=width).splitlines()
    assert [line for line in lines if len(line) > width and "http" not in line and "s3://" not in line] == []
    words = " ".join(" ".join(line.strip("│├└─ ") for line in lines).split())
    assert "is not at least spec.acceptance.minimumNewCategoryAccuracy 0.990." in words


@pytest.mark.parametrize(
    ("moment", "says"),
    [
        pytest.param("2026-11-22T11:59:58Z", "2 s ago", id="seconds"),
        pytest.param("2026-11-22T11:58:00+00:00", "2 min ago", id="minutes"),
        pytest.param("2026-11-20T11:00:00Z", "2 d ago", id="days"),
        pytest.param("2026-11-22T12:25:00Z", "in 25 min", id="to come"),
        pytest.param("2026-11-22T12:00:00Z", "0 s ago", id="now"),
        pytest.param("soon", "soon", id="no time"),
        pytest.param(None, "at an unknown time", id="nothing"),
    ],
)
def test_times_are_told_as_people_tell_them(moment: str | None, says: str) -> None:
    assert age(moment, datetime.fromisoformat("2026-11-22T12:00:00+00:00")) == says
