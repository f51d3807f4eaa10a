"""The status of a resource as a tree: data, run, gate, version, pods, each with its reason. Pure."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from expansion_contract import environment
from expansion_contract.resource import Condition, ExpansionStatus, Figures, RunStatus
from expansion_operator.workloads import pod_trouble

Body = dict[str, Any]
ABSENT = Condition(type="", status="Unknown", reason="", last_transition_time="")
_SECONDS = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))
_DIGEST_DIGITS = 12
_STAGES = ("DatasetResolved", "Trained", "Accepted", "Published", "Serving")
"""The conditions that have a line of their own."""
_NOT_SERVING = {
    "NotPublished": "waits",
    "Starting": "works",
    "ScaledToZero": "",
    "NotManaged": "",
}
"""Reasons of Serving=False that are no failure."""


class State(StrEnum):
    """One word, so that nothing is lost without colour."""

    OK = "ok"
    WORKS = "works"
    WAITS = "waits"
    FAILED = "failed"
    NONE = ""


@dataclass(frozen=True, kw_only=True)
class Branch:
    name: str
    text: str = ""
    state: State = State.NONE
    notes: tuple[str, ...] = ()  # sentences below it
    children: tuple["Branch", ...] = ()


def tree(body: Body, pods: Iterable[Body], now: datetime) -> Branch:
    """`body`: the resource as the API server gives it; `pods`: those with its label."""
    metadata, spec = body["metadata"], body.get("spec", {})
    status = ExpansionStatus.model_validate(body.get("status", {}))
    conditions = {condition.type: condition for condition in status.conditions}
    ready = conditions.get("Ready", ABSENT)
    is_seen = status.observed_generation == metadata.get("generation", 1)
    return Branch(
        name=f"{metadata.get('namespace', 'default')}/{metadata['name']}",
        text=_headline(status, ready, metadata) if is_seen else "the operator has not seen this edit yet",
        state=_overall(conditions) if is_seen else State.WAITS,
        notes=tuple(_notes(status, conditions, metadata, is_seen)),
        children=(
            _data(status, conditions, now),
            _run(status, conditions, now),
            _gate(status, conditions),
            _version(status, conditions, spec, now),
            _pods(status, conditions, pods, now),
        ),
    )


def _headline(status: ExpansionStatus, ready: Condition, metadata: Body) -> str:
    if "deletionTimestamp" in metadata:
        return "is being deleted"
    phase = status.phase or "Unknown"
    return phase if ready.reason in {"", phase} else f"{phase}: {ready.reason}"


def _overall(conditions: dict[str, Condition]) -> State:
    for kind, state in (("Stalled", State.FAILED), ("Reconciling", State.WORKS), ("Ready", State.OK)):
        if conditions.get(kind, ABSENT).status == "True":
            return state
    return State.WAITS


def _notes(
    status: ExpansionStatus, conditions: dict[str, Condition], metadata: Body, is_seen: bool
) -> Iterator[str]:
    ready = conditions.get("Ready", ABSENT)
    if not is_seen:
        yield (
            f"It looked at generation {status.observed_generation} last; this is {metadata.get('generation', 1)}."
            " If that lasts, look for the operator: kubectl get deployment -A -l app.kubernetes.io/name=classifier-expansion"
        )
    open_stages = (c for kind, c in conditions.items() if kind in _STAGES and c.status != "True")
    if ready.message and ready.message not in {c.message for c in open_stages}:
        yield ready.message
    if conditions.get("Suspended", ABSENT).status == "True":
        yield conditions["Suspended"].message


def _data(status: ExpansionStatus, conditions: dict[str, Condition], now: datetime) -> Branch:
    condition, dataset = conditions.get("DatasetResolved", ABSENT), status.dataset
    text = _why(condition)
    if dataset is not None and dataset.digest:
        digest = dataset.digest.removeprefix("sha256:")[:_DIGEST_DIGITS]
        found = f", changed {age(dataset.listed_at, now)}" if dataset.listed_at else ""
        text = f"{dataset.images} images in {dataset.categories} new categories{found} ({digest})"
    return Branch(name="data", text=text, state=_state(condition), notes=_message(condition, text))


def _run(status: ExpansionStatus, conditions: dict[str, Condition], now: datetime) -> Branch:
    condition, run = conditions.get("Trained", ABSENT), status.run
    text = f"{run.id} {_progress(run, now)}".strip() if run else _why(condition)
    notes = (*_message(condition), *_next_time(status, now))
    return Branch(name="run", text=text, state=_state(condition), notes=notes)


def _next_time(status: ExpansionStatus, now: datetime) -> Iterator[str]:
    following = status.schedule.next_at if status.schedule else None
    if following is None:
        return
    when = age(following, now)
    waits = " and waits for a run to end, or for the resource to be resumed" if when.endswith("ago") else ""
    verb = "came" if waits else "comes"
    yield f"The next time of spec.retrain.schedule {verb} {when} ({following}){waits}."


def _progress(run: RunStatus, now: datetime) -> str:
    if run.outcome is not None:
        when = f" {age(run.finished_at, now)}" if run.finished_at else ""
        return f"{run.outcome.lower()}{when}"
    parts = [
        run.stage or "",
        "" if run.percent is None else f"{run.percent} %",
        f"{run.images_per_second} images/s" if run.images_per_second else "",
        f"done in about {age(run.eta, now).removeprefix('in ')}" if run.eta else "",
        f"started {age(run.started_at, now)}" if run.started_at else "",
    ]
    return ", ".join(part for part in parts if part)


def _gate(status: ExpansionStatus, conditions: dict[str, Condition]) -> Branch:
    condition, candidate = conditions.get("Accepted", ABSENT), status.candidate
    text = _why(condition)
    if candidate is not None:
        verdict = "accepted" if candidate.accepted else "refused"
        text = f"{verdict}{_figures(candidate)}"
    return Branch(name="gate", text=text, state=_state(condition), notes=_message(condition))


def _figures(figures: Figures) -> str:
    said = (
        ("accuracy", figures.accuracy),
        ("new", figures.new_category_accuracy),
        ("base", figures.base_accuracy),
        ("base lost", figures.base_accuracy_drop),
    )
    text = ", ".join(f"{name} {value}" for name, value in said if value is not None)
    return f": {text}" if text else ""


def _version(status: ExpansionStatus, conditions: dict[str, Condition], spec: Body, now: datetime) -> Branch:
    condition, model = conditions.get("Published", ABSENT), status.model
    text = _why(condition)
    if model is not None:
        when = f", published {age(model.published_at, now)}" if model.published_at else ""
        text = f"{model.version} with {model.categories} categories{when}: {model.uri}"
    pinned = (spec.get("serving") or {}).get("version")
    notes = (f"spec.serving.version is {pinned}: that version is served.",) if pinned is not None else ()
    return Branch(
        name="version", text=text, state=_state(condition), notes=(*notes, *_message(condition, text))
    )


def _pods(
    status: ExpansionStatus, conditions: dict[str, Condition], pods: Iterable[Body], now: datetime
) -> Branch:
    condition, serving = conditions.get("Serving", ABSENT), status.serving
    text = _why(condition)
    if serving is not None and serving.version is not None:
        text = f"{serving.ready_replicas} of {serving.replicas} answer with version {serving.version}"
        text += f" at {serving.url}" if serving.url else ""
    named = sorted(pods, key=lambda pod: str(pod["metadata"]["name"]))
    quiet = _NOT_SERVING.get(condition.reason)
    return Branch(
        name="pods",
        text=text,
        state=_state(condition) if quiet is None else State(quiet),
        notes=_message(condition, text),
        children=tuple(_pod(pod, now) for pod in named),
    )


def _pod(pod: Body, now: datetime) -> Branch:
    metadata, status = pod["metadata"], pod.get("status", {})
    trouble = pod_trouble(pod)
    component = metadata.get("labels", {}).get(environment.COMPONENT_LABEL, "")
    restarts = sum(container.get("restartCount", 0) for container in status.get("containerStatuses", ()))
    parts = [
        component,
        trouble.reason if trouble else _pod_phase(pod),
        f"{restarts} restart{'s' * (restarts != 1)}" if restarts else "",
        f"since {age(metadata.get('creationTimestamp'), now).removesuffix(' ago')}",
        f"on {pod['spec']['nodeName']}" if pod.get("spec", {}).get("nodeName") else "",
    ]
    return Branch(
        name=metadata["name"],
        text=", ".join(part for part in parts if part),
        state=State.FAILED if trouble and trouble.permanent else _pod_state(pod),
        notes=(trouble.message,) if trouble else (),
    )


def _pod_phase(pod: Body) -> str:
    if "deletionTimestamp" in pod["metadata"]:
        return "Terminating"
    phase = str(pod.get("status", {}).get("phase", "Unknown"))
    return "Ready" if phase == "Running" and _is_ready(pod) else phase


def _pod_state(pod: Body) -> State:
    phase = _pod_phase(pod)
    known = {"Ready": State.OK, "Succeeded": State.OK, "Failed": State.FAILED, "Pending": State.WAITS}
    return known.get(phase, State.WORKS)


def _is_ready(pod: Body) -> bool:
    conditions = pod.get("status", {}).get("conditions", ())
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def _state(condition: Condition) -> State:
    if condition.status == "True":
        return State.OK
    if condition.status == "False":
        return State.FAILED
    return State.WAITS if condition.reason in {"", "Waiting"} else State.WORKS


def _why(condition: Condition) -> str:
    return "" if condition.reason == "Waiting" else condition.reason or "the operator has not said"


def _message(condition: Condition, said: str = "") -> tuple[str, ...]:
    """What the condition has to say beyond the line itself; nothing where all is well or only waited for."""
    if condition.status == "True" or condition.reason == "Waiting" or condition.message in said:
        return ()
    return (condition.message if condition.reason in said else f"{condition.reason}: {condition.message}",)


def age(stamp: str | None, now: datetime) -> str:
    """`3 h ago`, `in 2 min`; the stamp itself if it is no time."""
    try:
        moment = datetime.fromisoformat(stamp or "")
    except ValueError:
        return stamp or "at an unknown time"
    seconds = int((now - (moment if moment.tzinfo else moment.replace(tzinfo=UTC))).total_seconds())
    unit, size = next((pair for pair in _SECONDS if abs(seconds) >= pair[1]), _SECONDS[-1])
    amount = f"{abs(seconds) // size} {unit}"
    return f"in {amount}" if seconds < 0 else f"{amount} ago"
