"""Which pod's log comes next while a run is followed through evictions and retries. Pure: pods and status in, a step out."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Any

from expansion_contract.resource import ExpansionStatus
from expansion_operator.workloads import pod_trouble

Body = dict[str, Any]


class Step(Enum):
    READ = "read"
    WAIT = "wait"
    END = "end"


@dataclass(frozen=True, kw_only=True)
class Next:
    step: Step
    pod: str = ""
    says: str = ""  # for the person who waits, or why it ends
    failed: bool = False


def next_step(status: ExpansionStatus, run_id: str, pods: Iterable[Body], read: frozenset[str]) -> Next:
    """`read`: pods whose log has been read to its end."""
    fresh = [pod for pod in pods if pod["metadata"]["name"] not in read]
    started = [pod for pod in fresh if _has_started(pod)]
    if started:
        oldest = min(started, key=_created)
        return Next(step=Step.READ, pod=oldest["metadata"]["name"])
    run = status.run
    if run is None or run.id != run_id:
        return Next(step=Step.END, says=f"Run {run_id} is no longer the current one; {_current(status)}.")
    if run.outcome is not None:
        return Next(step=Step.END, says=_ended(status), failed=run.outcome == "Failed")
    return Next(step=Step.WAIT, says=_waiting(status, fresh))


def newest_started(pods: Iterable[Body]) -> str | None:
    started = [pod for pod in pods if _has_started(pod)]
    return max(started, key=_created)["metadata"]["name"] if started else None


def has_ended(pods: Iterable[Body], name: str) -> bool:
    """It will say nothing more: it ended or has gone."""
    pod = next((pod for pod in pods if pod["metadata"]["name"] == name), None)
    return pod is None or pod.get("status", {}).get("phase") in {"Succeeded", "Failed"}


def _has_started(pod: Body) -> bool:
    """Has a container that says, or has said, something?"""
    statuses = pod.get("status", {}).get("containerStatuses", ())
    return any({"running", "terminated"} & set(one.get("state", {})) for one in statuses)


def _created(pod: Body) -> str:
    return str(pod["metadata"].get("creationTimestamp", ""))


def _current(status: ExpansionStatus) -> str:
    return f"that is {status.run.id}" if status.run else "there is none now"


def _ended(status: ExpansionStatus) -> str:
    run = status.run
    assert run is not None
    if run.outcome == "Failed":
        return f"Run {run.id} failed: {run.reason}: {run.message}"
    return f"Run {run.id} succeeded."


def _waiting(status: ExpansionStatus, pods: list[Body]) -> str:
    troubles = [trouble for pod in pods if (trouble := pod_trouble(pod))]
    if troubles:
        return f"Waits: {troubles[0].message}"
    trained = next((c for c in status.conditions if c.type == "Trained"), None)
    return f"Waits: {trained.message}" if trained and trained.message else "Waits for a pod."
