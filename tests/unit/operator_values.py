"""One settled resource to start from: published as version 1, served by two model servers. Tests change what matters."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import contract_values

from expansion_contract.dataset import Listing, Problem
from expansion_contract.report import File, Progress, RunReport
from expansion_contract.resource import ClassifierExpansion, Condition, ExpansionStatus, StartedRun
from expansion_contract.run import Owner, run_id
from expansion_contract.version import AgentStatus, ServingDocument, VersionManifest
from expansion_operator.observed import (
    Apply,
    DeploymentSeen,
    JobPhase,
    JobSeen,
    Observed,
    Plan,
    ReportSeen,
    Settings,
    VersionSeen,
)
from expansion_operator.plan import plan

NOW = datetime(2026, 11, 22, 12, 0, 0, tzinfo=UTC)
LONG_AGO = "2026-11-22T09:00:00Z"
JUST_NOW = "2026-11-22T11:59:50Z"
SETTINGS = Settings(
    trainer_image="registry.example/trainer:1", model_sync_image="registry.example/model-sync:1"
)


def at(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def listing(digest: str = "sha256:a", *problems: Problem) -> Listing:
    return Listing(digest=digest, images=200, counts={"rose": 100, "tulip": 100}, problems=problems)


EXPANSION = contract_values.expansion()
RUN = run_id(EXPANSION, "sha256:a")


def report(of: str = RUN, **changes: Any) -> RunReport:
    files = [File(path="saved_model.pb", size=1, sha256="0" * 64)]
    return contract_values.report(**{"run_id": of, "categories": 1002, "files": files, **changes})


def reported(of: str = RUN, **changes: Any) -> ReportSeen:
    return ReportSeen(report=report(of, **changes))


def failed(reason: str, message: str, of: str = RUN) -> ReportSeen:
    return reported(of, outcome="Failed", reason=reason, message=message, metrics=None)


def version(number: int = 1, of: str = RUN) -> VersionSeen:
    manifest = VersionManifest(
        version=number,
        run_id=of,
        owner=Owner(namespace="team", name="flowers"),
        published_at=LONG_AGO,
        categories=1002,
        files=[],
    )
    return VersionSeen(manifest=manifest, manifest_sha256=f"sha-{number}")


def document(number: int = 1, of: str = RUN, last: int | None = None) -> ServingDocument:
    return ServingDocument(
        owner=Owner(namespace="team", name="flowers"),
        model_name="flowers",
        version=number,
        run_id=of,
        manifest_sha256=f"sha-{number}",
        last_version=last or number,
    )


def agent(live: int | None = 1, **changes: Any) -> AgentStatus:
    state = "Live" if live else "Downloading"
    return AgentStatus(model_name="flowers", live_version=live, desired_version=live, state=state).model_copy(
        update=changes
    )


def job(phase: JobPhase = JobPhase.RUNNING, of: str = RUN, **changes: Any) -> JobSeen:
    seen = JobSeen(
        name=f"flowers-{of[:10]}", run_id=of, uid=f"job-{of[:4]}", ours=True, phase=phase, created_at=JUST_NOW
    )
    return replace(seen, **changes)


def progress(**changes: Any) -> Progress:
    seen = Progress(
        run_id=RUN,
        stage="bottlenecks",
        percent=40,
        images_per_second=123.456,
        eta_seconds=61.0,
        updated_at="2026-11-22T11:59:58Z",
    )
    return seen.model_copy(update=changes)


DEPLOYMENT = DeploymentSeen(
    name="flowers-serving", ours=True, generation_observed=True, replicas=2, ready_replicas=2
)


def planned(observed: Observed, seconds: float = 0) -> Plan:
    return plan(observed, SETTINGS, at(seconds))


def after(observed: Observed, result: Plan) -> Observed:
    """The same world with the status that was planned."""
    status = ExpansionStatus.model_validate(result.status)
    return replace(observed, expansion=observed.expansion.model_copy(update={"status": status}))


def respecified(observed: Observed, **spec: Any) -> Observed:
    """The same world after an edit of the spec."""
    edited = contract_values.expansion(**spec)
    metadata = observed.expansion.metadata
    metadata = metadata.model_copy(update={"generation": metadata.generation + 1})
    changed = edited.model_copy(update={"metadata": metadata, "status": observed.expansion.status})
    return replace(observed, expansion=changed)


def with_status(observed: Observed, **changes: Any) -> Observed:
    status = observed.expansion.status.model_copy(update=changes)
    return replace(observed, expansion=observed.expansion.model_copy(update={"status": status}))


def counted(observed: Observed) -> Observed:
    """As after a look at its Jobs: status knows them."""
    jobs = [job for job in (observed.job, *observed.old_jobs) if job is not None]
    runs = [StartedRun(started_at=job.created_at, run_id=job.run_id, job_uid=job.uid) for job in jobs]
    return with_status(observed, started_runs=runs)


NEW = Observed(expansion=EXPANSION, listing=listing(), run_id=RUN)
"""Nothing has happened yet."""

_SERVED = replace(
    NEW,
    report=reported(),
    versions=(version(),),
    serving_document=document(),
    deployment=DEPLOYMENT,
    service_exists=True,
    agents=(agent(), agent()),
)
SETTLED = after(_SERVED, plan(_SERVED, SETTINGS, NOW - timedelta(hours=1)))

OTHER_RUN = run_id(EXPANSION, "sha256:b")
CHANGED = replace(SETTLED, listing=listing("sha256:b"), run_id=OTHER_RUN, report=None)
"""The images changed: a new run is needed while version 1 is served."""


def condition(result: Plan, kind: str) -> dict[str, Any] | None:
    return next((c for c in result.status["conditions"] if c["type"] == kind), None)


def says(result: Plan, kind: str) -> tuple[str, str] | None:
    """(status, reason) of a condition; None if it is not there."""
    found = condition(result, kind)
    return (found["status"], found["reason"]) if found else None


def message(result: Plan, kind: str) -> str:
    found = condition(result, kind)
    assert found is not None, f"there is no condition {kind}"
    return str(found["message"])


def applied(result: Plan, kind: str) -> list[dict[str, Any]]:
    return [a.manifest for a in result.actions if isinstance(a, Apply) and a.manifest["kind"] == kind]


def only(result: Plan, *kinds: type) -> tuple[Any, ...]:
    return tuple(action for action in result.actions if isinstance(action, kinds))


def kstatus(expansion: ClassifierExpansion) -> str:
    """What Flux and kstatus compute from a resource (cli-utils, pkg/kstatus/status/generic.go)."""
    status = expansion.status
    conditions: dict[str, Condition] = {c.type: c for c in status.conditions}
    if expansion.metadata.deletion_timestamp:
        return "Terminating"
    if status.observed_generation != expansion.metadata.generation:
        return "InProgress"
    if "Reconciling" in conditions and conditions["Reconciling"].status == "True":
        return "InProgress"
    if "Stalled" in conditions and conditions["Stalled"].status == "True":
        return "Failed"
    if "Ready" in conditions:
        return "Current" if conditions["Ready"].status == "True" else "InProgress"
    return "Current"
