"""What status says for people and for conditions: the figures, the run, the model, the history. Pure.

Every value is rounded so that nothing happening writes nothing. What a step could not see stays as it was.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta

from expansion_contract import environment, layout
from expansion_contract.report import Progress, RunReport
from expansion_contract.resource import (
    CandidateStatus,
    Condition,
    DatasetStatus,
    ExpansionStatus,
    Figures,
    HistoryEntry,
    ModelStatus,
    RunStatus,
    ServingStatus,
)
from expansion_operator import derived, earlier_runs, schedule, starting, starts, training
from expansion_operator.conditions import (
    SHOWN,
    TEXT_LIMIT,
    Fact,
    Finding,
    Stage,
    clipped,
    dated,
    moment,
    stage_facts,
    stamp,
    suspension,
    verdict,
)
from expansion_operator.manifests.pod import serving_name
from expansion_operator.observed import Observed, Settings

REMEMBERED = 20
ETA_STEP = 10
"""Seconds an ETA is rounded to, so that it does not rewrite status at every look."""


def next_status(
    observed: Observed, finding: Finding | None, settings: Settings, now: datetime
) -> ExpansionStatus:
    return ExpansionStatus(
        observed_generation=observed.expansion.metadata.generation,
        conditions=conditions(observed, finding, now),
        phase=_phase(observed, finding),
        dataset=_dataset(observed, finding, now),
        run=_run(observed, finding, now),
        candidate=_candidate(observed, finding),
        model=_model(observed, finding),
        serving=_serving(observed, settings),
        started_runs=starting.started_runs(observed, now),
        last_handled_retrain_at=starts.requested(observed.expansion) or None,
        schedule=schedule.remembered(observed.expansion, observed.start.scheduled, now),
        history=_history(observed, finding, now),
    )


def _phase(observed: Observed, finding: Finding | None) -> str:
    if observed.expansion.spec.suspend:
        return "Suspended"
    if finding is None:
        return "Ready"
    if finding.needs_somebody:
        return "Stalled"
    return "Pending" if finding.moves_on else finding.phase


# Conditions


def conditions(observed: Observed, finding: Finding | None, now: datetime) -> list[Condition]:
    previous = observed.expansion.status.conditions
    suspended = observed.expansion.spec.suspend
    facts = (
        *stage_facts(finding, _achieved(observed)),
        *_serving_fact(observed),
        suspension(suspended),
        *_base_fact(observed),
        *verdict(finding, suspended, _ready_message(observed)),
    )
    fresh = dated(facts, previous, observed.expansion.metadata.generation, now)
    kept = _unseen(fresh, previous, finding)
    return [*fresh, *kept]


def _unseen(
    fresh: Iterable[Condition], previous: Iterable[Condition], finding: Finding | None
) -> Iterable[Condition]:
    if finding is None or not finding.sees_nothing_later:
        return ()
    known = {condition.type for condition in fresh}
    return (c for c in previous if c.type in {*SHOWN, "Serving", "BaseChanged"} - known)


def _base_fact(observed: Observed) -> Iterable[Fact]:
    """Only while it is so."""
    message = derived.newer_base(observed)
    return (
        (Fact(type="BaseChanged", status="True", reason="NewerVersion", message=message),) if message else ()
    )


def _achieved(observed: Observed) -> dict[Stage, Fact]:
    said = {
        Stage.DATASET: ("Listed", _dataset_message(observed)),
        Stage.TRAINING: ("Succeeded", _training_message(observed)),
        Stage.GATE: _gate_words(observed),
        Stage.PUBLICATION: ("Published", _publication_message(observed)),
    }
    return {stage: Fact(type=stage, status="True", reason=r, message=m) for stage, (r, m) in said.items()}


def _dataset_message(observed: Observed) -> str:
    listing = observed.listing
    if listing is None:
        return ""
    warnings = " ".join(problem.message for problem in listing.problems)
    return f"{listing.images} images in {len(listing.counts)} new categories. {warnings}".strip()


def _training_message(observed: Observed) -> str:
    report = derived.report_of(observed)
    if report is None:
        return f"Run {observed.run_id} was trained and published; its report is gone."
    notes = " ".join(finding.message for finding in report.findings if finding.severity == "warning")
    return f"Run {observed.run_id} trained {report.categories} categories. {notes}".strip()


def _gate_words(observed: Observed) -> tuple[str, str]:
    gate = derived.verdict_of(observed)
    if gate is None:
        return (
            "AcceptedEarlier",
            "Accepted when it was published; its report is gone, so it is not asked again.",
        )
    return "GatePassed", gate.message


def _publication_message(observed: Observed) -> str:
    version = derived.published_version(observed)
    return f"Version {version.manifest.version} at {_version_uri(observed)}." if version else ""


def _ready_message(observed: Observed) -> str:
    newest, told = derived.published_version(observed), derived.announced_version(observed)
    if newest is None or told is None:
        return ""
    what = f"Version {told.manifest.version} with {told.manifest.categories} categories"
    newer = f" spec.serving.version asks for it; the newest is {newest.manifest.version}."
    pinned = newer if told.manifest.version != newest.manifest.version else ""
    if not derived.is_managed(observed):
        return f"{what} is published.{pinned}"
    if derived.wanted_servers(observed) == 0:
        return f"{what} is published; {_scaled_to_zero(observed)}{pinned}"
    live = _live(observed)
    count = live[1] if live else 0
    return (
        f"{what} answers on {count} model server{'s' * (count != 1)}.{pinned}{earlier_runs.ending(observed)}"
    )


def _scaled_to_zero(observed: Observed) -> str:
    if observed.expansion.spec.serving.replicas == 0:
        return "spec.serving.replicas is 0."
    return f"Deployment {serving_name(observed.expansion.metadata.name)} is scaled to 0."


def _serving_fact(observed: Observed) -> Iterable[Fact]:
    """Nothing if the model servers could not be looked at."""
    if derived.is_managed(observed) and observed.trouble is not None and observed.deployment is None:
        return ()
    status, reason, message = _serving_words(observed)
    return (Fact(type="Serving", status=status, reason=reason, message=message),)


def _serving_words(observed: Observed) -> tuple[str, str, str]:
    deployment = observed.deployment
    failed = [agent.message for agent in derived.failed_agents(observed)]
    failures = " ".join(dict.fromkeys([*failed, *filter(None, [derived.missing_pin(observed)])]))
    if not derived.is_managed(observed):
        return (
            "False",
            "NotManaged",
            "spec.serving.mode is None: versions are published, nothing serves them.",
        )
    if live := _live(observed):
        version, count = live
        wanted = derived.wanted_servers(observed)
        words = f"{count} of {wanted} model servers answer with version {version}. {failures}"
        return "True", "Live", words.strip()
    if failures:
        return "False", "ModelServerFailed", failures
    if deployment is None and observed.serving_document is None:
        return "False", "NotPublished", "No version has been published yet."
    if derived.wanted_servers(observed) == 0:
        return "False", "ScaledToZero", _scaled_to_zero(observed)
    if deployment is not None and deployment.waiting is not None:
        return "False", deployment.waiting.reason, deployment.waiting.message
    return "False", "Starting", "No model server answers yet."


def _live(observed: Observed) -> tuple[int, int] | None:
    """(version, model servers that answer with it): the wanted one as soon as one answers with it, else the newest."""
    versions = [agent.live_version for agent in observed.agents if agent.live_version is not None]
    if not versions:
        return None
    wanted = observed.serving_document.version if observed.serving_document else None
    version = wanted if wanted in versions else max(versions)
    assert version is not None
    return version, versions.count(version)


# Values


def _dataset(observed: Observed, finding: Finding | None, now: datetime) -> DatasetStatus | None:
    listing, previous = observed.listing, observed.expansion.status.dataset
    if listing is None:
        return previous
    is_same = previous is not None and previous.digest == listing.digest and previous.listed_at is not None
    return DatasetStatus(
        digest=listing.digest,
        images=listing.images,
        categories=len(listing.counts),
        listed_at=previous.listed_at if previous and is_same else stamp(now),
        settling_since=starting.settling_since(observed, finding, now),
    )


def _run(observed: Observed, finding: Finding | None, now: datetime) -> RunStatus | None:
    """The current run; the one before stays until there is another one, and its outcome with it."""
    if observed.run_id is None or not derived.is_about_current_run(finding):
        return observed.expansion.status.run
    before = derived.latched_run(observed) or RunStatus(id=observed.run_id)
    job = observed.job if derived.has_own_job(observed) else None
    started = {"job": job.name, "started_at": job.created_at} if job else {}
    base = {} if observed.waiting_run else {"base": derived.grown_from(observed.start.model)}
    return before.model_copy(
        update={
            **base,
            **started,
            **_outcome(observed, finding, before, now),
            **_retry(observed, finding, before),
            **_progress(observed, finding, now),
        }
    )


def _outcome(
    observed: Observed, finding: Finding | None, before: RunStatus, now: datetime
) -> dict[str, str | None]:
    report = derived.report_of(observed)
    finished = derived.ended_at(observed) or stamp(now)
    if finding is not None and finding.ends_run:
        message = clipped(finding.message, TEXT_LIMIT)
        return {"outcome": "Failed", "reason": finding.reason, "message": message, "finished_at": finished}
    if report is not None and report.outcome == "Succeeded":
        return {"outcome": "Succeeded", "reason": None, "message": None, "finished_at": finished}
    job = observed.job
    has_ended = job is not None and job.ours and job.phase in training.REPORT_GRACE
    return {"finished_at": finished if has_ended or before.outcome else None}


def _retry(observed: Observed, finding: Finding | None, before: RunStatus) -> dict[str, str | int | None]:
    """Kept from a failure until the next attempt is there; the count until one succeeds."""
    report, job = derived.report_of(observed), observed.job
    if finding is not None and finding.retry_at is not None:
        return {"failures": finding.failures, "retry_at": stamp(finding.retry_at)}
    if report is not None and report.outcome == "Succeeded":
        return {"failures": None, "retry_at": None}
    has_ended = finding is not None and finding.ends_run
    is_next = job is not None and job.ours and job.created_at != before.started_at
    return {"retry_at": None} if has_ended or is_next else {}


def _progress(observed: Observed, finding: Finding | None, now: datetime) -> dict[str, str | int | None]:
    idle: dict[str, str | int | None] = {"images_per_second": None, "eta": None}
    report, progress = derived.report_of(observed), observed.progress
    if report is not None and report.outcome == "Succeeded":
        return {**idle, "stage": None, "percent": 100}
    if progress is None or progress.run_id != observed.run_id:
        return idle
    where: dict[str, str | int | None] = {
        "stage": clipped(progress.stage, 100),
        "percent": max(0, min(100, progress.percent)),
    }
    if finding is None or finding.phase != "Training":
        return {**idle, **where}
    speed = progress.images_per_second
    return {
        **where,
        "images_per_second": None if speed is None else f"{speed:.1f}",
        "eta": _eta(progress, now),
    }


def _eta(progress: Progress, now: datetime) -> str | None:
    if progress.eta_seconds is None:
        return None
    end = (moment(progress.updated_at) or now) + timedelta(seconds=progress.eta_seconds)
    rounded = round(end.timestamp() / ETA_STEP) * ETA_STEP
    return stamp(datetime.fromtimestamp(rounded, tz=now.tzinfo))


def _figures(report: RunReport | None) -> Figures:
    metrics = report.metrics if report else None
    if metrics is None:
        return Figures()
    drop = metrics.base_drop
    return Figures(
        accuracy=_ratio(metrics.overall.value) if metrics.overall.n else None,
        new_category_accuracy=_ratio(metrics.new.value) if metrics.new.n else None,
        base_accuracy=_ratio(metrics.base_after.value) if metrics.base_after else None,
        base_accuracy_drop=_ratio(drop.value) if drop else None,
        base_accuracy_drop_measured=drop.measured if drop else None,
    )


def _ratio(value: float) -> str:
    return f"{value:.4f}"


def _candidate(observed: Observed, finding: Finding | None) -> CandidateStatus | None:
    if not derived.is_about_current_run(finding):
        return observed.expansion.status.candidate
    report, gate = derived.report_of(observed), derived.verdict_of(observed)
    if report is None or gate is None:
        previous = observed.expansion.status.candidate
        return previous if previous and previous.run_id == observed.run_id else None
    message = clipped(gate.message, TEXT_LIMIT)
    figures = _figures(report).model_dump()
    return CandidateStatus(run_id=report.run_id, accepted=gate.accepted, message=message, **figures)


def _model(observed: Observed, finding: Finding | None) -> ModelStatus | None:
    """The published model of the current run; until there is one, the one before."""
    version, previous = derived.published_version(observed), observed.expansion.status.model
    told = observed.serving_document.version if observed.serving_document else None
    if version is None or (finding is not None and finding.stage is not Stage.ROLLOUT):
        return previous.model_copy(update={"announced": told}) if previous and told else previous
    manifest, report = version.manifest, derived.report_of(observed)
    is_known = report is None and previous is not None and previous.run_id == manifest.run_id
    figures = previous if previous and is_known else _figures(report)
    return ModelStatus(
        version=manifest.version,
        run_id=manifest.run_id,
        categories=manifest.categories,
        uri=_version_uri(observed),
        base=derived.grown_from(manifest.base),
        published_at=manifest.published_at,
        announced=told,
        **figures.model_dump(include=set(Figures.model_fields)),
    )


def _version_uri(observed: Observed) -> str:
    version = derived.published_version(observed)
    models = observed.expansion.spec.output.models.rstrip("/")
    return f"{models}/{layout.version(version.manifest.version)}" if version else ""


def _serving(observed: Observed, settings: Settings) -> ServingStatus | None:
    if not derived.is_managed(observed):
        return None
    if observed.deployment is None and observed.serving_document is None:
        return observed.expansion.status.serving if observed.trouble else None
    live = _live(observed)
    return ServingStatus(
        version=live[0] if live else None,
        replicas=derived.wanted_servers(observed),
        ready_replicas=live[1] if live else 0,
        url=_url(observed, settings),
    )


def _url(observed: Observed, settings: Settings) -> str:
    metadata = observed.expansion.metadata
    host = f"{serving_name(metadata.name)}.{metadata.namespace}.svc.{settings.cluster_domain}"
    return f"http://{host}:{environment.REST_PORT}/v1/models/{metadata.name}:predict"


def _history(observed: Observed, finding: Finding | None, now: datetime) -> list[HistoryEntry]:
    """Newest first, but that what became of the current run stays in front of what is told late of earlier ones."""
    previous, entry = observed.expansion.status.history, _entry(observed, finding, now)
    late = earlier_runs.failures(observed, finding, now)
    if entry is not None and previous and _is_same(previous[0], entry):
        entry, previous = previous[0], previous[1:]
    return [*([entry] if entry else []), *late, *previous][:REMEMBERED]


def _is_same(one: HistoryEntry, other: HistoryEntry) -> bool:
    return (one.run_id, one.outcome, one.version) == (other.run_id, other.outcome, other.version)


def _entry(observed: Observed, finding: Finding | None, now: datetime) -> HistoryEntry | None:
    """What became of the current run, once that is known."""
    report, version = derived.report_of(observed), derived.published_version(observed)
    if observed.run_id is None:
        return None
    if finding is not None and finding.ends_run and finding.stuck:
        return _outcome_entry(observed, "Failed", f"{finding.reason}: {finding.message}", now)
    if finding is not None and finding.stage is Stage.GATE:
        return _outcome_entry(observed, "Refused", finding.message, now, report)
    if version is not None and (finding is None or finding.stage is Stage.ROLLOUT):
        message = _gate_words(observed)[1]
        entry = _outcome_entry(observed, "Published", message, now, report)
        return entry.model_copy(update={"version": version.manifest.version})
    return None


def _outcome_entry(
    observed: Observed, outcome: str, message: str, now: datetime, report: RunReport | None = None
) -> HistoryEntry:
    return HistoryEntry.model_validate(
        {
            "run_id": observed.run_id,
            "outcome": outcome,
            "message": clipped(message, TEXT_LIMIT),
            "accuracy": _figures(report).accuracy,
            "at": stamp(now),
        }
    )
