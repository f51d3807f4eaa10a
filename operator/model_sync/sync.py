"""The agent's loop: looks, lets `step` decide, does it, and says on /status how it stands."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread
from typing import Any

from pydantic import ValidationError

from expansion_contract import layout
from expansion_contract.environment import MODEL_CONFIG_FILE
from expansion_contract.schema import Lenient
from expansion_contract.version import AgentStatus, Golden, ServingDocument
from expansion_storage import Prefix, StorageError
from model_sync import desired, download, step
from model_sync.desired import DesiredError
from model_sync.disk import Disk
from model_sync.download import DownloadError, Superseded
from model_sync.golden import mismatch
from model_sync.metrics import Numbers
from model_sync.model_server import (
    ModelServer,
    ModelServerBusy,
    ModelServerError,
    ServerSeen,
    config_text,
    second_name,
    write_config,
    write_monitoring,
)
from model_sync.settings import Settings
from model_sync.step import Check, Decision, Memory, Patience, Seen, State

_log = logging.getLogger("model_sync")
_STATE_FILE = ".model-sync.json"
_BUSY_SECONDS = 30.0
"""So long a server that takes requests and does not answer counts as it was: a crowd is no reason to send it away."""


class _Remembered(Lenient):
    """What outlives the agent, beside the models: with it the pod stays live while storage is away."""

    good: int | None = None
    previous: int | None = None


@dataclass(kw_only=True)
class _Task:
    """Work in a thread of its own, so that the server is watched meanwhile."""

    started: float
    thread: Thread
    result: Any = None
    error: Exception | None = None

    @property
    def done(self) -> bool:
        return not self.thread.is_alive()


def _started(work: Callable[[], Any], now: float) -> _Task:
    def run() -> None:
        try:
            task.result = work()
        except Exception as error:  # handed over, and raised by whoever collects the task
            task.error = error

    task = _Task(started=now, thread=Thread(target=run, daemon=True))
    task.thread.start()
    return task


class Agent:
    """`clock` counts seconds and never goes back."""

    def __init__(self, settings: Settings, output: Prefix, clock: Callable[[], float]) -> None:
        self._settings, self._output, self._clock = settings, output, clock
        self._disk = Disk(settings.models, settings.model_name)
        self._server = ModelServer(settings.model_server, settings.model_name)
        self._aside = ModelServer(settings.model_server, second_name(settings.model_name))
        self._patience = Patience(load_seconds=settings.load_seconds, first_pause=2 * settings.poll_seconds)
        self._memory = self._recalled()
        self._desired: ServingDocument | None = None
        self._storage_answered = False
        self._storage_problem = ""
        self._reading: _Task | None = None
        self._read_again_at = clock()
        self._downloading: _Task | None = None
        self._download_of: ServingDocument | None = None
        self._superseded = Event()
        self._progress: tuple[State, str] = ("Downloading", "")
        self._last_seen, self._last_answer = (ServerSeen(answers=False), ServerSeen(answers=False)), clock()
        self.started = False
        self.status = AgentStatus(model_name=settings.model_name)
        self.numbers = Numbers()
        write_monitoring(settings.models)

    def tick(self) -> bool:
        """One step; True if the next should follow at once. Whatever it raises, the next one starts from what is."""
        now = self._clock()
        self._collect_reading(now)
        self._collect_download(now)
        server, aside = self._looked(now)
        seen = Seen(
            now=now,
            storage_answered=self._storage_answered,
            desired=self._desired,
            disk=self._disk.versions(),
            server=server,
            aside=aside,
        )
        before = self._memory
        decision = step.decide(seen, self._memory, self._patience)
        self._memory = decision.memory
        self._count_failures(before, decision.memory)
        self._perform(decision, seen)
        self._report(decision, seen)
        return decision.check is not None and self._memory != decision.memory

    def _collect_reading(self, now: float) -> None:
        task = self._reading
        if task is not None and task.done:
            self._reading = None
            self._take(task)
        if self._reading is None and now >= self._read_again_at:
            self._read_again_at = now + self._settings.poll_seconds
            self._reading = _started(lambda: desired.read(self._output, self._settings.model_name), now)

    def _take(self, task: _Task) -> None:
        """An error keeps what was wanted before; so does a document that is gone."""
        self._storage_problem = ""
        if isinstance(task.error, StorageError | DesiredError):
            self._storage_trouble(str(task.error))
        elif task.error:
            raise task.error
        elif task.result is None and self._desired is not None:
            self._storage_trouble(f"{self._output.address(layout.SERVING)} is gone; what it said last stays.")
        else:
            self._storage_answered = True
            if task.result != self._desired:
                _log.info("Wanted: version %s.", task.result.version if task.result else None)
                self._memory = step.desired_changed(self._memory)
            self._desired = task.result

    def _storage_trouble(self, message: str) -> None:
        self._storage_problem = message
        self.numbers.errors += 1
        _log.error(message)

    def _looked(self, now: float) -> tuple[ServerSeen, ServerSeen]:
        """Under the model's own name and under the second one."""
        try:
            self._last_seen, self._last_answer = (self._server.look(), self._aside.look()), now
        except (ModelServerBusy, ModelServerError) as error:
            _log.warning(str(error))
            if now - self._last_answer > _BUSY_SECONDS:
                self._last_seen = (ServerSeen(answers=False), ServerSeen(answers=False))
        return self._last_seen

    def _perform(self, decision: Decision, seen: Seen) -> None:
        """In this order: the model server never hears of a version that is not on the disk."""
        if decision.config is not None:
            text = config_text(self._settings.model_name, self._disk.folder, decision.config)
            write_config(self._settings.models / MODEL_CONFIG_FILE, text)
            nothing_wanted = seen.storage_answered and seen.desired is None
            self.started = self.started or bool(decision.config.versions) or nothing_wanted
        if decision.check is not None:
            self._check(decision.check, seen)
        self._download(decision.download, seen)
        for version in seen.disk.keys() - decision.keep:
            _log.info("Removing version %s from the disk.", version)
            self._disk.remove(version)

    def _check(self, check: Check, seen: Seen) -> None:
        version, server = check.version, self._aside if check.aside else self._server
        try:
            golden = self._golden(version)
            answers = [server.answer(version, image.image) for image in golden.images]
        except ModelServerBusy as error:
            _log.warning(str(error))
            return
        except ModelServerError as error:
            message = f"Version {version} cannot be asked its golden images: {error}."
            self._failed(version, seen, message, self._patience.first_pause)
            return
        if difference := mismatch(golden, answers):
            self.numbers.golden_mismatches += 1
            self._failed(version, seen, _mismatched(version, difference), self._patience.mismatch_pause)
            return
        self._agreed(check, seen)

    def _agreed(self, check: Check, seen: Seen) -> None:
        version = check.version
        if check.aside:
            self._memory = step.passed(self._memory, version)
            _log.info(
                "Version %s answers as when it was trained; it may answer under the model's name.", version
            )
            return
        if self._memory.loading == version:
            self.numbers.load_seconds = seen.now - self._memory.loading_since
        self._memory = step.went_live(self._memory, version)
        self._remember()
        _log.info("Version %s is live.", version)

    def _golden(self, version: int) -> Golden:
        try:
            return Golden.model_validate_json((self._disk.version(version) / layout.GOLDEN).read_bytes())
        except (OSError, ValidationError) as error:
            raise ModelServerError(f"{layout.GOLDEN} cannot be read ({str(error).splitlines()[0]})") from None

    def _failed(self, version: int, seen: Seen, message: str, pause: float) -> None:
        before = self._memory
        sha256 = seen.disk.get(version, "")
        self._memory = step.failed(before, version, sha256, message, seen.now, pause)
        self._count_failures(before, self._memory)

    def _download(self, document: ServingDocument | None, seen: Seen) -> None:
        if self._downloading is not None:
            if document != self._download_of:
                self._superseded.set()
            return
        if seen.storage_answered:
            self._disk.sweep(growing=seen.desired.version if seen.desired else None)
        if document is None:
            return
        self._superseded, self._download_of = Event(), document
        self._progress = ("Downloading", f"Version {document.version}.")
        stop, fetched = self._superseded, document
        self._downloading = _started(
            lambda: download.fetch(self._output, fetched, self._disk, self._show, stop), seen.now
        )

    def _show(self, state: State, message: str) -> None:
        self._progress = (state, message)
        _log.info(message)

    def _collect_download(self, now: float) -> None:
        task, document = self._downloading, self._download_of
        if task is None or document is None or not task.done:
            return
        self._downloading = self._download_of = None
        if task.error is None:
            self.numbers.download_seconds = now - task.started
        elif not isinstance(task.error, Superseded):
            before = self._memory
            self._memory = step.failed(
                before,
                document.version,
                document.manifest_sha256,
                _said(task.error),
                now,
                self._patience.first_pause,
            )
            self._count_failures(before, self._memory)

    def _count_failures(self, before: Memory, after: Memory) -> None:
        for version, failure in after.failures.items():
            if failure != before.failures.get(version):
                self.numbers.errors += 1
                _log.error(failure.message)

    def _report(self, decision: Decision, seen: Seen) -> None:
        state, message = decision.state, decision.message
        if decision.download is not None:
            state, message = self._progress
        self.status = AgentStatus(
            model_name=self._settings.model_name,
            live_version=decision.live,
            desired_version=seen.desired.version if seen.desired else None,
            state=state,
            message=" ".join(part for part in (message, self._storage_problem) if part),
        )
        self.numbers.live_version = decision.live
        self.numbers.desired_version = self.status.desired_version

    @property
    def _state_file(self) -> Path:
        return self._settings.models / _STATE_FILE

    def _recalled(self) -> Memory:
        try:
            remembered = _Remembered.model_validate_json(self._state_file.read_bytes())
        except (OSError, ValidationError):
            return Memory()
        return Memory(good=remembered.good, previous=remembered.previous)

    def _remember(self) -> None:
        remembered = _Remembered(good=self._memory.good, previous=self._memory.previous)
        write_config(self._state_file, remembered.model_dump_json())


def _said(error: Exception) -> str:
    """Our errors explain themselves; of others the kind matters too."""
    if isinstance(error, DownloadError | StorageError | OSError):
        return str(error)
    return f"{type(error).__name__}: {error}"


def _mismatched(version: int, difference: str) -> str:
    return (
        f"Version {version} is refused: {difference}. The model server computes something else than the trainer did: compare"
        " spec.serving.image with the TensorFlow that trained the model, or serve another version."
    )
