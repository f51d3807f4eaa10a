"""Two operators and one Lease: the second waits ready, takes over when the first is gone, and never acts beside it."""

import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from apiserver_expansions import Operator, Team, add_images, install_definition
from apiserver_waiting import wait_for
from kubernetes import client, config

from expansion_development.kubernetes_api import Api, Manifest
from expansion_development.object_store import ObjectStore
from expansion_development.process_node.running import RunningNode
from expansion_operator.cluster import ApiError, Cluster

pytestmark = pytest.mark.apiserver
Start = Callable[[str], Operator]
LONGEST_GAP = 20.0
"""Seconds from the death of a leader to the first act of the next one."""


@pytest.fixture
def team(api: Api, namespace: str, moto_store: ObjectStore, bucket: str, process_node: RunningNode) -> Team:
    install_definition(api)
    add_images(process_node)
    team = Team(api, namespace, moto_store, bucket)
    team.create_secret()
    team.put_images(tulip=20, rose=20)
    return team


@pytest.fixture
def start(kubeconfig: Path, namespace: str, tmp_path: Path) -> Iterator[Start]:
    """One of several operators, by the name it has in the Lease."""
    started: list[Operator] = []

    def start(name: str) -> Operator:
        lease = {"lease": f"{namespace}/operator", "identity": name}
        operator = Operator(kubeconfig, tmp_path / f"{name}.log", namespace, **lease)
        started.append(operator.__enter__())
        return operator

    yield start
    for operator in started:
        operator.__exit__()


@pytest.fixture
def holder(api: Api, namespace: str) -> Callable[[], str]:
    def holder() -> str:
        lease = api.find("leases", namespace, "operator") or {}
        return str(lease.get("spec", {}).get("holderIdentity") or "")

    return holder


def leads(operator: Operator) -> bool:
    return "expansion_operator_leader 1.0" in operator.scrape()


def watching(operator: Operator) -> bool:
    return "watching" in operator.log.read_text()


def test_the_one_that_waits_is_ready_and_does_nothing(
    team: Team, start: Start, holder: Callable[[], str]
) -> None:
    first = start("first")
    wait_for(lambda: watching(first), "the first to lead", 60)
    second = start("second")
    wait_for(lambda: second.healthy("readyz"), "the second to be ready", 30)
    team.apply()
    wait_for(lambda: team.versions() == [1], "a version", 60)
    assert (leads(first), leads(second)) == (True, False)
    assert (holder(), watching(second)) == ("first", False)


def test_after_an_orderly_end_the_other_one_acts_at_once(
    team: Team, start: Start, holder: Callable[[], str]
) -> None:
    first = start("first")
    wait_for(lambda: watching(first), "the first to lead", 60)
    second = start("second")
    wait_for(lambda: second.healthy("readyz"), "the second to be ready", 30)
    assert first.stop() == 0
    began = time.monotonic()
    wait_for(lambda: watching(second), "the second to lead", 30)
    assert time.monotonic() - began < 10
    assert holder() == "second"


def test_a_killed_leader_is_replaced_in_time_and_its_run_is_not_started_again(
    team: Team, start: Start
) -> None:
    first = start("first")
    wait_for(lambda: watching(first), "the first to lead", 60)
    second = start("second")
    wait_for(lambda: second.healthy("readyz"), "the second to be ready", 30)
    team.apply()
    wait_for(lambda: team.jobs(), "the Job", 60, 0.05)
    first.kill()
    began = time.monotonic()
    wait_for(lambda: watching(second), "the second to lead", 60, 0.1)
    assert time.monotonic() - began < LONGEST_GAP
    wait_for(lambda: team.versions() == [1], "a version", 60)
    assert len(team.jobs()) == 1


def test_a_leader_that_slept_through_its_lease_ends_when_it_wakes_up(team: Team, start: Start) -> None:
    first = start("first")
    wait_for(lambda: watching(first), "the first to lead", 60)
    second = start("second")
    assert first.process is not None
    first.process.send_signal(signal.SIGSTOP)
    wait_for(lambda: watching(second), "the second to lead", 60)
    first.process.send_signal(signal.SIGCONT)
    assert first.process.wait(timeout=30) == 1
    assert "has lost the Lease" in first.log.read_text()
    assert leads(second)


class Sleepy(client.ApiClient):
    """A client that dozes off between what it has read and what it writes."""

    def __init__(self, configuration: client.Configuration, meanwhile: Callable[[], object]) -> None:
        super().__init__(configuration)
        self._meanwhile = meanwhile

    def call_api(self, method: str, *arguments: Any, **options: Any) -> Any:
        if method == "PATCH":
            self._meanwhile()
        return super().call_api(method, *arguments, **options)


def service(owner: Manifest, port: int) -> Manifest:
    reference = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
        "controller": True,
    }
    metadata = {"name": "served", "namespace": owner["metadata"]["namespace"], "ownerReferences": [reference]}
    spec = {"selector": {"app": "served"}, "ports": [{"port": port}]}
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}


def test_what_a_sleeper_writes_after_its_successor_is_rejected(
    api: Api, namespace: str, kubeconfig: Path
) -> None:
    owner = api.create(
        "configmaps", namespace, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "owner"}}
    )
    configuration = client.Configuration()
    config.load_kube_config(str(kubeconfig), client_configuration=configuration)
    successor = Cluster(client.ApiClient(configuration))
    uid = owner["metadata"]["uid"]
    successor.apply(service(owner, 8501), uid)
    sleeper = Cluster(Sleepy(configuration, lambda: successor.apply(service(owner, 8502), uid)))
    with pytest.raises(ApiError) as rejected:
        sleeper.apply(service(owner, 8500), uid)
    assert rejected.value.status == 409
    assert [port["port"] for port in api.get("services", namespace, "served")["spec"]["ports"]] == [8502]
