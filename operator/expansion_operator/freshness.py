"""Tells an answer of the API server that is older than what it has told before: a run would be trained twice by it.

Kubernetes reads what is newest, but a proxy or an apiserver behind its own watch may not. Versions of one kind of object are
compared as numbers (https://kubernetes.io/docs/reference/using-api/api-concepts/#resource-versions).
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Lock

PATIENCE = 60.0
"""Seconds after which an older answer is believed: an etcd that was restored from a backup counts anew."""
MOST = 20_000
"""Things of which the newest version is known; the one that was heard of first is forgotten first."""


@dataclass
class _Known:
    version: int
    doubted_since: float | None = None


@dataclass
class Freshness:
    clock: Callable[[], float] = time.monotonic
    _known: dict[str, _Known] = field(default_factory=dict)
    _lock: Lock = field(default_factory=Lock)

    def newest(self, of: str) -> int:
        """To be asked before the API server is: what is told meanwhile makes no answer old."""
        with self._lock:
            known = self._known.get(of)
            return known.version if known else 0

    def told(self, of: str, version: str) -> None:
        """A version that is no number is no use, and does no harm."""
        if not version.isdecimal():
            return
        with self._lock:
            known = self._known.setdefault(of, _Known(0))
            known.version = max(known.version, int(version))
            while len(self._known) > MOST:
                del self._known[next(iter(self._known))]

    def gone(self, of: str) -> None:
        """It is no more as it was in any version that was told."""
        with self._lock:
            if known := self._known.get(of):
                known.version += 1

    def is_older(self, of: str, version: str, newest: int) -> bool:
        """Is the answer older than what was the newest when it was asked for? Only for some time, see `PATIENCE`."""
        if not version.isdecimal():
            return False
        with self._lock:
            known = self._known.setdefault(of, _Known(0))
            if int(version) >= newest:
                known.doubted_since = None
                return False
            if known.doubted_since is None:
                known.doubted_since = self.clock()
            if self.clock() - known.doubted_since < PATIENCE:
                return True
            known.version, known.doubted_since = int(version), None
            return False
