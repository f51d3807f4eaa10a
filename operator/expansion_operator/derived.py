"""What follows from what was seen: the current run's end, report and version, what should be served and what is. Pure."""

from expansion_contract import layout
from expansion_contract.gate import Verdict
from expansion_contract.gate import verdict as gate_verdict
from expansion_contract.report import RunReport
from expansion_contract.resource import (
    ClassifierExpansion,
    GrownFrom,
    RunStatus,
    ServingMode,
    seconds,
)
from expansion_contract.run import Owner, PublishedBase
from expansion_contract.version import AgentStatus, ServingDocument
from expansion_operator import starts, waits
from expansion_operator.conditions import Finding, Stage
from expansion_operator.observed import Observed, VersionSeen


def report_of(observed: Observed) -> RunReport | None:
    """Of the current run, and only one that says what it must."""
    if observed.report is None or report_problem(observed) is not None:
        return None
    return observed.report.report


def report_problem(observed: Observed) -> str | None:
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
        term=observed.term,
    )


def told_by_us(observed: Observed) -> ServingDocument | None:
    """What the model servers are told, as if we had written it and not whoever led before."""
    told = observed.serving_document
    return None if told is None else told.model_copy(update={"term": observed.term})


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
    return max(waits.LEAST_POLL, seconds(expansion.spec.retrain.poll_interval))
