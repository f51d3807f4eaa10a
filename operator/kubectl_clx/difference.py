"""What an edit of a resource would do: nothing, other model servers, the gate again, another version, or a Job. Pure.

The operator's own planner says so, of the resource as it would be and of what its status tells of the world.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

from expansion_contract.resource import ClassifierExpansion, Output, ServingMode, UpdatePolicy
from expansion_operator import derived, policies, starts
from expansion_operator.asked import asked, limits
from expansion_operator.conditions import Finding, Stage
from expansion_operator.manifests.serving import deployment
from expansion_operator.observed import Apply, Observed, Publish, Settings, WriteServing
from expansion_operator.plan import plan
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
    later: tuple[Outcome, ...] = ()
    """What follows beside it, when a run that is under way or waits for its turn comes to that."""
    changes: tuple[str, ...] = ()
    """`spec.training.seed: 0 -> 1`"""


def difference(told: Told, now: datetime) -> Difference:
    changes = tuple(_changes("spec", told.live.spec.to_wire(), told.edited.spec.to_wire()))
    outcomes = tuple(dict.fromkeys(_outcomes(told, changes, now)))
    likely, *rest = (outcome for outcome, _ in outcomes)
    others = {outcome.effect: outcome for outcome in reversed(rest) if outcome.effect is not likely.effect}
    later = {one.effect: one for _, following in outcomes for one in following}
    return Difference(
        effect=likely.effect,
        says=likely.says,
        otherwise=tuple(others.values()),
        later=tuple(one for effect, one in later.items() if effect not in {likely.effect, *others}),
        changes=changes,
    )


def _outcomes(
    told: Told, changes: tuple[str, ...], now: datetime
) -> Iterator[tuple[Outcome, tuple[Outcome, ...]]]:
    """Each with what follows later."""
    if (known := _known(told, changes, now)) is not None:
        yield known, ()
        return
    unedited = possible(Told(live=told.live, edited=told.live), now)
    anyway = frozenset(step for seen in unedited for step in _steps(seen, now))
    for seen in possible(told, now):
        yield _outcome(seen, anyway, told, now), tuple(_later(seen, anyway, told, now))


def _known(told: Told, changes: tuple[str, ...], now: datetime) -> Outcome | None:
    """Without asking the planner."""
    if told.live.spec.output.models != told.edited.spec.output.models:
        message = next(rule.message for rule in Output.rules if "oldSelf" in rule.cel)
        return Outcome(effect=Effect.REFUSED, says=f"The API server refuses it: {message}.")
    if not changes and starts.requested(told.live) == starts.requested(told.edited):
        return Outcome(effect=Effect.NOTHING, says="The spec stays as it is.")
    if refused := _refused(told, now):
        return refused
    if not is_current(told.live):
        return Outcome(effect=Effect.UNKNOWN, says=_not_current(told.live))
    return None


def _steps(seen: Observed, now: datetime) -> Iterator[Outcome]:
    """What the planner does first about model and run; what it would do only later, it does because of that."""
    before = seen.serving_document.version if seen.serving_document else None
    for action in plan(seen, _SETTINGS, now).actions:
        match action:
            case Apply(once=True):
                yield Outcome(effect=Effect.TRAIN, says=f"A Job trains {_named(seen)}.")
            case Publish(run_id=run_id, version=version):
                says = f"The model of run {run_id}, trained before, is published as version {version}. No Job is needed."
                yield Outcome(effect=Effect.PUBLISH, says=says)
            case WriteServing(document=document) if document.version != before:
                says = f"Version {document.version}, trained before, is served. No Job is needed."
                yield Outcome(effect=Effect.PUBLISH, says=says)


def _named(seen: Observed) -> str:
    return "a new run" if seen.run_id == NEVER_TRAINED else f"run {seen.run_id}"


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


def _outcome(seen: Observed, anyway: frozenset[Outcome], told: Told, now: datetime) -> Outcome:
    """`anyway`: steps that are planned without the edit, too."""
    steps = [step for step in _steps(seen, now) if step not in anyway]
    if training := next((step for step in steps if step.effect is Effect.TRAIN), None):
        return replace(training, says=f"{training.says}{_first(seen, told)}{_kept(told)}")
    if steps:
        return steps[0]
    if told.edited.spec.suspend:
        return _serving(told) or _suspended(told)
    finding = policies.first_finding(seen, now)
    if finding is not None and (obstacle := _obstacle(seen, finding, told)):
        return obstacle
    return (
        _serving(told)
        or _gate(seen, anyway, told)
        or Outcome(effect=Effect.NOTHING, says=_nothing(seen, told))
    )


def _later(seen: Observed, anyway: frozenset[Outcome], told: Told, now: datetime) -> Iterator[Outcome]:
    if told.edited.spec.suspend:
        return
    finding = policies.first_finding(seen, now)
    obstacle = _obstacle(seen, finding, told) if finding is not None else None
    if obstacle is not None and obstacle.effect is Effect.TRAIN:
        yield obstacle
    if coming := _coming_gate(seen, anyway, told):
        yield coming


def _suspended(told: Told) -> Outcome:
    if not told.live.spec.suspend:
        return Outcome(
            effect=Effect.STOP,
            says="A run under way is stopped and none is started until spec.suspend is false. What is served stays served.",
        )
    return Outcome(effect=Effect.NOTHING, says="It is suspended; the edit counts when it is resumed.")


def _obstacle(seen: Observed, finding: Finding, told: Told) -> Outcome | None:
    """Why nothing more is done about the edit."""
    if finding.stage is Stage.GATE and _is_news(seen, told):
        says = f"The gate is asked again, without a Job, and refuses: {finding.message}"
        return Outcome(effect=Effect.GATE, says=says)
    if finding.stage is Stage.TRAINING and finding.stuck and _is_news(seen, told):
        says = f"Run {seen.run_id} has failed before, {finding.reason}: {finding.message}"
        return Outcome(effect=Effect.REFUSED, says=says)
    if finding.stage is Stage.TRAINING and seen.job is None and _is_another_run(seen, told):
        return Outcome(
            effect=Effect.TRAIN, says=f"A Job will train {_named(seen)}, but not yet. {finding.message}"
        )
    is_asked_now = told.live.spec.serving.version != told.edited.spec.serving.version
    if is_asked_now and (missing := derived.missing_pin(seen)):
        return Outcome(effect=Effect.REFUSED, says=missing)
    return None


def _is_news(seen: Observed, told: Told) -> bool:
    return told.live.spec.acceptance != told.edited.spec.acceptance or _is_another_run(seen, told)


def _is_another_run(seen: Observed, told: Told) -> bool:
    last = told.live.status.run
    return last is None or last.id != seen.run_id


def _first(seen: Observed, told: Told) -> str:
    last = told.live.status.run
    if last is None or last.outcome is not None or last.id == seen.run_id or told.live.spec.suspend:
        return ""
    if told.edited.spec.retrain.update_policy is UpdatePolicy.FINISH:
        return f" Run {last.id}, which is under way, ends first if its pod has started."
    return f" Run {last.id}, which is under way, is stopped."


def _kept(told: Told) -> str:
    if (pin := told.edited.spec.serving.version) is not None:
        return f" Version {pin} is served whatever comes of it: spec.serving.version asks for it."
    model = told.live.status.model
    return f" Version {model.announced or model.version} stays until that model is accepted." if model else ""


def _serving(told: Told) -> Outcome | None:
    """Of what the operator applies at once, whatever becomes of the model."""
    live, edited = told.live.spec.serving, told.edited.spec.serving
    if live.mode is not edited.mode:
        return Outcome(
            effect=Effect.SERVING,
            says=f"The model servers are {'made' if edited.mode is ServingMode.MANAGED else 'removed'}.",
        )
    if deployment(told.live, _SETTINGS) == deployment(told.edited, _SETTINGS):
        return None
    return Outcome(
        effect=Effect.SERVING,
        says="The Deployment of the model servers is changed; pods are replaced one by one, or only counted.",
    )


def _gate(seen: Observed, anyway: frozenset[Outcome], told: Told) -> Outcome | None:
    if told.live.spec.acceptance == told.edited.spec.acceptance:
        return None
    if derived.verdict_of(seen) is not None:
        says = "The gate is asked again, without a Job, and accepts the model that is published."
        return Outcome(effect=Effect.GATE, says=says)
    return _coming_gate(seen, anyway, told)


def _coming_gate(seen: Observed, anyway: frozenset[Outcome], told: Told) -> Outcome | None:
    """Of a run that is under way or about to start."""
    if told.live.spec.acceptance == told.edited.spec.acceptance or derived.verdict_of(seen) is not None:
        return None
    if seen.job is not None or any(step.effect is Effect.TRAIN for step in anyway):
        says = f"Run {seen.run_id} goes on; the gate will hold its model to the new thresholds."
        return Outcome(effect=Effect.GATE, says=says)
    return None


def _nothing(seen: Observed, told: Told) -> str:
    waits = told.live.status.phase in {"Queued", "Pending"} and asked(told.live) != asked(told.edited)
    if seen.job is not None and waits:
        return f"Job {seen.job.name} is made anew if no pod of it has begun. Neither the model nor what is served changes."
    if seen.job is not None and limits(told.live) != limits(told.edited):
        return f"Job {seen.job.name}, which is under way, is given the new limits. Neither the model nor what is served changes."
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
