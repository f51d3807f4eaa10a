"""Asks a container's probes when they are due and remembers what they said."""

import http.client
import socket
import subprocess
from dataclasses import dataclass
from typing import Protocol

from expansion_development.kubernetes_api import Manifest


class Asks(Protocol):
    def __call__(self, probe: Manifest, container: Manifest, host: str) -> str | None: ...


@dataclass(kw_only=True)
class Probe:
    """One probe's thresholds. `passing` None: neither threshold has been reached yet."""

    spec: Manifest
    due: float
    passing: bool | None = None
    message: str = ""
    _run: int = 0
    _last: bool = False

    @classmethod
    def of(cls, spec: Manifest | None, started: float) -> "Probe | None":
        return cls(spec=spec, due=started + spec.get("initialDelaySeconds", 0)) if spec else None

    def ask(self, container: Manifest, host: str, now: float, ask: Asks) -> None:
        if now < self.due:
            return
        self.due = now + self.spec.get("periodSeconds", 10)
        failure = ask(self.spec, container, host)
        self.message = failure or ""
        answered = failure is None
        self._run = self._run + 1 if answered is self._last else 1
        self._last = answered
        threshold = self.spec.get("successThreshold", 1) if answered else self.spec.get("failureThreshold", 3)
        if self._run >= threshold:
            self.passing = answered


def ask(probe: Manifest, container: Manifest, host: str) -> str | None:
    """None if the probe succeeded, else why not in a kubelet's words."""
    seconds = float(probe.get("timeoutSeconds", 1))
    try:
        if "httpGet" in probe:
            return _http(probe["httpGet"], container, host, seconds)
        if "tcpSocket" in probe:
            return _tcp(probe["tcpSocket"], container, host, seconds)
        if "exec" in probe:
            return _exec(probe["exec"]["command"], seconds)
    except (OSError, http.client.HTTPException, subprocess.TimeoutExpired) as error:
        return str(error)
    return "the process node knows no such probe"


def _http(get: Manifest, container: Manifest, host: str, seconds: float) -> str | None:
    connect = http.client.HTTPSConnection if get.get("scheme") == "HTTPS" else http.client.HTTPConnection
    connection = connect(get.get("host") or host, port_of(get["port"], container), timeout=seconds)
    try:
        headers = {header["name"]: header["value"] for header in get.get("httpHeaders") or ()}
        connection.request("GET", get.get("path") or "/", headers=headers)
        status = connection.getresponse().status
    finally:
        connection.close()
    return None if 200 <= status < 400 else f"HTTP probe failed with statuscode: {status}"


def _tcp(get: Manifest, container: Manifest, host: str, seconds: float) -> str | None:
    with socket.create_connection((get.get("host") or host, port_of(get["port"], container)), seconds):
        return None


def _exec(command: list[str], seconds: float) -> str | None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds)
    return None if done.returncode == 0 else (done.stdout + done.stderr).strip() or "command failed"


def port_of(port: int | str, container: Manifest) -> int:
    """A number, or the name of one of the container's ports."""
    if isinstance(port, int):
        return port
    for known in container.get("ports") or ():
        if known.get("name") == port:
            return int(known["containerPort"])
    raise OSError(f"couldn't find port: {port}")
