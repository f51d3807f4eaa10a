"""The process node does with pods what a kubelet and a scheduler do, seen through a real API server."""

import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from apiserver_waiting import SHELL, Waiter, condition_of, wait_for

from expansion_development.control_plane import ControlPlane
from expansion_development.kubernetes_api import Api, Manifest
from expansion_development.process_node.images import Program
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


def test_a_permanent_exit_code_fails_the_job_at_once_and_any_other_is_tried_again(
    api: Api, namespace: str, wait_for_condition: Waiter
) -> None:
    rule = {
        "action": "FailJob",
        "onExitCodes": {"containerName": "main", "operator": "In", "values": [11]},
    }
    for name, code in (("permanent", 11), ("passing", 1)):
        policy = {"podFailurePolicy": {"rules": [rule]}, "backoffLimit": 1, "podReplacementPolicy": "Failed"}
        api.create("jobs", namespace, job(name, container(f"exit {code}"), **policy))
    wait_for_condition("permanent", "Failed", reason="PodFailurePolicy", plural="jobs")
    wait_for_condition("passing", "Failed", reason="BackoffLimitExceeded", plural="jobs")
    tried = [one["metadata"]["labels"]["job-name"] for one in api.list("pods", namespace)]
    assert sorted(tried) == ["passing", "passing", "permanent"]


def test_the_termination_message_is_what_the_container_wrote_or_the_end_of_its_log(
    api: Api, namespace: str, wait_for_pod: Callable[..., Manifest]
) -> None:
    fallback = {"terminationMessagePolicy": "FallbackToLogsOnError"}
    path = {"terminationMessagePath": "/dev/termination-log"}
    wrote = container("echo noise; printf last-words > /dev/termination-log; exit 3", **fallback, **path)
    silent = container("echo first; echo 'out of luck'; exit 4", **fallback)
    by_variable = container('printf "by variable" > "$EXPANSION_TERMINATION_LOG"; exit 5')
    for name, one in (("wrote", wrote), ("silent", silent), ("variable", by_variable)):
        api.create("pods", namespace, pod(name, one))
    ended = {
        name: state(wait_for_pod(name, phase("Failed"), "its end"))["terminated"]
        for name in ("wrote", "silent", "variable")
    }
    assert {name: (end["exitCode"], end["reason"], end["message"]) for name, end in ended.items()} == {
        "wrote": (3, "Error", "last-words"),
        "silent": (4, "Error", "first\nout of luck"),
        "variable": (5, "Error", "by variable"),
    }


def test_a_deployment_rolls_out_when_its_pods_answer_their_probes(
    api: Api, namespace: str, wait_for_condition: Waiter, process_node: RunningNode
) -> None:
    process_node.add_image("web:1", Program(entrypoint=("python3", "-m", "http.server")))
    probe = {"httpGet": {"path": "/", "port": "http"}, "periodSeconds": 1}
    server = {
        "name": "web",
        "image": "web:1",
        "args": ["--bind", "$(POD_IP)", "8000"],
        "env": [{"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}],
        "ports": [{"name": "http", "containerPort": 8000}],
        "readinessProbe": probe,
    }
    labels = {"app": "web"}
    spec = {
        "replicas": 2,
        "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": {"containers": [server]}},
    }
    deployment = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": spec}
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web"},
        "spec": {"selector": labels, "ports": [{"name": "http", "port": 80, "targetPort": "http"}]},
    }
    api.create("services", namespace, service)
    api.create("deployments", namespace, deployment)
    wait_for_condition("web", "Available", plural="deployments")

    def ready_endpoints() -> list[str]:
        slices = api.list("endpointslices", namespace, labelSelector="kubernetes.io/service-name=web")
        endpoints = [one for each in slices for one in each["endpoints"] if one["conditions"]["ready"]]
        found = [f"http://{one['addresses'][0]}:{slices[0]['ports'][0]['port']}" for one in endpoints]
        return found if len(found) == 2 else []

    addresses = wait_for(ready_endpoints, "two ready endpoints")
    assert [urllib.request.urlopen(address, timeout=5).status for address in addresses] == [200, 200]


def test_a_native_sidecar_starts_first_and_does_not_keep_the_pod_from_completing(
    api: Api, namespace: str, wait_for_pod: Callable[..., Manifest], process_node: RunningNode
) -> None:
    shared = {"volumeMounts": [{"name": "shared", "mountPath": "/shared"}]}
    script = "trap 'echo told; exit 0' TERM; echo here > /shared/file; while :; do sleep 0.1; done"
    sidecar = {
        **container(script, **shared),
        "name": "sidecar",
        "restartPolicy": "Always",
        "startupProbe": {"exec": {"command": ["sleep", "0.5"]}, "periodSeconds": 1, "timeoutSeconds": 5},
    }
    before = {**container("echo first > /shared/first", **shared), "name": "before"}
    main = container("cat /shared/first /shared/file", **shared)
    volumes = [{"name": "shared", "emptyDir": {}}]
    api.create("pods", namespace, pod("both", main, initContainers=[before, sidecar], volumes=volumes))
    ended = wait_for_pod("both", phase("Succeeded"), "its completion")
    assert process_node.logs_of(namespace, "both", "main") == "first\nhere\n"
    assert process_node.logs_of(namespace, "both", "sidecar") == "told\n"
    states = {one["name"]: one["state"] for one in ended["status"]["initContainerStatuses"]}
    assert [states[name]["terminated"]["exitCode"] for name in ("before", "sidecar")] == [0, 0]


def test_a_failed_init_container_fails_the_pod_and_nothing_after_it_starts(
    api: Api, namespace: str, wait_for_pod: Callable[..., Manifest]
) -> None:
    broken = {**container("exit 9"), "name": "broken"}
    api.create("pods", namespace, pod("early", container("echo never"), initContainers=[broken]))
    failed = wait_for_pod("early", phase("Failed"), "its failure")
    assert state(failed) == {"waiting": {"reason": "PodInitializing"}}
    assert condition_of(failed, "Initialized")["status"] == "False"


def test_an_unknown_image_waits_as_a_kubelet_says_it_and_heals_when_the_image_arrives(
    api: Api, namespace: str, wait_for_pod: Callable[..., Manifest], process_node: RunningNode
) -> None:
    one = {"name": "main", "image": "late:1"}
    api.create("pods", namespace, pod("late", one))
    waiting = wait_for_pod("late", waits_for("ImagePullBackOff"), "ImagePullBackOff")
    assert waiting["status"]["phase"] == "Pending"
    assert state(waiting)["waiting"]["message"].startswith('Back-off pulling image "late:1": ErrImagePull: ')
    said = {event["reason"]: event["message"] for event in api.list("events", namespace)}
    assert 'Failed to pull image "late:1"' in said["Failed"] or "ImagePull" in said["Failed"]
    process_node.add_image("late:1", Program(entrypoint=("true",)))
    wait_for_pod("late", phase("Succeeded"), "its completion")


def test_a_missing_secret_holds_the_container_back_until_it_is_created(
    api: Api, namespace: str, wait_for_pod: Callable[..., Manifest], process_node: RunningNode
) -> None:
    script = 'echo "$AWS_ACCESS_KEY_ID $(cat /keys/AWS_ACCESS_KEY_ID) $REGION"'
    source = {"configMapKeyRef": {"name": "settings", "key": "region", "optional": True}}
    main = container(
        script,
        envFrom=[{"secretRef": {"name": "keys"}}],
        env=[{"name": "REGION", "valueFrom": source}],
        volumeMounts=[{"name": "keys", "mountPath": "/keys"}],
    )
    volumes = [{"name": "keys", "secret": {"secretName": "keys", "optional": True}}]
    api.create("pods", namespace, pod("reader", {**main, "volumeMounts": []}))
    waiting = wait_for_pod("reader", waits_for("CreateContainerConfigError"), "CreateContainerConfigError")
    assert state(waiting)["waiting"]["message"] == 'secret "keys" not found'
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "keys"}}
    api.create("secrets", namespace, {**secret, "stringData": {"AWS_ACCESS_KEY_ID": "abc"}})
    wait_for_pod("reader", phase("Succeeded"), "its completion")
    api.create("pods", namespace, pod("mounter", main, volumes=volumes))
    wait_for_pod("mounter", phase("Succeeded"), "its completion")
    assert process_node.logs_of(namespace, "mounter", "main") == "abc abc \n"


def test_deletion_lets_the_process_end_in_order_and_kills_it_when_the_grace_is_over(
    api: Api, namespace: str, wait_for_pod: Callable[..., Manifest], process_node: RunningNode
) -> None:
    polite = container("trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.1; done")
    deaf = container("trap '' TERM; echo up; while :; do sleep 0.1; done")
    for name, one in (("polite", polite), ("deaf", deaf)):
        api.create("pods", namespace, pod(name, one, terminationGracePeriodSeconds=2))
        wait_for(lambda name=name: process_node.logs_of(namespace, name, "main"), f"{name} to run")
    started = time.monotonic()
    for name in ("polite", "deaf"):
        api.delete("pods", namespace, name)
    wait_for(lambda: not api.list("pods", namespace), "both to be gone", 20)
    assert time.monotonic() - started >= 2
    assert process_node.logs_of(namespace, "polite", "main") == "up\nbye\n"


def test_a_container_that_outgrows_its_memory_is_killed_as_out_of_memory(
    api: Api, namespace: str, wait_for_pod: Callable[..., Manifest]
) -> None:
    script = "python3 -c 'import time; kept = bytearray(b\"x\") * 300_000_000; time.sleep(60)'"
    limited = container(script, resources={"limits": {"memory": "100Mi"}})
    api.create("pods", namespace, pod("hungry", limited))
    ended = state(wait_for_pod("hungry", phase("Failed"), "its end"))["terminated"]
    assert (ended["exitCode"], ended["reason"]) == (137, "OOMKilled")


def test_a_crashing_container_backs_off_and_is_started_again(
    api: Api, namespace: str, wait_for_pod: Callable[..., Manifest]
) -> None:
    once = container("test -e mark || { touch mark; exit 7; }; sleep 60")
    api.create("pods", namespace, pod("crash", once, restartPolicy="Always"))
    waiting = wait_for_pod("crash", waits_for("CrashLoopBackOff"), "CrashLoopBackOff")
    assert waiting["status"]["containerStatuses"][0]["lastState"]["terminated"]["exitCode"] == 7
    again = wait_for_pod("crash", lambda found: "running" in state(found), "its second start")
    assert again["status"]["containerStatuses"][0]["restartCount"] == 1
    assert condition_of(again, "Ready")["status"] == "True"


def test_a_pod_that_does_not_fit_waits_with_the_schedulers_words_until_there_is_room(
    api: Api, namespace: str, wait_for_pod: Callable[..., Manifest]
) -> None:
    gpu = {"resources": {"limits": {"nvidia.com/gpu": "1"}}}
    api.create("pods", namespace, pod("holder", container("sleep 60", **gpu)))
    wait_for_pod("holder", phase("Running"), "the first to run")
    api.create("pods", namespace, pod("second", container("true", **gpu)))
    waiting = wait_for_pod(
        "second", lambda found: condition_of(found, "PodScheduled").get("status") == "False", "a refusal"
    )
    assert condition_of(waiting, "PodScheduled")["reason"] == "Unschedulable"
    assert condition_of(waiting, "PodScheduled")["message"].startswith(
        "0/1 nodes are available: 1 Insufficient nvidia.com/gpu."
    )
    api.delete("pods", namespace, "holder", grace_seconds=0)
    wait_for_pod("second", phase("Succeeded"), "the second to run")


def test_a_quota_refuses_a_jobs_pods_in_the_api_servers_words(
    api: Api, namespace: str, wait_for_condition: Waiter
) -> None:
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "none"},
        "spec": {"hard": {"pods": "0"}},
    }
    api.create("resourcequotas", namespace, quota)
    wait_for(lambda: api.get("resourcequotas", namespace, "none").get("status"), "the quota to count")
    api.create("jobs", namespace, job("refused", container("true")))

    def refusals() -> list[str]:
        events = api.list("events", namespace)
        return [event["message"] for event in events if event["reason"] == "FailedCreate"]

    assert "exceeded quota: none" in wait_for(refusals, "a refusal")[0]


def test_a_pod_that_ended_in_the_moment_in_which_it_was_deleted_is_removed(tmp_path: Path) -> None:
    """Else its Job, deleted in the foreground, would wait for ever."""
    with ControlPlane() as plane:
        api = Api(plane.kubeconfig)
        wait_for(lambda: api.find("serviceaccounts", "default", "default"), "the default service account")
        spec = {"nodeName": "process-node", "containers": [container("true")]}
        api.create(
            "pods", "default", {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "late"}, "spec": spec}
        )
        api.patch("pods", "default", "late", {"status": {"phase": "Running"}}, part="status")
        api.delete("pods", "default", "late")
        api.patch("pods", "default", "late", {"status": {"phase": "Succeeded"}}, part="status")
        assert "deletionTimestamp" in api.get("pods", "default", "late")["metadata"]
        with RunningNode(plane.kubeconfig, tmp_path / "node", {}):
            wait_for(lambda: api.find("pods", "default", "late") is None, "the pod to be gone", 30)


def test_everything_a_node_started_dies_with_it(kubeconfig: Path, tmp_path: Path) -> None:
    mark = f"sleep 86{os.getpid()}"
    launcher = f"import sys; sys.path[:0] = {sys.path!r}"
    script = (
        f"{launcher}\nfrom pathlib import Path\nfrom expansion_development import processes\n"
        f"import threading, time\nprocesses.start({mark.split()!r}, Path({str(tmp_path / 'log')!r}))\ntime.sleep(60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", script])
    try:
        wait_for(lambda: _running(mark), "the child to run")
    finally:
        parent.kill()
        parent.wait()
    wait_for(lambda: not _running(mark), "the child to die", 5)


def _running(command: str) -> bool:
    lines = [path.read_bytes().replace(b"\0", b" ").strip() for path in _command_lines()]
    return command.encode() in lines


def _command_lines() -> list[Path]:
    return [path for path in Path("/proc").glob("[0-9]*/cmdline") if os.access(path, os.R_OK)]
