"""The life of one resource in phases that each end in a state of their own, and the operator that is driven through it.

A phase ends when its goal is reached, nothing is to be done and nothing happens. A fault in one phase must not show in the state
at its end; so one life can meet one fault in each of its phases.
"""

import json
import random
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from apiserver_expansions import MODEL_SERVER
from apiserver_waiting import condition_of
from faults_wire import API, S3, Call, Fault, Line
from faults_world import NAME, Seen, World, difference
from kubernetes import config

from expansion_contract import environment
from expansion_development.kubernetes_api import Manifest
from expansion_operator.cluster import Cluster
from expansion_operator.metrics import OperatorMetrics
from expansion_operator.observed import Settings
from expansion_operator.plan import plan
from expansion_operator.reconcile import Clock, Reconciler
from expansion_operator.waits import SOON
from expansion_operator.work_queue import Backoff

SETTINGS = Settings(trainer_image="trainer:1", model_sync_image="agent:1")
API_SECONDS = 5.0
"""The operator waits so long for one answer of the API server."""
POLL = 600.0
"""Seconds of spec.retrain.pollInterval."""
LONGEST = 900.0
"""Seconds of the pretended clock that one phase may take: a retry a minute later is fine, and so is the next poll."""
MOST_TURNS = 80
Goal = Callable[[World], object]


@dataclass(frozen=True)
class Phase:
    name: str
    begin: Callable[[World], None]
    reached: Callable[[Manifest | None], object]
    later: float = 0.0
    """Seconds that pass before it."""


def _spec(world: World) -> dict[str, Any]:
    return {
        "output": {
            "models": f"s3://{world.life}/models/",
            "deletionPolicy": "Delete",
            "keepVersions": 2,
        },
        "serving": {"mode": "Managed", "replicas": 1, "image": MODEL_SERVER},
        "acceptance": {"minimumAccuracy": 0.9},
        "retrain": {"pollInterval": world.poll, "settle": world.settle},
    }


def _create(world: World) -> None:
    world.holds_jobs = world.holds_servers = True
    world.apply(**_spec(world))


def _end_run(world: World) -> None:
    world.holds_jobs = False


def _start_servers(world: World) -> None:
    world.holds_servers = False


def _add_images(world: World) -> None:
    world.holds_jobs = True
    world.put_images("lily")


def _fail(world: World) -> None:
    world.accuracy = None
    world.edit(retrain={"revision": 2})


def _retrain(world: World) -> None:
    world.holds_jobs, world.accuracy = True, 0.95
    world.edit(retrain={"revision": 3}, serving={"version": None})


def _end_run_alone(world: World) -> None:
    world.holds_jobs, world.holds_servers = False, True


def edit(**spec: Any) -> Callable[[World], None]:
    return lambda world: world.edit(**spec)


def says(kind: str, status: str, reason: str = "") -> Callable[[Manifest | None], object]:
    def reached(resource: Manifest | None) -> object:
        found = condition_of(resource, kind)
        current = found.get("observedGeneration") == (resource or {}).get("metadata", {}).get("generation")
        return (
            current and found.get("status") == status and found.get("reason") == (reason or found["reason"])
        )

    return reached


def serves(version: int, newest: int | None = None) -> Callable[[Manifest | None], object]:
    def reached(resource: Manifest | None) -> object:
        status = (resource or {}).get("status", {})
        is_ready = says("Ready", "True")(resource)
        return (
            is_ready
            and status["serving"].get("version") == version
            and status["model"]["version"] == (newest or version)
        )

    return reached


def waits_for_pod(revision: int, images: int) -> Callable[[Manifest | None], object]:
    def reached(resource: Manifest | None) -> object:
        dataset = (resource or {}).get("status", {}).get("dataset", {})
        is_current = (resource or {})["spec"]["retrain"].get("revision", 0) == revision
        return (
            is_current and dataset.get("images") == images and says("Trained", "Unknown", "Pending")(resource)
        )

    return reached


LIFE = (
    Phase("create", _create, waits_for_pod(0, 40)),
    Phase("train, gate, publish", _end_run, says("Ready", "False", "RollingOut")),
    Phase("serve", _start_servers, serves(1)),
    Phase(
        "raise a threshold",
        edit(acceptance={"minimumAccuracy": 0.97}),
        says("Stalled", "True", "GateRefused"),
    ),
    Phase("lower it", edit(acceptance={"minimumAccuracy": 0.9}), serves(1)),
    Phase("add images", _add_images, waits_for_pod(0, 60), later=POLL),
    Phase("edit while the run waits", edit(retrain={"revision": 1}), waits_for_pod(1, 60)),
    Phase("train again", _end_run_alone, says("Ready", "False", "RollingOut")),
    Phase("serve again", _start_servers, serves(2)),
    Phase("roll back", edit(serving={"version": 1}), serves(1, 2)),
    Phase("fail", _fail, says("Stalled", "True", "BadDataset")),
    Phase("retrain", _retrain, waits_for_pod(3, 60)),
    Phase("publish the third", _end_run_alone, says("Ready", "False", "RollingOut")),
    Phase("remove the first", _start_servers, serves(3)),
    Phase("delete", World.delete, lambda resource: resource is None),
)


@dataclass
class Time:
    """A clock that can be put forward. The API server's own does not follow: each phase begins with the two at one."""

    ahead: float = 0.0
    _even: float = 0.0

    def even(self) -> None:
        self._even = self.ahead

    def clock(self) -> Clock:
        return Clock(
            now=lambda: datetime.now(UTC) + timedelta(seconds=self.ahead - self._even),
            monotonic=lambda: time.monotonic() + self.ahead,
        )


class Operator:
    """Reconciles one key as the queue would, and begins anew with an empty memory when it was killed."""

    def __init__(self, kubeconfig: Path, world: World, line: Line, passing: Time) -> None:
        """`kubeconfig`: of the near end of the wire."""
        self._client = config.new_client_from_config(str(kubeconfig))
        self._world, self._line, self._passing = world, line, passing
        self.restarts = self._failures = 0
        self._reconciler: Reconciler | None = None

    def turn(self, told: bool) -> float | None:
        """Seconds until it wants to come back by itself. `told`: by an event, since its last turn."""
        try:
            is_new = self._reconciler is None
            reconciler = self._started()
            look = reconciler.reconcile if told or is_new else reconciler.glance
            delay = look(self._world.life, NAME)
        except Exception:
            self._failures += 1
            delay = Backoff().delay(self._failures, random.random())
        else:
            self._failures = 0
        if not self._line.dead:
            return delay
        self._line.dead, self._reconciler, self._failures = False, None, 0
        self.restarts += 1
        return 0.0

    def hears(self, before: Seen, seen: Seen) -> bool:
        """Of what has changed in between: would an event have put the key into the queue?"""
        if before.versions() != seen.versions():
            return True
        if before.resource == seen.resource:
            return False
        return seen.resource is None or not (self._reconciler and self._reconciler.knows(seen.resource))

    def _started(self) -> Reconciler:
        if self._reconciler is None:
            cluster = Cluster(self._client, (self._world.life,), API_SECONDS)
            reconciler = Reconciler(
                cluster=cluster,
                planner=plan,
                settings=SETTINGS,
                ask=lambda addresses: self._world.agents if addresses else (),
                clock=self._passing.clock(),
                audience=OperatorMetrics().expansions,
            )
            reconciler.neighbours.replace(cluster.expansions())
            self._reconciler = reconciler
        return self._reconciler

    def close(self) -> None:
        self._client.rest_client.pool_manager.clear()


@dataclass(frozen=True, kw_only=True)
class Meeting:
    """One fault, planned for one call of one phase."""

    phase: int
    call: int
    fault: Fault


@dataclass(kw_only=True)
class Passed:
    """What became of one phase."""

    state: dict[str, Any]
    calls: tuple[Call, ...]
    met: Call | None
    problems: list[str]
    seconds: float  # of the pretended clock


@dataclass
class Life:
    world: World
    line: Line
    operator: Operator
    passing: Time
    _created: Counter[str] = field(default_factory=Counter)

    def pass_through(self, phase: Phase, meeting: Meeting | None) -> Passed:
        began, ahead = len(self.line.calls), self.passing.ahead
        phase.begin(self.world)
        self.passing.ahead += phase.later
        self.passing.even()
        if meeting:
            self.line.plan(meeting.call, meeting.fault)
        seen, problems = self._settle(phase)
        calls = tuple(self.line.calls[began:])
        self._created.update(runs_created(calls))
        twice = [f"run {run} has {count} Jobs" for run, count in self._created.items() if count > 1]
        self.line.planned = None
        return Passed(
            state=self.world.state(seen) | {"created": dict(self._created)},
            calls=calls,
            met=self.line.met if meeting else None,
            problems=[*problems, *twice],
            seconds=self.passing.ahead - ahead - phase.later,
        )

    def _settle(self, phase: Phase) -> tuple[Seen, list[str]]:
        """Turns until all is still; what the operator waits for comes at once, and what nobody tells it never comes."""
        limit, seen, is_told = self.passing.ahead + LONGEST, self.world.seen(), True
        for _ in range(MOST_TURNS):
            before = seen
            if self.world.step(seen):
                seen = self.world.seen()
                is_told |= self.operator.hears(before, seen)
            began, before = len(self.line.calls), seen
            delay = self.operator.turn(is_told)
            seen = self.world.seen()
            is_told = self.operator.hears(before, seen)
            wrote = any(call.server == S3 and not call.is_read for call in self.line.calls[began:])
            comes_back = delay is not None and delay <= SOON
            if not (is_told or wrote or comes_back) and phase.reached(seen.resource):
                return seen, []
            if is_told:
                continue
            if delay is None:
                return seen, ["nothing would bring the operator back"]
            self.passing.ahead += delay
            if self.passing.ahead > limit:
                return seen, [f"the goal is not reached after {LONGEST:.0f} s"]
        return seen, [f"it is not still after {MOST_TURNS} turns"]


def runs_created(calls: Iterable[Call]) -> list[str]:
    """Of every Job that the API server created."""
    created = (
        call
        for call in calls
        if call.server == API and call.method == "POST" and call.target.split("?")[0].endswith("/jobs")
    )
    return [_run_of(call) for call in created if call.status == 201]


def _run_of(call: Call) -> str:
    return str(json.loads(call.body)["metadata"]["labels"][environment.RUN_LABEL])


def deviations(expected: Passed, seen: Passed) -> list[str]:
    return [*seen.problems, *difference(expected.state, seen.state)]
