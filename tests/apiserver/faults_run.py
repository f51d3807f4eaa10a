"""`make test-faults`: every call of a life fails once, the operator is killed at every one, events are lost: does it end the same?
And: whichever call about the Lease fails, does at most one operator lead, and somebody again in time?

Its last line is `faults N, restarts N, deviations N`; it ends with 1 if anything deviated. --full: every call with every fault.
"""

import argparse
import itertools
import logging
import multiprocessing
import os
import queue
import random
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import yaml
from apiserver_expansions import install_definition
from faults_events import Storm, operating, stormy_life
from faults_lease import Library, Told, stories
from faults_life import LIFE, Life, Meeting, Operator, Passed, Time, deviations
from faults_wire import API, Call, Fault, Wire
from faults_world import World

from expansion_development import object_store, programs
from expansion_development.control_plane import ControlPlane
from expansion_development.kubernetes_api import Api
from expansion_development.object_store import ObjectStore

CONTROLLERS = "garbage-collector-controller,namespace-controller"
"""Jobs and Deployments are the world's: nothing waits for pods."""
ROTATION = (
    Fault.BEFORE,
    Fault.AFTER,
    Fault.TIMEOUT,
    Fault.CONFLICT,
    Fault.GONE,
    Fault.INVALID,
    Fault.BUSY,
    Fault.BROKEN,
    Fault.AWAY,
)
PROCESSES, THREADS = 2, 12
EVERY = 20
"""Lives after which a line says how far it is."""
MOST_REFERENCES = 3
MOST_DEVIATIONS = 5
"""After so many of one life the rest of it is not lived: a phase that always deviates would have no end."""
STORM = "storm"
STORMY_LIVES = {False: 6, True: 24}
SEED = 20161111


@dataclass(kw_only=True)
class Tally:
    """What a process found out."""

    faults: int = 0
    restarts: int = 0
    lives: int = 0
    missed: int = 0  # planned for a call that did not come
    slowest: float = 0.0  # seconds of the pretended clock in one phase
    deviations: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, other: "Tally") -> None:
        self.faults += other.faults
        self.restarts += other.restarts
        self.lives += other.lives
        self.missed += other.missed
        self.slowest = max(self.slowest, other.slowest)
        self.deviations += other.deviations


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where the two servers are."""

    kubeconfig: Path
    store: ObjectStore


class Laboratory:
    """One wire and the lives that pass over it."""

    def __init__(self, place: Place, wire: Wire, folder: Path, prefix: str) -> None:
        self._place, self.wire, self._prefix = place, wire, prefix
        self.near = folder / f"{prefix}.kubeconfig"
        near = yaml.safe_load(place.kubeconfig.read_text())
        near["clusters"][0]["cluster"] = {"server": wire.api}
        self.near.write_text(yaml.safe_dump(near))
        self._numbers = itertools.count()
        self._api = threading.local()

    def life(self, **known: str) -> Life:
        """`known`: what the world starts with."""
        name = f"{self._prefix}-{next(self._numbers)}"
        if not hasattr(self._api, "mine"):
            self._api.mine = Api(self._place.kubeconfig)
        world = World.made(self._api.mine, name, self._place.store, self.wire.store, **known)
        line, passing = self.wire.line(name), Time()
        return Life(world, line, Operator(self.near, world, line, passing), passing)

    def reference(self) -> list[Passed]:
        """What every phase of a life without faults ends with. Two must agree: a busy machine may make a fault of its own."""
        known = self._undisturbed()
        for _ in range(MOST_REFERENCES):
            again = self._undisturbed()
            differing = [
                line for one, other in zip(known, again, strict=True) for line in deviations(one, other)
            ]
            if not differing:
                return known
            known = again
        raise RuntimeError(f"lives without faults end differently: {differing[:12]}")

    def _undisturbed(self) -> list[Passed]:
        life = self.life()
        passed = [life.pass_through(phase, None) for phase in LIFE]
        life.operator.close()
        for phase, one in zip(LIFE, passed, strict=True):
            if one.problems:
                raise RuntimeError(f"without faults, {phase.name!r}: {one.problems}")
        return passed

    def lived(self, meetings: Sequence[Meeting], reference: Sequence[Passed]) -> Tally:
        """One life, with at most one of the meetings in each phase. What comes after a deviation is lived again, some times."""
        tally, left = Tally(), {meeting.phase: meeting for meeting in meetings}
        while left and len(tally.deviations) < MOST_DEVIATIONS:
            self._live_once(left, reference, tally)
        return tally

    def _live_once(self, left: dict[int, Meeting], reference: Sequence[Passed], tally: Tally) -> None:
        life = self.life()
        tally.lives += 1
        for number, phase in enumerate(LIFE):
            meeting = left.pop(number, None)
            seen = life.pass_through(phase, meeting)
            self._count(seen, meeting, tally)
            if found := deviations(reference[number], seen):
                tally.deviations.append(_told(phase.name, meeting, seen, found))
                break
            if not left:
                break
        tally.restarts += life.operator.restarts
        life.operator.close()
        self.wire.lines.pop(life.world.life)

    def _count(self, seen: Passed, meeting: Meeting | None, tally: Tally) -> None:
        if meeting is None:
            return
        if seen.met is None:
            tally.missed += 1
        elif meeting.fault is not Fault.KILLED:
            tally.faults += 1
        tally.slowest = max(tally.slowest, seen.seconds)


def _told(phase: str, meeting: Meeting | None, seen: Passed, found: list[str]) -> str:
    where = f"call {meeting.call} ({seen.met}) {meeting.fault}" if meeting else "no fault"
    return "\n    ".join([f"{phase}: {where}", *found[:12]])


def lives(meetings: Iterable[Meeting]) -> list[list[Meeting]]:
    """The n-th meetings of all phases make the n-th life."""
    columns = [[one for one in meetings if one.phase == phase] for phase in range(len(LIFE))]
    return [[one for one in row if one] for row in itertools.zip_longest(*columns)]


def planned(reference: Sequence[Passed], full: bool) -> list[list[Meeting]]:
    calls = [(phase, number) for phase, passed in enumerate(reference) for number in range(len(passed.calls))]
    killed = [Meeting(phase=phase, call=number, fault=Fault.KILLED) for phase, number in calls]
    if not full:
        # Killed after a read it leaves what it leaves when it is killed after the write before.
        killed = [one for one in killed if one.call == 0 or not reference[one.phase].calls[one.call].is_read]
        stale = [
            Meeting(phase=phase, call=number, fault=Fault.STALE)
            for phase, number in calls
            if _decides(reference[phase].calls[number])
        ]
        failing = [
            Meeting(phase=phase, call=number, fault=ROTATION[(phase + number) % len(ROTATION)])
            for phase, number in calls
        ]
        return lives([*failing, *killed, *stale])
    every = [
        [Meeting(phase=phase, call=number, fault=fault) for phase, number in calls]
        for fault in (*ROTATION, Fault.STALE)
    ]
    return [life for meetings in (*every, killed) for life in lives(meetings)]


def _decides(call: Call) -> bool:
    """Is it a read by which a run may be started, or by which it is said what is served: of the resource, its Jobs, its Deployment?"""
    return (
        call.server == API
        and call.is_read
        and any(part in call.target for part in ("/classifierexpansions/", "/jobs?", "/deployments/"))
    )


# Processes


def work(place: Place, prefix: str, share: list[list[Meeting]], answers: Any) -> None:
    """A process of its own: lives wait more than they work, and a process has one core."""
    logging.disable(logging.CRITICAL)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        laboratory = stack.enter_context(opened(place, folder, prefix))
        reference = laboratory.reference()
        with ThreadPoolExecutor(THREADS) as pool:
            for meetings in share:
                pool.submit(_live, laboratory, meetings, reference, answers)
    answers.put(None)


def _live(laboratory: Laboratory, meetings: list[Meeting], reference: Sequence[Passed], answers: Any) -> None:
    try:
        tally = laboratory.lived(meetings, reference)
    except Exception:
        tally = Tally(deviations=[f"{meetings}: {traceback.format_exc()}"])
    answers.put(asdict(tally))


def weather(place: Place, folder: Path, count: int, answers: Any) -> None:
    """A process of its own: one operator for several lives, and events that are lost."""
    logging.disable(logging.CRITICAL)
    with opened(place, folder, STORM) as laboratory:
        reference, storm = laboratory.reference(), Storm(random.Random(SEED))
        lives = [
            laboratory.life(address=f"10.0.1.{number}", poll="10s", settle="3s") for number in range(count)
        ]
        laboratory.wire.mangle = storm.mangled
        worlds = [life.world for life in lives]
        with operating(laboratory.near, worlds), ThreadPoolExecutor(count) as pool:
            found = list(pool.map(lambda life: stormy_life(life.world, life.line, reference), lives))
    said = ", ".join(f"{number} {what}" for what, number in sorted(storm.counts.items()))
    deviations = ["\n    ".join(lines) for lines in found if lines]
    answers.put(
        asdict(Tally(lives=count, deviations=deviations, notes=[f"Events of {count} lives: {said}."]))
    )
    answers.put(None)


def lead(place: Place, folder: Path, answers: Any) -> None:
    """A process of its own: the Lease between operators."""
    logging.disable(logging.CRITICAL)
    with opened(place, folder, "lease") as whole, opened(place, folder, "lease-cut") as cut:
        library = Library(
            api=Api(place.kubeconfig),
            near=whole.near,
            wire=whole.wire,
            near_of_the_cut=cut.near,
            cut=cut.wire,
        )
        names, told = zip(*stories(library, ROTATION), strict=True)
        with ThreadPoolExecutor(THREADS) as pool:
            found: list[Told] = list(pool.map(lambda tell: tell(), told))
    deviations = [
        "\n    ".join([f"the Lease: {name}", *one.problems[:12]])
        for name, one in zip(names, found, strict=True)
        if one.problems
    ]
    faults, ended = sum(one.faults for one in found), sum(one.ended for one in found)
    note = f"The Lease: {len(found)} stories of {found[0].calls} calls, {faults} faults, {ended} operators that ended themselves."
    answers.put(asdict(Tally(faults=faults, deviations=deviations, notes=[note])))
    answers.put(None)


@contextmanager
def opened(place: Place, folder: Path, prefix: str) -> Iterator[Laboratory]:
    known = yaml.safe_load(place.kubeconfig.read_text())["clusters"][0]["cluster"]
    with Wire(known["server"], known["certificate-authority"], place.store.endpoint) as wire:
        yield Laboratory(place, wire, folder, prefix)


@contextmanager
def servers() -> Iterator[Place]:
    with ExitStack() as stack:
        found = programs.obtain((programs.VERSITYGW,), programs.Places.of(dict(os.environ)), say)
        store = stack.enter_context(object_store.versitygw(found[programs.VERSITYGW]))
        control_plane = stack.enter_context(ControlPlane(waits_for_definitions=True))
        install_definition(Api(control_plane.kubeconfig))
        control_plane.start_controllers(CONTROLLERS)
        yield Place(kubeconfig=control_plane.kubeconfig, store=store)


def say(text: str) -> None:
    print(text, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="test-faults", description=__doc__)
    parser.add_argument(
        "--full", action="store_true", help="every call with every fault, and killed at every call"
    )
    parser.add_argument(
        "--only", type=Fault, help="of all these, those with this fault: stale, timeout, 409 ..."
    )
    given, started = parser.parse_args(), time.monotonic()
    full = given.full or given.only is not None
    with servers() as place, tempfile.TemporaryDirectory() as folder:
        with opened(place, Path(folder), "reference") as laboratory:
            reference = laboratory.reference()
        say(_described(reference))
        plans = planned(reference, full)
        if given.only:
            plans = [life for life in plans if life[0].fault is given.only]
        total = _all(place, Path(folder), plans, STORMY_LIVES[full])
    say(
        f"{total.lives} lives in {time.monotonic() - started:.0f} s. The longest phase took {total.slowest:.0f} s of the operator's"
        f" clock; {total.missed} planned calls did not come."
    )
    say(f"faults {total.faults}, restarts {total.restarts}, deviations {len(total.deviations)}")
    return 1 if total.deviations else 0


def _described(reference: Sequence[Passed]) -> str:
    rows = [
        f"  {phase.name:26} {len(one.calls):4}, {sum(call.server == API for call in one.calls)} of them to the API server"
        for phase, one in zip(LIFE, reference, strict=True)
    ]
    return "\n".join([f"One life has {sum(len(one.calls) for one in reference)} calls:", *rows])


def _all(place: Place, folder: Path, plans: list[list[Meeting]], stormy: int) -> Tally:
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    # kopf looks for the API server where KUBECONFIG says it is when Python starts.
    os.environ["KUBECONFIG"] = str(folder / f"{STORM}.kubeconfig")
    processes = [
        context.Process(target=weather, args=(place, folder, stormy, answers), daemon=True),
        context.Process(target=lead, args=(place, folder, answers), daemon=True),
    ]
    for number in range(PROCESSES):
        share = plans[number::PROCESSES]
        one = context.Process(target=work, args=(place, f"life-{number}", share, answers), daemon=True)
        processes.append(one)
    for one in processes:
        one.start()
    return _gathered(processes, answers)


def _gathered(processes: list[Any], answers: Any) -> Tally:
    total, ended = Tally(), 0
    while ended < len(processes):
        try:
            said = answers.get(timeout=5)
        except queue.Empty:
            if any(one.exitcode for one in processes):
                raise RuntimeError("a process of this test died") from None
            continue
        if said is None:
            ended += 1
            continue
        tally = Tally(**said)
        total.add(tally)
        if total.lives % EVERY < tally.lives:
            say(f"  {total.lives} lives, {total.faults} faults, {len(total.deviations)} deviations")
        for line in (*tally.notes, *tally.deviations):
            say(f"  {line}")
    return total


if __name__ == "__main__":
    sys.exit(main())
