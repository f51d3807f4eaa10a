"""Tells how far a run is: which stage, how much of the whole, how fast and how much longer. Listeners decide where that goes."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum

from expansion_contract.report import Progress

WINDOW_SECONDS = 30.0
"""Speed is measured over the last half minute: what came out of the cache at once says nothing about the rest."""
AFTER_IMAGES_SECONDS = 30.0
"""What head, evaluation and export of a usual run take; only the estimate uses it."""


class Stage(StrEnum):
    BACKBONE = "Backbone"
    SCAN = "Scan"
    OVERLAP = "Overlap"
    BOTTLENECKS = "Bottlenecks"
    PREFLIGHT = "Preflight"
    HEAD = "Head"
    EVALUATION = "Evaluation"
    EXPORT = "Export"
    REPORT = "Report"
    DONE = "Done"


STARTS_AT = {
    Stage.BACKBONE: 0,
    Stage.SCAN: 3,
    Stage.OVERLAP: 5,
    Stage.BOTTLENECKS: 6,
    Stage.PREFLIGHT: 80,
    Stage.HEAD: 81,
    Stage.EVALUATION: 90,
    Stage.EXPORT: 91,
    Stage.REPORT: 98,
    Stage.DONE: 100,
}
"""Percent of the whole at which each stage begins; a stage ends where the next begins."""

Clock = Callable[[], datetime]


def utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass
class Listener:
    """Hears of every new stage, and of steps inside it at most every `every` seconds."""

    hear: Callable[[Progress], None]
    every: float
    _heard: datetime | None = None
    _stage: str = ""

    def tell(self, progress: Progress, now: datetime) -> None:
        recent = self._heard is not None and (now - self._heard).total_seconds() < self.every
        if recent and progress.stage == self._stage:
            return
        self._heard, self._stage = now, progress.stage
        self.hear(progress)


@dataclass
class Tracker:
    run_id: str
    clock: Clock
    listeners: tuple[Listener, ...]
    _stage: Stage = Stage.BACKBONE
    _began: datetime | None = None
    _seconds: dict[str, float] = field(default_factory=dict)
    _samples: deque[tuple[datetime, int]] = field(default_factory=deque)

    def enter(self, stage: Stage, message: str) -> None:
        """`message` says, with its counts, what is about to be done."""
        now = self.clock()
        self._close(now)
        self._stage, self._began = stage, now
        self._samples.clear()
        self._tell(now, STARTS_AT[stage], message)

    def step(self, done: int, total: int) -> None:
        """`done` of `total` images of the present stage."""
        now = self.clock()
        self._samples.append((now, done))
        while len(self._samples) > 2 and (now - self._samples[0][0]).total_seconds() > WINDOW_SECONDS:
            self._samples.popleft()
        start, end = STARTS_AT[self._stage], _end_of(self._stage)
        percent = start + (end - start) * done // max(total, 1)
        speed = self._speed()
        remaining = (total - done) / speed + AFTER_IMAGES_SECONDS if speed else None
        self._tell(now, percent, f"{done} of {total} images", speed, remaining)

    def say(self, message: str) -> None:
        """What the present stage is at, where nobody knows how much of it is done."""
        self._tell(self.clock(), STARTS_AT[self._stage], message)

    def finish(self) -> dict[str, float]:
        """Wall seconds of each stage, in order."""
        now = self.clock()
        self._close(now)
        self._stage, self._began = Stage.DONE, None
        self._tell(now, 100, "")
        return dict(self._seconds)

    def seconds(self) -> dict[str, float]:
        """Of the stages so far, the present one included."""
        running = {} if self._began is None else {self._stage.value: _between(self._began, self.clock())}
        return self._seconds | running

    def _close(self, now: datetime) -> None:
        if self._began is not None:
            self._seconds[self._stage.value] = _between(self._began, now)

    def _speed(self) -> float | None:
        (first, done_first), (last, done_last) = self._samples[0], self._samples[-1]
        seconds = (last - first).total_seconds()
        return (done_last - done_first) / seconds if seconds > 0 and done_last > done_first else None

    def _tell(
        self,
        now: datetime,
        percent: int,
        message: str,
        speed: float | None = None,
        eta: float | None = None,
    ) -> None:
        progress = Progress(
            run_id=self.run_id,
            stage=self._stage.value,
            percent=percent,
            message=message,
            images_per_second=None if speed is None else round(speed, 1),
            eta_seconds=None if eta is None else round(eta),
            updated_at=rfc3339(now),
        )
        for listener in self.listeners:
            listener.tell(progress, now)


def _end_of(stage: Stage) -> int:
    return min((start for start in STARTS_AT.values() if start > STARTS_AT[stage]), default=100)


def _between(start: datetime, end: datetime) -> float:
    return round((end - start).total_seconds(), 3)


def rfc3339(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
