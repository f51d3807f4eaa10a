"""An operator as it runs, over watches that lose events, double them, deliver them late and out of order, and break.

The queue, the handlers and the resync are the product's own; only the resync and the full look come sooner.
"""

import asyncio
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from faults_life import API_SECONDS, LIFE, SETTINGS, Passed, Phase, Time, runs_created
from faults_wire import Line
from faults_world import Hangs, World, difference
from kubernetes import config

from expansion_contract.version import AgentStatus
from expansion_operator import handlers
from expansion_operator.__main__ import untold
from expansion_operator.cluster import Cluster
from expansion_operator.metrics import OperatorMetrics
from expansion_operator.plan import plan
from expansion_operator.reconcile import Reconciler
from expansion_operator.work_queue import Key, WorkQueue, resync

RESYNC_SECONDS, FULL_LOOK_SECONDS = 4.0, 15.0
PHASE_SECONDS = 240.0
"""A lost event costs a resync and a growing delay; a busy machine the rest."""
LOST, DOUBLED, LATE, STALE, BROKEN = 0.3, 0.15, 0.2, 0.1, 0.02
"""Shares of all events."""


@dataclass
class Storm:
    """What becomes of the events of all watches."""

    chance: random.Random
    counts: Counter[str] = field(default_factory=Counter)

    def mangled(self, lines: Iterator[bytes]) -> Iterable[bytes]:
        held: list[bytes] = []
        before: dict[str, bytes] = {}
        for line in lines:
            event = json.loads(line)
            if event["type"] in {"BOOKMARK", "ERROR"}:
                yield line
                continue
            what = self._drawn()
            self.counts[what] += 1
            match what:
                case "lost":
                    continue
                case "late":
                    held.append(line)
                    continue
                case "doubled":
                    yield line
                case "broken":
                    yield _expired()
                    return
            yield line
            uid = event["object"]["metadata"]["uid"]
            if what == "stale":
                yield before.get(uid, line)
            before[uid] = line
            yield from reversed(held)
            held.clear()

    def _drawn(self) -> str:
        shares = {"lost": LOST, "doubled": DOUBLED, "late": LATE, "stale": STALE, "broken": BROKEN}
        kinds, weights = zip(*shares.items(), strict=True)
        return self.chance.choices((*kinds, "delivered"), (*weights, 1 - sum(weights)))[0]


def _expired() -> bytes:
    """What an API server says to a watch that has fallen behind; the operator lists anew, and never hears of what vanished."""
    status = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Expired", "code": 410}
    return (
        json.dumps({"type": "ERROR", "object": {**status, "message": "too old (injected)"}}).encode() + b"\n"
    )


async def operate(kubeconfig: Path, worlds: Sequence[World], stop: asyncio.Event) -> None:
    """As `expansion_operator.__main__` introduces its rooms to each other."""
    namespaces = tuple(world.life for world in worlds)
    client = config.new_client_from_config(str(kubeconfig))
    cluster = Cluster(client, namespaces, API_SECONDS)
    agents = {world.address: world for world in worlds}

    def ask(addresses: Sequence[str]) -> tuple[AgentStatus, ...]:
        return tuple(agent for address in addresses for agent in agents[address].agents)

    reconciler = Reconciler(
        cluster=cluster,
        planner=plan,
        settings=SETTINGS,
        ask=ask,
        clock=Time().clock(),
        audience=OperatorMetrics().expansions,
        full_look_after=lambda: FULL_LOOK_SECONDS,
    )
    loop, pool = asyncio.get_running_loop(), ThreadPoolExecutor(4)

    async def work(key: Key) -> float | None:
        return await loop.run_in_executor(pool, reconciler.reconcile, *key)

    async def glance(key: Key) -> float | None:
        return await loop.run_in_executor(pool, reconciler.glance, *key)

    async def keys() -> list[Key]:
        return await asyncio.to_thread(untold, cluster, reconciler)

    queue = WorkQueue(work, 4, glance=glance)
    tasks = [
        asyncio.create_task(queue.run()),
        asyncio.create_task(resync(queue, keys, RESYNC_SECONDS, random.random)),
    ]
    await handlers.watch(
        queue, reconciler.neighbours, reconciler.knows, namespaces, stop, handlers.EndlessBackoffs()
    )
    for task in tasks:
        task.cancel()
    pool.shutdown()


@contextmanager
def operating(kubeconfig: Path, worlds: Sequence[World]) -> Iterator[None]:
    """In a thread of its own."""
    loop, stop, failed = asyncio.new_event_loop(), asyncio.Event(), []

    def run() -> None:
        asyncio.set_event_loop(loop)
        try:
            loop.run_until_complete(operate(kubeconfig, worlds, stop))
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(60)
    if failed:
        raise failed[0]


def stormy_life(world: World, line: Line, reference: Sequence[Passed]) -> list[str]:
    """What differs at the end of a phase, however long ago nothing has happened any more."""
    for phase, expected in zip(LIFE, reference, strict=True):
        phase.begin(world)
        if found := _passed(phase, world, line, expected):
            return [f"{phase.name}, events lost: {found[0]}", *found[1:12]]
    return []


def _passed(phase: Phase, world: World, line: Line, expected: Passed) -> list[str]:
    deadline = time.monotonic() + PHASE_SECONDS
    while True:
        try:
            world.step(world.seen())
            seen = world.seen()
        except Hangs as hang:
            return [str(hang)]
        if phase.reached(seen.resource):
            created = {"created": dict(Counter(runs_created(line.calls)))}
            found = difference(expected.state, world.state(seen) | created)
            if not found:
                return []
        else:
            found = ["its goal is not reached"]
        if time.monotonic() > deadline:
            return found
        time.sleep(0.3)
