"""Shows a resource's conditions as they change, and one line that tells how far its run is."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TextIO

from expansion_contract.report import Progress
from expansion_development.kubernetes_api import Manifest
from expansion_trainer.terminal import ProgressLine

_EVERY_SECONDS = 0.5
_MESSAGE = 160


class GaveUp(Exception):
    """The resource did not become Ready."""


@dataclass
class Watching:
    """`read` gives the resource as it is now."""

    read: Callable[[], Manifest]
    out: TextIO
    started: float
    _seen: dict[str, tuple[str, str, str]] = field(default_factory=dict)
    _shown: tuple[Any, ...] = ()

    def until_ready(self, seconds: float) -> Manifest:
        """Raises GaveUp if only a person can help, or if it takes longer."""
        deadline = time.monotonic() + seconds
        with ProgressLine(self.out) as line:
            while True:
                found = self.read()
                self._show_changes(found)
                if _holds(found, "Ready"):
                    return found
                if _holds(found, "Stalled"):
                    raise GaveUp(
                        f"The resource is Stalled: {_conditions(found)['Stalled'].get('message', '')}"
                    )
                if time.monotonic() > deadline:
                    raise GaveUp(f"The resource was not Ready within {seconds:.0f} s.")
                self._show_progress(found, line)
                time.sleep(_EVERY_SECONDS)

    def _show_changes(self, found: Manifest) -> None:
        conditions = _conditions(found)
        said = ""
        for kind, one in conditions.items():
            now = (one["status"], one.get("reason", ""), one.get("message", ""))
            if self._seen.get(kind) != now:
                self._seen[kind] = now
                message = '"' if said and now[2] == said else _shortened(now[2])
                self._line(f"{kind:<16} {now[0]:<8} {now[1]:<20} {message}".rstrip())
                said = now[2]
        for kind in [kind for kind in self._seen if kind not in conditions]:
            del self._seen[kind]
            self._line(f"{kind:<16} gone")

    def _line(self, text: str) -> None:
        start = "\r\x1b[K" if self.out.isatty() else ""
        self.out.write(f"{start}{time.monotonic() - self.started:6.1f} s  {text}\n")
        self.out.flush()

    def _show_progress(self, found: Manifest, line: ProgressLine) -> None:
        told = progress_of(found)
        if told is None:
            return
        if self.out.isatty():
            line.show(told)
        elif (shown := (told.stage, told.percent)) != self._shown:
            self._shown = shown
            self._line(_plain(told))


def progress_of(found: Manifest) -> Progress | None:
    """None when no run is under way."""
    run = (found.get("status") or {}).get("run") or {}
    if not run.get("stage") or run.get("outcome"):
        return None
    speed, eta = run.get("imagesPerSecond"), run.get("eta")
    return Progress(
        run_id=run["id"],
        stage=run["stage"],
        percent=run.get("percent") or 0,
        images_per_second=float(speed) if speed else None,
        eta_seconds=max(0.0, _seconds_until(eta)) if eta else None,
    )


def _seconds_until(text: str) -> float:
    return (datetime.fromisoformat(text.replace("Z", "+00:00")) - datetime.now(UTC)).total_seconds()


def _plain(told: Progress) -> str:
    speed = f", {told.images_per_second:.0f} images/s" if told.images_per_second else ""
    left = f", about {told.eta_seconds:.0f} s left" if told.eta_seconds is not None else ""
    return f"{told.percent:3} %  {told.stage}{speed}{left}"


def _conditions(found: Manifest) -> dict[str, Manifest]:
    return {one["type"]: one for one in (found.get("status") or {}).get("conditions") or ()}


def _holds(found: Manifest, kind: str) -> bool:
    """Only a status of the latest spec counts."""
    status = found.get("status") or {}
    current = status.get("observedGeneration") == found["metadata"]["generation"]
    return current and _conditions(found).get(kind, {}).get("status") == "True"


def _shortened(text: str) -> str:
    return text if len(text) <= _MESSAGE else f"{text[: _MESSAGE - 1]}…"
