"""One container as a local process: pulled, started, probed, restarted and stopped as a kubelet would."""

import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from expansion_development.kubernetes_api import Manifest
from expansion_development.process_node import memory, probes
from expansion_development.process_node.container import ConfigMissing, Launch, Mount
from expansion_development.process_node.images import Program
from expansion_development.process_node.probes import Probe
from expansion_development.process_node.quantities import quantity
from expansion_development.process_node.status import (
    OUT_OF_MEMORY,
    ContainerView,
    Running,
    State,
    Terminated,
    Waiting,
)
from expansion_development.processes import signal_group, start, tail

_LONGEST_BACK_OFF = 30  # times the first
_MESSAGE_BYTES, _FALLBACK_BYTES, _FALLBACK_LINES = 4096, 2048, 80
_RETRY_CONFIG_SECONDS = 1.0
_MEMORY_EVERY_SECONDS = 0.5

Event = Callable[[str, str, str], None]
"""(type, reason, message), about the pod."""


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What a container finds around it in its pod."""

    ip: str
    folder: Path
    log: Path
    base_environment: Mapping[str, str]
    mounts: Callable[[Manifest, Path], Sequence[Mount]]
    launch: Callable[[Manifest, Program, Sequence[Mount]], Launch]
    """Raises ConfigMissing."""
    pull: Callable[[str], Program | None]
    event: Event
    back_off_seconds: float


class Worker:
    """`restart`: Always, OnFailure or Never. Nothing starts before `keep_up` is called."""

    def __init__(self, spec: Manifest, restart: str, around: Surroundings) -> None:
        self.spec, self._restart, self._around = spec, restart, around
        self.state: State = Waiting(reason="ContainerCreating")
        self._last: Terminated | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._restarts = self._failures = self._pulls = 0
        self._next_try = 0.0
        self._started_at, self._killed_for = "", ""
        self._stop_at = self._kill_at = float("inf")
        self._termed = False
        self._memory_due = 0.0
        self._startup: Probe | None = None
        self._liveness: Probe | None = None
        self._readiness: Probe | None = None

    @property
    def name(self) -> str:
        return str(self.spec["name"])

    @property
    def finished(self) -> bool:
        return isinstance(self.state, Terminated)

    @property
    def succeeded(self) -> bool:
        return isinstance(self.state, Terminated) and self.state.exit_code == 0

    @property
    def started(self) -> bool:
        return isinstance(self.state, Running) and (self._startup is None or self._startup.passing is True)

    @property
    def ready(self) -> bool:
        return self.started and (self._readiness is None or self._readiness.passing is True)

    def view(self) -> ContainerView:
        return ContainerView(
            name=self.name,
            image=self.spec["image"],
            state=self.state,
            last=self._last,
            restarts=self._restarts,
            ready=self.ready or self.succeeded,
            started=self.started,
            identity=f"process-node://{self._process.pid}" if self._process else "",
            finished=self.finished,
        )

    def keep_up(self, now: float) -> None:
        """One step: notices an end, starts what should run, asks the probes."""
        self.notice(now)
        if self._process is None or self._process.returncode is not None:
            if not self.finished and now >= self._next_try:
                self._try_start(now)
        elif isinstance(self.state, Running):
            self._check_memory(now)
            self._probe(now)

    def notice(self, now: float) -> None:
        """Has the process ended?"""
        if isinstance(self.state, Running) and self._process and self._process.poll() is not None:
            signal_group(self._process, signal.SIGKILL)  # what it left behind
            self._ended(self._process.returncode, now)

    def stop(self, now: float, grace_seconds: float) -> None:
        """preStop, then SIGTERM, then SIGKILL when the grace is over; call again until `finished`."""
        self._restart = "Never"
        self.notice(now)
        if isinstance(self.state, Waiting):
            self.lose()
        if not isinstance(self.state, Running) or self._process is None:
            return
        if self._kill_at == float("inf"):
            self._kill_at, self._stop_at = now + grace_seconds, now + self._pre_stop_seconds()
        if now >= self._kill_at:
            signal_group(self._process, signal.SIGKILL)
        elif now >= self._stop_at and not self._termed:
            self._termed = True
            self._process.terminate()  # the first process alone, as in a container

    def kill(self) -> None:
        if self._process:
            signal_group(self._process, signal.SIGKILL)
            self._process.wait()

    def lose(self) -> None:
        """Nobody knows how it ended, or it never started."""
        reason = "ContainerStatusUnknown"
        message = "The container could not be located when the pod was terminated"
        at = timestamp()
        self.state = self._last or Terminated(
            exit_code=137, reason=reason, message=message, started_at=at, finished_at=at
        )

    def _pre_stop_seconds(self) -> float:
        hook = (self.spec.get("lifecycle") or {}).get("preStop")
        if hook and "sleep" not in hook:
            self._around.event("Warning", "FailedPreStopHook", "The process node knows only preStop.sleep.")
        return float(hook["sleep"]["seconds"]) if hook and "sleep" in hook else 0.0

    def _try_start(self, now: float) -> None:
        program = self._around.pull(self.spec["image"])
        if program is None:
            self._not_pulled(now)
            return
        self._pulls = 0
        self._termination_log.parent.mkdir(parents=True, exist_ok=True)
        self._termination_log.write_bytes(b"")
        mounts = self._around.mounts(self.spec, self._termination_log)
        try:
            launch = self._around.launch(self.spec, program, mounts)
        except ConfigMissing as problem:
            self._next_try = now + _RETRY_CONFIG_SECONDS
            self._wait_for("CreateContainerConfigError", str(problem), f"Error: {problem}")
            return
        self._start(launch, now)

    def _start(self, launch: Launch, now: float) -> None:
        if not launch.arguments:
            self._next_try = float("inf")
            self._wait_for("RunContainerError", "no command specified", "Error: no command specified")
            return
        self._restarts += self._last is not None
        self._around.log.mkdir(parents=True, exist_ok=True)
        folder = self._around.folder / self.name
        folder.mkdir(parents=True, exist_ok=True)
        environment = {**self._around.base_environment, "HOME": str(folder), **launch.environment}
        self._process = start(launch.arguments, self._log, environment, folder)
        self._started_at = timestamp()
        self.state = Running(started_at=self._started_at)
        self._startup, self._liveness, self._readiness = (
            Probe.of(self.spec.get(f"{kind}Probe"), now) for kind in ("startup", "liveness", "readiness")
        )
        self._around.event("Normal", "Started", f"Started container {self.name}")

    @property
    def _log(self) -> Path:
        return self._around.log / f"{self.name}.log"

    @property
    def _termination_log(self) -> Path:
        return self._around.folder / f"{self.name}.termination"

    def _not_pulled(self, now: float) -> None:
        image = self.spec["image"]
        self._pulls += 1
        self._next_try = now + self._back_off(self._pulls)
        failure = (
            f'failed to pull and unpack image "{image}": failed to resolve reference "{image}": pull access denied,'
            " repository does not exist or may require authorization"
        )
        if self._pulls == 1:
            self._around.event("Warning", "Failed", f'Failed to pull image "{image}": {failure}')
            self._wait_for("ErrImagePull", failure, "Error: ErrImagePull")
        else:
            message = f'Back-off pulling image "{image}": ErrImagePull: {failure}'
            self._wait_for("ImagePullBackOff", message, "Error: ImagePullBackOff")

    def _wait_for(self, reason: str, message: str, event: str) -> None:
        if self.state != (waiting := Waiting(reason=reason, message=message)):
            self.state = waiting
            self._around.event("Warning", "Failed", event)

    def _back_off(self, failures: int) -> float:
        return float(self._around.back_off_seconds * min(2 ** (failures - 1), _LONGEST_BACK_OFF))

    def _ended(self, status: int, now: float) -> None:
        code = 128 - status if status < 0 else status
        reason = self._killed_for or ("Error" if code else "Completed")
        self._killed_for = ""
        ended = Terminated(
            exit_code=code,
            reason=reason,
            started_at=self._started_at,
            finished_at=timestamp(),
            message=self._last_words(code),
        )
        if self._restart == "Never" or (self._restart == "OnFailure" and code == 0):
            self.state = ended
            return
        self._last, self._failures = ended, self._failures + 1
        pause = self._back_off(self._failures)
        self._next_try = now + pause
        self.state = Waiting(
            reason="CrashLoopBackOff",
            message=f"back-off {pause:g}s restarting failed container={self.name}",
        )
        self._around.event("Warning", "BackOff", f"Back-off restarting failed container {self.name}")

    def _last_words(self, code: int) -> str:
        said = self._termination_log.read_bytes()[:_MESSAGE_BYTES].decode(errors="replace")
        if said or not code or self.spec.get("terminationMessagePolicy") != "FallbackToLogsOnError":
            return said
        return tail(self._log, _FALLBACK_LINES)[-_FALLBACK_BYTES:]

    def _check_memory(self, now: float) -> None:
        limit = ((self.spec.get("resources") or {}).get("limits") or {}).get("memory")
        if not limit or not self._process or now < self._memory_due:
            return
        self._memory_due = now + _MEMORY_EVERY_SECONDS
        if memory.resident_bytes(self._process.pid) > quantity(limit):
            self._killed_for = OUT_OF_MEMORY
            signal_group(self._process, signal.SIGKILL)

    def _probe(self, now: float) -> None:
        if self._startup and self._startup.passing is not True:
            self._ask(self._startup, now)
            if self._startup.passing is False:
                self._restart_for("startup", self._startup)
            return
        for probe in filter(None, (self._readiness, self._liveness)):
            self._ask(probe, now)
        if self._liveness and self._liveness.passing is False:
            self._restart_for("liveness", self._liveness)

    def _ask(self, probe: Probe, now: float) -> None:
        probe.ask(self.spec, self._around.ip, now, probes.ask)

    def _restart_for(self, kind: str, probe: Probe) -> None:
        self._around.event(
            "Warning", "Unhealthy", f"{kind.capitalize()} probe failed for {self.name}: {probe.message}"
        )
        if self._process:
            self._process.terminate()
            try:
                self._process.wait(2)
            except subprocess.TimeoutExpired:
                signal_group(self._process, signal.SIGKILL)


def timestamp() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
