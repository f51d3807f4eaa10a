"""What a person may ask of a resource, as the one field that asks it: train again, serve another version. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from expansion_contract.resource import RETRAIN_ANNOTATION, ExpansionStatus, HistoryEntry
from kubectl_clx.problem import Problem

Body = dict[str, Any]
NEWEST = "newest"
VERSION_PATH = ("spec", "serving", "version")


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A merge patch, and what follows from it."""

    changes: Body
    says: str


def retrain(body: Body, now: datetime) -> Asked:
    stamp = now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    name = body["metadata"]["name"]
    suspended = (body.get("spec") or {}).get("suspend") is True
    follows = (
        "It is suspended: nothing trains until spec.suspend is false."
        if suspended
        else f"The same images and settings train once more. Watch: kubectl clx status {name}"
    )
    return Asked(
        changes={"metadata": {"annotations": {RETRAIN_ANNOTATION: stamp}}},
        says=f"Asked {name} to train again, at {stamp}. {follows}",
    )


def rollback(body: Body, to: str | None) -> Asked:
    """`to`: a published version's number or `newest`; None: the published version below the served one."""
    name, status = body["metadata"]["name"], ExpansionStatus.model_validate(body.get("status", {}))
    if to == NEWEST:
        return Asked(
            changes={"spec": {"serving": {"version": None}}},
            says=f"{name} serves the newest accepted version again.",
        )
    published = _published(status.history)
    served = _served(body, status)
    version = _number(to, published, name) if to is not None else _below(served, published, name)
    if version == served:
        raise Problem(f"{name} serves version {version} already. {_known(published)}")
    return Asked(
        changes={"spec": {"serving": {"version": version}}},
        says=f"{name} serves version {version} instead of {served}, without a Job. It stays there until"
        f" `kubectl clx rollback {name} --to {NEWEST}`.",
    )


def _published(history: Iterable[HistoryEntry]) -> list[int]:
    """Numbers, the highest first."""
    numbers = {e.version for e in history if e.outcome == "Published" and e.version is not None}
    return sorted(numbers, reverse=True)


def _served(body: Body, status: ExpansionStatus) -> int:
    """The version that is asked for; 0 if there is none yet."""
    pinned = ((body.get("spec") or {}).get("serving") or {}).get("version")
    newest = status.model.version if status.model else 0
    return int(pinned if pinned is not None else newest)


def _below(served: int, published: list[int], name: str) -> int:
    earlier = next((version for version in published if version < served), None)
    if earlier is None:
        raise Problem(f"{name} has no published version below {served} to go back to. {_known(published)}")
    return earlier


def _number(to: str, published: list[int], name: str) -> int:
    if not to.isdecimal():
        raise Problem(
            f"--to must be the number of a published version or `{NEWEST}`, got {to!r}. {_known(published)}"
        )
    if int(to) not in published:
        raise Problem(
            f"status.history of {name} knows no published version {to}. {_known(published)} An older one that is still in storage is"
            f" served by setting spec.serving.version: {to} in its manifest."
        )
    return int(to)


def _known(published: list[int]) -> str:
    return f"It knows {', '.join(map(str, published))}." if published else "It has published nothing yet."
