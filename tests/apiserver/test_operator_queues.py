"""Runs in a queue, with a real API server. Kueue is not here, see apiserver_kueue."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from apiserver_expansions import Operator, Team, add_images, install_definition, message
from apiserver_kueue import kueue_of, take_into_queue
from apiserver_waiting import Waiter, wait_for

from expansion_development.kubernetes_api import Api
from expansion_development.object_store import ObjectStore
from expansion_development.process_node.running import RunningNode
from expansion_operator.queueing import QUEUE_LABEL

pytestmark = pytest.mark.apiserver


@pytest.fixture(scope="module")
def operator(
    kubeconfig: Path, api: Api, process_node: RunningNode, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Operator]:
    install_definition(api)
    add_images(process_node)
    with Operator(kubeconfig, tmp_path_factory.mktemp("queues") / "operator.log") as running:
        yield running


@pytest.fixture
def team(api: Api, namespace: str, moto_store: ObjectStore, bucket: str, operator: Operator) -> Team:
    team = Team(api, namespace, moto_store, bucket)
    team.create_secret()
    team.put_images(tulip=30, rose=30)
    return team


@pytest.fixture
def kueue(api: Api) -> Iterator[None]:
    with kueue_of(api):
        yield


def queued(team: Team) -> None:
    team.apply(compute={"gpusPerWorker": 0, "queueName": "gpus"})


def test_without_kueue_a_queue_is_refused_and_no_job_is_made(team: Team, wait_for_condition: Waiter) -> None:
    queued(team)
    refused = wait_for_condition("flowers", "Stalled", reason="KueueMissing")
    assert "spec.compute.queueName is gpus, but this cluster has no Kueue" in message(refused, "Stalled")
    assert team.jobs() == []


@pytest.mark.usefixtures("kueue")
def test_a_queued_run_says_what_it_waits_for_and_goes_on_when_it_is_admitted(
    team: Team, wait_for_condition: Waiter, kubeconfig: Path
) -> None:
    queued(team)
    (job,) = wait_for(team.jobs, "the Job")
    assert job["metadata"]["labels"][QUEUE_LABEL] == "gpus"
    name = job["metadata"]["name"]
    team.api.patch("jobs", team.namespace, name, {"spec": {"suspend": True}})
    wait_for_condition("flowers", "Trained", "Unknown", reason="Queued")
    take_into_queue(
        kubeconfig, team.namespace, job, QuotaReserved=("False", "insufficient quota for nvidia.com/gpu")
    )
    wait_for(
        lambda: "insufficient quota for nvidia.com/gpu" in message(team.get(), "Trained"), "Kueue's words"
    )
    take_into_queue(kubeconfig, team.namespace, job, Evicted=("True", "Preempted by another team."))
    wait_for_condition("flowers", "Trained", "Unknown", reason="Evicted")
    assert team.get()["status"]["phase"] == "Queued"
    team.api.patch("jobs", team.namespace, name, {"spec": {"suspend": False}})
    wait_for_condition("flowers", "Ready")
    assert [one["metadata"]["uid"] for one in team.jobs()] == [job["metadata"]["uid"]]
