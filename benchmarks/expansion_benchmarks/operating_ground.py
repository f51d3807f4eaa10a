"""Starts what the operator is measured on: real servers, an account of its own, and resources whose results lie in storage already."""

import json
import os
import sys
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from subprocess import Popen
from tempfile import TemporaryDirectory
from typing import Any, Self

import yaml

from expansion_contract import layout, run
from expansion_contract.dataset import Role, read
from expansion_contract.report import CategoryScore, File, Metrics, Proportion, RunReport
from expansion_contract.resource import parsed
from expansion_contract.run import Start
from expansion_development import object_store, processes, programs
from expansion_development.control_plane import ControlPlane
from expansion_development.kubernetes_api import Api, Manifest
from expansion_development.object_store import ObjectStore
from expansion_development.stack import install_crds
from expansion_storage import open_prefix
from expansion_storage.prefix import Prefix

KIND, PLURAL = "ClassifierExpansion", "classifierexpansions"
OPERATOR, SYSTEM, PHOTOS = "operator", "benchmark-system", "photos"
TOGETHER = 50
"""Resources in one namespace and bucket."""
MODEL = b"a model"


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
            *("--lease", f"{SYSTEM}/{OPERATOR}"),
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
        """Of the operator so far, by verb and kind, its Lease aside, which costs the same without any resource; `about`: only those in
        this namespace."""
        seen = {}
        for line in self.plane.audit_log.read_text().splitlines():
            event = json.loads(line)
            where = event.get("objectRef", {})
            if where.get("resource") != "leases" and (not about or where.get("namespace") == about):
                seen[event["auditID"]] = f"{event['verb']} {where.get('resource', 'others')}"
        return Counter(seen.values())

    def listings(self) -> int:
        return self._storage_said("list-type=2")

    def told(self) -> int:
        """How often a serving.json was written."""
        return self._storage_said("| PUT |", "/serving.json ")

    def _storage_said(self, *words: str) -> int:
        lines = self.store.log.read_text(errors="replace").splitlines()
        return sum(all(word in line for word in words) for line in lines)


@contextmanager
def ground(code: Path) -> Iterator[Ground]:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="expansion-bench-")))
        plane = stack.enter_context(ControlPlane())
        api, store = Api(plane.kubeconfig), _store(stack)
        install_crds(api)
        _make_account(api, plane.kubeconfig, folder / "operator.kubeconfig")
        yield Ground(plane=plane, api=api, store=store, folder=folder, code=code)


def _store(stack: ExitStack) -> ObjectStore:
    """Not moto, a Python server that would take a core of two. Connections are kept, as S3 does."""
    wanted, places = (programs.VERSITYGW,), programs.Places.of(dict(os.environ))
    found = programs.obtain(wanted, places, lambda line: print(line, file=sys.stderr))
    return stack.enter_context(object_store.versitygw(found[programs.VERSITYGW], keep_alive=True))


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


def resource(ground: Ground, number: int) -> Manifest:
    where = f"team-{number // TOGETHER}"
    return described(ground, where, f"flowers-{number}", f"s3://{where}/flowers-{number}/", {"mode": "None"})


def described(ground: Ground, where: str, name: str, output: str, serving: dict[str, Any]) -> Manifest:
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
