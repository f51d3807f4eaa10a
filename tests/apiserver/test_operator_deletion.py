"""What becomes of storage when a resource is deleted, with a real API server and S3 server."""

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from apiserver_expansions import EXPANSIONS, SERVED, Operator, Team
from apiserver_waiting import Waiter, wait_for
from kubernetes import config

from expansion_contract.resource import FINALIZER, ClassifierExpansion
from expansion_operator.cluster import Cluster
from expansion_operator.departing import Departures
from expansion_operator.neighbours import Neighbours
from expansion_operator.observed import Trouble
from expansion_operator.storage import Storage, StorageTrouble

pytestmark = pytest.mark.apiserver


def apply(team: Team, policy: str = "Delete", **spec: object) -> None:
    team.apply(output={"models": f"s3://{team.bucket}/models/", "deletionPolicy": policy}, **spec)


def finalizers(team: Team) -> list[str]:
    found: list[str] = team.get()["metadata"].get("finalizers", [])
    return found


def is_gone(team: Team) -> bool:
    return team.api.find(EXPANSIONS, team.namespace, "flowers") is None


def left(team: Team) -> list[str]:
    return [entry.key for entry in team.place.list("models/")]


def said(team: Team, uid: str, reason: str) -> str:
    """All that events of this reason say."""
    found = team.api.list("events", team.namespace, fieldSelector=f"involvedObject.uid={uid}")
    return " ".join(event["message"] for event in found if event["reason"] == reason)


def test_storage_goes_with_its_resource_if_it_says_so(team: Team, wait_for_condition: Waiter) -> None:
    apply(team, serving=SERVED)
    settled = wait_for_condition("flowers", "Ready")
    team.place.write("models/notes.txt", b"not ours")
    assert finalizers(team) == [FINALIZER]
    team.api.delete(EXPANSIONS, team.namespace, "flowers")
    wait_for(lambda: is_gone(team), "the resource to be gone")
    assert left(team) == ["models/attempts/0-" + settled["status"]["run"]["id"], "models/notes.txt"]
    assert "were removed" in said(team, settled["metadata"]["uid"], "StorageRemoved")


def test_a_run_ends_before_its_storage_is_removed(team: Team, wait_for_condition: Waiter) -> None:
    team.behave("slow:600")
    apply(team)
    wait_for_condition("flowers", "Trained", "Unknown", reason="Running")
    team.api.delete(EXPANSIONS, team.namespace, "flowers")
    wait_for(lambda: is_gone(team), "the resource to be gone")
    time.sleep(2)
    assert [key for key in left(team) if key.startswith("models/runs/")] == []


def test_retaining_is_the_way_out_of_a_deletion_that_hangs(team: Team, wait_for_condition: Waiter) -> None:
    apply(team)
    settled = wait_for_condition("flowers", "Ready")
    team.api.delete("secrets", team.namespace, "s3-credentials")
    team.api.delete(EXPANSIONS, team.namespace, "flowers")
    uid = settled["metadata"]["uid"]
    wait_for(lambda: "s3-credentials" in said(team, uid, "Deleting"), "an event that says what is missing")
    assert not is_gone(team)
    team.patch(output={"deletionPolicy": "Retain"})
    wait_for(lambda: is_gone(team), "the resource to be gone")
    assert team.versions() == [1]


def test_nothing_waits_longer_than_ten_minutes(
    team: Team, operator: Operator, wait_for_condition: Waiter, kubeconfig: Path
) -> None:
    apply(team)
    settled = wait_for_condition("flowers", "Ready")
    operator.kill()
    for job in team.jobs():
        team.api.delete("jobs", team.namespace, job["metadata"]["name"])
    team.api.delete(EXPANSIONS, team.namespace, "flowers")

    def no_storage(_: ClassifierExpansion) -> Storage:
        raise StorageTrouble(Trouble(reason="SecretMissing", message="It is gone.", permanent=False))

    def step(after: timedelta) -> float | None:
        departures = Departures(
            cluster=Cluster(config.new_client_from_config(str(kubeconfig))),
            storage=no_storage,
            neighbours=Neighbours(),
            now=lambda: datetime.now(UTC) + after,
        )
        return departures.step(team.get())

    wait_for(lambda: not team.jobs(), "the Job to be gone")
    assert step(timedelta(minutes=9)) is not None
    assert not is_gone(team)
    assert step(timedelta(minutes=11)) is None
    assert is_gone(team)
    assert "were left. It is gone." in said(team, settled["metadata"]["uid"], "StorageKept")
    assert team.versions() == [1]
    operator.__enter__()


def test_a_resource_is_no_longer_held_when_its_storage_is_to_stay(
    team: Team, wait_for_condition: Waiter
) -> None:
    apply(team)
    wait_for_condition("flowers", "Ready")
    team.patch(output={"deletionPolicy": "Retain"})
    wait_for(lambda: finalizers(team) == [], "no finalizer")


def test_a_resource_deleted_while_no_operator_runs_is_cleaned_up_by_the_next_one(
    team: Team, operator: Operator, wait_for_condition: Waiter
) -> None:
    apply(team)
    wait_for_condition("flowers", "Ready")
    operator.kill()
    team.api.delete(EXPANSIONS, team.namespace, "flowers")
    assert not is_gone(team)
    operator.__enter__()
    wait_for(lambda: is_gone(team), "the resource to be gone")
    assert team.versions() == []
