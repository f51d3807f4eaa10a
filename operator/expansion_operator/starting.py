"""Why a run that is wanted does not start yet, although everything for it is there: uploads and the budget. Pure."""

from datetime import UTC, datetime, timedelta

from expansion_contract.resource import DatasetStatus, StartedRun, seconds
from expansion_operator.asked import is_outdated
from expansion_operator.conditions import Finding, Next, Stage, moment, stamp
from expansion_operator.observed import JobSeen, Observed
from expansion_operator.waits import REFUSED

DAY = timedelta(hours=24)
PATIENCE = 10
"""Times spec.retrain.settle; a stream of images that never ends must not keep a run from starting."""
REMEMBERED = 100


def queue_missing(observed: Observed, _: datetime) -> Finding | None:
    """Without Kueue the Job would start at once, past every quota that its owner thinks of."""
    trouble = observed.queue_trouble
    if observed.job is not None or trouble is None:
        return None
    return Finding(
        stage=Stage.TRAINING,
        reason=trouble.reason,
        message=trouble.message,
        phase="Stalled",
        stuck=True,
        requeue_after=REFUSED,
    )


def uploads_under_way(observed: Observed, now: datetime) -> Finding | None:
    """Half of an upload would be trained on, and all of it again."""
    quiet = _quiet_at(observed)
    if observed.job is not None or quiet is None or observed.listed_at is None:
        return None
    since, patience = _settling_since(observed, now), PATIENCE * _settle(observed)
    if now - since >= patience or observed.listed_at >= quiet:
        return None
    latest = stamp(min(since + patience, now + patience))
    return Finding(
        stage=Stage.TRAINING,
        reason="Settling",
        message=f"Images arrived until {stamp(quiet - _settle(observed))}. The run starts when none has arrived for"
        f" spec.retrain.settle ({observed.expansion.spec.retrain.settle}), at {latest} at the latest.",
        phase="Pending",
        then=Next.WAIT if now < quiet else Next.RELIST,
        requeue_after=max(0.0, (quiet - now).total_seconds()),
    )


def settling_since(observed: Observed, finding: Finding | None, now: datetime) -> str | None:
    """What status remembers of a wait for uploads."""
    if finding is None or finding.reason != "Settling":
        return None
    return stamp(_settling_since(observed, now))


def budget_spent(observed: Observed, now: datetime) -> Finding | None:
    most = observed.expansion.spec.retrain.max_runs_per_day
    times = [at for at in (moment(run.started_at) for run in _recent(observed, now)) if at is not None]
    if observed.job is not None or most is None or len(times) < most:
        return None
    again = times[-most] + DAY
    started = ", ".join(stamp(at) for at in times[-most:])
    return Finding(
        stage=Stage.TRAINING,
        reason="BudgetSpent",
        message=f"spec.retrain.maxRunsPerDay ({most}) is spent: runs were started at {started}. Run {observed.run_id} starts at"
        f" {stamp(again)}; raise the limit to start it now.",
        phase="Pending",
        requeue_after=max(1.0, (again - now).total_seconds()),
    )


def started_runs(observed: Observed, now: datetime) -> list[StartedRun]:
    """For status: Jobs of the last day, those that it remembers and those that are there. Passing time alone changes nothing."""
    status = observed.expansion.status
    is_news = bool(_new(observed) or status.recent_runs or _for_nothing(observed))
    return _recent(observed, now) if is_news else list(status.started_runs)


def uncounted(observed: Observed, now: datetime) -> frozenset[str]:
    """Uids of Jobs that status will remember only from now on. Until it does, they must not go: who would count them then?"""
    new = {run.job_uid for run in _new(observed)}
    return frozenset(run.job_uid for run in _recent(observed, now) if run.job_uid and run.job_uid in new)


def _recent(observed: Observed, now: datetime) -> list[StartedRun]:
    """Not more than a day old. What an earlier operator counted by its second alone is the Jobs of that second that are there."""
    status, new = observed.expansion.status, _new(observed)
    there = {run.started_at for run in new}
    earlier = [StartedRun(started_at=at) for at in status.recent_runs]
    for_nothing = _for_nothing(observed)
    known = [
        run
        for run in (*earlier, *status.started_runs)
        if (run.job_uid or run.started_at not in there) and run.job_uid not in for_nothing
    ]
    fresh = [run for run in (*known, *new) if (moment(run.started_at) or now) > now - DAY]
    return sorted(fresh, key=lambda run: run.started_at or "")[-REMEMBERED:]


def _new(observed: Observed) -> list[StartedRun]:
    """Jobs that are there and that status does not know."""
    known = {run.job_uid for run in observed.expansion.status.started_runs} | _for_nothing(observed)
    return [
        StartedRun(started_at=job.created_at, run_id=job.run_id, job_uid=job.uid)
        for job in _own_jobs(observed)
        if job.uid not in known
    ]


def _for_nothing(observed: Observed) -> set[str]:
    """Uid of a Job that is made anew before any pod of it has run: it cost nothing, and its successor is counted."""
    job = observed.job
    is_unused = job is not None and job.ours and not job.attempts and is_outdated(job, observed.expansion)
    return {job.uid} if job is not None and is_unused else set()


def _own_jobs(observed: Observed) -> tuple[JobSeen, ...]:
    jobs = (observed.job, *observed.old_jobs)
    return tuple(job for job in jobs if job is not None and job.ours)


def _settle(observed: Observed) -> timedelta:
    return timedelta(seconds=seconds(observed.expansion.spec.retrain.settle))


def _quiet_at(observed: Observed) -> datetime | None:
    """When the newest image has lain there long enough; a store whose clock is ahead does not hold us up."""
    if observed.newest_image is None or observed.listed_at is None:
        return None
    return min(observed.newest_image, observed.listed_at).astimezone(UTC) + _settle(observed)


def _settling_since(observed: Observed, now: datetime) -> datetime:
    """Never later than now: a clock that was put back must not make the wait endless."""
    dataset: DatasetStatus | None = observed.expansion.status.dataset
    known = moment(dataset.settling_since) if dataset else None
    return min(known or now, now)
