"""Reads Jobs, Deployments, their pods and events, as the API server gives them, into what the planner needs. Pure."""

from collections.abc import Iterable, Iterator
from typing import Any

from expansion_contract import environment
from expansion_operator import queueing
from expansion_operator.observed import DeploymentSeen, JobPhase, JobSeen, Trouble

Body = dict[str, Any]
NOT_STARTING = frozenset(
    {
        "ImagePullBackOff",
        "ErrImagePull",
        "ErrImageNeverPull",
        "InvalidImageName",
        "RegistryUnavailable",
        "ImageInspectError",
        "CreateContainerConfigError",
        "CreateContainerError",
        "RunContainerError",
        "CrashLoopBackOff",
    }
)
"""The kubelet's reasons for a container that waits and will not start by waiting alone."""


def is_controlled_by(body: Body, uid: str) -> bool:
    owners = body["metadata"].get("ownerReferences", ())
    return any(owner.get("controller") and owner["uid"] == uid for owner in owners)


def holds(live: Any, wanted: Any) -> bool:
    """Does the live object say everything that the manifest says? What others have added does not matter."""
    if isinstance(wanted, dict):
        return isinstance(live, dict) and all(holds(live.get(key), value) for key, value in wanted.items())
    if isinstance(wanted, list):
        found = live if isinstance(live, list) else []
        return all(any(holds(one, item) for one in found) for item in wanted)
    return bool(live == wanted)


def is_letting_go_of_replicas(live: Body, wanted: Body, manager: str) -> bool:
    """Was their number ours until now, by what the API server keeps of who applied which fields?"""
    if wanted["kind"] != "Deployment" or "replicas" in wanted["spec"]:
        return False
    return any(
        "f:replicas" in entry.get("fieldsV1", {}).get("f:spec", {})
        for entry in live["metadata"].get("managedFields", ())
        if (entry["manager"], entry["operation"]) == (manager, "Apply")
    )


def job_seen(
    job: Body, pods: list[Body], events: list[Body], owner_uid: str, workload: Body | None = None
) -> JobSeen:
    """`events`: of the Job itself, in any order. `pods`: all of its pods that still exist. `workload`: Kueue's, of a queued Job."""
    metadata, status = job["metadata"], job.get("status", {})
    failed = _condition(job, "Failed") or _condition(job, "FailureTarget")
    ended = _last_ended(pods)
    terminated = ended["state"]["terminated"] if ended else {}
    phase = _job_phase(job, pods)
    return JobSeen(
        name=metadata["name"],
        run_id=metadata.get("labels", {}).get(environment.RUN_LABEL, ""),
        uid=metadata["uid"],
        ours=is_controlled_by(job, owner_uid),
        phase=phase,
        created_at=metadata["creationTimestamp"],
        terminating="deletionTimestamp" in metadata,
        deleted_at=metadata.get("deletionTimestamp", ""),
        held_by=_held_by(job, pods) if "deletionTimestamp" in metadata else "",
        failure_reason=failed.get("reason", "") if failed else "",
        failure_message=failed.get("message", "") if failed else "",
        exit_code=terminated.get("exitCode"),
        oom_killed=terminated.get("reason") == "OOMKilled",
        memory_limit=_memory_limit(job),
        termination_message=terminated.get("message", ""),
        waiting=_why_waiting(phase, job, pods, events, workload),
        managed_by=queueing.managed_elsewhere(job),
        attempts=status.get("failed", 0),
        pending_since=_pending_since(status, pods),
        resource_version=metadata.get("resourceVersion", ""),
        asked=metadata.get("annotations", {}).get(environment.ASKED_ANNOTATION, ""),
        limits=metadata.get("annotations", {}).get(environment.LIMITS_ANNOTATION, ""),
    )


def _held_by(job: Body, pods: list[Body]) -> str:
    """Its pods, and when they are gone its finalizers: one is removed by the cluster's garbage collector, others by whoever set them."""
    there = [
        f"pod {pod['metadata']['name']} on node {pod.get('spec', {}).get('nodeName', '(none)')}"
        for pod in pods
    ]
    finalizers = [f"finalizer {name}" for name in job["metadata"].get("finalizers", ())]
    return ", ".join(there or finalizers)


def _pending_since(status: Body, pods: list[Body]) -> str:
    """A queued Job is started late, and after an eviction again."""
    times = (status.get("startTime") or "", *(pod["metadata"]["creationTimestamp"] for pod in pods))
    return str(max(times))


def _why_waiting(
    phase: JobPhase, job: Body, pods: list[Body], events: list[Body], workload: Body | None
) -> Trouble | None:
    if phase is JobPhase.QUEUED:
        return queueing.why_suspended(job, workload)
    return _why_no_pod_runs(pods, events) if phase in {JobPhase.PENDING, JobPhase.RUNNING} else None


def deployment_seen(deployment: Body, pods: list[Body], owner_uid: str) -> DeploymentSeen:
    metadata, status = deployment["metadata"], deployment.get("status", {})
    return DeploymentSeen(
        name=metadata["name"],
        ours=is_controlled_by(deployment, owner_uid),
        generation_observed=status.get("observedGeneration", 0) >= metadata.get("generation", 1),
        replicas=deployment["spec"].get("replicas", 1),
        ready_replicas=status.get("readyReplicas", 0),
        old_pods=status.get("replicas", 0) - status.get("updatedReplicas", 0),
        waiting=_replica_failure(deployment) or _first(map(pod_trouble, pods)),
    )


def pod_trouble(pod: Body) -> Trouble | None:
    """Why this pod does not start, in the words of the scheduler or the kubelet."""
    if "deletionTimestamp" in pod["metadata"]:
        return None
    return _unschedulable(pod) or _first(_container_troubles(pod))


def addresses(pods: Iterable[Body]) -> tuple[str, ...]:
    """Where living pods can be asked."""
    living = (pod for pod in pods if "deletionTimestamp" not in pod["metadata"])
    return tuple(ip for pod in living if (ip := pod.get("status", {}).get("podIP")))


def _job_phase(job: Body, pods: list[Body]) -> JobPhase:
    if _condition(job, "Complete"):
        return JobPhase.SUCCEEDED
    if _condition(job, "Failed"):
        return JobPhase.FAILED
    if queueing.is_suspended(job):
        return JobPhase.QUEUED
    if job.get("status", {}).get("ready", 0) or any(_has_run(pod) for pod in pods):
        return JobPhase.RUNNING
    return JobPhase.PENDING


def _has_run(pod: Body) -> bool:
    """A retry that waits for a node is no longer a run that never started."""
    states = (container.get("state", {}) for container in _trainer_statuses(pod))
    return any("running" in state or "terminated" in state for state in states)


def _trainer_statuses(pod: Body) -> Iterator[Body]:
    for container in pod.get("status", {}).get("containerStatuses", ()):
        if container["name"] == environment.TRAINER:
            yield container


def _last_ended(pods: list[Body]) -> Body | None:
    ended = [
        container
        for pod in pods
        for container in _trainer_statuses(pod)
        if "terminated" in container.get("state", {})
    ]
    return max(ended, key=lambda c: c["state"]["terminated"].get("finishedAt") or "", default=None)


def _memory_limit(job: Body) -> str:
    containers = job["spec"]["template"]["spec"]["containers"]
    limits = (
        c.get("resources", {}).get("limits", {}) for c in containers if c["name"] == environment.TRAINER
    )
    return next((str(limit["memory"]) for limit in limits if "memory" in limit), "")


def _why_no_pod_runs(pods: list[Body], events: list[Body]) -> Trouble | None:
    living = [pod for pod in pods if pod.get("status", {}).get("phase") in {"Pending", "Running"}]
    return _first(map(pod_trouble, living)) if living else _creation_refused(events)


def _creation_refused(events: list[Body]) -> Trouble | None:
    """Quotas, webhooks and a missing service account stop the Job controller, which says so only in an event."""
    refused = [event for event in events if event.get("reason") == "FailedCreate"]
    if not refused:
        return None
    latest = max(refused, key=lambda event: event.get("lastTimestamp") or event.get("eventTime") or "")
    return _not_created(latest.get("message", ""))


def _replica_failure(deployment: Body) -> Trouble | None:
    failure = _condition(deployment, "ReplicaFailure")
    return _not_created(failure.get("message", "")) if failure else None


def _not_created(message: str) -> Trouble:
    reason = "QuotaExceeded" if "exceeded quota" in message else "PodRefused"
    return Trouble(reason=reason, message=f"The pod cannot be created: {message}", permanent=False)


def _unschedulable(pod: Body) -> Trouble | None:
    scheduled = _condition(pod, "PodScheduled", "False")
    if not scheduled or scheduled.get("reason") != "Unschedulable":
        return None
    message = f"Pod {pod['metadata']['name']} has no node: {scheduled.get('message', '')}"
    return Trouble(reason="Unschedulable", message=message, permanent=False)


def _container_troubles(pod: Body) -> Iterator[Trouble]:
    status = pod.get("status", {})
    for container in (*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())):
        waiting = container.get("state", {}).get("waiting") or {}
        if waiting.get("reason") in NOT_STARTING:
            yield _container_trouble(pod, container, waiting)


def _container_trouble(pod: Body, container: Body, waiting: Body) -> Trouble:
    """With the last words of the attempt before, where there was one."""
    before = container.get("lastState", {}).get("terminated") or {}
    said = [text for text in (waiting.get("message"), before.get("message")) if text]
    where = f"Container {container['name']} ({container.get('image', '')}) of pod {pod['metadata']['name']}"
    message = f"{where} does not start: {waiting['reason']}{': ' if said else ''}{' '.join(said)}"
    return Trouble(reason=waiting["reason"], message=message.strip(), permanent=False)


def _condition(body: Body, kind: str, status: str = "True") -> Body | None:
    conditions = body.get("status", {}).get("conditions", ())
    return next((c for c in conditions if c["type"] == kind and c["status"] == status), None)


def _first(troubles: Iterable[Trouble | None]) -> Trouble | None:
    return next((trouble for trouble in troubles if trouble), None)
