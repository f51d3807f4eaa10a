"""Two operators and one Lease: the second waits ready, takes over when the first is gone, and never acts beside it."""

import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from apiserver_expansions import TRAINER, Operator, Team, add_images, install_definition, instant_trainer
from apiserver_waiting import condition_of, wait_for
from faults_wire import Call, Wire
from kubernetes import client, config

from expansion_contract.version import ServingDocument
from expansion_development.control_plane import ControlPlane
from expansion_development.kubernetes_api import Api, Manifest
from expansion_development.object_store import ObjectStore
from expansion_development.process_node.running import RunningNode
from expansion_operator.cluster import ApiError, Cluster
from expansion_operator.manifests.job import other_limits

pytestmark = pytest.mark.apiserver
Start = Callable[..., Operator]
KILLS = int(os.environ.get("EXPANSION_LEADER_KILLS", "3"))
SEED = 20261126
RUN_SECONDS = 5.0
"""A run takes about so long here, so that leaders die at every step of one."""
LONGEST_GAP = 20.0
"""Seconds from the death of a leader to the first act of the next one."""


@pytest.fixture
def team(api: Api, namespace: str, moto_store: ObjectStore, bucket: str, process_node: RunningNode) -> Team:
    install_definition(api)
    add_images(process_node)
    team = Team(api, namespace, moto_store, bucket)
    team.create_secret()
    team.put_images(tulip=20, rose=20)
    return team


@pytest.fixture
def start(kubeconfig: Path, namespace: str, tmp_path: Path) -> Iterator[Start]:
    """One of several operators, by the name it has in the Lease."""
    started: list[Operator] = []

    def start(name: str, trainer: str = TRAINER) -> Operator:
        lease = {"lease": f"{namespace}/operator", "identity": name}
        operator = Operator(kubeconfig, tmp_path / f"{name}.log", namespace, trainer=trainer, **lease)
        started.append(operator.__enter__())
        return operator

    yield start
    for operator in started:
        operator.__exit__()


@pytest.fixture
def holder(api: Api, namespace: str) -> Callable[[], str]:
    def holder() -> str:
        lease = api.find("leases", namespace, "operator") or {}
        return str(lease.get("spec", {}).get("holderIdentity") or "")

    return holder


def leads(operator: Operator) -> bool:
    return "expansion_operator_leader 1.0" in operator.scrape()


def watching(operator: Operator) -> bool:
    return "watching" in operator.log.read_text()


def test_the_one_that_waits_is_ready_and_does_nothing(
    team: Team, start: Start, holder: Callable[[], str]
) -> None:
    first = start("first")
    wait_for(lambda: watching(first), "the first to lead", 60)
    second = start("second")
    wait_for(lambda: second.healthy("readyz"), "the second to be ready", 30)
    team.apply()
    wait_for(lambda: team.versions() == [1], "a version", 60)
    assert (leads(first), leads(second)) == (True, False)
    assert (holder(), watching(second)) == ("first", False)


def test_after_an_orderly_end_the_other_one_acts_at_once(
    team: Team, start: Start, holder: Callable[[], str]
) -> None:
    first = start("first")
    wait_for(lambda: watching(first), "the first to lead", 60)
    second = start("second")
    wait_for(lambda: second.healthy("readyz"), "the second to be ready", 30)
    assert first.stop() == 0
    began = time.monotonic()
    wait_for(lambda: watching(second), "the second to lead", 30)
    assert time.monotonic() - began < 10
    assert holder() == "second"


def test_a_killed_leader_is_replaced_in_time_and_its_run_is_not_started_again(
    team: Team, start: Start
) -> None:
    first = start("first")
    wait_for(lambda: watching(first), "the first to lead", 60)
    second = start("second")
    wait_for(lambda: second.healthy("readyz"), "the second to be ready", 30)
    team.apply()
    wait_for(lambda: team.jobs(), "the Job", 60, 0.05)
    first.kill()
    began = time.monotonic()
    wait_for(lambda: watching(second), "the second to lead", 60, 0.1)
    assert time.monotonic() - began < LONGEST_GAP
    wait_for(lambda: team.versions() == [1], "a version", 60)
    assert len(team.jobs()) == 1


def test_a_newer_operator_that_takes_over_in_the_middle_of_a_run_ends_that_run_and_starts_none(
    team: Team, start: Start, process_node: RunningNode
) -> None:
    """As `helm upgrade` does it: the successor is ready, then the old one is asked to end."""
    newer = "instant-trainer:2"
    process_node.add_image(newer, instant_trainer())
    first = start("first")
    wait_for(lambda: watching(first), "the first to lead", 60)
    second = start("second", trainer=newer)
    wait_for(lambda: second.healthy("readyz"), "the second to be ready", 60)
    team.behave("slow:15")
    team.apply()
    wait_for(lambda: team.get()["status"].get("phase") == "Training", "the run to be under way", 60)
    (before,) = team.jobs()
    assert first.stop() == 0
    wait_for(lambda: watching(second), "the second to lead", 60)
    wait_for(lambda: team.versions() == [1], "a version", 120)
    time.sleep(2)
    assert [job["metadata"]["uid"] for job in team.jobs()] == [before["metadata"]["uid"]]
    assert (team.attempts(), team.versions()) == (1, [1])


def replaced(leader: Operator, standing_by: Operator) -> float:
    """Kills the leader; seconds until the other one acts."""
    leader.kill()
    began = time.monotonic()
    wait_for(lambda: watching(standing_by), "the next one to lead", 60, 0.05)
    return time.monotonic() - began


@pytest.mark.timeout(KILLS * 90)
def test_leaders_killed_again_and_again_during_runs_start_no_run_twice_and_leave_no_long_gap(
    team: Team, start: Start, control_plane: ControlPlane
) -> None:
    """`make test-failover` does it fifty times."""
    chance, gaps = random.Random(SEED), list[float]()
    leader = start("leader-0")
    wait_for(lambda: watching(leader), "the first to lead", 60)
    for number in range(KILLS):
        standing_by = start(f"leader-{number + 1}")
        wait_for(lambda: standing_by.healthy("readyz"), "the next one to be ready", 60)  # noqa: B023
        team.place.write(f"models/{number}/behaviour", b"slow:2")
        team.apply(f"flowers-{number}", output={"models": f"s3://{team.bucket}/models/{number}/"})
        time.sleep(chance.uniform(0, RUN_SECONDS))
        gaps.append(replaced(leader, standing_by))
        print(f"kill {number + 1}: another one acts after {gaps[-1]:.1f} s", flush=True)
        leader = standing_by
    names = [f"flowers-{number}" for number in range(KILLS)]
    for name in names:
        wait_for(lambda: is_published(team, name), f"{name} to be published", 120)  # noqa: B023
    created = Counter(jobs_created(leader, control_plane))
    print(f"kills {KILLS}, longest gap {max(gaps):.1f} s, runs {len(created)}, Jobs {created.total()}")
    assert (len(created), set(created.values())) == (KILLS, {1})
    assert max(gaps) < LONGEST_GAP


def is_published(team: Team, name: str) -> bool:
    status = team.get(name).get("status", {})
    return bool(status.get("model", {}).get("version") == 1)


def jobs_created(operator: Operator, control_plane: ControlPlane) -> Iterator[str]:
    """Names, once for each creation, by the audit log: a Job that is gone counts."""
    for event in operator.account.audited(control_plane.audit_log):
        is_new = event["verb"] == "create" and event["responseStatus"]["code"] == 201
        if is_new and event["objectRef"]["resource"] == "jobs":
            yield event["objectRef"]["name"]


def test_a_leader_that_slept_through_its_lease_ends_when_it_wakes_up(team: Team, start: Start) -> None:
    first = start("first")
    wait_for(lambda: watching(first), "the first to lead", 60)
    second = start("second")
    assert first.process is not None
    first.process.send_signal(signal.SIGSTOP)
    wait_for(lambda: watching(second), "the second to lead", 60)
    first.process.send_signal(signal.SIGCONT)
    assert first.process.wait(timeout=30) == 1
    assert "has lost the Lease" in first.log.read_text()
    assert leads(second)


@pytest.fixture
def wire(kubeconfig: Path, moto_store: ObjectStore) -> Iterator[Wire]:
    known = yaml.safe_load(kubeconfig.read_text())["clusters"][0]["cluster"]
    with Wire(known["server"], known["certificate-authority"], moto_store.endpoint) as wire:
        yield wire


@dataclass
class Gate:
    """Holds the first write of serving.json on its way to the store until it is opened."""

    held: Call | None = None
    opened: threading.Event = field(default_factory=threading.Event)

    def __call__(self, call: Call) -> None:
        if self.held is None and call.method == "PUT" and "/serving.json" in call.target:
            self.held = call
            self.opened.wait()

    @property
    def answer(self) -> int | None:
        """The store's, to the call that was held."""
        return self.held.status if self.held else None


def told(team: Team) -> ServingDocument:
    return ServingDocument.model_validate_json(team.place.read("models/serving.json"))


def test_what_a_sleeper_tells_the_model_servers_after_its_successor_has_looked_is_rejected(
    team: Team, start: Start, wire: Wire
) -> None:
    """The successor finds everything as it should be: only that it leads now is news."""
    first, gate = start("first"), Gate()
    line = wire.line(team.bucket)
    replace(team, store=replace(team.store, endpoint=wire.store)).apply()
    wait_for(lambda: team.served() == 1, "a version to be served", 90)
    wait_for(lambda: condition_of(team.get(), "Ready").get("status") == "True", "the first to be done", 60)
    line.gate = gate
    team.patch(serving={"version": 1})
    wait_for(lambda: gate.held, "the first to tell of the version that was asked for", 60)
    assert first.process is not None
    first.process.send_signal(signal.SIGSTOP)
    team.patch(serving={"version": None})
    second = start("second")
    wait_for(lambda: told(team).term == 1, "the second to have looked", 120)
    wanted = told(team)
    assert (wanted.version, wanted.pinned, leads(second)) == (1, False, True)
    gate.opened.set()
    wait_for(lambda: gate.answer, "the sleeper's write to arrive", 60)
    assert (gate.answer, told(team)) == (412, wanted)
    first.process.send_signal(signal.SIGCONT)
    assert first.process.wait(timeout=30) == 1
    assert told(team) == wanted


class Sleepy(client.ApiClient):
    """A client that dozes off between what it has read and what it writes."""

    def __init__(self, configuration: client.Configuration, meanwhile: Callable[[], object]) -> None:
        super().__init__(configuration)
        self._meanwhile = meanwhile

    def call_api(self, method: str, *arguments: Any, **options: Any) -> Any:
        if method in {"PATCH", "DELETE"}:
            self._meanwhile()
        return super().call_api(method, *arguments, **options)


@pytest.fixture
def owner(api: Api, namespace: str) -> Manifest:
    """Whose the objects are that operators fight for."""
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "owner"}}
    return api.create("configmaps", namespace, body)


@pytest.fixture
def configuration(kubeconfig: Path) -> client.Configuration:
    made = client.Configuration()
    config.load_kube_config(str(kubeconfig), client_configuration=made)
    return made


def service(owner: Manifest, port: int) -> Manifest:
    reference = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
        "controller": True,
    }
    metadata = {"name": "served", "namespace": owner["metadata"]["namespace"], "ownerReferences": [reference]}
    spec = {"selector": {"app": "served"}, "ports": [{"port": port}]}
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}


def test_what_a_sleeper_writes_after_its_successor_is_rejected(
    api: Api, namespace: str, owner: Manifest, configuration: client.Configuration
) -> None:
    successor = Cluster(client.ApiClient(configuration))
    uid = owner["metadata"]["uid"]
    successor.apply(service(owner, 8501), uid)
    sleeper = Cluster(Sleepy(configuration, lambda: successor.apply(service(owner, 8502), uid)))
    with pytest.raises(ApiError) as rejected:
        sleeper.apply(service(owner, 8500), uid)
    assert rejected.value.status == 409
    assert [port["port"] for port in api.get("services", namespace, "served")["spec"]["ports"]] == [8502]


def test_what_somebody_makes_just_before_our_first_apply_stays_theirs(
    api: Api, namespace: str, owner: Manifest, configuration: client.Configuration
) -> None:
    theirs = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "served"},
        "spec": {"selector": {"app": "shop"}, "ports": [{"port": 8500}]},
    }
    late = Cluster(Sleepy(configuration, lambda: api.create("services", namespace, theirs)))
    with pytest.raises(ApiError) as rejected:
        late.apply(service(owner, 8500), owner["metadata"]["uid"])
    assert rejected.value.status == 409
    found = api.get("services", namespace, "served")
    assert found["spec"]["selector"] == {"app": "shop"}
    assert "ownerReferences" not in found["metadata"]


def job(owner: Manifest) -> Manifest:
    """It is never started."""
    metadata = {**service(owner, 0)["metadata"], "name": "flowers-0123456789"}
    pod = {"containers": [{"name": "main", "image": "any"}], "restartPolicy": "Never"}
    spec = {"suspend": True, "template": {"spec": pod}}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": spec}


def test_a_job_that_a_sleeper_deletes_or_limits_after_its_successor_has_started_or_kept_it_goes_on(
    api: Api, namespace: str, owner: Manifest, configuration: client.Configuration
) -> None:
    successor, uid = Cluster(client.ApiClient(configuration)), owner["metadata"]["uid"]
    successor.create_once(job(owner), uid)
    (name,) = (one["metadata"]["name"] for one in api.list("jobs", namespace))

    def started_again() -> None:
        api.delete("jobs", namespace, name)
        wait_for(lambda: api.find("jobs", namespace, name) is None, "the failed Job to be gone")
        successor.create_once(job(owner), uid)

    def kept() -> None:
        api.patch("jobs", namespace, name, {"metadata": {"labels": {"seen": "again"}}})

    for meanwhile in (started_again, kept):
        seen = api.get("jobs", namespace, name)["metadata"]
        sleeper = Cluster(Sleepy(configuration, meanwhile))
        assert not sleeper.delete("Job", namespace, name, seen["uid"], seen["resourceVersion"])
        limits = other_limits({"activeDeadlineSeconds": 60})
        assert not Cluster(client.ApiClient(configuration)).patch(
            "Job", namespace, name, (seen["uid"], seen["resourceVersion"]), limits
        )
        found = api.get("jobs", namespace, name)
        assert ("deletionTimestamp" in found["metadata"], "activeDeadlineSeconds" in found["spec"]) == (
            False,
            False,
        )
    seen = api.get("jobs", namespace, name)["metadata"]
    assert successor.delete("Job", namespace, name, seen["uid"], seen["resourceVersion"])
