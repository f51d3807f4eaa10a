"""What status must keep of the Jobs of earlier runs before they go: that each was started, and which of them failed. Pure.

Both would be lost with the Job: the budget would be overdrawn, and a failed run would be trained again when the spec comes back.
"""

from collections.abc import Iterable
from datetime import datetime

from expansion_contract.resource import HistoryEntry
from expansion_operator import derived, retries, starting, training
from expansion_operator.conditions import TEXT_LIMIT, Finding, clipped, stamp
from expansion_operator.observed import JobPhase, JobSeen, Observed


def may_end(observed: Observed, finding: Finding | None) -> bool:
    """Is it known which runs are earlier ones, or shall none go on? While storage is away or its images have errors, a run goes on."""
    return derived.is_about_current_run(finding) or observed.expansion.spec.suspend


def failures(observed: Observed, finding: Finding | None, now: datetime) -> list[HistoryEntry]:
    """Of earlier runs that failed for good before anybody has looked at them."""
    return [_entry(observed, job, now) for job in _unrecorded(observed)] if may_end(observed, finding) else []


def unremembered(observed: Observed, now: datetime) -> frozenset[str]:
    """Uids of Jobs that status will know only from now on; they must stay until it does."""
    return starting.uncounted(observed, now) | {job.uid for job in _unrecorded(observed)}


def ending(observed: Observed) -> str:
    """What is to be said of Jobs that hold what they have while another run's model answers; nothing if there is none."""
    jobs = [job for job in observed.old_jobs if job.ours]
    if not jobs:
        return ""
    holders = [f"{job.name} (held by {job.held_by})" if job.held_by else job.name for job in jobs]
    return f" Of an earlier run, Job {', '.join(holders)} is still ending."


def _unrecorded(observed: Observed) -> Iterable[JobSeen]:
    """What fails for a reason that passes may be trained again, and so may images that changed while they were read."""
    known = {entry.run_id for entry in observed.expansion.status.history if entry.outcome == "Failed"}
    for job in observed.old_jobs:
        if job.ours and job.phase is JobPhase.FAILED and job.run_id not in known:
            reason, _ = training.job_failure(observed, job)
            if reason not in {*retries.TRANSIENT, training.DATASET_CHANGED}:
                yield job


def _entry(observed: Observed, job: JobSeen, now: datetime) -> HistoryEntry:
    reason, message = training.job_failure(observed, job)
    what_now = f"{reason}: {message}; when it is mended, {training.AGAIN}."
    return HistoryEntry(
        run_id=job.run_id, outcome="Failed", message=clipped(what_now, TEXT_LIMIT), at=stamp(now)
    )
