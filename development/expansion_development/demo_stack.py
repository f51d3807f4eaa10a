"""Starts the embedded stack for the demo, waits for it, stops it, or leaves it up and says how to talk to it."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from expansion_development import processes
from expansion_development.processes import REPOSITORY, python_environment, tail
from expansion_development.stack import MARK, PROBLEM, STACK, STORE, StackAddress, StoreAddress

_START_SECONDS = 120.0
_STOP_SECONDS = 20.0
_KEPT = "kept.pid"


class StackFailed(Exception):
    """The stack did not start; the message says why."""


class Stack:
    """`keep`: it does not die with us once `leave_up` was called."""

    def __init__(self, folder: Path, keep: bool) -> None:
        self._folder, self._keep, self._left = folder, keep, False

    def __enter__(self) -> Self:
        program = [sys.executable, "-m", "expansion_development.stack", "--folder", str(self._folder)]
        self._log = self._folder / "stack.log"
        if self._keep:
            with self._log.open("ab") as log:
                self._process = subprocess.Popen(
                    program,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env=python_environment(),
                    start_new_session=True,
                )
        else:
            self._process = processes.start(program, self._log, python_environment())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._left:
            processes.stop(self._process, _STOP_SECONDS)

    def store(self) -> StoreAddress:
        return StoreAddress(**self._wait_for(STORE))

    def ready(self) -> StackAddress:
        return StackAddress(**self._wait_for(STACK))

    def leave_up(self) -> None:
        if self._keep:
            self._left = True
            (self._folder / _KEPT).write_text(str(self._process.pid))

    def _wait_for(self, name: str) -> dict[str, str]:
        file, deadline = self._folder / name, time.monotonic() + _START_SECONDS
        while not file.exists():
            if self._process.poll() is not None:
                problem = self._folder / PROBLEM
                raise StackFailed(problem.read_text() if problem.exists() else tail(self._log))
            if time.monotonic() > deadline:
                raise StackFailed(f"It was not up within {_START_SECONDS:.0f} s; see {self._log}.")
            time.sleep(0.05)
        content: dict[str, str] = json.loads(file.read_text())
        return content


def kept(folder: Path) -> int | None:
    """The process of a stack that was left up and still runs."""
    file = folder / _KEPT
    if not file.exists():
        return None
    process = int(file.read_text())
    command = Path(f"/proc/{process}/cmdline")
    runs = command.exists() and b"expansion_development.stack" in command.read_bytes()
    return process if runs else None


def stop_kept(folder: Path) -> str:
    """What happened, in a sentence."""
    process = kept(folder)
    if process is None:
        return "No demo is up."
    os.kill(process, signal.SIGTERM)
    if not processes.wait_until(lambda: kept(folder) is None, _STOP_SECONDS):
        os.killpg(process, signal.SIGKILL)
    (folder / _KEPT).unlink()
    return "The demo is stopped; its report and summary stay in build/demo."


def explain(folder: Path, namespace: str) -> None:
    up = StackAddress(**json.loads((folder / STACK).read_text()))
    kubeconfig = Path(up.kubeconfig).relative_to(REPOSITORY)
    slices = "endpointslices -l kubernetes.io/service-name=digits-serving"
    lines = [
        "\nEverything is still up:",
        f"  export KUBECONFIG=$PWD/{kubeconfig}",
        f"  kubectl -n {namespace} get clx,jobs,pods,services        (or: make control-plane prints where kubectl is)",
        f"  kubectl -n {namespace} describe clx digits",
        f"  address=$(kubectl -n {namespace} get {slices} -o jsonpath='{{.items[0].endpoints[0].addresses[0]}}'):8501",
        """  echo "{\\"instances\\": [{\\"b64\\": \\"$(base64 -w0 photo.jpg)\\"}]}" | curl -d @- http://$address/v1/models/digits:predict""",
        f"  curl {up.metrics}",
        f"  logs of the containers: {Path(up.node_folder).relative_to(REPOSITORY)}/logs",
        "  make demo-stop",
    ]
    print("\n".join(lines), flush=True)


def left_running(mark: str) -> list[str]:
    """Processes of this stack that live on, by number and name; this one does not count."""
    wanted = f"{MARK}={mark}".encode()
    found = []
    for environment in Path("/proc").glob("[0-9]*/environ"):
        process = environment.parent
        try:
            if int(process.name) != os.getpid() and wanted in environment.read_bytes().split(b"\0"):
                found.append(f"{process.name} {(process / 'comm').read_text().strip()}")
        except OSError:
            continue
    return found
