"""What a thousand resources cost the operator and its API server; `make bench-operator` runs it.

A real etcd, API server and controller manager, an S3 server in a process of its own; the results of all runs lie in storage already,
so no pod runs but those of one last resource that lives a whole life. Requests are counted by the API server's audit log, listings
by the S3 server's log.
"""

import argparse
import json
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from expansion_benchmarks.operating_ground import (
    PLURAL,
    Ground,
    add_team,
    described,
    ground,
    lay_out,
    resource,
)
from expansion_benchmarks.tables import table
from expansion_development import processes
from expansion_development.kubernetes_api import Api
from expansion_development.process_node.images import Program
from expansion_development.process_node.running import RunningNode

LIFE = "life"
CHANGES, APART = 200, 0.25
"""Edits that are timed, and the seconds between two of them."""
FIVE_MINUTES, HOUR = 300.0, 3600.0
PATIENCE = 3600.0
MIB = 2**20
TESTS = processes.REPOSITORY / "tests" / "apiserver"


@dataclass(frozen=True, kw_only=True)
class Measured:
    resources: int
    cores: int
    load: float  # of the machine at the end, one minute
    memory: int  # bytes, resident, at the end
    peak: int
    new_ready: float  # seconds until all new resources were Ready
    first_look: float  # seconds from the start of a second operator to its first look at the last of them
    looks: float  # requests of one look at everything
    told: int  # serving.json written by the second operator, in its own name
    p99: float  # seconds from an edit to the status that answers it
    idle_requests: float  # for each resource and five minutes, its hourly look included
    idle_listings: float
    life: int  # requests
    life_by_verb: dict[str, int]


def becomes_ready(ground: Ground, count: int) -> float:
    """Seconds from the operator's start until all are Ready."""
    bodies = [resource(ground, number) for number in range(count)]
    for body in bodies:
        ground.api.create(PLURAL, body["metadata"]["namespace"], body)
    with ground.operator():
        return _seconds_until(lambda: _ready(ground.api) >= count, "all resources to be ready", every=2)


def _ready(api: Api) -> int:
    conditions = (body.get("status", {}).get("conditions") or () for body in api.list(PLURAL))
    return sum(any(c["type"] == "Ready" and c["status"] == "True" for c in cs) for cs in conditions)


def _seconds_until(holds: Callable[[], bool], what: str, every: float = 0.2) -> float:
    started = time.monotonic()
    if not processes.wait_until(holds, PATIENCE, every):
        raise TimeoutError(f"Waited {PATIENCE:.0f} s in vain for {what}.")
    return time.monotonic() - started


def answers(ground: Ground, count: int) -> float:
    """The 99th percentile of the seconds from an edit to the status that answers it."""
    chance = random.Random(0)
    taken = []
    for number in chance.sample(range(count), min(CHANGES, count)):
        metadata = resource(ground, number)["metadata"]
        where, name = metadata["namespace"], metadata["name"]
        edit = {"spec": {"acceptance": {"minimumAccuracy": 0.6}}}
        edited = ground.api.patch(PLURAL, where, name, edit)["metadata"]["generation"]

        def is_answered(where: str = where, name: str = name, edited: int = edited) -> bool:
            return bool(ground.api.get(PLURAL, where, name)["status"]["observedGeneration"] == edited)

        taken.append(_seconds_until(is_answered, f"{name} to answer", every=0.02))
        time.sleep(APART)
    return sorted(taken)[round(0.99 * (len(taken) - 1))]


def life(ground: Ground) -> Counter[str]:
    """Requests of one resource: made, trained, accepted, published, served, held to another threshold, deleted."""
    add_team(ground, LIFE)
    body = described(
        ground,
        LIFE,
        "flowers",
        f"s3://{LIFE}/models/",
        {"mode": "Managed", "replicas": 1, "image": "server:1"},
    )
    path = {"PYTHONPATH": processes.python_environment()["PYTHONPATH"]}
    servers = (sys.executable, str(TESTS / "instant_servers.py"))
    images = {
        "trainer:1": Program(
            entrypoint=(sys.executable, str(TESTS / "instant_trainer.py")), environment=path
        ),
        "agent:1": Program(entrypoint=(*servers, "agent"), environment=path),
        "server:1": Program(
            environment=path, programs={"/usr/bin/tensorflow_model_server": (*servers, "model-server")}
        ),
    }
    with RunningNode(ground.plane.kubeconfig, ground.folder / "node", images):
        ground.api.create(PLURAL, LIFE, body)
        _seconds_until(lambda: _is_ready(ground.api), "the resource to be ready")
        edited = {"spec": {"acceptance": {"minimumAccuracy": 0.6}}}
        generation = ground.api.patch(PLURAL, LIFE, "flowers", edited)["metadata"]["generation"]
        _seconds_until(lambda: _is_ready(ground.api, generation), "the resource to be ready again")
        ground.api.delete(PLURAL, LIFE, "flowers")
        gone = lambda: not any(ground.api.list(kind, LIFE) for kind in (PLURAL, "jobs", "deployments"))  # noqa: E731
        _seconds_until(gone, "the resource to be gone")
        time.sleep(5)
    return ground.requests(LIFE)


def _is_ready(api: Api, generation: int = 1) -> bool:
    status = api.get(PLURAL, LIFE, "flowers").get("status", {})
    conditions = status.get("conditions") or ()
    is_true = any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)
    return is_true and status["observedGeneration"] >= generation


def measured(ground: Ground, count: int, idle: float) -> Measured:
    say(f"laying out {count} resources ...")
    lay_out(ground, count)
    new_ready = becomes_ready(ground, count)
    say(f"new resources were ready after {new_ready:.0f} s; a second operator starts ...")
    before, told = ground.requests().total(), ground.told()
    with ground.operator() as operator:
        first_look = _seconds_until(lambda: operator.looks() >= count, "the first look at all")
        time.sleep(15)  # what the start sets off
        looks, told = (ground.requests().total() - before) / count, ground.told() - told
        say(f"first look at all after {first_look:.0f} s; idle for {idle:.0f} s ...")
        before, listings = ground.requests().total(), ground.listings()
        time.sleep(idle)
        share = FIVE_MINUTES / idle / count
        requests = (ground.requests().total() - before) * share
        listed = (ground.listings() - listings) * share
        say(
            f"{requests:.3f} requests and {listed:.2f} listings for each resource and five minutes; edits ..."
        )
        p99 = answers(ground, count)
        say(f"edits are answered within {p99:.2f} s (p99); one whole life ...")
        lived = life(ground)
        memory, peak = operator.memory()
    return Measured(
        resources=count,
        cores=os.cpu_count() or 0,
        load=os.getloadavg()[0],
        memory=memory,
        peak=peak,
        new_ready=new_ready,
        first_look=first_look,
        looks=looks,
        told=told,
        p99=p99,
        idle_requests=requests + (0 if idle >= HOUR else looks * FIVE_MINUTES / HOUR),
        idle_listings=listed,
        life=lived.total(),
        life_by_verb=dict(lived.most_common()),
    )


ROWS: tuple[tuple[str, str, float, Callable[[dict[str, Any]], float]], ...] = (
    ("memory of the operator, MiB", "≤ 150", 150, lambda m: float(m["memory"] / MIB)),
    ("start to the first look at all, s", "≤ 60", 60, lambda m: float(m["first_look"])),
    ("edit to its answer, p99, s", "≤ 1", 1, lambda m: float(m["p99"])),
    ("requests of an idle resource in 5 minutes", "≤ 1", 1, lambda m: float(m["idle_requests"])),
    ("listings of an idle resource in 5 minutes", "≤ 1", 1, lambda m: float(m["idle_listings"])),
    ("requests of one life", "≤ 60", 60, lambda m: float(m["life"])),
    ("requests of one look at everything", "", float("inf"), lambda m: float(m["looks"])),
    ("start to all new ones Ready, s", "", float("inf"), lambda m: float(m["new_ready"])),
)


def shown(document: dict[str, Any]) -> str:
    now, before = document["now"], document.get("before")
    head = ["", "measured", "target", "met", *(["before", "before / now"] if before else [])]
    lines = [_line(row, now, before) for row in ROWS]
    note = (
        f"{now['resources']} resources on {now['cores']} cores, load of the machine {now['load']:.0f}; the second operator took the Lease"
        f" over and wrote {now['told']} times serving.json in its own name."
    )
    if before:
        note += f" Before: {before['resources']} resources, load {before['load']:.0f}."
    return f"{table(head, lines)}\n\n{note}"


def _line(
    row: tuple[str, str, float, Callable[[dict[str, Any]], float]],
    now: dict[str, Any],
    before: dict[str, Any] | None,
) -> list[str]:
    name, target, most, read_from = row
    value = read_from(now)
    cells = [name, f"{value:.3g}", target, "" if not target else "yes" if value <= most else "no"]
    if before is None:
        return cells
    earlier = read_from(before)
    return [*cells, f"{earlier:.3g}", f"{earlier / value:.1f}" if value else "∞"]


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="expansion_benchmarks.operating", description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--resources", type=int, default=1000)
    parser.add_argument(
        "--idle", type=float, default=FIVE_MINUTES, help="seconds; a whole hour leaves nothing to be added up"
    )
    parser.add_argument(
        "--code", type=Path, default=processes.REPOSITORY, help="another state of the repository"
    )
    parser.add_argument(
        "--before", action="store_true", help="keep the result as what others are compared with"
    )
    given = parser.parse_args()
    file = given.out / "operator.json"
    document = json.loads(file.read_text()) if file.exists() else {}
    with ground(given.code.resolve()) as made:
        document["before" if given.before else "now"] = asdict(measured(made, given.resources, given.idle))
    given.out.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(document, indent=1))
    if "now" in document:
        print(shown(document))


if __name__ == "__main__":
    main()
