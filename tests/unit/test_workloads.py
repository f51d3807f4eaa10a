"""What the planner is told of Jobs, Deployments and pods, from what the API server says of them."""

from typing import Any

import pytest

from expansion_operator.observed import JobPhase, JobSeen, Trouble
from expansion_operator.workloads import (
    addresses,
    deployment_seen,
    holds,
    is_letting_go_of_replicas,
    job_seen,
)

Body = dict[str, Any]
OWNER = {"uid": "u1", "controller": True}


def job(**status: Any) -> Body:
    trainer = {"name": "trainer", "resources": {"limits": {"memory": "8Gi"}}}
    return {
        "metadata": {
            "name": "flowers-0123456789",
            "uid": "j1",
            "creationTimestamp": "2026-11-22T10:00:00Z",
            "labels": {"classifierexpansion.dev/run": "0123456789abcdef"},
            "ownerReferences": [OWNER],
        },
        "spec": {"template": {"spec": {"containers": [trainer]}}},
        "status": status,
    }


def pod(state: Body | None = None, phase: str = "Pending", name: str = "flowers-x", **more: Any) -> Body:
    statuses = [{"name": "trainer", "image": "trainer:1", "state": state}] if state else []
    metadata = {"name": name, "creationTimestamp": "2026-11-22T10:00:01Z"}
    return {"metadata": metadata, "status": {"phase": phase, "containerStatuses": statuses, **more}}


def ended(code: int, at: str = "2026-11-22T10:05:00Z", **more: Any) -> Body:
    return pod({"terminated": {"exitCode": code, "finishedAt": at, **more}}, "Failed")


def seen(job: Body, *pods: Body, events: list[Body] | None = None) -> JobSeen:
    return job_seen(job, list(pods), events or [], "u1")


def condition(kind: str, **more: Any) -> Body:
    return {"type": kind, "status": "True", **more}


@pytest.mark.parametrize(
    ("job", "pods", "phase"),
    [
        pytest.param(job(), [], JobPhase.PENDING, id="no pod yet"),
        pytest.param(job(active=1), [pod({"waiting": {}})], JobPhase.PENDING, id="a pod that waits"),
        pytest.param(job(active=1, ready=1), [], JobPhase.RUNNING, id="a pod that is ready"),
        pytest.param(
            job(active=1), [pod({"running": {}}, "Running")], JobPhase.RUNNING, id="a pod that runs"
        ),
        pytest.param(job(failed=1), [ended(1), pod()], JobPhase.RUNNING, id="a retry that waits"),
        pytest.param(job(conditions=[condition("Complete")]), [], JobPhase.SUCCEEDED, id="complete"),
        pytest.param(job(conditions=[condition("Failed")]), [], JobPhase.FAILED, id="failed"),
        pytest.param(
            job(conditions=[condition("FailureTarget")]),
            [ended(11)],
            JobPhase.RUNNING,
            id="failing while its pods end",
        ),
    ],
)
def test_a_jobs_phase_is_what_its_pods_do(job: Body, pods: list[Body], phase: JobPhase) -> None:
    assert seen(job, *pods).phase is phase


def test_the_last_attempt_tells_how_it_ended() -> None:
    words = "It needs more images."
    failed = condition("Failed", reason="PodFailurePolicy", message="exit code 11")
    found = seen(
        job(failed=2, conditions=[failed]),
        ended(11, "2026-11-22T10:09:00Z", message=words),
        ended(137, "2026-11-22T10:05:00Z", reason="OOMKilled"),
    )
    assert (found.exit_code, found.oom_killed, found.termination_message) == (11, False, words)
    assert (found.attempts, found.failure_reason, found.failure_message) == (
        2,
        "PodFailurePolicy",
        "exit code 11",
    )


def test_out_of_memory_is_seen_with_the_limit() -> None:
    found = seen(job(failed=1), ended(137, reason="OOMKilled"))
    assert (found.oom_killed, found.exit_code, found.memory_limit) == (True, 137, "8Gi")


def test_a_job_of_another_owner_is_not_ours() -> None:
    assert seen(job()).ours
    assert not job_seen(job(), [], [], "another").ours
    plain = job()
    plain["metadata"]["ownerReferences"] = [{"uid": "u1"}]
    assert not seen(plain).ours, "an owner that is no controller"


@pytest.mark.parametrize(
    ("pods", "events", "expected"),
    [
        pytest.param(
            [pod({"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}})],
            [],
            Trouble(
                reason="ImagePullBackOff",
                message="Container trainer (trainer:1) of pod flowers-x does not start: ImagePullBackOff: no such image",
                permanent=False,
            ),
            id="image",
        ),
        pytest.param(
            [
                pod(
                    conditions=[
                        {
                            "type": "PodScheduled",
                            "status": "False",
                            "reason": "Unschedulable",
                            "message": "0/1",
                        }
                    ]
                )
            ],
            [],
            Trouble(reason="Unschedulable", message="Pod flowers-x has no node: 0/1", permanent=False),
            id="no node",
        ),
        pytest.param(
            [],
            [
                {"reason": "FailedCreate", "message": "old", "lastTimestamp": "2026-11-22T10:00:00Z"},
                {
                    "reason": "FailedCreate",
                    "message": "exceeded quota: x",
                    "lastTimestamp": "2026-11-22T10:01:00Z",
                },
                {"reason": "SuccessfulCreate", "message": "no", "lastTimestamp": "2026-11-22T10:02:00Z"},
            ],
            Trouble(
                reason="QuotaExceeded",
                message="The pod cannot be created: exceeded quota: x",
                permanent=False,
            ),
            id="quota",
        ),
        pytest.param([pod({"waiting": {"reason": "ContainerCreating"}})], [], None, id="only slow"),
    ],
)
def test_why_no_pod_runs_is_told_in_the_words_of_who_knows(
    pods: list[Body], events: list[Body], expected: Trouble | None
) -> None:
    assert seen(job(active=1), *pods, events=events).waiting == expected


def deployment(**changes: Any) -> Body:
    metadata = {"name": "flowers-serving", "generation": 2, "ownerReferences": [OWNER]}
    status = {"observedGeneration": 2, "readyReplicas": 1, **changes}
    return {"metadata": metadata, "spec": {"replicas": 2}, "status": status}


def test_a_deployment_is_told_with_its_pods_trouble() -> None:
    crashed = {"name": "model-sync", "image": "sync:1", "state": {"waiting": {"reason": "CrashLoopBackOff"}}}
    crashed["lastState"] = {"terminated": {"message": "The store refused."}}
    broken = pod(initContainerStatuses=[crashed])
    found = deployment_seen(deployment(), [broken], "u1")
    assert (found.ours, found.generation_observed, found.replicas, found.ready_replicas) == (True, True, 2, 1)
    assert found.waiting is not None
    assert found.waiting.message.endswith("does not start: CrashLoopBackOff: The store refused.")


def test_pods_of_an_earlier_template_are_counted() -> None:
    assert deployment_seen(deployment(replicas=3, updatedReplicas=1), [], "u1").old_pods == 2
    assert deployment_seen(deployment(replicas=2, updatedReplicas=2), [], "u1").old_pods == 0


def test_a_deployment_whose_controller_has_not_seen_its_spec_is_told_so() -> None:
    assert not deployment_seen(deployment(observedGeneration=1), [], "u1").generation_observed


def test_pods_that_may_not_be_created_are_the_deployments_trouble() -> None:
    failure = condition("ReplicaFailure", message="exceeded quota: y")
    found = deployment_seen(deployment(conditions=[failure]), [], "u1").waiting
    assert found == Trouble(
        reason="QuotaExceeded", message="The pod cannot be created: exceeded quota: y", permanent=False
    )


def test_only_living_pods_with_an_address_are_asked() -> None:
    dying = pod(podIP="10.0.0.1")
    dying["metadata"]["deletionTimestamp"] = "2026-11-22T10:00:00Z"
    assert addresses([pod(podIP="10.0.0.2"), dying, pod()]) == ("10.0.0.2",)


def test_a_job_that_is_being_deleted_is_held_by_its_pods_and_then_by_its_finalizers() -> None:
    deleted = job()
    deleted["metadata"] |= {"deletionTimestamp": "2026-11-22T10:10:00Z", "finalizers": ["foregroundDeletion"]}
    left = pod(name="flowers-x") | {"spec": {"nodeName": "gpu-7"}}
    assert seen(deleted, left).held_by == "pod flowers-x on node gpu-7"
    assert seen(deleted).held_by == "finalizer foregroundDeletion"
    assert (seen(deleted).deleted_at, seen(job()).held_by) == ("2026-11-22T10:10:00Z", "")


def applied_by(manager: str, operation: str = "Apply", **fields: Any) -> Body:
    return {"manager": manager, "operation": operation, "fieldsV1": {"f:spec": fields}}


@pytest.mark.parametrize(
    ("wanted", "owner", "is_let_go"),
    [
        pytest.param({}, applied_by("ours", **{"f:replicas": {}}), True, id="ours until now"),
        pytest.param({"replicas": 2}, applied_by("ours", **{"f:replicas": {}}), False, id="still ours"),
        pytest.param({}, applied_by("ours", **{"f:template": {}}), False, id="never ours"),
        pytest.param({}, applied_by("hpa", "Update", **{"f:replicas": {}}), False, id="somebody else's"),
    ],
)
def test_replicas_are_let_go_once_by_who_had_them(wanted: Body, owner: Body, is_let_go: bool) -> None:
    live = {"metadata": {"managedFields": [applied_by("webhook"), owner]}, "spec": {"replicas": 3}}
    manifest = {"kind": "Deployment", "spec": wanted}
    assert is_letting_go_of_replicas(live, manifest, "ours") is is_let_go


WANTED: Body = {"spec": {"replicas": 2, "containers": [{"name": "a", "args": ["x"]}, {"name": "b"}]}}


@pytest.mark.parametrize(
    ("live", "is_held"),
    [
        pytest.param(WANTED, True, id="the same"),
        pytest.param(
            {"spec": {**WANTED["spec"], "paused": False, "containers": [*WANTED["spec"]["containers"], {"name": "c"}]}}, True, id="more"
        ),
        pytest.param({"spec": {**WANTED["spec"], "replicas": 3}}, False, id="another value"),
        pytest.param({"spec": {"replicas": 2, "containers": [{"name": "b"}]}}, False, id="one is gone"),
        pytest.param({"spec": {"replicas": 2, "containers": [{"name": "a", "args": []}, {"name": "b"}]}}, False, id="an argument is gone"),
        pytest.param({}, False, id="nothing"),
    ],
)  # fmt: skip
def test_a_live_object_holds_what_is_wanted_whatever_others_have_added(live: Body, is_held: bool) -> None:
    assert holds(live, WANTED) is is_held
