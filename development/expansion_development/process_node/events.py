"""Writes events about pods, once for each thing said; a failure to write one stops nothing."""

import logging
import uuid
from datetime import UTC, datetime

from kubernetes.client import ApiException
from urllib3.exceptions import HTTPError

from expansion_development.kubernetes_api import Api, Manifest, message_of

_log = logging.getLogger("process-node")
_REMEMBERED = 10_000


class Recorder:
    def __init__(self, api: Api, component: str) -> None:
        self._api, self._component = api, component
        self._said: set[tuple[str, str, str]] = set()

    def record(self, pod: Manifest, kind: str, reason: str, message: str) -> None:
        said = (pod["metadata"]["uid"], reason, message)
        if said in self._said:
            return
        if len(self._said) > _REMEMBERED:
            self._said.clear()
        self._said.add(said)
        try:
            self._api.create("events", pod["metadata"]["namespace"], self._event(pod, kind, reason, message))
        except ApiException as error:
            _log.debug("event %s: %s", reason, message_of(error))
        except HTTPError as error:
            _log.debug("event %s: %s", reason, error)

    def _event(self, pod: Manifest, kind: str, reason: str, message: str) -> Manifest:
        metadata, now = pod["metadata"], datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": f"{metadata['name']}.{uuid.uuid4().hex[:16]}"},
            "involvedObject": {
                "apiVersion": "v1",
                "kind": "Pod",
                "namespace": metadata["namespace"],
                "name": metadata["name"],
                "uid": metadata["uid"],
            },
            "type": kind,
            "reason": reason,
            "message": message[:1024],
            "source": {"component": self._component},
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        }
