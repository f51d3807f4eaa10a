"""The Lease between operators, over the wire: whichever of its calls fails, at most one leads, and somebody leads again in time.

Electors, client and API server are real; the clock is not: minutes pass at once, and a busy machine costs nobody the lead.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from faults_wire import Fault, Line, Wire
from kubernetes import config

from expansion_development.kubernetes_api import Api
from expansion_operator.__main__ import LEASE_SECONDS
from expansion_operator.cluster import Cluster
from expansion_operator.lease import DURATION, RENEW_DEADLINE, Elector

NAME = "operator"
EVERY = 4.0
"""Seconds between two tries of one operator; twice the real ones make half as many calls that can fail."""
TRIED_AGAIN = frozenset({Fault.BEFORE, Fault.AFTER, Fault.BUSY})
"""By the client at once; for anything else the elector's next try is another call."""
HANDED_OVER = EVERY + LEASE_SECONDS
RUN_OUT = DURATION + 2 * EVERY + LEASE_SECONDS
ENDED = RENEW_DEADLINE + 2 * EVERY + LEASE_SECONDS


@dataclass(frozen=True)
class Store:
    """As `expansion_operator.__main__` gives one to the elector."""

    cluster: Cluster
    namespace: str

    def read(self) -> dict[str, Any] | None:
        return self.cluster.lease(self.namespace, NAME)

    def write(self, lease: dict[str, Any]) -> bool:
        return self.cluster.write_lease(self.namespace, NAME, lease)


@dataclass
class Candidate:
    """One operator, as far as the Lease is concerned."""

    elector: Elector
    line: Line
    due: float
    is_alive: bool = True

    def take_turn(self) -> float:
        """Seconds that it took."""
        began = len(self.line.calls)
        if self.elector.has_led():
            self.is_alive = self.elector.renew()
        else:
            self.elector.attempt()
        return LEASE_SECONDS * sum(call.fault is Fault.TIMEOUT for call in self.line.calls[began:])


@dataclass
class Story:
    """Several operators in one namespace."""

    namespace: str
    seconds: float = 0.0
    candidates: list[Candidate] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def joined(self, name: str, near: Path, line: Line) -> Candidate:
        client = config.new_client_from_config(str(near))
        store = Store(Cluster(client, seconds=LEASE_SECONDS), self.namespace)
        elector = Elector(store, name, clock=lambda: self.seconds)
        self.candidates.append(Candidate(elector, line, due=self.seconds))
        return self.candidates[-1]

    def go_on(self, until: Callable[[], bool], seconds: float, what: str) -> None:
        """Not longer than so many seconds."""
        limit = self.seconds + seconds
        while not until():
            if self.seconds >= limit:
                self.problems.append(f"after {seconds:.0f} s {what}")
                return
            self._pass_a_second()

    def pass_time(self, seconds: float) -> None:
        for _ in range(round(seconds)):
            self._pass_a_second()

    def _pass_a_second(self) -> None:
        self.seconds += 1
        for candidate in self.candidates:
            if candidate.is_alive and self.seconds >= candidate.due:
                candidate.due = self.seconds + EVERY
                self.seconds += candidate.take_turn()
            self.must_have_one_leader_at_most()

    def must_have_one_leader_at_most(self) -> None:
        """One that is dead or asleep counts for as long as it would believe in itself."""
        leaders = [one.elector.identity for one in self.candidates if one.elector.is_leading()]
        if len(leaders) > 1:
            self.problems.append(f"at {self.seconds:.0f} s {' and '.join(leaders)} lead")


@dataclass(frozen=True, kw_only=True)
class Told:
    """What became of one story."""

    faults: int
    ended: int  # operators that ended themselves
    calls: int
    problems: list[str]


@dataclass(frozen=True, kw_only=True)
class Library:
    """Where stories are lived: over the wire of everybody, and over one that is cut."""

    api: Api
    near: Path
    wire: Wire
    near_of_the_cut: Path
    cut: Wire

    def _story(self, name: str) -> Story:
        manifest = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
        self.api.create("namespaces", "", manifest)
        return Story(name)

    def handed_on(self, name: str, number: int | None, fault: Fault) -> Told:
        """Taken, renewed, given back, taken by the next one, which dies, and by a third. Call `number` meets the fault."""
        story, line = self._story(name), self.wire.line(name)
        line.tried_again = TRIED_AGAIN
        if number is not None:
            line.plan(number, fault)
        first = story.joined("first", self.near, line)
        story.go_on(first.elector.is_leading, HANDED_OVER, "nobody leads")
        second = story.joined("second", self.near, line)
        story.pass_time(EVERY + 1)
        if not (first.is_alive and first.elector.is_leading()):
            story.problems.append("one call that failed cost the first one the lead")
        first.elector.give_back()
        first.is_alive = False
        story.go_on(second.elector.is_leading, RUN_OUT, "the second one does not lead")
        second.is_alive = False
        third = story.joined("third", self.near, line)
        story.go_on(third.elector.is_leading, RUN_OUT, "the third one does not lead")
        return Told(faults=int(line.met is not None), ended=0, calls=len(line.calls), problems=story.problems)

    def cut_off(self, name: str, fault: Fault) -> Told:
        """From some moment on every call of the leader meets the fault."""
        story, line = self._story(name), self.cut.line(name)
        first = story.joined("first", self.near_of_the_cut, line)
        story.go_on(first.elector.is_leading, HANDED_OVER, "nobody leads")
        second = story.joined("second", self.near, self.wire.line(name))
        story.pass_time(EVERY + 1)
        line.shut = fault
        story.go_on(lambda: not first.is_alive, ENDED, "the one that cannot renew has not ended")
        story.go_on(second.elector.is_leading, RUN_OUT, "nobody has taken over")
        faults = sum(call.fault is fault for call in line.calls)
        return Told(
            faults=faults, ended=int(not first.is_alive), calls=len(line.calls), problems=story.problems
        )


def stories(library: Library, faults: Sequence[Fault]) -> Iterator[tuple[str, Callable[[], Told]]]:
    """Every call of an undisturbed story with every fault; and every fault for good. Each with a name."""
    undisturbed = library.handed_on("lease-undisturbed", None, Fault.BEFORE)
    yield "no fault", lambda: undisturbed
    for place, fault in enumerate(faults):
        name = f"lease-cut-{place}"
        yield f"every call {fault}", lambda name=name, fault=fault: library.cut_off(name, fault)
        for number in range(undisturbed.calls):
            name = f"lease-{place}-{number}"
            yield (
                f"call {number} {fault}",
                lambda name=name, number=number, fault=fault: library.handed_on(name, number, fault),
            )
