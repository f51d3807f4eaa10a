"""An operator that sees nothing says so, and sees again: API servers that restart, refuse, hang up, forget, and no longer know it."""

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from apiserver_expansions import EXPANSIONS, Operator, Team, add_images, install_definition
from apiserver_proxy import Proxy
from apiserver_waiting import condition_of, wait_for
from kubernetes.client import ApiException

from expansion_development.control_plane import ControlPlane
from expansion_development.kubernetes_api import Api
from expansion_development.object_store import ObjectStore
from expansion_development.process_node.running import RunningNode

pytestmark = pytest.mark.apiserver
OFTEN = "3"
"""Seconds, for --resync."""
BLIND_SECONDS = float(os.environ.get("EXPANSION_BLIND_SECONDS", "3"))
"""How long the API server answers nothing but 503."""
EVERY = 15.0
"""Seconds between two lines that say how it goes."""


@pytest.fixture(scope="module")
def plane() -> Iterator[ControlPlane]:
    """Of this module's own: it is stopped under everybody's feet."""
    with ControlPlane() as running:
        install_definition(Api(running.kubeconfig))
        yield running


@pytest.fixture(scope="module")
def node(plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningNode]:
    with RunningNode(plane.kubeconfig, tmp_path_factory.mktemp("node"), {}) as running:
        add_images(running)
        yield running


@pytest.fixture
def team(
    plane: ControlPlane,
    node: RunningNode,
    moto_store: ObjectStore,
    bucket: str,
    request: pytest.FixtureRequest,
) -> Iterator[Team]:
    team = Team(Api(plane.kubeconfig), bucket, moto_store, bucket)
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": team.namespace}}
    team.api.create("namespaces", "", namespace)
    wait_for(lambda: team.api.find("serviceaccounts", team.namespace, "default"), "the default account")
    team.create_secret()
    team.put_images(tulip=20, rose=20)
    yield team
    team.api.delete("namespaces", "", team.namespace)


@pytest.fixture
def door(plane: ControlPlane) -> Iterator[Proxy]:
    with Proxy(plane.kubeconfig) as proxy:
        yield proxy


@pytest.fixture
def operator(door: Proxy, team: Team, tmp_path: Path) -> Iterator[Operator]:
    """Behind the door."""
    admin = door.kubeconfig(tmp_path / "door.kubeconfig")
    with Operator(admin, tmp_path / "operator.log", team.namespace, resync=OFTEN) as running:
        wait_for(lambda: running.healthy("readyz"), "the operator to be ready")
        yield running


def apply(team: Team, name: str, output: str = "") -> None:
    team.apply(name, output={"models": f"s3://{team.bucket}/{output or name}/"})


def wait_until_ready(team: Team, *names: str) -> None:
    for name in names:
        wait_for(
            lambda name=name: condition_of(team.get(name), "Ready").get("status") == "True",
            f"{name} to be ready",
            120,
        )


def version_of(team: Team, name: str) -> int | None:
    version: int | None = team.get(name)["status"].get("model", {}).get("version")
    return version


def is_too_old(team: Team, version: str) -> bool:
    """Has the API server forgotten what happened since then?"""
    try:
        events = team.api.watch(EXPANSIONS, team.namespace, resource_version=version, seconds=3)
        return any(kind == "ERROR" and event["code"] == 410 for kind, event in events)
    except ApiException as error:
        return error.status == 410


def test_after_an_api_server_came_back_and_has_forgotten_nothing_is_missed_and_no_ghost_is_left(
    plane: ControlPlane, door: Proxy, team: Team, operator: Operator
) -> None:
    for name in ("kept", "leaving"):
        apply(team, name)
    wait_until_ready(team, "kept", "leaving")
    before = team.api.listing(EXPANSIONS, team.namespace)["metadata"]["resourceVersion"]
    assert 'name="leaving"' in operator.scrape()
    door.refusing = 503
    door.hang_up()
    team.api.delete(EXPANSIONS, team.namespace, "leaving")
    apply(team, "new", output="leaving")  # which belongs to the ghost, as far as the operator remembers
    plane.restart_api_server()
    assert is_too_old(team, before)
    door.refusing = None
    wait_until_ready(team, "new")
    wait_for(lambda: 'name="leaving"' not in operator.scrape(), "the ghost to be gone")
    team.patch("kept", retrain={"revision": 1})
    wait_for(lambda: version_of(team, "kept") == 2, "version 2, after an event", 120)
    wait_for(lambda: operator.healthy("readyz"), "the operator to be ready, with all its watchers")
    assert operator.says("healthz") == (200, "ok\n")


@pytest.mark.timeout(600 + BLIND_SECONDS)
def test_while_the_api_server_refuses_everything_the_operator_says_that_it_is_blind_and_goes_on_afterwards(
    door: Proxy, team: Team, operator: Operator
) -> None:
    """`make test-blindness` keeps the API server away for five minutes."""
    apply(team, "kept", output="models")
    wait_until_ready(team, "kept")
    door.refusing = 503
    door.hang_up()
    wait_for(lambda: not operator.healthy("readyz"), "the operator not to be ready")
    wait_for(lambda: not operator.is_up("classifierexpansions"), "its metrics to say so")
    team.patch("kept", retrain={"revision": 1})
    stays_blind(operator, BLIND_SECONDS)
    door.refusing, sees = None, time.monotonic()
    wait_for(lambda: version_of(team, "kept") == 2, "version 2", 120)
    print(
        f"version 2 is published {time.monotonic() - sees:.1f} s after the API server came back", flush=True
    )
    wait_for(lambda: operator.healthy("readyz"), "the operator to be ready again", 60)
    assert operator.is_up("classifierexpansions")
    assert (team.versions(), team.attempts()) == ([1, 2], 2)


def stays_blind(operator: Operator, seconds: float) -> None:
    """All the while it lives, says so, and is not restarted for what a restart would not mend."""
    began, told = time.monotonic(), 0.0
    while (passed := time.monotonic() - began) < seconds:
        status, said = operator.says("healthz")
        assert (status, "ok; the API server has not let us watch" in said) == (200, True), said
        assert not operator.healthy("readyz")
        assert not operator.is_up("classifierexpansions")
        if passed >= told:
            print(f"blind for {passed:.0f} s: {said.strip()}", flush=True)
            told += EVERY
        time.sleep(0.5)


def test_a_watcher_that_died_is_never_taken_for_a_quiet_cluster(door: Proxy, operator: Operator) -> None:
    """For an error event that is not 410 Gone kopf ends a watcher, and now ends with it, now goes on without it."""
    door.ending = "jobs"
    door.hang_up()
    wait_for(lambda: has_ended(operator) or asks_for_a_restart(operator), "an end, or a cry for one", 120)


def has_ended(operator: Operator) -> bool:
    """Not well: by itself, or killed by kopf, which waits 30 s for what it cannot stop."""
    return operator.process is not None and operator.process.poll() not in {None, 0}


def asks_for_a_restart(operator: Operator) -> bool:
    """As the kubelet and Prometheus see it; kopf may have given up others as well by then."""
    status, said = operator.says("healthz")
    with suppress(OSError):  # it may end between two questions
        return status == 503 and "nobody watches" in said and "jobs" in said and not operator.is_up("jobs")
    return False


def test_an_operator_whose_token_is_no_longer_known_takes_the_new_one(
    door: Proxy, team: Team, operator: Operator
) -> None:
    apply(team, "kept")
    wait_until_ready(team, "kept")
    operator.account.revoke_tokens()
    wait_for(lambda: is_unknown(operator), "the API server to know the old token no longer", 60)
    operator.account.write_token(operator.kubeconfig.with_suffix(".token"))
    door.hang_up()
    apply(team, "new")
    wait_until_ready(team, "new")
    wait_for(lambda: operator.is_up("jobs") and operator.is_up("classifierexpansions"), "its watchers", 60)


def is_unknown(operator: Operator) -> bool:
    try:
        Api(operator.kubeconfig).find("jobs", operator.account.namespaces[0], "any")
    except ApiException as error:
        return bool(error.status == 401)
    return False


def test_a_leader_that_is_not_answered_ends_before_another_one_may_act(
    door: Proxy, team: Team, tmp_path: Path
) -> None:
    admin = door.kubeconfig(tmp_path / "door.kubeconfig")
    lease = {"lease": f"{team.namespace}/operator", "identity": "first"}
    with Operator(admin, tmp_path / "leader.log", team.namespace, **lease) as leader:
        wait_for(lambda: "watching" in leader.log.read_text(), "it to lead", 60)
        assert leader.process is not None
        door.refusing = 503
        door.hang_up()
        assert leader.process.wait(timeout=60) == 1
        assert "has lost the Lease" in leader.log.read_text()
        door.refusing = None
