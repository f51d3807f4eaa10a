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
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from subprocess import Popen
from tempfile import TemporaryDirectory
from typing import Any, Self

import yaml

from expansion_benchmarks.tables import table
from expansion_contract import layout, run
from expansion_contract.dataset import Role, read
from expansion_contract.report import CategoryScore, File, Metrics, Proportion, RunReport
from expansion_contract.resource import parsed
from expansion_contract.run import Start
from expansion_development import object_store, processes
from expansion_development.control_plane import ControlPlane
from expansion_development.kubernetes_api import Api, Manifest
from expansion_development.object_store import ObjectStore
from expansion_development.process_node.images import Program
from expansion_development.process_node.running import RunningNode
from expansion_development.stack import install_crds
from expansion_storage import open_prefix
from expansion_storage.prefix import Prefix

KIND, PLURAL = "ClassifierExpansion", "classifierexpansions"
OPERATOR, SYSTEM, PHOTOS, LIFE = "operator", "benchmark-system", "photos", "life"
TOGETHER = 50
"""Resources in one namespace and bucket."""
CHANGES, APART = 200, 0.25
"""Edits that are timed, and the seconds between two of them."""
FIVE_MINUTES, HOUR = 300.0, 3600.0
PATIENCE = 3600.0
MIB = 2**20
MODEL = b"a model"
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
    p99: float  # seconds from an edit to the status that answers it
    idle_requests: float  # for each resource and five minutes, its hourly look included
    idle_listings: float
    life: int  # requests
    life_by_verb: dict[str, int]


@dataclass
class Operator:
    """As a process, with an account that the audit log knows. `code`: the folder of another state of the repository."""

    kubeconfig: Path
    log: Path
    code: Path
    port: int = field(default_factory=processes.free_port)
    process: "Popen[bytes] | None" = None

    def __enter__(self) -> Self:
        folders = os.pathsep.join(str(self.code / name) for name in ("operator", "trainer"))
        program = [
            *(sys.executable, "-m", "expansion_operator", "--all-namespaces"),
            *("--trainer-image", "trainer:1", "--model-sync-image", "agent:1"),
            *("--metrics-address", f"127.0.0.1:{self.port}"),
            *("--health-address", f"127.0.0.1:{processes.free_port()}"),
        ]
        environment = {**os.environ, "PYTHONPATH": folders, "KUBECONFIG": str(self.kubeconfig)}
        self.process = processes.start(program, self.log, environment)
        return self

    def __exit__(self, *_: object) -> None:
        if self.process:
            processes.stop(self.process, grace_seconds=25)

    def looks(self) -> int:
        """Reconciliations so far."""
        name = "expansion_operator_reconcile_seconds_count"
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=30) as answer:
                lines = answer.read().decode().splitlines()
        except OSError:
            return 0
        return next((int(float(line.split()[1])) for line in lines if line.startswith(name)), 0)

    def memory(self) -> tuple[int, int]:
        """Resident now and at most, in bytes."""
        assert self.process is not None
        child = processes.children(self.process.pid) or [self.process.pid]
        lines = Path(f"/proc/{child[-1]}/status").read_text().splitlines()
        kib = {line.split(":")[0]: int(line.split()[1]) for line in lines if line.startswith("Vm")}
        return kib["VmRSS"] * 1024, kib["VmHWM"] * 1024


@dataclass(frozen=True, kw_only=True)
class Ground:
    """Everything around the operator."""

    plane: ControlPlane
    api: Api
    store: ObjectStore
    folder: Path
    code: Path

    @contextmanager
    def operator(self) -> Iterator[Operator]:
        account = self.folder / "operator.kubeconfig"
        with Operator(account, self.folder / "operator.log", self.code) as running:
            yield running

    def place(self, address: str) -> Prefix:
        return open_prefix(address, self.store.access, self.store.credentials)

    def requests(self, about: str = "") -> Counter[str]:
        """Of the operator so far, by verb and kind; `about`: only those in this namespace."""
        seen = {}
        for line in self.plane.audit_log.read_text().splitlines():
            event = json.loads(line)
            where = event.get("objectRef", {})
            if not about or where.get("namespace") == about:
                seen[event["auditID"]] = f"{event['verb']} {where.get('resource', 'others')}"
        return Counter(seen.values())

    def listings(self) -> int:
        return self.store.log.read_text(errors="replace").count("list-type=2")


@contextmanager
def ground(code: Path) -> Iterator[Ground]:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="expansion-bench-")))
        plane = stack.enter_context(ControlPlane())
        api, store = Api(plane.kubeconfig), stack.enter_context(object_store.moto())
        install_crds(api)
        _make_account(api, plane.kubeconfig, folder / "operator.kubeconfig")
        yield Ground(plane=plane, api=api, store=store, folder=folder, code=code)


def _make_account(api: Api, admin: Path, made: Path) -> None:
    api.apply("namespaces", "", _named("v1", "Namespace", SYSTEM))
    api.apply("serviceaccounts", SYSTEM, _named("v1", "ServiceAccount", OPERATOR))
    group = "rbac.authorization.k8s.io"
    binding = {
        **_named(f"{group}/v1", "ClusterRoleBinding", OPERATOR),
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": [{"kind": "ServiceAccount", "name": OPERATOR, "namespace": SYSTEM}],
    }
    api.apply("clusterrolebindings", "", binding)
    asked = {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenRequest",
        "spec": {"expirationSeconds": 86400},
    }
    token = api.create("serviceaccounts", SYSTEM, asked, OPERATOR, "token")["status"]["token"]
    config = yaml.safe_load(admin.read_text())
    config["users"] = [{"name": "admin", "user": {"token": token}}]
    made.write_text(yaml.safe_dump(config))


def _named(version: str, kind: str, name: str) -> Manifest:
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name}}


# The resources, and what lies in storage


def resource(ground: Ground, number: int) -> Manifest:
    where = f"team-{number // TOGETHER}"
    return _resource(ground, where, f"flowers-{number}", f"s3://{where}/flowers-{number}/", {"mode": "None"})


def _resource(ground: Ground, where: str, name: str, output: str, serving: dict[str, Any]) -> Manifest:
    return {
        "apiVersion": "classifierexpansion.dev/v1alpha1",
        "kind": KIND,
        "metadata": {"name": name, "namespace": where},
        "spec": {
            "categories": {"images": f"s3://{PHOTOS}/"},
            "output": {"models": output},
            "compute": {"gpusPerWorker": 0},
            "serving": serving,
            "storage": {"secretName": "s3", "endpointUrl": ground.store.endpoint},
            "retrain": {"settle": "0s"},
            "acceptance": {"minimumAccuracy": 0.5},
        },
    }


def lay_out(ground: Ground, count: int) -> None:
    """Images, namespaces, keys, and for every resource the result of its run."""
    ground.store.create_bucket(PHOTOS)
    photos = ground.place(f"s3://{PHOTOS}/")
    for number in range(40):
        photos.write(f"{'rose' if number % 2 else 'tulip'}/{number}.jpg", b"an image")
    report = _report(ground)
    for number in range(count):
        if number % TOGETHER == 0:
            add_team(ground, f"team-{number // TOGETHER}")
        output = ground.place(resource(ground, number)["spec"]["output"]["models"])
        output.write(layout.candidate(report.run_id, "saved_model.pb"), MODEL)
        output.write(layout.run(report.run_id, layout.REPORT), report.to_json())


def add_team(ground: Ground, name: str) -> None:
    ground.store.create_bucket(name)
    ground.api.apply("namespaces", "", _named("v1", "Namespace", name))
    secret = {**_named("v1", "Secret", "s3"), "stringData": ground.store.secret()}
    ground.api.apply("secrets", name, secret)


def _report(ground: Ground) -> RunReport:
    """The run is the same for all: neither name nor output changes a model."""
    body = resource(ground, 0)
    expansion = parsed({**body, "metadata": {**body["metadata"], "uid": "u", "generation": 1}})
    entries = [(Role.NEW, entry) for entry in ground.place(f"s3://{PHOTOS}/").list()]
    listing = read(iter(entries), expansion.spec.categories, expansion.spec.mode)
    start = Start(categories=tuple(sorted(listing.counts)))
    measured = Proportion.of(95, 100)
    score = CategoryScore(
        name="rose", training_images=16, validation_images=2, test_images=2, recall=measured
    )
    metrics = Metrics(
        overall=measured, new=measured, new_closed=measured, new_top5=measured, categories=[score]
    )
    return RunReport(
        run_id=run.run_id(expansion, listing.digest, start),
        outcome="Succeeded",
        started_at="",
        finished_at="",
        metrics=metrics,
        categories=1002,
        files=[File(path="saved_model.pb", size=len(MODEL), sha256=sha256(MODEL).hexdigest())],
    )


# What is measured


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
    body = _resource(
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
    before = ground.requests().total()
    with ground.operator() as operator:
        first_look = _seconds_until(lambda: operator.looks() >= count, "the first look at all")
        time.sleep(15)  # what the start sets off
        looks = (ground.requests().total() - before) / count
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
    note = f"{now['resources']} resources on {now['cores']} cores, load of the machine {now['load']:.0f}."
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
