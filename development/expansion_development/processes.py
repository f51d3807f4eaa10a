"""Starts programs that die with us, stops their whole process group, and finds free ports."""

import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO

REPOSITORY = Path(__file__).parents[2]
_LAUNCHER = Path(__file__).with_name("launcher.py")
_PORTS = range(20000, 32000)  # below the range from which Linux takes the ports of outgoing connections


def start(
    arguments: Sequence[str],
    log: Path | IO[bytes],
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> "subprocess.Popen[bytes]":
    """In a session of its own; killed when the thread that calls this ends. Output is appended to `log`."""
    output = log.open("ab") if isinstance(log, Path) else log
    try:
        return subprocess.Popen(
            [sys.executable, "-I", "-S", str(_LAUNCHER), str(os.getpid()), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=None if environment is None else dict(environment),
            cwd=folder,
            start_new_session=True,
        )
    finally:
        if isinstance(log, Path):
            output.close()


def python_environment() -> dict[str, str]:
    """This process's environment, with which a Python child finds our packages, installed or not."""
    folders = [str(REPOSITORY / name) for name in ("operator", "trainer", "development")]
    known = os.environ.get("PYTHONPATH")
    return {**os.environ, "PYTHONPATH": os.pathsep.join([*folders, *([known] if known else [])])}


def frugal_environment() -> dict[str, str]:
    """`python_environment` for programs that share few cores: OpenBLAS's threads would spend them waiting for each other."""
    return {"OPENBLAS_NUM_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "2", **python_environment()}


def signal_group(process: "subprocess.Popen[bytes]", number: int) -> None:
    """To everything the process started, too; nothing happens if all of it is gone."""
    try:
        os.killpg(process.pid, number)
    except (ProcessLookupError, PermissionError):
        return


def stop(process: "subprocess.Popen[bytes]", grace_seconds: float = 5.0) -> int:
    """The exit status, after SIGTERM and if need be SIGKILL."""
    if process.poll() is None:
        signal_group(process, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(grace_seconds)
    signal_group(process, signal.SIGKILL)
    return process.wait()


def free_port(host: str = "127.0.0.1") -> int:
    for port in random.SystemRandom().sample(_PORTS, 200):
        with socket.socket() as candidate:
            candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                candidate.bind((host, port))
            except OSError:
                continue
            return port
    raise OSError(f"No free port on {host} among 200 tried between {_PORTS.start} and {_PORTS.stop}.")


def wait_until(holds: Callable[[], bool], seconds: float, every: float = 0.1) -> bool:
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(every)
    return True


def tail(log: Path, lines: int = 20) -> str:
    """The last lines of a log, for a message; empty if there is none."""
    if not log.is_file():
        return ""
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])


def children(parent: int) -> list[int]:
    """Every living descendant of a process; zombies are not living."""
    parents: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, ppid = stat.read_text().rpartition(") ")[2].split()[:2]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if state != "Z":
            parents.setdefault(int(ppid), []).append(int(stat.parent.name))
    found = list(parents.get(parent, []))
    for child in found:
        found.extend(parents.get(child, []))
    return found
