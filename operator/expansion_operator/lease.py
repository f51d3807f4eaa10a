"""Which of several operators may act: one holds a Lease of the Kubernetes API and renews it; one that cannot must stop.

The rules and times are those of client-go's leader election. A rival's Lease has run out when it has not *changed* for its
duration by our own clock: the clocks of two machines are never compared. A holder believes in itself for a shorter time than
its rivals do (`RENEW_DEADLINE` < `DURATION`), so that it has stopped before another one starts.
"""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

Body = dict[str, Any]

DURATION, RENEW_DEADLINE, RETRY = 15.0, 10.0, 2.0
"""Seconds: how long a silent holder is respected, how long it trusts itself, how often everybody tries."""

logger = logging.getLogger(__name__)


class LeaseStore(Protocol):
    def read(self) -> Body | None:
        """The Lease as it lies in the API server; None if there is none. Any error may be raised."""

    def write(self, lease: Body) -> bool:
        """Creates it, or replaces exactly the resourceVersion it carries. False: somebody was faster."""


@dataclass(frozen=True, kw_only=True)
class Sighting:
    """A rival's record, and since when it has not changed."""

    record: tuple[str, str, int]  # holder, renewTime, transitions
    since: float  # seconds of our own clock


def record_of(lease: Body) -> tuple[str, str, int]:
    spec = lease.get("spec", {})
    return (
        spec.get("holderIdentity") or "",
        spec.get("renewTime") or "",
        spec.get("leaseTransitions") or 0,
    )


def is_free(lease: Body, sighting: Sighting, now: float) -> bool:
    """Given back, or silent for its own duration since we first saw it like this."""
    holder = lease.get("spec", {}).get("holderIdentity")
    duration = float(lease.get("spec", {}).get("leaseDurationSeconds") or DURATION)
    return not holder or now - sighting.since >= duration


def taken(lease: Body | None, identity: str, at: str) -> Body:
    """The Lease as `identity` wants it to be. `at`: RFC 3339 with microseconds."""
    old = lease or {}
    spec = old.get("spec", {})
    is_mine = spec.get("holderIdentity") == identity
    transitions = int(spec.get("leaseTransitions") or 0)
    return {
        "metadata": old.get("metadata", {}),
        "spec": {
            "holderIdentity": identity,
            "leaseDurationSeconds": int(DURATION),
            "acquireTime": spec.get("acquireTime", at) if is_mine else at,
            "renewTime": at,
            "leaseTransitions": transitions if is_mine or lease is None else transitions + 1,
        },
    }


def given_back(lease: Body, at: str) -> Body:
    """Nobody's: a rival takes it at its next try."""
    spec = {**lease.get("spec", {}), "holderIdentity": "", "leaseDurationSeconds": 1, "renewTime": at}
    return {"metadata": lease.get("metadata", {}), "spec": spec}


class Elector:
    """Tries for the Lease, then keeps it. `is_leading` may be asked from any thread, before every write."""

    def __init__(
        self,
        store: LeaseStore,
        identity: str,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._store, self.identity, self._clock, self._wall = store, identity, clock, wall
        self._sighting: Sighting | None = None
        self._renewed: float | None = None
        self._term = 0
        self._heard = clock()
        self._stop = threading.Event()

    def is_leading(self) -> bool:
        """True only while no rival can have taken the Lease."""
        return self._renewed is not None and self._clock() - self._renewed < RENEW_DEADLINE

    def term(self) -> int:
        """How often the Lease had changed hands when we took it: whoever leads after us has a higher one."""
        return self._term

    def has_led(self) -> bool:
        return self._renewed is not None

    def silence(self) -> float:
        """Seconds since the API server last let us read the Lease."""
        return self._clock() - self._heard

    def attempt(self) -> bool:
        """One try to take or to renew it. An unreachable API server is a failed try, nothing more."""
        began = self._clock()
        try:
            succeeded = self._attempt(began)
        except Exception as error:
            logger.warning("the Lease could not be read or written: %s", error)
            succeeded = False
        if succeeded:
            self._renewed = began
        return succeeded

    def _attempt(self, now: float) -> bool:
        lease = self._store.read()
        self._heard = self._clock()
        if lease is not None and record_of(lease)[0] != self.identity and not self._has_run_out(lease, now):
            return False
        wanted = taken(lease, self.identity, self._at())
        if not self._store.write(wanted):
            return False
        self._term = wanted["spec"]["leaseTransitions"]
        return True

    def _has_run_out(self, lease: Body, now: float) -> bool:
        record = record_of(lease)
        if self._sighting is None or self._sighting.record != record:
            self._sighting = Sighting(record=record, since=now)
        return is_free(lease, self._sighting, now)

    def acquire(self, stopped: Callable[[], bool]) -> bool:
        """Blocks until it is ours; False if `stopped` comes first."""
        while not stopped():
            if self.attempt():
                logger.info("%s leads", self.identity)
                return True
            self._stop.wait(RETRY)
        return False

    def keep(self, lost: Callable[[], None]) -> threading.Thread:
        """Renews in a thread of its own, which a busy event loop does not hold up. Calls `lost` once when it is not ours any more."""
        thread = threading.Thread(target=self._keep, args=(lost,), name="lease", daemon=True)
        thread.start()
        return thread

    def _keep(self, lost: Callable[[], None]) -> None:
        while not self._stop.wait(RETRY):
            if not self.renew():
                lost()
                return

    def renew(self) -> bool:
        """One try of a holder. False: it may be somebody else's by now, and whoever held it must end."""
        if self.attempt() or self.is_leading():
            return True
        logger.error("%s has lost the Lease", self.identity)
        return False

    def give_back(self) -> None:
        """For an orderly end: the next one need not wait until it has run out."""
        self._stop.set()
        if not self.is_leading():
            return
        self._renewed = None
        try:
            lease = self._store.read()
            if lease is not None and record_of(lease)[0] == self.identity:
                self._store.write(given_back(lease, self._at()))
        except Exception as error:
            logger.warning("the Lease could not be given back and will run out: %s", error)

    def _at(self) -> str:
        return self._wall().strftime("%Y-%m-%dT%H:%M:%S.%fZ")
