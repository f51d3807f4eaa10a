"""Why a trained model does not answer yet: the gate, its publication, the rollout. Pure."""

from datetime import datetime

from expansion_contract import environment
from expansion_operator import derived
from expansion_operator.conditions import Finding, Next, Stage
from expansion_operator.observed import Observed
from expansion_operator.waits import BUSY, REFUSED, SOON

PUBLISHING = "Publishing"


def gate_refused(observed: Observed, _: datetime) -> Finding | None:
    verdict = derived.verdict_of(observed)
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


def not_published(observed: Observed, _: datetime) -> Finding | None:
    if derived.published_version(observed) is not None:
        return None
    message = (
        f"The model of run {observed.run_id} is being published as version {derived.next_version(observed)}."
    )
    return _publishing(message, Next.PUBLISH)


def not_announced(observed: Observed, _: datetime) -> Finding | None:
    """serving.json must name the version and remember the last number ever given."""
    document = derived.serving_document(observed)
    if document is None or document == derived.told_by_us(observed):
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


def pin_missing(observed: Observed, _: datetime) -> Finding | None:
    message = derived.missing_pin(observed)
    return _rolling("VersionMissing", message, stuck=True) if message else None


def deployment_name_taken(observed: Observed, _: datetime) -> Finding | None:
    deployment = observed.deployment
    if not derived.is_managed(observed) or deployment is None or deployment.ours:
        return None
    return _rolling(
        "NameConflict",
        f"Deployment {observed.expansion.metadata.namespace}/{deployment.name} exists and does not belong to this"
        f" ClassifierExpansion. Delete it (kubectl delete deployment {deployment.name}), or give the ClassifierExpansion another name.",
        stuck=True,
    )


def model_server_failed(observed: Observed, _: datetime) -> Finding | None:
    failed = derived.failed_agents(observed)
    if not failed or not derived.is_managed(observed) or derived.is_rolled_out(observed):
        return None
    return _rolling("ModelServerFailed", failed[0].message)


def pods_not_starting(observed: Observed, _: datetime) -> Finding | None:
    deployment = observed.deployment
    if not derived.is_managed(observed) or deployment is None or deployment.waiting is None:
        return None
    if derived.is_rolled_out(observed):
        return None
    waiting = deployment.waiting
    return _rolling(waiting.reason, waiting.message, stuck=waiting.permanent)


def rolling_out(observed: Observed, _: datetime) -> Finding | None:
    if not derived.is_managed(observed) or derived.is_rolled_out(observed):
        return None
    document, replicas = observed.serving_document, derived.wanted_servers(observed)
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
    return " Their Deployment is still being rolled out." if live >= derived.wanted_servers(observed) else ""


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
