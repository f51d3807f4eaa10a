"""Runs that take too long or hang, on a real API server with its real Job controller: each is ended, told why, and leaves no pod."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from apiserver_expansions import Operator, Team, add_images, install_definition, message
from apiserver_waiting import Waiter, condition_of, wait_for

from expansion_contract import layout
from expansion_contract.report import Progress
from expansion_development.kubernetes_api import Api, Manifest
from expansion_development.object_store import ObjectStore
from expansion_development.process_node.running import RunningNode

pytestmark = pytest.mark.apiserver
LEAST = 60
"""Seconds: no deadline of these two may be shorter."""
LONGER = LEAST + 25
"""Past the deadline and the look that follows it."""


@pytest.fixture(scope="module")
def operator(
    kubeconfig: Path, api: Api, process_node: RunningNode, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Operator]:
    install_definition(api)
    add_images(process_node)
    with Operator(kubeconfig, tmp_path_factory.mktemp("deadlines") / "operator.log") as running:
        yield running


@pytest.fixture
def team(api: Api, namespace: str, moto_store: ObjectStore, bucket: str, operator: Operator) -> Team:
    team = Team(api, namespace, moto_store, bucket)
    team.create_secret()
    team.put_images(tulip=30, rose=30)
    return team


def begin(team: Team, name: str, behaviour: str, **deadlines: int) -> None:
    """A run in a folder of its own."""
    team.place.write(f"models/{name}/behaviour", behaviour.encode())
    compute = {"gpusPerWorker": 0, "backoffLimit": 1, **deadlines}
    team.apply(name, output={"models": f"s3://{team.bucket}/models/{name}/"}, compute=compute)


def named(team: Team, kind: str, name: str) -> list[Manifest]:
    return team.api.list(kind, team.namespace, labelSelector=f"classifierexpansion.dev/name={name}")


def attempts(team: Team, name: str) -> int:
    return sum(1 for _ in team.place.list(f"models/{name}/attempts/"))


def leaves_no_pod(team: Team, name: str) -> None:
    wait_for(lambda: not named(team, "pods", name), f"the pods of {name} to be gone")
    assert attempts(team, name) == 1, "it was started again"


def test_runs_end_at_their_deadlines_and_one_that_says_something_new_goes_on(
    team: Team, wait_for_condition: Waiter
) -> None:
    """Side by side, because each deadline is a minute."""
    begin(team, "busy", f"busy:{LONGER}", noProgressDeadlineSeconds=LEAST)
    begin(team, "long", "busy:600", activeDeadlineSeconds=LEAST)
    begin(team, "hung", "slow:600", noProgressDeadlineSeconds=LEAST)
    ended_by_kubernetes(team, wait_for_condition("long", "Stalled", reason="DeadlineExceeded", timeout=180))
    ended_by_the_operator(team, wait_for_condition("hung", "Stalled", reason="NoProgress", timeout=180))
    wait_for_condition("busy", "Ready", timeout=180)
    assert attempts(team, "busy") == 1


def ended_by_kubernetes(team: Team, resource: Manifest) -> None:
    assert "spec.compute.activeDeadlineSeconds (60): raise it." in message(resource, "Ready")
    (job,) = named(team, "jobs", "long")
    assert condition_of(job, "Failed").get("reason") == "DeadlineExceeded"
    leaves_no_pod(team, "long")


def ended_by_the_operator(team: Team, resource: Manifest) -> None:
    told, last = message(resource, "Ready"), progress(team, resource)
    assert f"has said nothing new since {last.updated_at} in stage {last.stage}, longer than" in told
    assert "spec.compute.noProgressDeadlineSeconds (60)" in told
    wait_for(lambda: not named(team, "jobs", "hung"), "the Job of hung to be gone")
    leaves_no_pod(team, "hung")


def progress(team: Team, resource: Manifest) -> Progress:
    """What its trainer said last."""
    key = layout.run(resource["status"]["run"]["id"], layout.PROGRESS)
    return Progress.model_validate_json(team.place.read(f"models/{resource['metadata']['name']}/{key}"))
