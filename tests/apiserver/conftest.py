"""What the tests of this tier share: one real control plane, one S3 server and one process node for the session."""

import itertools
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from subprocess import Popen

import pytest
from apiserver_waiting import SHELL, Waiter, wait_for

from expansion_development import object_store, processes
from expansion_development.control_plane import ControlPlane
from expansion_development.kubernetes_api import Api
from expansion_development.object_store import ObjectStore
from expansion_development.process_node.images import Program
from expansion_development.process_node.running import RunningNode

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def control_plane() -> Iterator[ControlPlane]:
    with ControlPlane() as running:
        yield running


@pytest.fixture(scope="session")
def kubeconfig(control_plane: ControlPlane) -> Path:
    return control_plane.kubeconfig


@pytest.fixture(scope="session")
def api(kubeconfig: Path) -> Api:
    return Api(kubeconfig)


@pytest.fixture(scope="session")
def moto_store() -> Iterator[ObjectStore]:
    with object_store.moto() as store:
        yield store


@pytest.fixture
def bucket(moto_store: ObjectStore) -> str:
    """A new, empty bucket."""
    name = f"test-{next(_numbers)}-{os.getpid()}"
    moto_store.create_bucket(name)
    return name


@pytest.fixture(scope="session")
def process_node(kubeconfig: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningNode]:
    """One pretended GPU. `add_image` makes an image known."""
    folder = tmp_path_factory.mktemp("process-node")
    images = {SHELL: Program(entrypoint=("/bin/sh",))}
    with RunningNode(kubeconfig, folder, images, "--gpus", "1", "--back-off", "0.5") as node:
        yield node


@pytest.fixture
def namespace(api: Api, request: pytest.FixtureRequest) -> Iterator[str]:
    """A namespace of this test's own, with its service account; deleted afterwards, without waiting."""
    stem = re.sub(r"[^a-z0-9]+", "-", request.node.originalname.lower()).strip("-")[5:40].strip("-")
    name = f"{stem}-{next(_numbers)}"
    api.create("namespaces", "", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    wait_for(lambda: api.find("serviceaccounts", name, "default"), "the default service account", 30)
    yield name
    api.delete("namespaces", "", name)


@pytest.fixture
def wait_for_condition(api: Api, namespace: str) -> Waiter:
    """`wait_for_condition(name, "Ready", "True", reason=None, timeout=90)`."""
    return Waiter(api, namespace)


class OperatorProcess:
    """`python -m expansion_operator` as a process. It may be stopped, killed and started again."""

    def __init__(
        self, kubeconfig: Path, log: Path, arguments: Sequence[str], extra: Mapping[str, str]
    ) -> None:
        self.kubeconfig, self.log = kubeconfig, log
        self._arguments, self._extra = tuple(arguments), dict(extra)
        self.process: Popen[bytes] | None = None

    def start(self) -> "OperatorProcess":
        environment = {**processes.python_environment(), "KUBECONFIG": str(self.kubeconfig), **self._extra}
        program = [sys.executable, "-m", "expansion_operator", *self._arguments]
        self.process = processes.start(program, self.log, environment)
        return self

    def stop(self) -> int | None:
        """SIGTERM; the exit status."""
        return processes.stop(self.process, grace_seconds=15) if self.process else None

    def kill(self) -> None:
        """SIGKILL: nothing can be saved."""
        if self.process:
            self.process.kill()
            self.process.wait()

    def output(self) -> str:
        return self.log.read_text(errors="replace") if self.log.is_file() else ""


StartOperator = Callable[..., OperatorProcess]


@pytest.fixture
def operator(
    kubeconfig: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[Callable[..., OperatorProcess]]:
    """`operator("--argument", NAME="value")` starts one; all are stopped after the test, their logs shown if it failed."""
    started: list[OperatorProcess] = []

    def run(*arguments: str, **environment: str) -> OperatorProcess:
        log = tmp_path / f"operator-{len(started)}.log"
        started.append(OperatorProcess(kubeconfig, log, arguments, environment).start())
        return started[-1]

    yield run
    for one in started:
        one.stop()
        print(
            f"--- {one.log.name} (last lines)\n{processes.tail(one.log, 60)}"
        )  # pytest shows it after a failure
