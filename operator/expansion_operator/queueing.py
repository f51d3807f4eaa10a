"""What Kueue says of a Job that stands in one of its queues. Pure: it only reads; everything about a queued Job is Kueue's.

Kueue's own names: https://kueue.sigs.k8s.io/docs/concepts/workload/
"""

from collections.abc import Iterable
from typing import Any

from expansion_operator.observed import Trouble

Body = dict[str, Any]
GROUP = "kueue.x-k8s.io"
QUEUE_LABEL = f"{GROUP}/queue-name"
JOB_UID_LABEL = f"{GROUP}/job-uid"
"""On the Workload that Kueue makes of a Job."""
OWN_CONTROLLER = "kubernetes.io/job-controller"


def is_suspended(job: Body) -> bool:
    return bool(job["spec"].get("suspend"))


def managed_elsewhere(job: Body) -> str:
    """Who runs its pods, if that is not this cluster's Job controller: MultiKueue runs them in another cluster."""
    manager = str(job["spec"].get("managedBy") or "")
    return "" if manager == OWN_CONTROLLER else manager


def why_suspended(job: Body, workload: Body | None) -> Trouble | None:
    """None if it is not suspended."""
    if not is_suspended(job):
        return None
    name, queue = job["metadata"]["name"], job["metadata"].get("labels", {}).get(QUEUE_LABEL)
    if not queue:
        return _waits(
            "JobSuspended", f"Somebody suspended Job {name}: spec.suspend is true. Set it to false."
        )
    if workload is None:
        return _waits("Queued", f"Job {name} waits for Kueue to take it into queue {queue}.")
    return _said(workload, queue)


def _said(workload: Body, queue: str) -> Trouble:
    """In Kueue's own words."""
    admitted, reserved = _condition(workload, "Admitted"), _condition(workload, "QuotaReserved")
    if admitted.get("status") == "True":
        return _waits("Admitted", f"Kueue admitted the run from queue {queue}; its pod is being started.")
    evicted, words = _condition(workload, "Evicted"), reserved.get("message") or "It has said nothing yet."
    if workload["spec"].get("active") is False:
        return _waits(
            "Deactivated", f"Kueue holds the run back: its Workload in queue {queue} has spec.active false."
        )
    if evicted.get("status") == "True":
        why = evicted.get("message") or evicted.get("reason", "")
        return _waits("Evicted", f"Kueue took the run back into queue {queue}: {why} {words}")
    if reserved.get("status") == "True":
        return _waits(
            "QuotaReserved", f"Kueue keeps quota for the run in queue {queue}; its checks are awaited."
        )
    return _waits("Queued", f"The run waits in Kueue's queue {queue}: {words}")


def _waits(reason: str, message: str) -> Trouble:
    return Trouble(reason=reason, message=message.strip(), permanent=False)


def _condition(workload: Body, kind: str) -> Body:
    conditions: Iterable[Body] = workload.get("status", {}).get("conditions", ())
    return next((condition for condition in conditions if condition["type"] == kind), {})
