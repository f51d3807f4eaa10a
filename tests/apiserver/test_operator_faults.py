"""The operator may die at any moment, and begin again, and nobody can tell from what it leaves."""

import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from apiserver_expansions import (
    SERVED,
    Operator,
    Team,
    add_images,
    install_definition,
    instant_trainer,
    message,
)
from apiserver_waiting import Waiter, condition_of, wait_for

from expansion_contract import layout
from expansion_development.control_plane import ControlPlane
from expansion_development.kubernetes_api import Api, Manifest
from expansion_development.object_store import ObjectStore
from expansion_development.process_node.running import RunningNode

pytestmark = pytest.mark.apiserver
Start = Callable[..., Operator]
KILLS = 20
SEED = 20161111
LONGEST = 4.0
"""Seconds from the operator's first word to its death: a run takes about this long here, so every step is hit."""


@pytest.fixture
def team(api: Api, namespace: str, moto_store: ObjectStore, bucket: str, process_node: RunningNode) -> Team:
    install_definition(api)
    add_images(process_node)
    team = Team(api, namespace, moto_store, bucket)
    team.create_secret()
    team.put_images(tulip=20, rose=20)
    return team


@pytest.fixture
def empty_control_plane() -> Iterator[ControlPlane]:
    """One that has never heard of us."""
    with ControlPlane() as running:
        yield running


@pytest.fixture
def new_operator(kubeconfig: Path, namespace: str, tmp_path: Path) -> Iterator[Start]:
    """Starts one that ends with the test."""
    started: list[Operator] = []

    def start(**options: str) -> Operator:
        operator = Operator(kubeconfig, tmp_path / f"operator-{len(started)}.log", namespace, **options)
        started.append(operator.__enter__())
        wait_for(lambda: "watching" in operator.log.read_text(), "the operator to watch", 60, 0.05)
        return operator

    yield start
    for operator in started[-2:]:
        operator.__exit__()


def test_killed_at_any_moment_it_ends_the_same_with_one_job_for_each_run(
    team: Team, new_operator: Start
) -> None:
    chance = random.Random(SEED)
    names = [f"flowers-{number}" for number in range(KILLS)]
    for number, name in enumerate(names):
        team.apply(
            name, output={"models": models(team, name)}, **({"serving": SERVED} if number % 10 == 0 else {})
        )
        operator = new_operator()
        time.sleep(chance.uniform(0, LONGEST))
        operator.kill()
    new_operator()
    for name in names:
        wait_for(lambda name=name: is_ready(team.get(name)), f"{name} to be ready", 180)
    for name in names:
        assert end_state(team, name) == {
            "jobs": 1,
            "attempts": 1,
            "versions": ["versions/1"],
            "model": 1,
            "history": ["Published"],
            "runs": 1,
        }, name


def test_a_new_operator_leaves_what_is_settled_alone(team: Team, new_operator: Start) -> None:
    first = new_operator()
    team.apply(output={"models": models(team, "flowers")})
    wait_for(lambda: is_ready(team.get()), "the resource to be ready")
    time.sleep(2)
    first.kill()
    before = team.get()["metadata"]["resourceVersion"]
    new_operator()
    time.sleep(6)
    assert team.get()["metadata"]["resourceVersion"] == before


def test_it_ends_in_order_and_soon_when_it_is_asked_to(new_operator: Start) -> None:
    """At once after its start, and again in the middle of its life."""
    for lived in (0.0, 2.0):
        operator = new_operator()
        time.sleep(lived)
        started = time.monotonic()
        assert operator.stop() == 0
        assert time.monotonic() - started < 15


def test_without_its_definition_it_says_so_and_waits(
    empty_control_plane: ControlPlane, tmp_path: Path
) -> None:
    with Operator(empty_control_plane.kubeconfig, tmp_path / "operator.log") as operator:
        said = "Install the CustomResourceDefinition from crds/."
        wait_for(lambda: said in operator.log.read_text(), "the remedy", 60)
        install_definition(Api(empty_control_plane.kubeconfig))
        wait_for(lambda: "watching all namespaces" in operator.log.read_text(), "the operator to watch", 60)
        wait_for(lambda: operator.healthy("readyz"), "readiness", 60)
        assert operator.healthy("healthz")


def test_an_image_that_cannot_be_pulled_is_told_and_may_still_arrive(
    team: Team, new_operator: Start, process_node: RunningNode, wait_for_condition: Waiter
) -> None:
    image = f"late-trainer:{team.namespace}"
    new_operator(trainer=image)
    team.apply()
    found = wait_for_condition("flowers", "Trained", "Unknown", reason="ImagePullBackOff")
    assert f"Container trainer ({image}) of pod flowers-" in message(found, "Ready")
    assert "does not start: ImagePullBackOff" in message(found, "Ready")
    process_node.add_image(image, instant_trainer())
    wait_for_condition("flowers", "Ready")
    assert team.attempts() == 1


def test_a_trainer_image_that_never_comes_ends_the_run(
    team: Team, new_operator: Start, wait_for_condition: Waiter
) -> None:
    new_operator(trainer="never-trainer:1")
    team.apply(compute={"gpusPerWorker": 0, "pendingDeadlineSeconds": 30})
    found = wait_for_condition("flowers", "Stalled", reason="ImagePullBackOff", timeout=120)
    assert "within spec.compute.pendingDeadlineSeconds (30)" in message(found, "Ready")
    assert "never-trainer:1" in message(found, "Ready")
    wait_for(lambda: not team.jobs(), "the Job to be gone")
    assert (team.versions(), team.attempts()) == ([], 0)


def test_a_model_server_image_that_cannot_be_pulled_is_told(
    team: Team, new_operator: Start, wait_for_condition: Waiter
) -> None:
    new_operator()
    team.apply(serving={"replicas": 1, "image": "nowhere/serving:1"})
    found = wait_for_condition("flowers", "Ready", "False", reason="ImagePullBackOff")
    assert "Container model-server (nowhere/serving:1) of pod flowers-serving-" in message(found, "Ready")
    assert condition_of(found, "Published")["status"] == "True"


def models(team: Team, name: str) -> str:
    return f"s3://{team.bucket}/models/{name}/"


def is_ready(resource: Manifest) -> bool:
    return condition_of(resource, "Ready").get("status") == "True"


def end_state(team: Team, name: str) -> dict[str, object]:
    below = [entry.key for entry in team.place.below(f"models/{name}").list()]
    jobs = [job for job in team.jobs() if job["metadata"]["labels"]["classifierexpansion.dev/name"] == name]
    status = team.get(name)["status"]
    return {
        "jobs": len(jobs),
        "attempts": sum(key.startswith("attempts/") for key in below),
        "versions": sorted({"/".join(key.split("/")[:2]) for key in below if key.startswith("versions/")}),
        "model": status["model"]["version"],
        "history": [entry["outcome"] for entry in status["history"]],
        "runs": sum(key.endswith(f"/{layout.RUN}") for key in below),
    }
