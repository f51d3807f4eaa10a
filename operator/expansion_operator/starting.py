"""Why a run that is wanted does not start yet, although everything for it is there: uploads and the budget. Pure."""

from datetime import UTC, datetime, timedelta

from expansion_contract.resource import DatasetStatus, seconds
from expansion_operator.conditions import Finding, Next, Stage, moment, stamp
from expansion_operator.observed import JobSeen, Observed

DAY = timedelta(hours=24)
PATIENCE = 10
"""Times spec.retrain.settle; a stream of images that never ends must not keep a run from starting."""
REMEMBERED = 100
REFUSED = 60.0
"""Seconds until what only a person can change is looked at again."""


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
    times = [at for at in map(moment, recent_runs(observed, now)) if at is not None]
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


def recent_runs(observed: Observed, now: datetime) -> list[str]:
    """When Jobs of the last day were created: those that status remembers and those that are there."""
    known = observed.expansion.status.recent_runs
    there = {job.created_at for job in _own_jobs(observed)} - set(known)
    fresh = [text for text in {*known, *there} if (moment(text) or now) > now - DAY]
    return sorted(fresh)[-REMEMBERED:]


def remembered_runs(observed: Observed, now: datetime) -> list[str]:
    """The same for status, where passing time alone changes nothing."""
    known = observed.expansion.status.recent_runs
    is_news = {job.created_at for job in _own_jobs(observed)} - set(known)
    return recent_runs(observed, now) if is_news else list(known)


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
