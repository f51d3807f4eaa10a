"""Runs in a queue, with a real API server. Kueue is not here: the test defines its Workload and does what its manager does to a Job."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from apiserver_expansions import Operator, Team, add_images, install_definition, message
from apiserver_waiting import Waiter, condition_of, wait_for
from kubernetes import client, config
from kubernetes.client import ApiException

from expansion_development.kubernetes_api import Api, Manifest
from expansion_development.object_store import ObjectStore
from expansion_development.process_node.running import RunningNode
from expansion_operator.queueing import JOB_UID_LABEL, QUEUE_LABEL

pytestmark = pytest.mark.apiserver
WORKLOADS = "workloads.kueue.x-k8s.io"
OPEN = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
DEFINITION: dict[str, Any] = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {
        "name": WORKLOADS,
        "annotations": {"api-approved.kubernetes.io": "unapproved, only for this test"},
    },
    "spec": {
        "group": "kueue.x-k8s.io",
        "scope": "Namespaced",
        "names": {
            "kind": "Workload",
            "plural": "workloads",
            "singular": "workload",
            "listKind": "WorkloadList",
        },
        "versions": [
            {
                "name": "v1beta1",
                "served": True,
                "storage": True,
                "schema": {"openAPIV3Schema": {**OPEN, "properties": {"spec": OPEN, "status": OPEN}}},
            }
        ],
    },
}


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
    api.apply("customresourcedefinitions", "", DEFINITION)
    wait_for(
        lambda: (
            condition_of(api.find("customresourcedefinitions", "", WORKLOADS), "Established").get("status")
            == "True"
        ),
        "Workloads to be known",
    )
    yield
    api.delete("customresourcedefinitions", "", WORKLOADS)


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
    take_into_queue(kubeconfig, team, job, QuotaReserved=("False", "insufficient quota for nvidia.com/gpu"))
    wait_for(
        lambda: "insufficient quota for nvidia.com/gpu" in message(team.get(), "Trained"), "Kueue's words"
    )
    take_into_queue(kubeconfig, team, job, Evicted=("True", "Preempted by another team."))
    wait_for_condition("flowers", "Trained", "Unknown", reason="Evicted")
    assert team.get()["status"]["phase"] == "Queued"
    team.api.patch("jobs", team.namespace, name, {"spec": {"suspend": False}})
    wait_for_condition("flowers", "Ready")
    assert [one["metadata"]["uid"] for one in team.jobs()] == [job["metadata"]["uid"]]


def take_into_queue(kubeconfig: Path, team: Team, job: Manifest, **conditions: tuple[str, str]) -> None:
    """As Kueue does it: a Workload with the Job's uid."""
    said = [{"type": kind, "status": status, "message": text} for kind, (status, text) in conditions.items()]
    workload = {
        "apiVersion": "kueue.x-k8s.io/v1beta1",
        "kind": "Workload",
        "metadata": {"name": "job-flowers", "labels": {JOB_UID_LABEL: job["metadata"]["uid"]}},
        "spec": {"queueName": "gpus", "active": True},
        "status": {"conditions": said},
    }
    objects = client.CustomObjectsApi(config.new_client_from_config(str(kubeconfig)))
    where = ("kueue.x-k8s.io", "v1beta1", team.namespace, "workloads")
    try:
        objects.create_namespaced_custom_object(*where, workload)
    except ApiException as error:
        if error.status != 409:
            raise
        objects.patch_namespaced_custom_object(*where, "job-flowers", workload)
