"""Runs in a queue, with a real API server. Kueue is not here, see apiserver_kueue."""

from collections.abc import Iterator
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import contract_values
import pytest
from apiserver_expansions import Team, message
from apiserver_kueue import kueue_of, take_into_queue
from apiserver_waiting import Waiter, wait_for

from expansion_contract import environment, layout
from expansion_contract.report import File
from expansion_development.kubernetes_api import Api, Manifest
from expansion_operator.queueing import QUEUE_LABEL

pytestmark = pytest.mark.apiserver


MULTIKUEUE = "kueue.x-k8s.io/multikueue"
ADMISSION = "admissionregistration.k8s.io/v1"


@pytest.fixture
def multikueue(api: Api, namespace: str) -> Iterator[None]:
    """As MultiKueue's webhook does it: Jobs of this namespace are run by its manager, in another cluster."""
    rule = {"apiGroups": ["batch"], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["jobs"]}
    where = {"matchLabels": {"kubernetes.io/metadata.name": namespace}}
    change = f'Object{{spec: Object.spec{{managedBy: "{MULTIKUEUE}"}}}}'
    mutation = {"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": change}}
    spec = {
        "matchConstraints": {"resourceRules": [rule], "namespaceSelector": where},
        "mutations": [mutation],
        "reinvocationPolicy": "Never",
    }
    for plural, kind, body in (
        ("mutatingadmissionpolicies", "MutatingAdmissionPolicy", spec),
        ("mutatingadmissionpolicybindings", "MutatingAdmissionPolicyBinding", {"policyName": namespace}),
    ):
        head = {"apiVersion": ADMISSION, "kind": kind, "metadata": {"name": namespace}}
        api.create(plural, "", {**head, "spec": body})
    wait_for(lambda: is_managed_elsewhere(api, namespace), "the policy to be in force")
    yield
    api.delete("mutatingadmissionpolicybindings", "", namespace)
    api.delete("mutatingadmissionpolicies", "", namespace)


def is_managed_elsewhere(api: Api, namespace: str) -> bool:
    """A new Job, by now: the API server learns of new rules a moment later."""
    pod = {"containers": [{"name": "main", "image": "any"}], "restartPolicy": "Never"}
    job: Manifest = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"generateName": "probe-"}}
    job["spec"] = {"suspend": True, "template": {"spec": pod}}
    made = api.create("jobs", namespace, job)
    api.delete("jobs", namespace, made["metadata"]["name"])
    return bool(made["spec"].get("managedBy"))


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


@pytest.mark.usefixtures("multikueue")
def test_a_run_in_another_cluster_is_waited_for_and_its_job_is_left_to_its_manager(
    team: Team, api: Api, wait_for_condition: Waiter
) -> None:
    team.apply()
    (job,) = wait_for(team.jobs, "the Job")
    assert job["spec"]["managedBy"] == MULTIKUEUE
    wait_for_condition("flowers", "Trained", "Unknown", reason="Pending")
    train_elsewhere(team, job)
    settled = wait_for_condition("flowers", "Ready")
    assert (team.versions(), api.list("pods", team.namespace)) == ([1], [])
    (left,) = team.jobs()
    assert (left["metadata"]["uid"], left["spec"]) == (job["metadata"]["uid"], job["spec"])
    assert settled["status"]["run"]["outcome"] == "Succeeded"


def train_elsewhere(team: Team, job: Manifest) -> None:
    """Its manager copies the status of the Job in the other cluster; the trainer there writes where ours does."""
    run_id = job["metadata"]["labels"][environment.RUN_LABEL]
    model = b"a model"
    file = File(path="saved_model.pb", size=len(model), sha256=sha256(model).hexdigest())
    report = contract_values.report(run_id=run_id, categories=1002, files=[file])
    team.place.write(f"models/{layout.candidate(run_id, file.path)}", model)
    team.place.write(f"models/{layout.run(run_id, layout.REPORT)}", report.to_json())
    at = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    ended = [{"type": kind, "status": "True"} for kind in ("SuccessCriteriaMet", "Complete")]
    status = {"startTime": at, "completionTime": at, "succeeded": 1, "conditions": ended}
    team.api.patch("jobs", team.namespace, job["metadata"]["name"], {"status": status}, part="status")
