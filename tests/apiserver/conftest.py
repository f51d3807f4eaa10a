"""What the tests of this tier share: one real control plane, one S3 server and one process node for the session, and an operator
for each module that asks for one."""

import itertools
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from apiserver_expansions import Operator, Team, add_images, install_definition
from apiserver_waiting import SHELL, Waiter, wait_for

from expansion_development import object_store
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


@pytest.fixture(scope="module")
def operator(
    kubeconfig: Path,
    api: Api,
    process_node: RunningNode,
    tmp_path_factory: pytest.TempPathFactory,
    request: pytest.FixtureRequest,
) -> Iterator[Operator]:
    """The module's own, for all namespaces, ready to work."""
    install_definition(api)
    add_images(process_node)
    with Operator(kubeconfig, tmp_path_factory.mktemp(request.module.__name__) / "operator.log") as running:
        wait_for(lambda: running.healthy("readyz"), "the operator to be ready")
        yield running


@pytest.fixture
def team(api: Api, namespace: str, moto_store: ObjectStore, bucket: str, operator: Operator) -> Team:
    """With the keys of its bucket, and enough images of two categories."""
    team = Team(api, namespace, moto_store, bucket)
    team.create_secret()
    team.put_images(tulip=30, rose=30)
    return team
