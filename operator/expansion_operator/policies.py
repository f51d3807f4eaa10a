"""Why a resource is not ready yet: one small function for each reason, asked in order; the first that answers decides.

A new reason is one function and one entry in a tuple. Pure: what is seen and the time come in, a finding or None goes out.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime, timedelta

from expansion_contract import architectures, availability, environment, layout
from expansion_contract.exit_codes import REASONS, ExitCode
from expansion_contract.gate import Verdict
from expansion_contract.gate import verdict as gate_verdict
from expansion_contract.report import RunReport
from expansion_contract.resource import (
    MAX_NAME,
    NAME_RULE,
    ClassifierExpansion,
    ExpansionSpec,
    GrownFrom,
    RunStatus,
    ServingMode,
    seconds,
)
from expansion_contract.run import Owner, PublishedBase
from expansion_contract.version import AgentStatus, ServingDocument
from expansion_operator import schedule, starting, starts
from expansion_operator.conditions import TEXT_LIMIT, Finding, Next, Stage, clipped, moment, stamp
from expansion_operator.observed import JobPhase, JobSeen, Observed, VersionSeen
from expansion_operator.retries import KILLED, Retry, planned, retry_of

Policy = Callable[[Observed, datetime], Finding | None]

PROGRESS = 15.0
"""Seconds until progress is read again: the trainer writes it as often. Its end sends an event."""
SOON, BUSY, HEALING, REFUSED = 1.0, 5.0, 15.0, 60.0
"""Seconds until we look again: at our own next step, at work, at what may heal by itself, at what probably does not."""
GONE = 2.0
"""Seconds until we look whether a deleted Job is gone."""
HELD = timedelta(minutes=5)
"""How long a deleted Job may take; its pod has a minute to save what it has."""
LEAST_POLL = 10.0
"""Seconds; listing a bucket costs money, whatever spec.retrain.pollInterval says."""
REPORT_GRACE = {JobPhase.SUCCEEDED: timedelta(seconds=30), JobPhase.FAILED: timedelta(seconds=5)}
"""How long after a Job's end its report may still appear: some stores list late."""
ENDING_GRACE = timedelta(seconds=60)
"""How long a trainer that has reported its failure may take to end."""
RELIST_GRACE = timedelta(seconds=60)
"""How long a new listing may still show the images of the run that found others."""
DATASET_CHANGED = REASONS[ExitCode.DATASET_CHANGED]
AGAIN = "raise spec.retrain.revision to train again"
PUBLISHING = "Publishing"
SIGKILL = 137


# The resource itself


def not_supported(observed: Observed, _: datetime) -> Finding | None:
    return _unacceptable("NotSupported", availability.refused(observed.expansion.spec))


def unknown_architecture(observed: Observed, _: datetime) -> Finding | None:
    pretrained = observed.expansion.spec.base.pretrained
    problem = architectures.problem_with(pretrained.architecture) if pretrained else None
    return _unacceptable("UnknownArchitecture", [problem] if problem else [])


def bad_schedule(observed: Observed, _: datetime) -> Finding | None:
    problem = schedule.problem_with(observed.expansion.spec.retrain)
    return _unacceptable("InvalidSchedule", [problem] if problem else [])


def invalid_spec(observed: Observed, _: datetime) -> Finding | None:
    """What the API server's own rules refuse, for resources that were stored before the rules."""
    return _unacceptable("InvalidSpec", [*_local_addresses(observed.expansion.spec), *_bad_name(observed)])


def output_conflict(observed: Observed, _: datetime) -> Finding | None:
    if observed.output_owner is None:
        return None
    spec = observed.expansion.spec
    return Finding(
        stage=Stage.RESOURCE,
        reason="OutputConflict",
        message=f"spec.output.models {spec.output.models} already belongs to ClassifierExpansion {observed.output_owner}: two"
        " resources would number their versions in one folder. Delete one of them, or create this one with another address.",
        phase="Stalled",
        stuck=True,
        requeue_after=REFUSED,
    )


def base_circle(observed: Observed, _: datetime) -> Finding | None:
    way = observed.circle
    if not way:
        return None
    return Finding(
        stage=Stage.RESOURCE,
        reason="BaseCircle",
        message=f"spec.base.expansionRef leads back to this resource: {' -> '.join(way)}. Each version of one would train the next"
        " for ever; let one of them grow a pretrained network or one version (spec.base.model).",
        phase="Stalled",
        stuck=True,
        requeue_after=REFUSED,
    )


def _unacceptable(reason: str, sentences: Iterable[str]) -> Finding | None:
    message = " ".join(sentences)
    if not message:
        return None
    return Finding(stage=Stage.RESOURCE, reason=reason, message=message, phase="Stalled", stuck=True)


def _local_addresses(spec: ExpansionSpec) -> Iterable[str]:
    addresses = {
        "spec.categories.images": spec.categories.images,
        "spec.replay.images": spec.replay.images if spec.replay else None,
        "spec.unlabelled.images": spec.unlabelled.images if spec.unlabelled else None,
        "spec.base.model.uri": spec.base.model.uri if spec.base.model else None,
        "spec.base.pack.uri": spec.base.pack.uri if spec.base.pack else None,
        "spec.output.models": spec.output.models,
        "spec.storage.cache": spec.storage.cache,
    }
    for path, address in addresses.items():
        if address is not None and not address.startswith("s3://"):
            yield f"{path} must be an s3:// address, got {address}; a local folder works only with the command line."


def _bad_name(observed: Observed) -> Iterable[str]:
    name = observed.expansion.metadata.name
    if len(name) > MAX_NAME or not re.fullmatch("[a-z]([-a-z0-9]*[a-z0-9])?", name):
        yield f"{NAME_RULE.message}; got {name}."


# The data set


def unreadable(observed: Observed, _: datetime) -> Finding | None:
    """Storage or the base is away: nothing behind it can be decided, and what runs goes on."""
    trouble = observed.trouble or observed.base_trouble
    if trouble is None:
        return None
    return Finding(
        stage=Stage.DATASET,
        reason=trouble.reason,
        message=trouble.message,
        phase="Resolving",
        stuck=trouble.permanent,
        requeue_after=REFUSED if trouble.permanent else HEALING,
        sees_nothing_later=True,
    )


def not_listed(observed: Observed, _: datetime) -> Finding | None:
    if observed.listing is not None and observed.run_id is not None:
        return None
    images = observed.expansion.spec.categories.images
    return _resolving("Listing", f"{images} is being listed.", requeue_after=BUSY)


def unusable(observed: Observed, _: datetime) -> Finding | None:
    errors = observed.listing.errors if observed.listing else ()
    if not errors:
        return None
    message = " ".join(error.message for error in errors)
    return _resolving(errors[0].reason, message, stuck=True)


def _resolving(
    reason: str, message: str, *, requeue_after: float | None = None, stuck: bool = False
) -> Finding:
    return Finding(
        stage=Stage.DATASET,
        reason=reason,
        message=message,
        phase="Resolving",
        stuck=stuck,
        requeue_after=requeue_after,
        polls=requeue_after is None,
    )


# The run


def report_unreadable(observed: Observed, _: datetime) -> Finding | None:
    problem = _report_problem(observed)
    if problem is None:
        return None
    return _training_failed(
        observed,
        "ReportUnreadable",
        f"{address_of(observed, layout.REPORT)} cannot be read as a report: {problem} The trainer image and the operator must come"
        f" from the same release; install them together, then {AGAIN}.",
    )


def dataset_changed(observed: Observed, now: datetime) -> Finding | None:
    """The images changed while they were read. That is nobody's failure: a new listing gives a new run."""
    failure = run_failure(observed)
    if failure is None or failure[0] != DATASET_CHANGED:
        return None
    latched = latched_run(observed)
    since = moment(latched.finished_at) if latched and latched.outcome else None
    if since is not None and now - since > RELIST_GRACE:
        message = f"{failure[1]} The images are again as they were before; {AGAIN}."
        return _training_failed(observed, DATASET_CHANGED, message)
    return _listed_again(failure[1], requeue_after=0.0 if since is None else BUSY)


def run_failed(observed: Observed, now: datetime) -> Finding | None:
    """From the report, or as recorded earlier: a failed run is never started again, Job or no Job."""
    failure = run_failure(observed)
    if failure is None:
        return None
    is_active = has_own_job(observed) and observed.job is not None and observed.job.phase not in REPORT_GRACE
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
    report = report_of(observed)
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
    where = f" in stage {observed.progress.stage}" if observed.progress else ""
    why = job.waiting.message if job.waiting else f"Look at kubectl logs job/{job.name}, or raise the limit."
    return _training_failed(
        observed,
        job.waiting.reason if job.waiting else "NoProgress",
        f"Job {job.name} has said nothing new since {stamp(since)}{where}, longer than spec.compute.noProgressDeadlineSeconds"
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
    since = moment(ended_at(observed)) or now
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
    if retry := retry_of(latched_run(observed), job, reason, now):
        return _tried_again(reason, f"{message}.", retry, now)
    failed = f"{message}; when it is mended, {AGAIN}."
    return _training_failed(observed, reason, failed, ends_run=True)


def retry_awaited(observed: Observed, now: datetime) -> Finding | None:
    """The failed Job may be gone; its time has not come."""
    retry = planned(latched_run(observed), None)
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


def not_trained(observed: Observed, now: datetime) -> Finding | None:
    """A committed version of this run is proof of training too: a Git revert publishes it again without a GPU."""
    if report_of(observed) is not None or published_version(observed) is not None:
        return None
    return _first(UNREPORTED, observed, now)


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
        report = address_of(observed, layout.REPORT)
        return (
            "ReportMissing",
            f"Job {job.name} ended well but left no report at {report}. Look at kubectl logs job/{job.name}",
        )
    reason, what = _cause(observed, job)
    attempts = f"{job.attempts} attempt{'s' * (job.attempts != 1)}"
    why = ": ".join(part for part in (job.failure_reason, job.failure_message) if part)
    details = f"Job {job.name} failed after {attempts}{f' ({why})' if why else ''}."
    words = f" Its last words: {job.termination_message.strip()}" if job.termination_message.strip() else ""
    return reason, f"{what} {details}{words} See kubectl logs job/{job.name}"


def _cause(observed: Observed, job: JobSeen) -> tuple[str, str]:
    compute = observed.expansion.spec.compute
    if job.failure_reason == "DeadlineExceeded":
        limit = compute.active_deadline_seconds
        return (
            "DeadlineExceeded",
            f"The run took longer than spec.compute.activeDeadlineSeconds ({limit}): raise it.",
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


# The gate


def gate_refused(observed: Observed, _: datetime) -> Finding | None:
    verdict = verdict_of(observed)
    if verdict is None or verdict.accepted:
        return None
    return Finding(
        stage=Stage.GATE,
        reason="GateRefused",
        message=verdict.message,
        phase="Stalled",
        stuck=True,
        polls=True,
    )


# The publication


def not_published(observed: Observed, _: datetime) -> Finding | None:
    if published_version(observed) is not None:
        return None
    message = f"The model of run {observed.run_id} is being published as version {next_version(observed)}."
    return _publishing(message, Next.PUBLISH)


def not_announced(observed: Observed, _: datetime) -> Finding | None:
    """serving.json must name the version and remember the last number ever given."""
    document = serving_document(observed)
    if document is None or document == observed.serving_document:
        return None
    return _publishing(f"The model servers are being told of version {document.version}.", Next.WRITE_SERVING)


def _publishing(message: str, then: Next) -> Finding:
    return Finding(
        stage=Stage.PUBLICATION,
        reason=PUBLISHING,
        message=message,
        phase="Publishing",
        then=then,
        requeue_after=SOON,
    )


# The rollout


def pin_missing(observed: Observed, _: datetime) -> Finding | None:
    message = missing_pin(observed)
    return _rolling("VersionMissing", message, stuck=True) if message else None


def deployment_name_taken(observed: Observed, _: datetime) -> Finding | None:
    deployment = observed.deployment
    if not is_managed(observed) or deployment is None or deployment.ours:
        return None
    return _rolling(
        "NameConflict",
        f"Deployment {observed.expansion.metadata.namespace}/{deployment.name} exists and does not belong to this"
        f" ClassifierExpansion. Delete it (kubectl delete deployment {deployment.name}), or give the ClassifierExpansion another name.",
        stuck=True,
    )


def model_server_failed(observed: Observed, _: datetime) -> Finding | None:
    failed = failed_agents(observed)
    if not failed or not is_managed(observed) or is_rolled_out(observed):
        return None
    return _rolling("ModelServerFailed", failed[0].message)


def pods_not_starting(observed: Observed, _: datetime) -> Finding | None:
    deployment = observed.deployment
    if not is_managed(observed) or deployment is None or deployment.waiting is None:
        return None
    if is_rolled_out(observed):
        return None
    waiting = deployment.waiting
    return _rolling(waiting.reason, waiting.message, stuck=waiting.permanent)


def rolling_out(observed: Observed, _: datetime) -> Finding | None:
    if not is_managed(observed) or is_rolled_out(observed):
        return None
    document, replicas = observed.serving_document, wanted_servers(observed)
    version = document.version if document else 0
    live = sum(agent.live_version == version for agent in observed.agents)
    message = (
        f"{live} of {replicas} model servers answer with version {version}.{_why_not_all(observed, live)}"
    )
    return _rolling("RollingOut", message)


def next_run_waits(observed: Observed, _: datetime) -> Finding | None:
    """The run that might end first has, and answers; what is wanted now is another one."""
    if observed.waiting_run is None:
        return None
    return Finding(
        stage=Stage.ROLLOUT,
        reason="NextRun",
        message=f"Run {observed.run_id} has ended and answers; run {observed.waiting_run} follows.",
        phase="Pending",
        requeue_after=SOON,
    )


def _why_not_all(observed: Observed, live: int) -> str:
    """What can be said beyond the numbers."""
    ready = observed.deployment.ready_replicas if observed.deployment else 0
    if ready > len(observed.agents):
        return (
            f" {ready} pods are ready, but only {len(observed.agents)} answer the operator on port {environment.AGENT_PORT}:"
            " let NetworkPolicies and the network between the namespaces allow it."
        )
    return " Their Deployment is still being rolled out." if live >= wanted_servers(observed) else ""


def _rolling(reason: str, message: str, *, stuck: bool = False) -> Finding:
    return Finding(
        stage=Stage.ROLLOUT,
        reason=reason,
        message=message,
        phase="RollingOut",
        stuck=stuck,
        heard=not stuck,
        requeue_after=REFUSED if stuck else BUSY,
    )


UNREPORTED: tuple[Policy, ...] = (
    job_name_taken,
    old_runs,
    retry_awaited,
    starting.queue_missing,
    starting.uploads_under_way,
    starting.budget_spent,
    not_started,
    job_ending,
    queued,
    pending_too_long,
    pending,
    no_progress,
    running,
    report_awaited,
    ended_without_report,
)
"""Asked while there is no report."""

POLICIES: tuple[Policy, ...] = (
    not_supported,
    unknown_architecture,
    invalid_spec,
    bad_schedule,
    output_conflict,
    base_circle,
    unreadable,
    unusable,
    not_listed,
    report_unreadable,
    dataset_changed,
    run_failed,
    not_trained,
    gate_refused,
    not_published,
    not_announced,
    pin_missing,
    deployment_name_taken,
    model_server_failed,
    pods_not_starting,
    rolling_out,
    next_run_waits,
)


def first_finding(observed: Observed, now: datetime) -> Finding | None:
    """What stands between this resource and Ready; None if nothing does."""
    finding = _refused_by_the_cluster(_first(POLICIES, observed, now), observed)
    if finding is None or observed.waiting_run is None or finding.stage not in {Stage.TRAINING, Stage.GATE}:
        return finding
    return replace(finding, moves_on=True, polls=False, requeue_after=BUSY) if finding.stuck else finding


def _first(policies: Iterable[Policy], observed: Observed, now: datetime) -> Finding | None:
    return next((finding for policy in policies if (finding := policy(observed, now))), None)


def _refused_by_the_cluster(finding: Finding | None, observed: Observed) -> Finding | None:
    """Our own next step was refused last time: that is the reason then, and the step is tried again."""
    if not observed.refusals or not _takes_a_step(finding, observed):
        return finding
    is_permanent = any(refusal.permanent for refusal in observed.refusals)
    return Finding(
        stage=finding.stage if finding else Stage.ROLLOUT,
        reason=observed.refusals[0].reason,
        message=" ".join(dict.fromkeys(refusal.message for refusal in observed.refusals)),
        phase=finding.phase if finding else "RollingOut",
        stuck=is_permanent,
        then=finding.then if finding else Next.WAIT,
        requeue_after=REFUSED if is_permanent else HEALING,
    )


def _takes_a_step(finding: Finding | None, observed: Observed) -> bool:
    """Is it our own step that is missing? Not while storage, the trainer or a person is waited for."""
    if finding is None:
        return True
    if finding.stuck or finding.stage is Stage.DATASET:
        return False
    return finding.stage is not Stage.TRAINING or observed.job is None


# What is so


def report_of(observed: Observed) -> RunReport | None:
    """Of the current run, and only one that says what it must."""
    if observed.report is None or _report_problem(observed) is not None:
        return None
    return observed.report.report


def _report_problem(observed: Observed) -> str | None:
    seen = observed.report
    if seen is None:
        return None
    if seen.report is None:
        return seen.problem
    if seen.report.run_id != observed.run_id:
        return f"it speaks of run {seen.report.run_id!r}."
    if seen.report.outcome == "Succeeded" and seen.report.metrics is None:
        return "it says Succeeded and has no metrics."
    return None


def latched_run(observed: Observed) -> RunStatus | None:
    """What status remembers of the current run."""
    run = observed.expansion.status.run
    return run if run is not None and run.id == observed.run_id else None


def ended_at(observed: Observed) -> str | None:
    """When the end of this very Job was first seen, as status remembers it; an earlier attempt's end says nothing."""
    latched, job = latched_run(observed), observed.job
    is_same = latched is not None and (job is None or latched.started_at in (None, job.created_at))
    return latched.finished_at if latched and is_same else None


def run_failure(observed: Observed) -> tuple[str, str] | None:
    """(reason, message) of the current run's failure; the report knows best, then what status remembers."""
    report, latched = report_of(observed), latched_run(observed)
    if report is not None:
        return _reported_failure(report) if report.outcome == "Failed" else None
    if published_version(observed) is not None:
        return None
    if latched is not None and latched.outcome == "Failed":
        return latched.reason or "TrainingFailed", latched.message or ""
    return _earlier_failure(observed) if latched is None else None


def _earlier_failure(observed: Observed) -> tuple[str, str] | None:
    """Of a run that was the current one before others were: going back to it does not mend it."""
    entries = (entry for entry in observed.expansion.status.history if entry.run_id == observed.run_id)
    last = next(entries, None)
    if last is None or last.outcome != "Failed":
        return None
    reason, _, message = last.message.partition(": ")
    return reason, message


def _reported_failure(report: RunReport) -> tuple[str, str]:
    unsaid = f"Run {report.run_id} failed and its report does not say why."
    return report.reason or "TrainingFailed", report.message or unsaid


def is_about_current_run(finding: Finding | None) -> bool:
    """Did we come far enough to know which run is the current one, and that it may be trained?"""
    return finding is None or not finding.stage.is_before(Stage.TRAINING)


def has_own_job(observed: Observed) -> bool:
    return observed.job is not None and observed.job.ours


def verdict_of(observed: Observed) -> Verdict | None:
    """The gate's answer to the stored report, with today's thresholds. None if there is no report to ask about."""
    report = report_of(observed)
    if report is None or report.metrics is None:
        return None
    return gate_verdict(report, observed.expansion.spec.acceptance)


def published_version(observed: Observed) -> VersionSeen | None:
    """The committed version that the current run made."""
    made = (seen for seen in reversed(observed.versions) if seen.manifest.run_id == observed.run_id)
    return next(made, None)


def last_version(observed: Observed) -> int:
    """The highest number ever given."""
    document = observed.serving_document
    return max([document.last_version if document else 0, *(v.manifest.version for v in observed.versions)])


def next_version(observed: Observed) -> int:
    return last_version(observed) + 1


def announced_version(observed: Observed) -> VersionSeen | None:
    """What should be served: what spec.serving.version asks for, else the current run's version once there is one.

    Where nobody asks any more and the current run has none yet, the newest takes over from what was asked for.
    """
    pin, told = observed.expansion.spec.serving.version, observed.serving_document
    if pin is not None:
        return next((seen for seen in observed.versions if seen.manifest.version == pin), None)
    newest = observed.versions[-1] if observed.versions and told is not None and told.pinned else None
    return published_version(observed) or newest


def serving_document(observed: Observed) -> ServingDocument | None:
    """What the model servers should be told; None while nothing new can be said."""
    version, metadata = announced_version(observed), observed.expansion.metadata
    if version is None:
        return None
    return ServingDocument(
        owner=Owner(namespace=metadata.namespace, name=metadata.name),
        model_name=metadata.name,
        version=version.manifest.version,
        run_id=version.manifest.run_id,
        manifest_sha256=version.manifest_sha256,
        last_version=last_version(observed),
        given=list(starts.given(observed)),
        pinned=observed.expansion.spec.serving.version is not None,
    )


def missing_pin(observed: Observed) -> str | None:
    """What is to be said if spec.serving.version names no version that there is."""
    pin = observed.expansion.spec.serving.version
    if pin is None or announced_version(observed) is not None:
        return None
    there = ", ".join(str(seen.manifest.version) for seen in observed.versions)
    served = f" Version {observed.serving_document.version} goes on." if observed.serving_document else ""
    return (
        f"spec.serving.version {pin} is no published version (there {'are' if there else 'is'} {there or 'none'}).{served} Name one of"
        " them, or remove the field to serve the newest."
    )


def grown_from(base: PublishedBase | None) -> GrownFrom | None:
    """As status says it."""
    if base is None:
        return None
    version = starts.version_of(base)
    return GrownFrom(uri=base.uri, manifest_sha256=base.manifest_sha256, version=version)


def newer_base(observed: Observed) -> str | None:
    """What is to be said of a base that has another version than the current run grows, and may not start a run."""
    today, used = observed.base, observed.start.model
    if today is None or used is None or used.manifest_sha256 == today.model.manifest_sha256:
        return None
    reference = observed.expansion.spec.base.expansion_ref
    who = f"ClassifierExpansion {reference.name}" if reference else "The base"
    return (
        f"{who} has version {today.version}, this model grew from {starts.version_of(used) or used.uri}. To grow version"
        f" {today.version}, raise spec.retrain.revision, or set spec.retrain.onBaseChange to Retrain."
    )


def is_managed(observed: Observed) -> bool:
    return observed.expansion.spec.serving.mode is ServingMode.MANAGED


def failed_agents(observed: Observed) -> tuple[AgentStatus, ...]:
    return tuple(agent for agent in observed.agents if agent.state == "Failed")


def wanted_servers(observed: Observed) -> int:
    """As spec says, else as somebody else has scaled their Deployment; Kubernetes makes 1 where nobody has said anything."""
    given, deployment = observed.expansion.spec.serving.replicas, observed.deployment
    if given is not None:
        return given
    return 1 if deployment is None else deployment.replicas


def is_rolled_out(observed: Observed) -> bool:
    """Every model server that should be there answers with the version of serving.json, and no other one answers.

    Whoever scales them in our place does it all day: one that is still starting then is no rollout, if others answer.
    """
    deployment, document = observed.deployment, observed.serving_document
    if deployment is None or document is None:
        return False
    wanted, is_given = wanted_servers(observed), observed.expansion.spec.serving.replicas is not None
    live = [agent.live_version for agent in observed.agents if is_given or agent.live_version is not None]
    needed = wanted if is_given else min(wanted, 1)
    return (
        deployment.ours
        and deployment.generation_observed
        and deployment.replicas == wanted
        and deployment.ready_replicas >= needed
        and deployment.old_pods == 0
        and len(live) >= needed
        and all(version == document.version for version in live)
    )


def address_of(observed: Observed, name: str) -> str:
    """Of a file of the current run."""
    return f"{observed.expansion.spec.output.models.rstrip('/')}/{layout.run(observed.run_id or '', name)}"


def poll_seconds(expansion: ClassifierExpansion) -> float:
    return max(LEAST_POLL, seconds(expansion.spec.retrain.poll_interval))
