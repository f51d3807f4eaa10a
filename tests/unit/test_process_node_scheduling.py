"""Quantities, and which pods fit."""

from fractions import Fraction
from typing import Any

import pytest

from expansion_development.process_node.quantities import quantity, requests_of, why_unschedulable

NODE = {
    "metadata": {"labels": {"disk": "fast"}},
    "status": {"allocatable": {"cpu": "4", "memory": "8Gi", "pods": "2", "nvidia.com/gpu": "1"}},
}


def pod(*requests: dict[str, str], init: tuple[dict[str, Any], ...] = (), **spec: Any) -> dict[str, Any]:
    containers = [{"resources": {"requests": one}} for one in requests]
    return {"spec": {"containers": containers, "initContainers": list(init), **spec}}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("500m", Fraction(1, 2)),
        ("2", Fraction(2)),
        ("1.5", Fraction(3, 2)),
        ("4Gi", Fraction(4 * 2**30)),
        ("1k", Fraction(1000)),
        ("1e3", Fraction(1000)),
        (3, Fraction(3)),
    ],
)
def test_a_quantity_is_read_as_kubernetes_writes_it(text: str | int, value: Fraction) -> None:
    assert quantity(text) == value


def test_a_pod_needs_the_sum_of_its_containers_and_sidecars_or_its_largest_init_container() -> None:
    sidecar = {"restartPolicy": "Always", "resources": {"requests": {"cpu": "1"}}}
    early = {"resources": {"requests": {"cpu": "2", "memory": "3Gi"}}}
    needed = requests_of(pod({"cpu": "1", "memory": "1Gi"}, {"cpu": "500m"}, init=(sidecar, early)))
    assert needed == {"pods": 1, "cpu": Fraction(5, 2), "memory": 3 * 2**30}


def test_limits_stand_for_requests_that_are_not_given() -> None:
    one = {"spec": {"containers": [{"resources": {"limits": {"nvidia.com/gpu": "1"}}}]}}
    assert requests_of(one)["nvidia.com/gpu"] == 1


@pytest.mark.parametrize(
    ("wanted", "running", "reason"),
    [
        pytest.param(pod({"cpu": "3"}), [pod({"cpu": "2"})], "1 Insufficient cpu", id="cpu"),
        pytest.param(
            pod({"nvidia.com/gpu": "1"}),
            [pod({"nvidia.com/gpu": "1"})],
            "1 Insufficient nvidia.com/gpu",
            id="gpu",
        ),
        pytest.param(pod({}), [pod({}), pod({})], "1 Too many pods", id="pods"),
        pytest.param(pod({"amd.com/gpu": "1"}), [], "1 Insufficient amd.com/gpu", id="unknown resource"),
        pytest.param(
            pod({}, nodeSelector={"disk": "slow"}),
            [],
            "1 node(s) didn't match Pod's node affinity/selector",
            id="selector",
        ),
    ],
)
def test_what_does_not_fit_is_refused_in_the_schedulers_words(
    wanted: dict[str, Any], running: list[dict[str, Any]], reason: str
) -> None:
    why = why_unschedulable(wanted, NODE, running)
    assert why is not None
    assert why.startswith(f"0/1 nodes are available: {reason}. ")


def test_what_fits_is_not_refused() -> None:
    wanted = pod({"cpu": "2", "memory": "4Gi"}, nodeSelector={"disk": "fast"})
    assert why_unschedulable(wanted, NODE, [pod({"cpu": "2"})]) is None
