"""What an edit of a resource would do: nothing, other model servers, the gate again, another version, or a Job. Pure.

The operator's own planner says so, of the resource as it would be and of what its status tells of the world.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from expansion_contract.resource import ClassifierExpansion, Output
from expansion_operator import policies
from expansion_operator.conditions import Finding, Next, Stage
from expansion_operator.manifests.serving import deployment
from expansion_operator.observed import Observed, Settings
from kubectl_clx.remembered import NEVER_TRAINED, Told, is_current, possible

Body = dict[str, Any]
_SETTINGS = Settings(trainer_image="", model_sync_image="")
"""The operator's own, the same before and after an edit."""


class Effect(StrEnum):
    """The cheapest first."""

    NOTHING = "nothing"
    SERVING = "serving"
    GATE = "re-gate"
    PUBLISH = "re-publish"
    STOP = "suspend"
    TRAIN = "retrain"
    REFUSED = "refused"
    UNKNOWN = "unknown"


@dataclass(frozen=True, kw_only=True)
class Outcome:
    effect: Effect
    says: str


@dataclass(frozen=True, kw_only=True)
class Difference:
    effect: Effect
    says: str
    otherwise: tuple[Outcome, ...] = ()
    """What it may be instead, where status does not tell enough."""
    changes: tuple[str, ...] = ()
    """`spec.training.seed: 0 -> 1`"""


def difference(told: Told, now: datetime) -> Difference:
    changes = tuple(_changes("spec", told.live.spec.to_wire(), told.edited.spec.to_wire()))
    outcomes = tuple(dict.fromkeys(_outcomes(told, changes, now)))
    likely, *rest = outcomes
    others = {outcome.effect: outcome for outcome in reversed(rest) if outcome.effect is not likely.effect}
    return Difference(
        effect=likely.effect, says=likely.says, otherwise=tuple(others.values()), changes=changes
    )


def _outcomes(told: Told, changes: tuple[str, ...], now: datetime) -> Iterator[Outcome]:
    if told.live.spec.output.models != told.edited.spec.output.models:
        message = next(rule.message for rule in Output.rules if "oldSelf" in rule.cel)
        yield Outcome(effect=Effect.REFUSED, says=f"The API server refuses it: {message}.")
    elif not changes:
        yield Outcome(effect=Effect.NOTHING, says="The spec stays as it is.")
    elif refused := _refused(told, now):
        yield refused
    elif not is_current(told.live):
        yield Outcome(effect=Effect.UNKNOWN, says=_not_current(told.live))
    else:
        for seen in possible(told):
            yield _outcome(seen, told, now)


def _refused(told: Told, now: datetime) -> Outcome | None:
    """By the operator, for the spec alone."""
    finding = policies.first_finding(Observed(expansion=told.edited), now)
    if finding is None or finding.stage is not Stage.RESOURCE:
        return None
    return Outcome(
        effect=Effect.REFUSED, says=f"The operator refuses it, {finding.reason}: {finding.message}"
    )


def _not_current(live: ClassifierExpansion) -> str:
    ready = next((c for c in live.status.conditions if c.type == "Ready"), None)
    why = f" It says: {ready.reason}: {ready.message}" if ready else ""
    return f"The operator has not resolved the live resource's images, so it cannot be told which run follows.{why}"


def _outcome(seen: Observed, told: Told, now: datetime) -> Outcome:
    finding = policies.first_finding(seen, now)
    serving = _serving(told)
    if told.edited.spec.suspend:
        return serving or _suspended(told)
    if finding is not None and (step := _step(seen, finding, told)):
        return step
    if serving:
        return serving
    return _gate(seen, told) or Outcome(effect=Effect.NOTHING, says=_nothing(seen))


def _suspended(told: Told) -> Outcome:
    if not told.live.spec.suspend:
        return Outcome(
            effect=Effect.STOP,
            says="A run under way is stopped and none is started until spec.suspend is false. What is served stays served.",
        )
    return Outcome(effect=Effect.NOTHING, says="It is suspended; the edit counts when it is resumed.")


def _step(seen: Observed, finding: Finding, told: Told) -> Outcome | None:
    """What the planner does next, or why it does nothing."""
    match finding.then:
        case Next.START:
            return Outcome(effect=Effect.TRAIN, says=_trains(seen, told))
        case Next.PUBLISH:
            return Outcome(effect=Effect.PUBLISH, says=f"{finding.message} No Job is needed.")
        case Next.WRITE_SERVING:
            return Outcome(
                effect=Effect.PUBLISH, says=f"{finding.message} It was trained before; no Job is needed."
            )
    if finding.stage is Stage.GATE and _is_news(seen, told):
        return Outcome(
            effect=Effect.GATE, says=f"The gate is asked again, without a Job, and refuses: {finding.message}"
        )
    if finding.stuck and finding.stage is Stage.TRAINING and _is_news(seen, told):
        return Outcome(
            effect=Effect.REFUSED,
            says=f"Run {seen.run_id} has failed before, {finding.reason}: {finding.message}",
        )
    return None


def _is_news(seen: Observed, told: Told) -> bool:
    last = told.live.status.run
    return told.live.spec.acceptance != told.edited.spec.acceptance or last is None or last.id != seen.run_id


def _trains(seen: Observed, told: Told) -> str:
    compute = told.edited.spec.compute
    gpus = (
        f" with {compute.gpus_per_worker} {compute.gpu_resource}"
        if compute.gpus_per_worker
        else " without a GPU"
    )
    which = "a new run" if seen.run_id == NEVER_TRAINED else f"run {seen.run_id}"
    model = told.live.status.model
    kept = f" Version {model.version} stays until that model is accepted." if model else ""
    return f"A Job trains {which}{gpus}.{kept}"


def _serving(told: Told) -> Outcome | None:
    """Of what the operator applies at once, whatever becomes of the model."""
    live, edited = told.live.spec.serving, told.edited.spec.serving
    if live.mode is not edited.mode:
        return Outcome(
            effect=Effect.SERVING,
            says=f"The model servers are {'made' if edited.mode == 'Managed' else 'removed'}.",
        )
    if deployment(told.live, _SETTINGS) == deployment(told.edited, _SETTINGS):
        return None
    return Outcome(
        effect=Effect.SERVING,
        says="The Deployment of the model servers is changed; pods are replaced one by one, or only counted.",
    )


def _gate(seen: Observed, told: Told) -> Outcome | None:
    verdict = policies.verdict_of(seen)
    if verdict is None or told.live.spec.acceptance == told.edited.spec.acceptance:
        return None
    return Outcome(
        effect=Effect.GATE,
        says="The gate is asked again, without a Job, and accepts the model that is published.",
    )


def _nothing(seen: Observed) -> str:
    if seen.job is not None:
        return "The run under way goes on; the edit changes neither it nor what is served."
    return "Neither a model nor what is served changes."


def _changes(path: str, live: Any, edited: Any) -> Iterator[str]:
    if isinstance(live, dict) and isinstance(edited, dict):
        for key in sorted(live.keys() | edited.keys()):
            yield from _changes(f"{path}.{key}", live.get(key), edited.get(key))
    elif live != edited:
        yield f"{path}: {_shown(live)} -> {_shown(edited)}"


def _shown(value: Any) -> str:
    return "(not set)" if value is None else str(value)
