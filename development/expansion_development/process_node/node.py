"""The node: registers itself, binds pods that fit, and keeps one LocalPod for each pod that is bound to it."""

import base64
import logging
import platform
import queue
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from kubernetes.client import ApiException
from urllib3.exceptions import HTTPError

from expansion_development.kubernetes_api import STRATEGIC, Api, Manifest, message_of
from expansion_development.process_node import images
from expansion_development.process_node.addresses import Addresses
from expansion_development.process_node.endpoint_slices import Slices
from expansion_development.process_node.events import Recorder
from expansion_development.process_node.pod import Host, LocalPod
from expansion_development.process_node.quantities import TERMINAL, why_unschedulable

_HEARTBEAT_SECONDS, _LEASE_SECONDS = 10.0, 40
_RESYNC_SECONDS, _SLICES_SECONDS, _TICK_SECONDS = 60, 0.5, 0.2
_LEASES = "kube-node-lease"
_log = logging.getLogger("process-node")


@dataclass(frozen=True, kw_only=True)
class Settings:
    kubeconfig: Path
    images: Path
    """See `images`; read again at every pull."""
    folder: Path
    """Logs, volumes and working folders."""
    name: str = "process-node"
    gpus: int = 0
    cpus: int = 16
    memory: str = "64Gi"
    back_off_seconds: float = 1.0
    """A kubelet's is 10."""

    @property
    def capacity(self) -> dict[str, str]:
        capacity = {"cpu": str(self.cpus), "memory": self.memory, "pods": "110", "ephemeral-storage": "100Gi"}
        return capacity | ({"nvidia.com/gpu": str(self.gpus)} if self.gpus else {})


class Node:
    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._api = Api(settings.kubeconfig)
        self._addresses = Addresses()
        self._slices = Slices(self._api)
        self._scheduler = Recorder(self._api, "process-node-scheduler")
        self._host = Host(
            api=self._api,
            folder=settings.folder,
            recorder=Recorder(self._api, settings.name),
            pull=lambda image: images.pull(image, settings.images),
            objects=self._data,
            back_off_seconds=settings.back_off_seconds,
        )
        self._pods: dict[str, Manifest] = {}
        self._local: dict[str, LocalPod] = {}
        self._heard: queue.Queue[tuple[str, list[Manifest]]] = queue.Queue()
        self._stopping = threading.Event()
        self._node: Manifest = {}

    def run(self) -> None:
        """Until `stop`, then kills what runs."""
        self._register()
        threading.Thread(target=self._listen, name="watch", daemon=True).start()
        due = {"heartbeat": 0.0, "slices": 0.0}
        while not self._stopping.is_set():
            try:
                self._hear()
                self._schedule()
                self._sync()
                self._regularly(due, time.monotonic())
            except (ApiException, HTTPError) as error:
                _log.warning("%s", message_of(error) if isinstance(error, ApiException) else error)
                self._stopping.wait(1)
        self._vanish()

    def stop(self) -> None:
        self._stopping.set()

    def _vanish(self) -> None:
        for pod in self._local.values():
            pod.vanish()
        for pod in self._local.values():
            pod.join(5)

    def _regularly(self, due: dict[str, float], now: float) -> None:
        if now >= due["heartbeat"]:
            due["heartbeat"] = now + _HEARTBEAT_SECONDS
            self._beat()
        if now >= due["slices"]:
            due["slices"] = now + _SLICES_SECONDS
            self._slices.sync(self._pods.values())

    # Watching. The thread only listens; everything else happens in the loop above.

    def _listen(self) -> None:
        while not self._stopping.is_set():
            try:
                listing = self._api.listing("pods")
                self._heard.put(("LISTED", listing["items"]))
                version = listing["metadata"]["resourceVersion"]
                for kind, pod in self._api.watch("pods", "", version, _RESYNC_SECONDS):
                    if kind == "ERROR":
                        break
                    self._heard.put((kind, [pod]))
            except (ApiException, HTTPError, ValueError) as error:
                _log.warning("watch: %s", error)
                self._stopping.wait(1)

    def _hear(self) -> None:
        try:
            self._take(*self._heard.get(timeout=_TICK_SECONDS))
            while True:
                self._take(*self._heard.get_nowait())
        except queue.Empty:
            return

    def _take(self, kind: str, pods: list[Manifest]) -> None:
        heard = {pod["metadata"]["uid"]: pod for pod in pods}
        if kind == "LISTED":
            self._pods = heard
        elif kind == "DELETED":
            for uid in heard:
                self._pods.pop(uid, None)
        elif kind in {"ADDED", "MODIFIED"}:
            self._pods.update(heard)

    # Scheduling.

    def _schedule(self) -> None:
        for uid, pod in list(self._pods.items()):
            spec = pod["spec"]
            if spec.get("nodeName") or spec.get("schedulingGates") or "deletionTimestamp" in pod["metadata"]:
                continue
            bound = [one for one in self._pods.values() if one["spec"].get("nodeName") and not _is_over(one)]
            if why := why_unschedulable(pod, self._node, bound):
                self._pods[uid] = self._refuse(pod, why)
            else:
                self._pods[uid] = self._bind(pod)

    def _bind(self, pod: Manifest) -> Manifest:
        metadata, target = pod["metadata"], {"apiVersion": "v1", "kind": "Node", "name": self._settings.name}
        body = {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": metadata["name"]},
            "target": target,
        }
        try:
            self._api.create("pods", metadata["namespace"], body, metadata["name"], "binding")
        except ApiException as error:
            if error.status not in {404, 409}:
                raise
        message = f"Successfully assigned {metadata['namespace']}/{metadata['name']} to {self._settings.name}"
        self._scheduler.record(pod, "Normal", "Scheduled", message)
        return {**pod, "spec": {**pod["spec"], "nodeName": self._settings.name}}

    def _refuse(self, pod: Manifest, why: str) -> Manifest:
        condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": why}
        status = pod.get("status") or {}
        before = [one for one in status.get("conditions") or () if one["type"] == "PodScheduled"]
        if before and before[0].get("message") == why:
            return pod
        metadata = pod["metadata"]
        self._scheduler.record(pod, "Warning", "FailedScheduling", why)
        body = {"status": {"conditions": [{**condition, "lastTransitionTime": _now()}]}}
        return self._patch("pods", metadata["namespace"], metadata["name"], body) or pod

    def _patch(self, plural: str, namespace: str, name: str, body: Manifest) -> Manifest | None:
        try:
            return self._api.patch(plural, namespace, name, body, "status", kind=STRATEGIC)
        except ApiException as error:
            if error.status != 404:
                raise
            return None

    # Running.

    def _sync(self) -> None:
        for uid, pod in self._pods.items():
            if uid in self._local:
                self._local[uid].update(pod)
            elif pod["spec"].get("nodeName") != self._settings.name:
                continue
            elif not _is_over(pod):
                self._start(uid, pod)
            elif "deletionTimestamp" in pod["metadata"]:
                self._remove(pod)
        for uid in [uid for uid in self._local if uid not in self._pods]:
            self._local[uid].vanish()
        for uid in [uid for uid, pod in self._local.items() if not pod.is_alive()]:
            known = self._pods.get(uid)
            if known is None or _is_over(known):
                self._addresses.give_back(self._local.pop(uid).ip)

    def _start(self, uid: str, pod: Manifest) -> None:
        started = LocalPod(pod, self._addresses.take(), self._host)
        _log.info("pod %s on %s", started.key, started.ip)
        self._local[uid] = started
        started.start()

    def _remove(self, pod: Manifest) -> None:
        """It ended by itself in the moment in which it was deleted: nobody else waits for its end."""
        metadata = pod["metadata"]
        self._api.delete(
            "pods", metadata["namespace"], metadata["name"], grace_seconds=0, uid=metadata["uid"]
        )

    def _data(self, plural: str, namespace: str, name: str) -> dict[str, str] | None:
        found = self._api.find(plural, namespace, name)
        if found is None:
            return None
        data: Mapping[str, str] = found.get("data") or {}
        if plural == "secrets":
            return {key: base64.b64decode(value).decode() for key, value in data.items()}
        return dict(data)

    # Being a node.

    def _register(self) -> None:
        name, system = self._settings.name, platform.machine()
        architecture = {"x86_64": "amd64", "aarch64": "arm64"}.get(system, system)
        labels = {
            "kubernetes.io/hostname": name,
            "kubernetes.io/os": "linux",
            "kubernetes.io/arch": architecture,
        }
        body = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}}
        self._node = self._api.apply("nodes", "", body, name)
        self._beat()

    def _beat(self) -> None:
        self._renew_lease()
        now, capacity = _now(), self._settings.capacity
        ready = {"type": "Ready", "status": "True", "reason": "ProcessNodeReady", "lastHeartbeatTime": now}
        before = [one for one in self._node.get("status", {}).get("conditions", ()) if one["type"] == "Ready"]
        since = before[0]["lastTransitionTime"] if before and before[0]["status"] == "True" else now
        status = {
            "capacity": capacity,
            "allocatable": capacity,
            "conditions": [{**ready, "message": "pods run as local processes", "lastTransitionTime": since}],
            "addresses": [
                {"type": "InternalIP", "address": "127.0.0.1"},
                {"type": "Hostname", "address": self._settings.name},
            ],
        }
        self._node = self._patch("nodes", "", self._settings.name, {"status": status}) or self._node

    def _renew_lease(self) -> None:
        name = self._settings.name
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        spec = {"holderIdentity": name, "leaseDurationSeconds": _LEASE_SECONDS, "renewTime": now}
        body = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": name, "namespace": _LEASES},
            "spec": spec,
        }
        self._api.apply("leases", _LEASES, body, name)


def _is_over(pod: Manifest) -> bool:
    return (pod.get("status") or {}).get("phase") in TERMINAL


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
