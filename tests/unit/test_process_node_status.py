"""The status a pod gets from its containers."""

from dataclasses import replace

import pytest

from expansion_development.process_node.status import (
    ContainerView,
    PodView,
    Running,
    Terminated,
    Waiting,
    phase_of,
    status,
)

NOW, BEFORE = "2026-01-02T00:00:00Z", "2026-01-01T00:00:00Z"
ENDED = Terminated(exit_code=0, reason="Completed", started_at=BEFORE, finished_at=NOW)
FAILED = replace(ENDED, exit_code=3, reason="Error")
CREATING = ContainerView(name="main", image="i", state=Waiting(reason="ContainerCreating"))
RUNNING = replace(CREATING, state=Running(started_at=BEFORE), ready=True, started=True)
DONE = replace(CREATING, state=ENDED, finished=True)
BROKEN = replace(CREATING, state=FAILED, finished=True)
CRASHED = replace(CREATING, state=Waiting(reason="CrashLoopBackOff"), last=FAILED)


def view(*containers: ContainerView, init: tuple[ContainerView, ...] = ()) -> PodView:
    phase = phase_of(False, True, containers)
    return PodView(init=init, containers=containers, initialised=True, phase=phase, ip="127.1.0.5")


def condition(view: PodView, kind: str, previous: dict[str, object] | None = None) -> dict[str, object]:
    made = status(view, previous or {}, NOW)["conditions"]
    return dict(next(one for one in made if one["type"] == kind))


@pytest.mark.parametrize(
    ("containers", "phase"),
    [
        pytest.param((CREATING,), "Pending", id="creating"),
        pytest.param((RUNNING, CREATING), "Pending", id="one of two started"),
        pytest.param((RUNNING,), "Running", id="running"),
        pytest.param((CRASHED,), "Running", id="waiting to be restarted"),
        pytest.param((RUNNING, DONE), "Running", id="one of two ended"),
        pytest.param((DONE, DONE), "Succeeded", id="all succeeded"),
        pytest.param((DONE, BROKEN), "Failed", id="one of two failed"),
    ],
)
def test_the_phase_follows_from_the_containers(containers: tuple[ContainerView, ...], phase: str) -> None:
    assert phase_of(False, True, containers) == phase


def test_a_failed_init_container_fails_the_pod() -> None:
    assert phase_of(True, False, (CREATING,)) == "Failed"


def test_a_pod_is_ready_when_all_its_containers_and_sidecars_are() -> None:
    unready = replace(RUNNING, name="sidecar", ready=False)
    assert condition(view(RUNNING), "Ready")["status"] == "True"
    told = condition(view(RUNNING, init=(unready,)), "Ready")
    assert (told["status"], told["message"]) == ("False", "containers with unready status: [sidecar]")


def test_a_completed_pod_is_not_ready() -> None:
    assert condition(view(DONE), "Ready")["reason"] == "PodCompleted"


def test_a_condition_keeps_its_time_until_its_status_changes() -> None:
    kept = {"conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": BEFORE}]}
    assert condition(view(RUNNING), "Ready", kept)["lastTransitionTime"] == BEFORE
    assert condition(view(CREATING), "Ready", kept)["lastTransitionTime"] == NOW


def test_a_restarted_container_shows_how_it_ended_before() -> None:
    (told,) = status(view(replace(RUNNING, last=FAILED, restarts=2)), {}, NOW)["containerStatuses"]
    assert told["restartCount"] == 2
    assert told["lastState"]["terminated"]["exitCode"] == 3
    assert told["state"] == {"running": {"startedAt": BEFORE}}
