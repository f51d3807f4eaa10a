"""Which pods a Service reaches, and when a probe has made up its mind."""

from typing import Any

import pytest

from expansion_development.process_node.endpoint_slices import endpoint_slice
from expansion_development.process_node.probes import Probe

SERVICE = {
    "metadata": {"name": "web", "namespace": "team", "uid": "1"},
    "spec": {"selector": {"app": "web"}, "ports": [{"name": "http", "port": 80, "targetPort": "rest"}]},
}


def pod(name: str, ready: str = "True", **changes: Any) -> dict[str, Any]:
    container = {"name": "main", "ports": [{"name": "rest", "containerPort": 8501}]}
    made = {
        "metadata": {"name": name, "namespace": "team", "uid": name, "labels": {"app": "web"}},
        "spec": {"containers": [container], "nodeName": "process-node"},
        "status": {
            "phase": "Running",
            "podIP": "127.1.0.5",
            "conditions": [{"type": "Ready", "status": ready}],
        },
    }
    return {part: {**content, **changes.get(part, {})} for part, content in made.items()}


def reached(*pods: dict[str, Any]) -> list[tuple[str, bool]]:
    found = endpoint_slice(SERVICE, pods)["endpoints"]
    return [(one["targetRef"]["name"], one["conditions"]["ready"]) for one in found]


def test_a_ready_pod_is_reached_at_its_address_and_named_port() -> None:
    made = endpoint_slice(SERVICE, [pod("a")])
    assert made["endpoints"][0]["addresses"] == ["127.1.0.5"]
    assert made["ports"] == [{"name": "http", "port": 8501, "protocol": "TCP"}]
    assert made["metadata"]["labels"]["kubernetes.io/service-name"] == "web"


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        pytest.param(pod("a", ready="False"), [("a", False)], id="not ready"),
        pytest.param(pod("a", metadata={"deletionTimestamp": "now"}), [("a", False)], id="going"),
        pytest.param(pod("a", metadata={"labels": {"app": "other"}}), [], id="another label"),
        pytest.param(pod("a", metadata={"namespace": "other"}), [], id="another namespace"),
        pytest.param(pod("a", status={"phase": "Succeeded"}), [], id="over"),
        pytest.param(pod("a", status={"podIP": None}), [], id="no address yet"),
    ],
)
def test_only_ready_pods_of_the_selector_get_requests(
    found: dict[str, Any], expected: list[tuple[str, bool]]
) -> None:
    assert reached(found) == expected


def test_the_slice_goes_with_its_service() -> None:
    (owner,) = endpoint_slice(SERVICE, [])["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["uid"]) == ("Service", "1")


def after(answers: list[bool], **spec: int) -> list[bool | None]:
    """What a probe has decided after each answer."""
    probe = Probe.of({"periodSeconds": 1, **spec}, started=0.0)
    assert probe is not None
    decided = []
    for second, answer in enumerate(answers, start=spec.get("initialDelaySeconds", 0)):
        probe.ask({}, "host", float(second), lambda *_, answer=answer: None if answer else "no")
        decided.append(probe.passing)
    return decided


@pytest.mark.parametrize(
    ("answers", "spec", "decided"),
    [
        pytest.param([True], {}, [True], id="one success will do"),
        pytest.param([False, False, False], {}, [None, None, False], id="three failures"),
        pytest.param([False, False, True, False], {}, [None, None, True, True], id="a success starts anew"),
        pytest.param([True, True], {"successThreshold": 2}, [None, True], id="two successes asked for"),
        pytest.param([False, True], {"failureThreshold": 1}, [False, True], id="recovered"),
    ],
)
def test_a_probe_decides_when_a_threshold_is_reached(
    answers: list[bool], spec: dict[str, int], decided: list[bool | None]
) -> None:
    assert after(answers, **spec) == decided


def test_a_probe_is_not_asked_before_its_time() -> None:
    probe = Probe.of({"initialDelaySeconds": 5, "periodSeconds": 10}, started=100.0)
    assert probe is not None
    asked = []
    for now in (104.9, 105.0, 110.0, 115.0):
        probe.ask({}, "host", now, lambda *_, now=now: asked.append(now))
    assert asked == [105.0, 115.0]
