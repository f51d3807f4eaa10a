"""The process node does with pods what a kubelet and a scheduler do, seen through a real API server."""

from collections.abc import Callable
from typing import Any

import pytest
from apiserver_waiting import SHELL, Waiter, wait_for

from expansion_development.kubernetes_api import Api, Manifest
from expansion_development.process_node.running import RunningNode

pytestmark = [pytest.mark.apiserver, pytest.mark.usefixtures("process_node")]


def container(script: str, **more: Any) -> Manifest:
    return {"name": "main", "image": SHELL, "command": ["/bin/sh", "-c", script], **more}


def pod(name: str, *containers: Manifest, **spec: Any) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {"containers": list(containers), "restartPolicy": "Never", **spec},
    }


def job(name: str, one: Manifest, **spec: Any) -> Manifest:
    template = {"spec": {"containers": [one], "restartPolicy": "Never"}}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name},
        "spec": {"template": template, **spec},
    }


@pytest.fixture
def wait_for_pod(api: Api, namespace: str) -> Callable[..., Manifest]:
    def wait(name: str, holds: Callable[[Manifest], Any], what: str, seconds: float = 30) -> Manifest:
        def look() -> Manifest | None:
            found = api.find("pods", namespace, name)
            return found if found and holds(found) else None

        found = wait_for(look, what, seconds)
        assert found is not None
        return found

    return wait


def phase(wanted: str) -> Callable[[Manifest], bool]:
    return lambda found: bool(found["status"].get("phase") == wanted)


def state(found: Manifest, index: int = 0) -> Manifest:
    statuses = found["status"].get("containerStatuses") or [{"state": {}}]
    return dict(statuses[index]["state"])


def waits_for(reason: str) -> Callable[[Manifest], bool]:
    return lambda found: state(found).get("waiting", {}).get("reason") == reason


def test_a_job_runs_to_completion(
    api: Api, namespace: str, wait_for_condition: Waiter, process_node: RunningNode
) -> None:
    api.create("jobs", namespace, job("work", container("echo done")))
    wait_for_condition("work", "Complete", plural="jobs")
    (ran,) = api.list("pods", namespace)
    assert ran["status"]["phase"] == "Succeeded"
    assert state(ran)["terminated"] | {"startedAt": "", "finishedAt": ""} == {
        "exitCode": 0,
        "reason": "Completed",
        "startedAt": "",
        "finishedAt": "",
        "containerID": ran["status"]["containerStatuses"][0]["containerID"],
    }
    assert process_node.logs_of(namespace, ran["metadata"]["name"], "main") == "done\n"
