"""Brings the versions of every configured model to where the config and the disk want them, and remembers how that went."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from expansion_development.model_server import protos, sources
from expansion_development.model_server.errors import StatusError, invalid
from expansion_development.model_server.servable import Servable
from expansion_development.model_server.sources import Stage

PLATFORM = "tensorflow"
_MANAGE_SECONDS = 0.05


@dataclass(frozen=True, kw_only=True)
class Options:
    file_system_poll_wait_seconds: float = 1
    num_load_threads: int = 0
    max_num_load_retries: int = 5
    load_retry_interval_seconds: float = 60
    allow_version_labels_for_unavailable_models: bool = False
    enable_model_warmup: bool = True


@dataclass(frozen=True, kw_only=True)
class VersionStatus:
    state: str  # START, LOADING, AVAILABLE, UNLOADING, END
    error: StatusError | None = None


@dataclass(kw_only=True)
class Model:
    """`stages`: what the manager holds. `status`: what was last heard of every version, also of those long gone.

    `fresh`: the same, since the config named the model: how a version ended under an earlier config is no news to who waits.
    """

    wanted: dict[int, Path] = field(default_factory=dict)
    folders: dict[int, Path] = field(default_factory=dict)
    stages: dict[int, Stage] = field(default_factory=dict)
    status: dict[int, VersionStatus] = field(default_factory=dict)
    fresh: dict[int, VersionStatus] = field(default_factory=dict)
    ready: dict[int, Servable] = field(default_factory=dict)


def log(message: str) -> None:
    print(message, flush=True)


class Manager:
    def __init__(self, options: Options) -> None:
        self._options = options
        self._config: Any = None
        self._models: dict[str, Model] = {}
        self._labels: dict[str, dict[str, int]] = {}
        self._lock = threading.RLock()
        self._loaders = (
            ThreadPoolExecutor(options.num_load_threads) if options.num_load_threads else InlineExecutor()
        )
        self.loads: dict[tuple[str, str], int] = {}  # (folder, code) -> how often

    def start(self) -> None:
        threading.Thread(target=self._forever, args=(self._manage, _MANAGE_SECONDS), daemon=True).start()
        period = self._options.file_system_poll_wait_seconds
        if period:
            threading.Thread(target=self._forever, args=(self.poll_files, period), daemon=True).start()

    def reload(self, config: Any) -> None:
        """ServerCore::ReloadConfig: the config is the whole truth. Waits until each new model is available or has failed.

        A name is new if the config before did not have it. Only the first config has the files looked at; later ones wait for
        the next time.
        """
        if not config.HasField("model_config_list"):
            log("Taking no action for empty config.")
            return
        self._validate(config)
        with self._lock:
            first, before, names = self._config is None, _names(self._config), _names(config)
            self._labels = self._new_labels(config)
            self._config = config
            for name in before - names:
                self._want(self._models[name], {})
            for name in names - before:
                self._models.setdefault(name, Model()).fresh = {}
        if first:
            self.poll_files()
        self._await(sorted(names - before))

    def poll_files(self) -> None:
        """One base path that is missing keeps every model as it is."""
        with self._lock:
            models = list(self._config.model_config_list.config) if self._config else []
            try:
                wanted = {model.name: sources.aspired(model) for model in models}
            except StatusError as error:
                log(f"FileSystemStoragePathSource encountered a filesystem access error: {error.message}")
                return
            for name, versions in wanted.items():
                self._want(self._models[name], versions)

    def servable(self, name: str, version: int | None, label: str | None) -> Servable:
        with self._lock:
            if label is not None:
                version = self._labels.get(name, {}).get(label)
                if version is None:
                    raise invalid(f"Unrecognized servable version label: {label}")
            ready = self._models[name].ready if name in self._models else {}
            asked = f"Latest({name})" if version is None else f"Specific({name}, {version})"
            if not ready or (version is not None and version not in ready):
                raise StatusError("NOT_FOUND", f"Servable not found for request: {asked}")
            return ready[max(ready) if version is None else version]

    def version_of(self, name: str, servable: Servable) -> int:
        with self._lock:
            return next(version for version, held in self._models[name].ready.items() if held is servable)

    def status(self, name: str, version: int | None, label: str | None) -> dict[int, VersionStatus]:
        with self._lock:
            if label is not None:
                version = self._labels.get(name, {}).get(label)
                if version is None:
                    raise invalid(f"Unrecognized servable version label: {label}")
            seen = dict(self._models[name].status) if name in self._models else {}
        if version is not None:
            if version not in seen:
                raise StatusError("NOT_FOUND", f"Could not find version {version} of model {name}")
            return {version: seen[version]}
        if not seen:
            raise StatusError("NOT_FOUND", f"Could not find any versions of model {name}")
        return dict(sorted(seen.items(), reverse=True))

    def _validate(self, config: Any) -> None:
        names = set()
        for model in config.model_config_list.config:
            if model.name in names:
                raise invalid(f"Illegal to list model {model.name} multiple times in config list")
            if not Path(model.base_path).is_absolute():
                raise invalid(
                    f"Expected model {model.name} to have an absolute path or URI; got base_path()={model.base_path}"
                )
            if not model.model_platform:
                raise invalid(
                    "Illegal setting neither ModelServerConfig::model_type (deprecated) nor ModelServerConfig::model_platform,"
                    f" model name is {model.name}"
                )
            if model.model_platform != PLATFORM:
                raise invalid(f"Model {model.name} requests unsupported platform {model.model_platform}")
            names.add(model.name)

    def _new_labels(self, config: Any) -> dict[str, dict[str, int]]:
        """A label may only point to a version that is available, unless it is new and the flag allows it."""
        labels: dict[str, dict[str, int]] = {}
        for model in config.model_config_list.config:
            ready = self._models[model.name].ready if model.name in self._models else {}
            for label, version in model.version_labels.items():
                moved = self._labels.get(model.name, {}).get(label, version) != version
                allowed = self._options.allow_version_labels_for_unavailable_models and not moved
                if version not in ready and not allowed:
                    raise StatusError(
                        "FAILED_PRECONDITION",
                        f"Request to assign label to version {version} of model {model.name}, which is not currently available"
                        " for inference",
                    )
                labels.setdefault(model.name, {})[label] = version
        return labels

    def _want(self, model: Model, versions: dict[int, Path]) -> None:
        model.wanted = versions
        for version, folder in versions.items():
            if version not in model.stages:
                model.folders[version] = folder
                self._set(model, version, Stage.NEW)
        for version in [v for v, stage in model.stages.items() if stage in {Stage.FAILED, Stage.NEW}]:
            if version not in versions:
                del model.stages[version]

    def _set(self, model: Model, version: int, stage: Stage, error: StatusError | None = None) -> None:
        model.stages[version] = stage
        _tell(model, version, VersionStatus(state=stage.value, error=error))

    def _manage(self) -> None:
        with self._lock:
            actions = [
                (name, model, action)
                for name, model in self._models.items()
                if (action := sources.next_action(model.stages, set(model.wanted)))
            ]
            for _, model, (verb, version) in actions:
                self._set(model, version, Stage.LOADING if verb == "load" else Stage.UNLOADING)
        for name, model, (verb, version) in actions:
            if verb == "load":
                self._loaders.submit(self._load, name, model, version)
            else:
                self._unload(name, model, version)

    def _load(self, name: str, model: Model, version: int) -> None:
        log(f"Loading servable version {{name: {name} version: {version}}}")
        try:
            servable = self._loaded(model.folders[version])
        except StatusError as error:
            log(f"Loading servable: {{name: {name} version: {version}}} failed: {error.code}: {error}")
            with self._lock:
                self._set(model, version, Stage.FAILED, error)
            return
        with self._lock:
            model.ready[version] = servable
            self._set(model, version, Stage.READY)
        log(f"Successfully loaded servable version {{name: {name} version: {version}}}")

    def _loaded(self, folder: Path) -> Servable:
        for retry in range(self._options.max_num_load_retries + 1):
            if retry:
                time.sleep(self._options.load_retry_interval_seconds)
            try:
                servable = Servable(folder, self._options.enable_model_warmup)
            except StatusError as error:
                failure = error
                self._count(folder, "fail")
            else:
                self._count(folder, "success")
                return servable
        raise failure

    def _count(self, folder: Path, result: str) -> None:
        with self._lock:
            self.loads[str(folder), result] = self.loads.get((str(folder), result), 0) + 1

    def _unload(self, name: str, model: Model, version: int) -> None:
        with self._lock:
            del model.ready[version]
            self._set(model, version, Stage.UNLOADING)
            del model.stages[version]
            _tell(model, version, VersionStatus(state="END"))
        log(f"Done unloading servable version {{name: {name} version: {version}}}")

    def _await(self, names: list[str]) -> None:
        """Without a limit, as the real one: a model without any folder blocks whoever asked."""
        for name in names:
            while not (ended := [s for s in self._statuses(name) if s.state in {"AVAILABLE", "END"}]):
                time.sleep(_MANAGE_SECONDS)
            if not any(status.state == "AVAILABLE" for status in ended):
                error = next(status.error for status in ended)
                raise StatusError(
                    "UNKNOWN",
                    f"1 servable(s) did not become available: {{{{name: {name}}} due to error: {error}}}",
                )

    def _statuses(self, name: str) -> list[VersionStatus]:
        with self._lock:
            return list(self._models[name].fresh.values())

    def _forever(self, work: Callable[[], None], period: float) -> None:
        while True:
            work()
            time.sleep(period)


def _names(config: Any) -> set[str]:
    return {model.name for model in config.model_config_list.config} if config else set()


def _tell(model: Model, version: int, status: VersionStatus) -> None:
    model.status[version] = model.fresh[version] = status


class InlineExecutor:
    """num_load_threads=0: loads, and the waiting between their retries, hold up everything else the manager does."""

    def submit(self, work: Callable[..., None], *arguments: object) -> Future[None]:
        work(*arguments)
        return Future()


def read_config(file: Path) -> Any:
    return protos.parsed_text("ModelServerConfig", file.read_text())
