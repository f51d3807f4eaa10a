"""The whole job on a real node: from `kubectl apply` to an answer over the Service, and what is left after `kubectl delete`."""

import base64
import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from cluster_digits import cat, unseen
from cluster_store import Store
from cluster_tools import (
    SYSTEM,
    VISION,
    Body,
    acting_operator,
    attempt,
    children,
    condition,
    diagnosis,
    expansion_named,
    in_the_operator,
    kubectl,
    kubectl_json,
    operators_said,
    patch,
    wait_for,
    wait_until_gone,
)

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

POST = """
import sys, urllib.request
request = urllib.request.Request(sys.argv[1], sys.stdin.buffer.read(), {"Content-Type": "application/json"})
print(urllib.request.urlopen(request, timeout=60).read().decode())
"""
GET = "import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1], timeout=30).read().decode())"


def answers(name: str, *pictures: bytes) -> list[dict[str, Any]]:
    """The Service's, at the address that stands in the resource's status."""
    url = expansion_named(name)["status"]["serving"]["url"]
    asked = {"instances": [{"b64": base64.b64encode(picture).decode()} for picture in pictures]}
    said = in_the_operator("python", "-c", POST, url, given=json.dumps(asked))
    predictions: list[dict[str, Any]] = json.loads(said)["predictions"]
    return predictions


def metrics() -> str:
    """Of the operator that acts: the other one knows of no resource."""
    address = acting_operator()["status"]["podIP"]
    return in_the_operator("python", "-c", GET, f"http://{address}:8080/metrics")


def pods(name: str, component: str) -> list[Body]:
    found = children(name, "pods")
    return [p for p in found if p["metadata"]["labels"]["app.kubernetes.io/component"] == component]


def test_a_picture_posted_to_the_service_is_answered_with_its_category(ready: str):
    seven, cat_again, eight = answers(ready, unseen("seven", "PNG"), cat(), unseen("eight", "JPEG"))
    assert seven["names"][0] == "seven"
    assert eight["names"][0] == "eight"
    assert cat_again["names"][0] in {"tabby", "tiger_cat", "Egyptian_cat"}


def test_kubectl_get_shows_what_matters(ready: str):
    header, row = kubectl("get", "clx", ready, "--namespace", VISION).splitlines()
    for column in ("READY", "PHASE", "CATEGORIES", "ACCURACY", "VERSION", "AGE"):
        assert column in header
    assert row.split()[:3] == [ready, "True", "Ready"]
    assert "1010" in row.split()


def test_the_job_had_its_gpu_and_ran_once(ready: str):
    (job,) = children(ready, "jobs")
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert job["status"]["succeeded"] == 1
    assert job["status"].get("failed", 0) == 0


@pytest.mark.parametrize("component", ["trainer", "model-server"])
def test_no_pod_of_ours_holds_an_api_token(ready: str, component: str):
    found = pods(ready, component)
    assert found
    for pod in found:
        assert pod["spec"]["automountServiceAccountToken"] is False
        assert not [source for volume in pod["spec"]["volumes"] for source in volume if source == "projected"]


def test_the_model_server_sees_no_api_token(ready: str):
    (pod,) = pods(ready, "model-server")
    name = pod["metadata"]["name"]
    look = (
        "exec",
        "--namespace",
        VISION,
        name,
        "--container",
        "model-server",
        "--",
        "ls",
        "/var/run/secrets",
    )
    assert attempt("kubectl", *look).returncode != 0


def test_all_pods_pass_pod_security_restricted(ready: str):
    """Both namespaces enforce it, so the pods would not exist; this asks the API server about each namespace once more."""
    for namespace in (VISION, SYSTEM):
        warned = attempt(
            "kubectl",
            "label",
            "--dry-run=server",
            "--overwrite",
            "namespace",
            namespace,
            "pod-security.kubernetes.io/enforce=restricted",
        )
        assert warned.returncode == 0
        assert "violate" not in warned.stderr


def test_the_operator_stays_small_and_has_no_tensorflow(ready: str):
    status = in_the_operator("cat", "/proc/1/status")
    peak = next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))
    assert int(peak) / 1024 < 150
    assert not any(library in in_the_operator("cat", "/proc/1/maps") for library in ("tensorflow", "numpy"))
    found = in_the_operator(
        "python",
        "-c",
        "import importlib.util as i; print([n for n in ('tensorflow', 'numpy') if i.find_spec(n)])",
    )
    assert found.strip() == "[]"


def test_the_operator_never_restarted(ready: str):
    pods = kubectl_json("get", "pods", "--namespace", SYSTEM)["items"]
    restarts = [pod["status"]["containerStatuses"][0]["restartCount"] for pod in pods]
    assert restarts == [0, 0], diagnosis(ready)


def test_one_of_the_two_operators_acts_and_the_other_is_ready(ready: str):
    pods = kubectl_json("get", "pods", "--namespace", SYSTEM)["items"]
    acting = acting_operator()["metadata"]["name"]
    said = {
        pod["metadata"]["name"]: kubectl("logs", pod["metadata"]["name"], "--namespace", SYSTEM)
        for pod in pods
    }
    assert {name: "watching" in words for name, words in said.items()} == {
        name: name == acting for name in said
    }


def test_the_operator_lacks_no_permission(ready: str):
    assert "forbidden" not in operators_said().lower()


def test_the_metrics_service_has_the_series_that_the_alert_compares(ready: str):
    said = metrics()
    of_ours = f'{{name="{ready}",namespace="{VISION}"}}'
    swapped = f'{{namespace="{VISION}",name="{ready}"}}'
    for series in (
        "expansion_accuracy_ratio",
        "expansion_new_category_accuracy_ratio",
        "expansion_new_category_accuracy_threshold_ratio",
    ):
        assert f"{series}{of_ours}" in said or f"{series}{swapped}" in said
    assert f"expansion_accuracy_threshold_ratio{swapped}" not in said, (
        "no threshold was set, so there is none to alert on"
    )


def test_events_tell_the_story(ready: str):
    described = kubectl("describe", "clx", ready, "--namespace", VISION)
    assert "Events:" in described
    assert "Published" in described


def test_a_threshold_is_judged_again_without_a_second_job(ready: str, store: Store):
    (before,) = children(ready, "jobs")
    patch(ready, {"acceptance": {"minimumNewCategoryAccuracy": 1.0, "confidence": 0.95}})
    wait_until(lambda: condition(ready, "Accepted").get("status") == "False", ready)
    assert condition(ready, "Stalled")["status"] == "True"
    assert answers(ready, unseen("seven", "PNG"))[0]["names"][0] == "seven", "what is served stays served"
    patch(ready, {"acceptance": {"minimumNewCategoryAccuracy": 0.5, "confidence": None}})
    wait_for("Ready", ready, 60)
    (after,) = children(ready, "jobs")
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    assert versions(store, ready) == [1]


def test_an_image_that_cannot_be_pulled_is_named_while_the_old_model_servers_go_on(ready: str):
    good = expansion_named(ready)["spec"]["serving"]["image"]
    patch(ready, {"serving": {"image": "localhost/no-such-image:1"}})
    wait_until(lambda: "localhost/no-such-image:1" in condition(ready, "Ready").get("message", ""), ready)
    assert "pull" in condition(ready, "Ready")["message"].lower()
    assert answers(ready, unseen("seven", "PNG"))[0]["names"][0] == "seven"
    patch(ready, {"serving": {"image": good}})
    wait_for("Ready", ready, 60)


def test_deleting_it_leaves_no_child_and_keeps_the_published_models(ready: str, store: Store):
    kubectl("delete", "clx", ready, "--namespace", VISION, "--wait", seconds=120)
    wait_until_gone(ready, "jobs,deployments,replicasets,services,pods", 120)
    assert versions(store, ready) == [1]
    assert f'name="{ready}"' not in metrics()


def versions(store: Store, name: str) -> list[int]:
    committed = [key for key in store.keys("models", f"{name}/versions/") if key.endswith("/manifest.json")]
    return sorted(int(key.split("/")[-2]) for key in committed)


def wait_until(holds: Callable[[], bool], name: str, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, diagnosis(name)
        time.sleep(0.5)
