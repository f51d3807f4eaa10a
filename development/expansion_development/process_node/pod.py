"""One pod's life: volumes, init containers in order, sidecars, containers, probes, its status, its end."""

import logging
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from kubernetes.client import ApiException
from urllib3.exceptions import HTTPError

from expansion_development.kubernetes_api import STRATEGIC, Api, Manifest, message_of
from expansion_development.process_node import container, volumes
from expansion_development.process_node.container import ConfigMissing
from expansion_development.process_node.events import Recorder
from expansion_development.process_node.images import Program
from expansion_development.process_node.status import ContainerView, PodView, Waiting, phase_of, status
from expansion_development.process_node.worker import Surroundings, Worker, timestamp

_TICK_SECONDS = 0.1
_RETRY_SECONDS = 1.0
_log = logging.getLogger("process-node")


@dataclass(frozen=True, kw_only=True)
class Host:
    """What every pod of the node shares."""

    api: Api
    folder: Path
    recorder: Recorder
    pull: Callable[[str], Program | None]
    objects: Callable[[str, str, str], dict[str, str] | None]
    """(plural, namespace, name) -> the data of a Secret or ConfigMap."""
    back_off_seconds: float


class LocalPod(threading.Thread):
    """The thread outlives the pod's processes, which would die with it. `update` tells it what the API server says now."""

    def __init__(self, pod: Manifest, ip: str, host: Host) -> None:
        super().__init__(name=f"pod-{pod['metadata']['name']}", daemon=True)
        self.manifest, self.ip, self._host = pod, ip, host
        self._deleted = threading.Event()
        self._folder = host.folder / "pods" / pod["metadata"]["uid"]
        self._volumes: dict[str, Path] | None = None
        self._next_volumes = 0.0
        self._started_at = timestamp()
        self._published: Manifest | None = None
        self._init_failed = self._initialised = False
        around = self._surroundings()
        self._init = [
            self._worker(spec, around, init=True) for spec in pod["spec"].get("initContainers") or ()
        ]
        self._containers = [self._worker(spec, around, init=False) for spec in pod["spec"]["containers"]]

    @property
    def key(self) -> str:
        return f"{self.manifest['metadata']['namespace']}/{self.manifest['metadata']['name']}"

    def update(self, pod: Manifest) -> None:
        self.manifest = pod

    def vanish(self) -> None:
        """The object is gone: so are its processes."""
        self._deleted.set()

    def run(self) -> None:
        while not self._deleted.is_set() and not self._try_step():
            time.sleep(_TICK_SECONDS)
        for worker in self._all:
            worker.kill()

    def _try_step(self) -> bool:
        try:
            return self._step(time.monotonic())
        except Exception:  # as a kubelet: one pod's trouble is logged and tried again, the others go on
            _log.exception("pod %s", self.key)
            time.sleep(_RETRY_SECONDS)
            return False

    @property
    def _all(self) -> list[Worker]:
        return [*self._init, *self._containers]

    @property
    def _sidecars(self) -> list[Worker]:
        return [worker for worker in self._init if _is_sidecar(worker.spec)]

    def _step(self, now: float) -> bool:
        """True when the pod is over."""
        if self.manifest["metadata"].get("deletionTimestamp"):
            return self._terminate(now)
        if self._have_volumes(now):
            if not self._init_failed:
                self._keep_init_up(now)
            if self._initialised:
                for worker in self._containers:
                    worker.keep_up(now)
            if self._is_over():
                return self._wind_up(now)
        self._publish()
        return False

    def _is_over(self) -> bool:
        return self._init_failed or all(worker.finished for worker in self._containers)

    def _wind_up(self, now: float) -> bool:
        """The work is done or has failed: sidecars go, and only then is the phase final."""
        self._stop_all(self._sidecars, now)
        if all(worker.finished for worker in self._sidecars):
            return self._publish(final=True)
        return False

    def _keep_init_up(self, now: float) -> None:
        """In order; a sidecar must have started, any other must have succeeded, before the next one's turn."""
        for worker in self._init:
            worker.keep_up(now)
            if _is_sidecar(worker.spec):
                if not (worker.started or self._initialised):
                    return
            elif not worker.succeeded:
                self._init_failed = worker.finished
                return
        self._initialised = True

    def _terminate(self, now: float) -> bool:
        working = [worker for worker in self._all if worker not in self._sidecars]
        self._stop_all(working, now)
        if all(worker.finished for worker in working):
            self._stop_all(self._sidecars, now)
        self._publish()
        if not all(worker.finished for worker in self._all):
            return False
        return self._publish(final=True) and self._forget()

    def _stop_all(self, workers: list[Worker], now: float) -> None:
        metadata, spec = self.manifest["metadata"], self.manifest["spec"]
        grace = metadata.get("deletionGracePeriodSeconds", spec.get("terminationGracePeriodSeconds", 30))
        for worker in workers:
            worker.stop(now, grace)

    def _have_volumes(self, now: float) -> bool:
        if self._volumes is None and now >= self._next_volumes:
            try:
                sources = volumes.Sources(lookup=self._lookup, token=self._token)
                self._volumes = volumes.make(self.manifest, self._folder / "volumes", sources)
            except ConfigMissing as problem:
                self._next_volumes = now + _RETRY_SECONDS
                self._event("Warning", "FailedMount", f"MountVolume.SetUp failed: {problem}")
        return self._volumes is not None

    def _publish(self, final: bool = False) -> bool:
        """True if the API server has it. A pod that is gone counts as told."""
        view = self._view(final)
        wanted = status(view, self._published or self.manifest.get("status") or {}, timestamp())
        if wanted == self._published:
            return True
        metadata = self.manifest["metadata"]
        body = {"metadata": {"uid": metadata["uid"]}, "status": wanted}
        try:
            self._host.api.patch(
                "pods", metadata["namespace"], metadata["name"], body, "status", kind=STRATEGIC
            )
        except ApiException as error:
            if error.status not in {404, 409}:
                _log.warning("pod %s: %s", self.key, message_of(error))
                return False
            self._deleted.set()
        except HTTPError as error:
            _log.warning("pod %s: %s", self.key, error)
            return False
        self._published = wanted
        return True

    def _view(self, final: bool) -> PodView:
        containers = [self._seen(worker) for worker in self._containers]
        phase = phase_of(self._init_failed, self._initialised, containers)
        if phase in {"Succeeded", "Failed"} and not final:
            phase = "Running" if self._initialised else "Pending"
        return PodView(
            init=[worker.view() for worker in self._init],
            containers=containers,
            initialised=self._initialised,
            phase=phase,
            ip=self.ip,
            started_at=self._started_at,
        )

    def _seen(self, worker: Worker) -> ContainerView:
        view = worker.view()
        untouched = isinstance(view.state, Waiting) and view.last is None and not self._initialised
        return replace(view, state=Waiting(reason="PodInitializing")) if untouched and self._init else view

    def _forget(self) -> bool:
        metadata = self.manifest["metadata"]
        try:
            self._host.api.delete(
                "pods", metadata["namespace"], metadata["name"], grace_seconds=0, uid=metadata["uid"]
            )
        except (ApiException, HTTPError) as error:
            _log.warning("pod %s: %s", self.key, error)
            return False
        return True

    def _worker(self, spec: Manifest, around: Surroundings, init: bool) -> Worker:
        policy = self.manifest["spec"].get("restartPolicy", "Always")
        if init:
            policy = "Always" if _is_sidecar(spec) else "OnFailure" if policy != "Never" else "Never"
        worker = Worker(spec, policy, around)
        if (self.manifest.get("status") or {}).get("phase") == "Running" and policy == "Never":
            worker.lose()  # an earlier node started it; what became of it is not known
        return worker

    def _surroundings(self) -> Surroundings:
        metadata = self.manifest["metadata"]
        return Surroundings(
            ip=self.ip,
            folder=self._folder,
            log=self._host.folder / "logs" / metadata["namespace"] / metadata["name"],
            base_environment={
                "PATH": os.environ.get("PATH", os.defpath),
                "HOSTNAME": metadata["name"],
                "LANG": "C.UTF-8",
                "PYTHONUNBUFFERED": "1",
            },
            mounts=lambda spec, log: volumes.mounts(spec, self._volumes or {}, log),
            launch=lambda spec, program, mounts: container.launch(
                spec, self._with_ip(), program, mounts, self._lookup
            ),
            pull=self._host.pull,
            event=self._event,
            back_off_seconds=self._host.back_off_seconds,
        )

    def _with_ip(self) -> Manifest:
        known = {"podIP": self.ip, "hostIP": "127.0.0.1"}
        return {**self.manifest, "status": {**(self.manifest.get("status") or {}), **known}}

    def _lookup(self, plural: str, name: str) -> dict[str, str] | None:
        return self._host.objects(plural, self.manifest["metadata"]["namespace"], name)

    def _token(self, audience: str) -> str:
        metadata, account = self.manifest["metadata"], self.manifest["spec"]["serviceAccountName"]
        bound = {"kind": "Pod", "apiVersion": "v1", "name": metadata["name"], "uid": metadata["uid"]}
        asked = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {"audiences": [audience] if audience else None, "boundObjectRef": bound},
        }
        made = self._host.api.create("serviceaccounts", metadata["namespace"], asked, account, "token")
        return str(made["status"]["token"])

    def _event(self, kind: str, reason: str, message: str) -> None:
        self._host.recorder.record(self.manifest, kind, reason, message)


def _is_sidecar(spec: Manifest) -> bool:
    return spec.get("restartPolicy") == "Always"
