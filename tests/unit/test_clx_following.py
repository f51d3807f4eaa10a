"""Which log `kubectl clx logs -f` reads next, from pod to pod, until the run ends."""

from typing import Any

import pytest

from expansion_contract.resource import Condition, ExpansionStatus, RunStatus
from kubectl_clx.following import Next, Step, has_ended, newest_started, next_step
from kubectl_clx.logs import moment

NONE: frozenset[str] = frozenset()


def status(run: str = "r1", **changes: Any) -> ExpansionStatus:
    trained = Condition(
        type="Trained",
        status="Unknown",
        reason="Pending",
        message="Job j waits for its pod.",
        last_transition_time="t",
    )
    return ExpansionStatus(run=RunStatus(id=run, **changes), conditions=[trained])


def pod(name: str, minute: int = 0, phase: str = "Running", **state: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "creationTimestamp": f"2026-11-22T12:{minute:02}:00Z"},
        "spec": {},
        "status": {
            "phase": phase,
            "containerStatuses": [{"name": "trainer", "state": state or {"running": {}}}],
        },
    }


def unscheduled(name: str) -> dict[str, Any]:
    why = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes"}
    return pod(name, phase="Pending") | {"status": {"phase": "Pending", "conditions": [why]}}


def test_pods_are_read_in_the_order_they_were_made() -> None:
    pods = [pod("second", 5), pod("first", 1, "Failed", terminated={"exitCode": 143})]
    assert next_step(status(), "r1", pods, NONE) == Next(step=Step.READ, pod="first")
    assert next_step(status(), "r1", pods, frozenset({"first"})) == Next(step=Step.READ, pod="second")


def test_an_evicted_pod_s_successor_is_waited_for() -> None:
    pods = [pod("first", 1, "Failed", terminated={"exitCode": 143})]
    step = next_step(status(), "r1", pods, frozenset({"first"}))
    assert (step.step, step.says) == (Step.WAIT, "Waits: Job j waits for its pod.")


def test_a_pod_without_a_node_is_waited_for_in_the_scheduler_s_words() -> None:
    step = next_step(status(), "r1", [unscheduled("first")], NONE)
    assert step.step is Step.WAIT
    assert "0/3 nodes" in step.says


def test_what_a_run_said_last_is_read_before_its_end_is_told() -> None:
    pods = [pod("first", 1, "Succeeded", terminated={"exitCode": 0})]
    assert next_step(status(outcome="Succeeded"), "r1", pods, NONE).step is Step.READ
    step = next_step(status(outcome="Succeeded"), "r1", pods, frozenset({"first"}))
    assert step == Next(step=Step.END, says="Run r1 succeeded.")


def test_a_failed_run_ends_with_its_reason() -> None:
    ended = status(outcome="Failed", reason="BadDataset", message="No image can be read.")
    step = next_step(ended, "r1", [], NONE)
    assert step == Next(step=Step.END, says="Run r1 failed: BadDataset: No image can be read.", failed=True)


@pytest.mark.parametrize(
    ("now", "says"),
    [
        pytest.param(status("r2"), "that is r2", id="another run"),
        pytest.param(ExpansionStatus(), "there is none now", id="none"),
    ],
)
def test_a_run_that_was_replaced_ends_the_following(now: ExpansionStatus, says: str) -> None:
    step = next_step(now, "r1", [], NONE)
    assert (step.step, step.failed) == (Step.END, False)
    assert says in step.says


def test_without_following_the_newest_pod_that_said_anything_is_read() -> None:
    pods = [pod("first", 1), pod("second", 5), unscheduled("third")]
    assert newest_started(pods) == "second"
    assert newest_started([unscheduled("third")]) is None


def test_a_pod_that_ended_or_has_gone_says_nothing_more() -> None:
    assert has_ended([pod("first", phase="Failed")], "first")
    assert has_ended([], "first")
    assert not has_ended([pod("first")], "first")


def test_times_of_the_kubelet_compare_although_it_drops_zeros() -> None:
    stamps = [
        "2026-11-22T12:00:00Z",
        "2026-11-22T12:00:00.1Z",
        "2026-11-22T12:00:00.12Z",
        "2026-11-22T12:00:01Z",
    ]
    assert sorted(stamps, key=moment) == stamps
    assert moment("") < moment(stamps[0])
