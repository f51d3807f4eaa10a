"""Brings the trainer's words of one run to the terminal: pod after pod, and once each line when a connection breaks."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from expansion_contract.resource import ExpansionStatus
from kubectl_clx.api import Api, LogGone
from kubectl_clx.following import Step, has_ended, newest_started, next_step
from kubectl_clx.problem import Problem

Body = dict[str, Any]
_PAUSE_SECONDS = 2.0


@dataclass(frozen=True, kw_only=True)
class Terminal:
    """`line` for the log, `note` for what we say about it."""

    line: Callable[[str], None]
    note: Callable[[str], None]


def show(api: Api, name: str, tail: int | None, terminal: Terminal) -> None:
    """What the newest pod of the current run has said so far."""
    status = _status(api, name)
    run_id = _run(status, name)
    pod = newest_started(api.trainer_pods(name, run_id))
    if pod is None:
        raise Problem(f"No pod of run {run_id} has said anything yet, or all have gone. {_why(status)}")
    try:
        for stamped in api.log(pod, follow=False, since=None, tail=tail):
            terminal.line(stamped.partition(" ")[2])
    except LogGone as gone:
        raise Problem(f"The log of pod {api.namespace}/{pod} cannot be read: {gone}.") from None


def follow(api: Api, name: str, tail: int | None, terminal: Terminal) -> bool:
    """Until the run ends, whatever pods it takes; True if it succeeded."""
    run_id, read, said = _run(_status(api, name), name), frozenset[str](), ""
    while True:
        step = next_step(_status(api, name), run_id, api.trainer_pods(name, run_id), read)
        match step.step:
            case Step.END:
                terminal.note(step.says)
                return not step.failed
            case Step.READ:
                terminal.note(f"Pod {step.pod}:")
                _follow_pod(api, name, run_id, step.pod, tail, terminal)
                read |= {step.pod}
            case Step.WAIT:
                if step.says != said:
                    terminal.note(said := step.says)
                time.sleep(_PAUSE_SECONDS)


def _follow_pod(api: Api, name: str, run_id: str, pod: str, tail: int | None, terminal: Terminal) -> None:
    """Asks again from the last line's time while the pod lives: API servers and proxies end long connections."""
    last = ""
    while True:
        for stamp, line in _from(api, pod, last, tail):
            terminal.line(line)
            last = stamp
        if has_ended(api.trainer_pods(name, run_id), pod):
            return
        time.sleep(_PAUSE_SECONDS)


def _from(api: Api, pod: str, last: str, tail: int | None) -> Iterator[tuple[str, str]]:
    """The kubelet gives whole seconds again; what was shown is left out."""
    try:
        for stamped in api.log(pod, follow=True, since=last or None, tail=None if last else tail):
            stamp, _, line = stamped.partition(" ")
            if moment(stamp) > moment(last):
                yield stamp, line
    except LogGone:
        return


def moment(stamp: str) -> tuple[str, str]:
    """Comparable: the kubelet drops the trailing zeros of nanoseconds."""
    seconds, _, fraction = stamp.removesuffix("Z").partition(".")
    return seconds, fraction.ljust(9, "0")


def _status(api: Api, name: str) -> ExpansionStatus:
    return ExpansionStatus.model_validate(api.expansion(name).get("status", {}))


def _run(status: ExpansionStatus, name: str) -> str:
    if status.run is None:
        raise Problem(f"{name} has no run yet. {_why(status)} See kubectl clx status {name}.")
    return status.run.id


def _why(status: ExpansionStatus) -> str:
    ready = next((condition for condition in status.conditions if condition.type == "Ready"), None)
    return ready.message if ready else "The operator has not looked at it yet."
