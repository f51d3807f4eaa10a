"""Builds a pod's status from what its containers do, as a kubelet reports it. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from expansion_development.kubernetes_api import Manifest

KILLED, OUT_OF_MEMORY = 137, "OOMKilled"


@dataclass(frozen=True, kw_only=True)
class Waiting:
    reason: str
    message: str = ""


@dataclass(frozen=True, kw_only=True)
class Running:
    started_at: str


@dataclass(frozen=True, kw_only=True)
class Terminated:
    exit_code: int
    reason: str
    started_at: str
    finished_at: str
    message: str = ""


State = Waiting | Running | Terminated


@dataclass(frozen=True, kw_only=True)
class ContainerView:
    """One container, as the pod's status needs it."""

    name: str
    image: str
    state: State
    last: Terminated | None = None
    restarts: int = 0
    ready: bool = False
    started: bool = False
    identity: str = ""
    finished: bool = False
    """Terminated, and not to be started again."""


@dataclass(frozen=True, kw_only=True)
class PodView:
    init: Sequence[ContainerView]
    containers: Sequence[ContainerView]
    initialised: bool
    phase: str
    reason: str = ""
    message: str = ""
    ip: str = ""
    started_at: str = ""


def phase_of(init_failed: bool, initialised: bool, containers: Sequence[ContainerView]) -> str:
    if init_failed:
        return "Failed"
    if not initialised or any(isinstance(one.state, Waiting) and one.last is None for one in containers):
        return "Pending"
    if not all(one.finished for one in containers):
        return "Running"
    codes = [one.state.exit_code for one in containers if isinstance(one.state, Terminated)]
    return "Failed" if any(codes) else "Succeeded"


def status(view: PodView, previous: Manifest, now: str) -> Manifest:
    """The status to be patched. A condition keeps its time while its status stays as it was."""
    made: Manifest = {
        "phase": view.phase,
        "conditions": _conditions(view, previous.get("conditions") or (), now),
        "containerStatuses": [_container(one) for one in view.containers],
        "hostIP": "127.0.0.1",
        "hostIPs": [{"ip": "127.0.0.1"}],
    }
    if view.init:
        made["initContainerStatuses"] = [_container(one) for one in view.init]
    if view.ip:
        made |= {"podIP": view.ip, "podIPs": [{"ip": view.ip}]}
    optional = {"reason": view.reason, "message": view.message, "startTime": view.started_at}
    return made | {name: value for name, value in optional.items() if value}


def _conditions(view: PodView, previous: Sequence[Manifest], now: str) -> list[Manifest]:
    ready = view.phase == "Running" and all(one.ready for one in (*_sidecars(view), *view.containers))
    excuse = _why_not_ready(view)
    wanted: list[tuple[str, bool, tuple[str, str]]] = [
        ("PodReadyToStartContainers", bool(view.ip) and view.phase not in {"Succeeded", "Failed"}, ("", "")),
        ("Initialized", view.initialised, _uninitialised(view)),
        ("ContainersReady", ready, excuse),
        ("Ready", ready, excuse),
    ]
    return [_condition(kind, holds, why, previous, now) for kind, holds, why in wanted]


def _condition(
    kind: str, holds: bool, why: tuple[str, str], previous: Sequence[Manifest], now: str
) -> Manifest:
    word = "True" if holds else "False"
    before = next((one for one in previous if one["type"] == kind), {})
    since = before.get("lastTransitionTime") if before.get("status") == word else None
    made: Manifest = {"type": kind, "status": word, "lastTransitionTime": since or now}
    reason, message = ("", "") if holds else why
    return made | {
        "reason": reason or None,
        "message": message or None,
    }  # null takes an old one away in a patch


def _sidecars(view: PodView) -> list[ContainerView]:
    return [one for one in view.init if not one.finished]


def _why_not_ready(view: PodView) -> tuple[str, str]:
    if view.phase in {"Succeeded", "Failed"}:
        return ("PodCompleted" if view.phase == "Succeeded" else "PodFailed", "")
    unready = [one.name for one in (*_sidecars(view), *view.containers) if not one.ready]
    return ("ContainersNotReady", f"containers with unready status: [{' '.join(unready)}]")


def _uninitialised(view: PodView) -> tuple[str, str]:
    names = [one.name for one in view.init if not one.finished and not one.started]
    return ("ContainersNotInitialized", f"containers with incomplete status: [{' '.join(names)}]")


def _container(view: ContainerView) -> Manifest:
    made: Manifest = {
        "name": view.name,
        "image": view.image,
        "imageID": f"process-node://{view.image}" if view.identity else "",
        "ready": view.ready,
        "started": view.started,
        "restartCount": view.restarts,
        "state": _state(view.state, view.identity),
        "lastState": _state(view.last, view.identity) if view.last else {},
    }
    return made | ({"containerID": view.identity} if view.identity else {})


def _state(state: State, identity: str) -> Manifest:
    if isinstance(state, Waiting):
        return {"waiting": _without_empty({"reason": state.reason, "message": state.message})}
    if isinstance(state, Running):
        return {"running": {"startedAt": state.started_at}}
    return {
        "terminated": _without_empty(
            {
                "exitCode": state.exit_code,
                "reason": state.reason,
                "message": state.message,
                "startedAt": state.started_at,
                "finishedAt": state.finished_at,
                "containerID": identity,
            }
        )
    }


def _without_empty(fields: dict[str, Any]) -> Manifest:
    return {name: value for name, value in fields.items() if value != ""}
