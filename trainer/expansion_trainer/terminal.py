"""Shows on a terminal how far a run is, in one line that is rewritten; elsewhere a line for each stage."""

import importlib
import os
from dataclasses import dataclass, field
from tempfile import TemporaryFile
from types import TracebackType
from typing import Self, TextIO

from expansion_contract.report import Progress

_BAR = 24


@dataclass
class ProgressLine:
    out: TextIO
    _stage: str = field(default="", init=False)
    _is_open: bool = field(default=False, init=False)

    def show(self, progress: Progress) -> None:
        if self.out.isatty():
            self.out.write(f"\r\x1b[K{line(progress)}")
            self._is_open = True
        elif progress.stage != self._stage:
            self.out.write(f"{line(progress)}\n")
        self._stage = progress.stage
        self.out.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """What follows starts on a line of its own."""
        if self._is_open:
            self.out.write("\n")


def line(progress: Progress) -> str:
    filled = _BAR * progress.percent // 100
    parts = [
        f"{'█' * filled}{'░' * (_BAR - filled)} {progress.percent:3d} %  {progress.stage}",
        progress.message,
    ]
    if progress.images_per_second:
        parts.append(f"{progress.images_per_second:.0f} images/s")
    if progress.eta_seconds is not None:
        parts.append(f"about {_span(progress.eta_seconds)} left")
    return "  ".join(part for part in parts if part)


def _span(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02} s" if minutes else f"{rest} s"


def import_tensorflow_quietly() -> None:
    """Its start-up notices, written past Python's own streams, are not for users. If it cannot start, they are shown."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    with TemporaryFile() as notices:
        before = os.dup(2)
        os.dup2(notices.fileno(), 2)
        try:
            importlib.import_module("tensorflow")
        except BaseException:
            notices.seek(0)
            os.write(before, notices.read())
            raise
        finally:
            os.dup2(before, 2)
            os.close(before)
