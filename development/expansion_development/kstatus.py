"""Asks the real kstatus library, and Flux's own evaluator of healthCheckExprs, what they see in an object.

Both are Go; a small program of ours (development/kstatus) is built once and then answers a question in a millisecond.
"""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from expansion_development import go_build, programs
from expansion_development.programs import Places, Say

MODULE = Path(__file__).parents[1] / "kstatus"
_TAKES = "about a minute and 100 MB to download"


class KstatusError(Exception):
    """kstatus could make nothing of the object; kubectl-like tools and Flux would show this."""


@dataclass(frozen=True, kw_only=True)
class Seen:
    status: str
    """Current, InProgress, Failed or Terminating."""
    message: str


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def obtain(places: Places, say: Say) -> Path:
    """The program, built if this version of it is not there yet. Raises go_build.ProgramUnavailable."""
    folder = places.cache.parents[1] / "kstatus" / _version()
    program = folder / MODULE.name
    if not program.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        with programs.alone(folder, say):
            if not program.is_file():
                go_build.build_module(MODULE, folder, _TAKES, say)
    return program


def _version() -> str:
    """Of our module's files: another library or another program is built anew."""
    content = b"".join((MODULE / name).read_bytes() for name in ("go.mod", "go.sum", "main.go"))
    return hashlib.sha256(content).hexdigest()[:12]


class Kstatus:
    """Use it with `with`; one process answers all questions."""

    def __enter__(self) -> Self:
        program = obtain(Places.of(dict(os.environ)), say)
        self._process = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None:
        self._process.communicate(timeout=10)

    def of(self, body: Mapping[str, Any], expressions: Mapping[str, str] | None = None) -> Seen:
        """What kstatus computes, or what these healthCheckExprs say. Raises KstatusError."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        question = {"object": body} | ({"expressions": expressions} if expressions else {})
        self._process.stdin.write(f"{json.dumps(question)}\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        if "error" in answer:
            raise KstatusError(answer["error"])
        return Seen(status=answer["status"], message=answer.get("message", ""))
