"""Asks what Git's controllers would say or do: kstatus, Flux's evaluator of healthCheckExprs, Flux's applier, Argo CD's diff.

All are Go; a small program of ours (development/gitops) with their real libraries is built once and then answers a question in
milliseconds.
"""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from expansion_development import go_build, programs
from expansion_development.programs import Places, Say

MODULE = Path(__file__).parents[1] / "gitops"
_TAKES = "about two minutes on 2 cores and 70 MB to download"
Body = Mapping[str, Any]


class GitopsError(Exception):
    """The library could make nothing of the object; this is what Flux or Argo CD would show."""


class Compare(StrEnum):
    """How Argo CD finds a difference between Git and the cluster."""

    THREE_WAY = "three-way"
    """Its default: Git, what was applied last, and what is there."""
    STRUCTURED = "structured"
    """With ServerSideApply=true."""
    SERVER = "server"
    """With ServerSideDiff=true: a dry run."""


@dataclass(frozen=True, kw_only=True)
class Seen:
    status: str
    """Of kstatus: Current, InProgress, Failed or Terminating."""
    message: str


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def obtain(places: Places, say: Say) -> Path:
    """The program, built if this version of it is not there yet. Raises go_build.ProgramUnavailable."""
    folder = places.cache.parents[1] / MODULE.name / _version()
    program = folder / MODULE.name
    if not program.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        with programs.alone(folder, say):
            if not program.is_file():
                go_build.build_module(MODULE, folder, _TAKES, say)
    return program


def _version() -> str:
    """Of our module's files: another library or another program is built anew."""
    files = sorted(file for file in MODULE.iterdir() if file.name.startswith("go.") or file.suffix == ".go")
    content = b"".join(file.read_bytes() for file in files)
    return hashlib.sha256(content).hexdigest()[:12]


class Gitops:
    """Use it with `with`; one process answers all questions. Without a kubeconfig only `kstatus` can be asked."""

    def __init__(self, kubeconfig: Path | None = None) -> None:
        self._environment = {**os.environ, **({"KUBECONFIG": str(kubeconfig)} if kubeconfig else {})}

    def __enter__(self) -> Self:
        program = obtain(Places.of(dict(os.environ)), say)
        self._process = subprocess.Popen(
            [program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=self._environment
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None:
        self._process.communicate(timeout=10)

    def kstatus(self, body: Body, expressions: Mapping[str, str] | None = None) -> Seen:
        """What kstatus computes, or what these healthCheckExprs say. Raises GitopsError."""
        return self._asked("status", body, expressions=expressions)

    def flux_applies(self, body: Body) -> str:
        """One reconciliation of a Kustomization: created, configured or unchanged. Raises GitopsError."""
        return self._asked("apply", body).status

    def flux_would_do(self, body: Body) -> str:
        """The same, found out by a dry run."""
        return self._asked("drift", body).status

    def flux_waits(self, body: Body, seconds: float, expressions: Mapping[str, str] | None = None) -> Seen:
        """`wait: true` with that timeout: Ready, or NotReady with what the Kustomization would say."""
        return self._asked("wait", body, seconds=seconds, expressions=expressions)

    def argo_compares(self, body: Body, how: Compare) -> Seen:
        """Synced, or OutOfSync with what the object would become. Raises GitopsError."""
        return self._asked("diff", body, mode=how.value)

    def _asked(self, what: str, body: Body, **more: Any) -> Seen:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        given = {key: value for key, value in more.items() if value is not None}
        self._process.stdin.write(f"{json.dumps({'ask': what, 'object': body, **given})}\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        if "error" in answer:
            raise GitopsError(answer["error"])
        return Seen(status=answer["status"], message=answer.get("message", ""))
