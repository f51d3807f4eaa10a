"""What is said of a run that stands in one of Kueue's queues, and what is left to Kueue."""

from dataclasses import replace
from typing import Any

import contract_values
import pytest
from operator_values import (
    CHANGED,
    OTHER_RUN,
    RUN,
    SETTINGS,
    at,
    counted,
    job,
    message,
    only,
    respecified,
    says,
)

from expansion_operator import queueing
from expansion_operator.manifests.job import training_job
from expansion_operator.observed import Apply, Delete, JobPhase, Trouble, WriteRun, deleted
from expansion_operator.plan import plan
from expansion_operator.workloads import job_seen

Body = dict[str, Any]


def queued_job(suspend: bool = True, queue: str = "gpus", **spec: Any) -> Body:
    labels = {queueing.QUEUE_LABEL: queue} if queue else {}
    return {
        "metadata": {
            "name": "flowers-1",
            "uid": "j1",
            "creationTimestamp": "2026-11-22T10:00:00Z",
            "labels": labels,
            "ownerReferences": [{"uid": "u1", "controller": True}],
        },
        "spec": {"suspend": suspend, "template": {"spec": {"containers": []}}, **spec},
        "status": {},
    }


def workload(active: bool = True, **conditions: tuple[str, str]) -> Body:
    """`Evicted=("True", "why")`"""
    said = [{"type": kind, "status": s, "message": m} for kind, (s, m) in conditions.items()]
    return {"spec": {"active": active}, "status": {"conditions": said}}


WAITS = ("False", "couldn't assign flavors to pod set main: insufficient quota for nvidia.com/gpu.")


@pytest.mark.parametrize(
    ("seen", "reason", "words"),
    [
        pytest.param(None, "Queued", "waits for Kueue to take it into queue gpus", id="not looked at yet"),
        pytest.param(workload(), "Queued", "It has said nothing yet.", id="nothing said"),
        pytest.param(workload(QuotaReserved=WAITS), "Queued", "insufficient quota", id="no quota"),
        pytest.param(
            workload(QuotaReserved=("True", "")), "QuotaReserved", "its checks are awaited", id="checks"
        ),
        pytest.param(
            workload(QuotaReserved=("True", ""), Admitted=("True", "")), "Admitted", "admitted", id="admitted"
        ),
        pytest.param(
            workload(QuotaReserved=WAITS, Evicted=("True", "Preempted to accommodate a workload.")),
            "Evicted",
            "Preempted to accommodate a workload. couldn't assign flavors",
            id="evicted",
        ),
        pytest.param(
            workload(active=False, Evicted=("True", "")), "Deactivated", "spec.active", id="deactivated"
        ),
        pytest.param(
            workload(QuotaReserved=("True", ""), Admitted=("True", ""), Evicted=("False", "")),
            "Admitted",
            "admitted the run",
            id="admitted again after an eviction",
        ),
    ],
)
def test_a_queued_run_is_explained_in_kueues_words(seen: Body | None, reason: str, words: str) -> None:
    said = job_seen(queued_job(), [], [], "u1", seen)
    assert said.phase is JobPhase.QUEUED
    assert said.waiting is not None
    assert said.waiting.reason == reason
    assert words in said.waiting.message
    assert not said.waiting.permanent


def test_a_job_that_a_person_suspended_says_so() -> None:
    said = job_seen(queued_job(queue=""), [], [], "u1").waiting
    assert said is not None
    assert (said.reason, "Set it to false" in said.message) == ("JobSuspended", True)


def test_a_job_that_runs_in_another_cluster_is_known_to() -> None:
    assert job_seen(queued_job(managedBy="kueue.x-k8s.io/multikueue"), [], [], "u1").managed_by == (
        "kueue.x-k8s.io/multikueue"
    )
    assert job_seen(queued_job(managedBy="kubernetes.io/job-controller"), [], [], "u1").managed_by == ""


def test_the_time_to_start_begins_when_kueue_starts_the_job() -> None:
    started = queued_job(suspend=False)
    started["status"] = {"startTime": "2026-11-22T11:30:00Z"}
    assert job_seen(started, [], [], "u1").pending_since == "2026-11-22T11:30:00Z"


# What the operator does about it

WAITING = Trouble(reason="Evicted", message="Kueue took the run back.", permanent=False)
QUEUED = replace(CHANGED, job=job(JobPhase.QUEUED, OTHER_RUN, waiting=WAITING))


def test_a_queue_is_a_label_and_nothing_else() -> None:
    """Suspension, parallelism and placement are Kueue's; its webhook sets them."""
    plain = training_job(contract_values.expansion(), RUN, SETTINGS)
    queued = training_job(contract_values.expansion(compute={"queueName": "gpus"}), RUN, SETTINGS)
    assert queued["metadata"]["labels"] == {**plain["metadata"]["labels"], queueing.QUEUE_LABEL: "gpus"}
    assert queued["spec"] == plain["spec"]


def test_a_run_waits_in_its_queue_for_as_long_as_it_takes() -> None:
    result = plan(QUEUED, SETTINGS, at(999_999))
    assert says(result, "Trained") == ("Unknown", "Evicted")
    assert says(result, "Reconciling") == ("True", "Evicted")
    assert (message(result, "Trained"), result.status["phase"]) == ("Kueue took the run back.", "Queued")
    assert only(result, Delete, WriteRun) == ()


def test_a_queued_run_is_taken_out_of_the_queue_when_the_resource_is_suspended() -> None:
    result = plan(counted(respecified(QUEUED, suspend=True)), SETTINGS, at(0))
    assert only(result, Delete) == (deleted(job(of=OTHER_RUN)),)


def test_a_run_in_another_cluster_may_be_pending_here_for_ever() -> None:
    elsewhere = job(JobPhase.PENDING, OTHER_RUN, managed_by="kueue.x-k8s.io/multikueue")
    result = plan(replace(CHANGED, job=elsewhere), SETTINGS, at(999_999))
    assert says(result, "Trained") == ("Unknown", "Pending")


def test_without_kueue_nothing_starts_past_its_quotas() -> None:
    missing = Trouble(reason="KueueMissing", message="Install Kueue.", permanent=True)
    result = plan(replace(CHANGED, queue_trouble=missing), SETTINGS, at(0))
    assert says(result, "Stalled") == ("True", "KueueMissing")
    assert [a.manifest["kind"] for a in only(result, Apply)] == ["Service", "Deployment"]
    assert result.requeue_after == 60


def test_a_run_under_way_does_not_need_kueue_any_more() -> None:
    missing = Trouble(reason="KueueMissing", message="Install Kueue.", permanent=True)
    running = replace(CHANGED, queue_trouble=missing, job=job(of=OTHER_RUN))
    assert says(plan(running, SETTINGS, at(0)), "Trained") == ("Unknown", "Running")
