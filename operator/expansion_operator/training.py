"""Why the current run has no report yet, or how it failed. Pure."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta

from expansion_contract import layout
from expansion_contract.exit_codes import REASONS, ExitCode
from expansion_operator import derived
from expansion_operator.asked import is_outdated
from expansion_operator.conditions import TEXT_LIMIT, Finding, Next, Stage, clipped, moment, stamp
from expansion_operator.observed import JobPhase, JobSeen, Observed
from expansion_operator.retries import KILLED, Retry, planned, retry_of
from expansion_operator.waits import BUSY, GONE, HEALING, PROGRESS, REFUSED

HELD = timedelta(minutes=5)
"""How long a deleted Job may take; its pod has a minute to save what it has."""
REPORT_GRACE = {JobPhase.SUCCEEDED: timedelta(seconds=30), JobPhase.FAILED: timedelta(seconds=5)}
"""How long after a Job's end its report may still appear: some stores list late."""
ENDING_GRACE = timedelta(seconds=60)
"""How long a trainer that has reported its failure may take to end."""
RELIST_GRACE = timedelta(seconds=60)
"""How long a new listing may still show the images of the run that found others."""
DATASET_CHANGED = REASONS[ExitCode.DATASET_CHANGED]
AGAIN = "raise spec.retrain.revision to train again"
SIGKILL = 137
DEADLINE_EXCEEDED = "DeadlineExceeded"
"""Kubernetes says so of the Job, and we of the run."""
LOGS_GONE = (
    "Its pod is stopped and removed with its log, which only a collector of the cluster's logs still has"
)


def report_unreadable(observed: Observed, _: datetime) -> Finding | None:
    problem = derived.report_problem(observed)
    if problem is None:
        return None
    return _training_failed(
        observed,
        "ReportUnreadable",
        f"{derived.address_of(observed, layout.REPORT)} cannot be read as a report: {problem} The trainer image and the operator must come"
        f" from the same release; install them together, then {AGAIN}.",
    )


def dataset_changed(observed: Observed, now: datetime) -> Finding | None:
    """The images changed while they were read. That is nobody's failure: a new listing gives a new run."""
    failure = derived.run_failure(observed)
    if failure is None or failure[0] != DATASET_CHANGED:
        return None
    latched = derived.latched_run(observed)
    since = moment(latched.finished_at) if latched and latched.outcome else None
    if since is not None and now - since > RELIST_GRACE:
        message = f"{failure[1]} The images are again as they were before; {AGAIN}."
        return _training_failed(observed, DATASET_CHANGED, message)
    return _listed_again(failure[1], requeue_after=0.0 if since is None else BUSY)


def run_failed(observed: Observed, now: datetime) -> Finding | None:
    """From the report, or as recorded earlier: a failed run is never started again, Job or no Job."""
    failure = derived.run_failure(observed)
    if failure is None:
        return None
    is_active = (
        derived.has_own_job(observed) and observed.job is not None and observed.job.phase not in REPORT_GRACE
    )
    is_ending = is_active and _has_just_failed(observed, now)
    return _training_failed(
        observed,
        *failure,
        then=Next.STOP if is_active and not is_ending else Next.WAIT,
        ends_run=True,
        requeue_after=BUSY if is_ending else None,
    )


def _has_just_failed(observed: Observed, now: datetime) -> bool:
    """By its report: its pod ends by itself then, and people read its logs."""
    report = derived.report_of(observed)
    at = moment(report.finished_at) if report else None
    return at is not None and abs(now - at) <= ENDING_GRACE


def job_name_taken(observed: Observed, _: datetime) -> Finding | None:
    job = observed.job
    if job is None or job.ours:
        return None
    return _training_failed(
        observed,
        "NameConflict",
        f"Job {observed.expansion.metadata.namespace}/{job.name} exists and does not belong to this ClassifierExpansion."
        f" Delete it (kubectl delete job {job.name}), or give the ClassifierExpansion another name.",
        requeue_after=REFUSED,
    )


def old_runs(observed: Observed, now: datetime) -> Finding | None:
    """Never two runs of one resource at once."""
    jobs = [job for job in observed.old_jobs if job.ours]
    if not jobs or observed.job is not None:
        return None
    names = ", ".join(job.name for job in jobs)
    return _ending("OldRunEnding", f"Waits until {names} is gone.", jobs, now)


def _ending(reason: str, message: str, jobs: Iterable[JobSeen], now: datetime) -> Finding:
    """A node that is lost, or a finalizer, may hold a Job for ever: only a person can tell."""
    stuck = [
        f"{job.name} was deleted at {job.deleted_at} and is held by {job.held_by}."
        for job in jobs
        if job.held_by and now - (moment(job.deleted_at) or now) > HELD
    ]
    if not stuck:
        return _working(reason, message, "Pending", requeue_after=GONE)
    remedy = (
        "If a pod's node is lost for good, kubectl delete pod NAME --grace-period=0 --force ends the wait;"
        " a finalizer is removed by whoever set it."
    )
    return replace(
        _working(reason, " ".join((message, *stuck, remedy)), "Stalled", requeue_after=HEALING), stuck=True
    )


def not_started(observed: Observed, _: datetime) -> Finding | None:
    if observed.job is not None:
        return None
    return _working("Starting", f"Run {observed.run_id} is being started.", "Pending", then=Next.START)


def job_ending(observed: Observed, now: datetime) -> Finding | None:
    if observed.job is None or not observed.job.terminating:
        return None
    message = f"Job {observed.job.name} is being deleted; the run is started again when it is gone."
    return _ending("JobEnding", message, [observed.job], now)


def asked_anew(observed: Observed, _: datetime) -> Finding | None:
    """A run that waits for 16 GPUs would wait on after an edit that asks for one. One that has begun goes on: the model is the same."""
    job = observed.job
    if job is None or not is_outdated(job, observed.expansion):
        return None
    message = f"Job {job.name} has not begun and was made from another spec.compute or spec.storage: it is made anew."
    return _working("AskedAnew", message, "Pending", then=Next.STOP, requeue_after=GONE)


def queued(observed: Observed, _: datetime) -> Finding | None:
    """For as long as it takes: a queue has no deadline."""
    job = observed.job
    if job is None or job.phase is not JobPhase.QUEUED:
        return None
    why = job.waiting
    message = why.message if why else f"Job {job.name} is suspended."
    return _heard(why.reason if why else "JobSuspended", message, "Queued")


def pending_too_long(observed: Observed, now: datetime) -> Finding | None:
    job, limit = observed.job, observed.expansion.spec.compute.pending_deadline_seconds
    if job is None or job.phase is not JobPhase.PENDING or job.managed_by:
        return None
    if now - _pending_since(observed, job, now) <= timedelta(seconds=limit):
        return None
    why = f" {job.waiting.message}" if job.waiting else ""
    return _training_failed(
        observed,
        job.waiting.reason if job.waiting else "PendingTooLong",
        f"No pod of Job {job.name} started within spec.compute.pendingDeadlineSeconds ({limit}).{why} When that is mended, {AGAIN}.",
        then=Next.STOP,
        ends_run=True,
    )


def pending(observed: Observed, _: datetime) -> Finding | None:
    job = observed.job
    if job is None or job.phase is not JobPhase.PENDING:
        return None
    if job.waiting:
        return _heard(job.waiting.reason, job.waiting.message, "Pending")
    return _heard("Pending", f"Job {job.name} waits for its pod.", "Pending")


def no_progress(observed: Observed, now: datetime) -> Finding | None:
    """A hung trainer keeps its GPU for ever, and so does a retry that never gets a node."""
    job, limit = observed.job, observed.expansion.spec.compute.no_progress_deadline_seconds
    if job is None or job.phase is not JobPhase.RUNNING:
        return None
    since = _pending_since(observed, job, now)
    if now - since <= timedelta(seconds=limit):
        return None
    why = (
        job.waiting.message
        if job.waiting
        else f"{LOGS_GONE}. If it was at work all the time, raise the limit."
    )
    return _training_failed(
        observed,
        job.waiting.reason if job.waiting else "NoProgress",
        f"Job {job.name} has said nothing new since {stamp(since)}{_so_far(observed)}, longer than spec.compute.noProgressDeadlineSeconds"
        f" ({limit}). {why} When that is mended, {AGAIN}.",
        then=Next.STOP,
        ends_run=True,
    )


def running(observed: Observed, _: datetime) -> Finding | None:
    job = observed.job
    if job is None or job.phase is not JobPhase.RUNNING:
        return None
    if job.waiting:
        tried = f" Pods of this run that failed before: {job.attempts}." if job.attempts else ""
        return _heard(job.waiting.reason, f"{job.waiting.message}{tried}", "Pending")
    next_one = f" Run {observed.waiting_run} waits for its end." if observed.waiting_run else ""
    message = f"Job {job.name} trains run {observed.run_id}.{next_one}"
    return _heard("Running", message, "Training", requeue_after=PROGRESS)


def report_awaited(observed: Observed, now: datetime) -> Finding | None:
    job = observed.job
    if job is None or job.phase not in REPORT_GRACE:
        return None
    since = moment(derived.ended_at(observed)) or now
    if now - since > REPORT_GRACE[job.phase]:
        return None
    message = f"Job {job.name} {job.phase.lower()}; its report is looked for."
    return _working("ReportAwaited", message, "Gating", requeue_after=GONE)


def ended_without_report(observed: Observed, now: datetime) -> Finding | None:
    job = observed.job
    if job is None:
        return None
    reason, message = job_failure(observed, job)
    if reason == DATASET_CHANGED:
        return _listed_again(f"{message}.", requeue_after=0.0)
    if retry := retry_of(derived.latched_run(observed), job, reason, now):
        return _tried_again(reason, f"{message}.", retry, now)
    failed = f"{message}; when it is mended, {AGAIN}."
    return _training_failed(observed, reason, failed, ends_run=True)


def retry_awaited(observed: Observed, now: datetime) -> Finding | None:
    """The failed Job may be gone; its time has not come."""
    retry = planned(derived.latched_run(observed), None)
    if observed.job is not None or retry is None or now >= retry.at:
        return None
    return _tried_again("RetryAwaited", "The last attempt failed.", retry, now)


def _tried_again(reason: str, message: str, retry: Retry, now: datetime) -> Finding:
    """The failed Job stays until the next one may start: people read its pods' logs."""
    is_due = now >= retry.at
    return Finding(
        stage=Stage.TRAINING,
        reason=reason,
        message=clipped(f"{retry.words} {message}", TEXT_LIMIT),
        phase="Pending",
        then=Next.STOP if is_due else Next.WAIT,
        requeue_after=GONE if is_due else (retry.at - now).total_seconds(),
        failures=retry.number,
        retry_at=retry.at,
    )


def _listed_again(message: str, *, requeue_after: float) -> Finding:
    return Finding(
        stage=Stage.TRAINING,
        reason=DATASET_CHANGED,
        message=clipped(message, TEXT_LIMIT),
        phase="Resolving",
        then=Next.RELIST,
        requeue_after=requeue_after,
        ends_run=True,
    )


def _training_failed(
    observed: Observed,
    reason: str,
    message: str,
    *,
    then: Next = Next.WAIT,
    ends_run: bool = False,
    requeue_after: float | None = None,
) -> Finding:
    """Looked at again when the images are listed again: other images are another run."""
    if then is not Next.WAIT:
        requeue_after = GONE
    return Finding(
        stage=Stage.TRAINING,
        reason=reason,
        message=clipped(message, TEXT_LIMIT),
        phase="Stalled",
        stuck=True,
        then=then,
        ends_run=ends_run,
        requeue_after=requeue_after,
        polls=requeue_after is None,
    )


def _working(
    reason: str, message: str, phase: str, *, then: Next = Next.WAIT, requeue_after: float = BUSY
) -> Finding:
    return Finding(
        stage=Stage.TRAINING,
        reason=reason,
        message=message,
        phase=phase,
        then=then,
        requeue_after=requeue_after,
    )


def _heard(reason: str, message: str, phase: str, requeue_after: float = BUSY) -> Finding:
    return replace(_working(reason, message, phase, requeue_after=requeue_after), heard=True)


def _pending_since(observed: Observed, job: JobSeen, now: datetime) -> datetime:
    """A run whose pod was evicted waits since then, not since its Job was created."""
    progress = observed.progress.updated_at if observed.progress else None
    times = [moment(text) for text in (job.created_at, job.pending_since, progress)]
    return max((time for time in times if time is not None), default=now)


def job_failure(observed: Observed, job: JobSeen) -> tuple[str, str]:
    """(reason, what happened) of a Job that ended without a report; what now is said by who knows it."""
    if job.phase is JobPhase.SUCCEEDED:
        report = derived.address_of(observed, layout.REPORT)
        return (
            "ReportMissing",
            f"Job {job.name} ended well but left no report at {report}. Look at kubectl logs job/{job.name}",
        )
    reason, what = _cause(observed, job)
    attempts = f"{job.attempts} attempt{'s' * (job.attempts != 1)}"
    why = ": ".join(part for part in (job.failure_reason, job.failure_message) if part)
    details = f"Job {job.name} failed after {attempts}{f' ({why})' if why else ''}."
    words = f" Its last words: {job.termination_message.strip()}" if job.termination_message.strip() else ""
    return reason, f"{what} {details}{words} {_where_to_look(observed, job)}"


def _where_to_look(observed: Observed, job: JobSeen) -> str:
    return LOGS_GONE if job.failure_reason == DEADLINE_EXCEEDED else f"See kubectl logs job/{job.name}"


def _so_far(observed: Observed) -> str:
    return f" in stage {observed.progress.stage}" if observed.progress else ""


def _cause(observed: Observed, job: JobSeen) -> tuple[str, str]:
    compute = observed.expansion.spec.compute
    if job.failure_reason == DEADLINE_EXCEEDED:
        limit = compute.active_deadline_seconds
        return (
            DEADLINE_EXCEEDED,
            f"The run took longer than spec.compute.activeDeadlineSeconds ({limit}): raise it. It was stopped{_so_far(observed)}.",
        )
    if job.oom_killed:
        limit_text = job.memory_limit or compute.pod_template.resources.limits.get("memory", "none")
        return (
            "OutOfMemory",
            f"The trainer needed more memory than its limit ({limit_text}): raise"
            " spec.compute.podTemplate.resources.limits.memory.",
        )
    if job.exit_code == SIGKILL:
        return KILLED, "The trainer was killed (SIGKILL, exit code 137), not for its own memory limit."
    if job.exit_code is None:
        where = f" Its pods ran elsewhere: spec.managedBy is {job.managed_by}." if job.managed_by else ""
        return "TrainingFailed", f"No pod of the run says how it ended.{where}"
    known = {int(code): reason for code, reason in REASONS.items()}
    return known.get(job.exit_code, "TrainingFailed"), f"The trainer ended with exit code {job.exit_code}."
