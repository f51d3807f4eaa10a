"""Expansions that grow each other's models, with a real API server and S3 server: who waits, who follows, who is refused."""

from collections.abc import Callable
from typing import Any

import pytest
from apiserver_expansions import EXPANSIONS, Operator, Team, message
from apiserver_waiting import Waiter, condition_of, wait_for

from expansion_contract import layout
from expansion_contract.run import TrainingRun
from expansion_development.kubernetes_api import Api, Manifest
from expansion_development.object_store import ObjectStore

pytestmark = pytest.mark.apiserver


@pytest.fixture
def team(api: Api, namespace: str, moto_store: ObjectStore, bucket: str, operator: Operator) -> Team:
    team = Team(api, namespace, moto_store, bucket)
    team.create_secret()
    team.put(*(f"cars/{kind}/{number}.jpg" for kind in ("van", "coupe") for number in range(25)))
    team.put(*(f"flowers/{kind}/{number}.jpg" for kind in ("tulip", "rose") for number in range(25)))
    return team


Chain = Callable[..., Manifest]


@pytest.fixture
def chain(team: Team, wait_for_condition: Waiter) -> Chain:
    """cars grows a pretrained network, flowers grows cars; both are Ready."""

    def make(**retrain: Any) -> Manifest:
        apply(team, "cars")
        apply(team, "flowers", grows="cars", retrain=retrain)
        wait_for_condition("cars", "Ready")
        return wait_for_condition("flowers", "Ready")

    return make


def apply(team: Team, name: str, grows: str = "", images: str = "", **spec: Any) -> None:
    base = {"expansionRef": {"name": grows}} if grows else {"pretrained": {}}
    places = {
        "categories": {"images": f"s3://{team.bucket}/{images or name}/"},
        "output": {"models": f"s3://{team.bucket}/models-{name}/"},
    }
    team.apply(name, **{"base": base, **places, **spec})


def grown(team: Team, name: str = "flowers") -> tuple[int, int] | None:
    """(version, version of the base) if it is Ready."""
    found = team.get(name)
    model = found["status"].get("model") or {}
    if condition_of(found, "Ready").get("status") != "True" or "base" not in model:
        return None
    return model["version"], model["base"]["version"]


def run_of(team: Team, name: str) -> TrainingRun:
    run_id = team.get(name)["status"]["run"]["id"]
    return TrainingRun.model_validate_json(team.place.read(f"models-{name}/{layout.run(run_id, layout.RUN)}"))


def test_a_chain_applied_in_the_wrong_order_waits_and_then_grows_what_was_published(
    team: Team, wait_for_condition: Waiter
) -> None:
    apply(team, "flowers", grows="cars")
    waiting = wait_for_condition("flowers", "DatasetResolved", "Unknown", reason="BaseMissing")
    assert condition_of(waiting, "Reconciling")["status"] == "True"
    assert not condition_of(waiting, "Stalled")
    apply(team, "cars")
    wait_for_condition("flowers", "DatasetResolved", "Unknown", reason="BaseNotPublished")
    settled = wait_for_condition("flowers", "Ready")
    model = settled["status"]["model"]
    assert model["base"]["version"] == 1
    assert model["base"]["uri"] == f"s3://{team.bucket}/models-cars/versions/1"
    assert model["categories"] == 1004
    assert run_of(team, "flowers").base is None


def test_the_next_version_of_the_base_is_grown_without_waiting_for_a_poll(team: Team, chain: Chain) -> None:
    chain()
    team.patch("cars", retrain={"revision": 1})
    wait_for(lambda: grown(team) == (2, 2), "flowers to grow version 2 of cars")
    assert run_of(team, "flowers").previous == f"s3://{team.bucket}/models-flowers/versions/1"
    assert run_of(team, "flowers").given == ["rose", "tulip"]


def test_where_it_is_only_reported_the_model_stays_until_its_revision_is_raised(
    team: Team, chain: Chain, wait_for_condition: Waiter
) -> None:
    chain(onBaseChange="Report")
    team.patch("cars", retrain={"revision": 1})
    told = wait_for_condition("flowers", "BaseChanged")
    assert "cars has version 2, this model grew from 1" in message(told, "BaseChanged")
    assert condition_of(told, "Ready")["status"] == "True"
    assert grown(team) == (1, 1)
    team.patch("flowers", retrain={"revision": 1})
    wait_for(lambda: grown(team) == (2, 2), "flowers to grow version 2 of cars")
    assert not condition_of(team.get("flowers"), "BaseChanged")


def test_names_are_compared_with_those_of_the_base(
    team: Team, chain: Chain, wait_for_condition: Waiter
) -> None:
    chain()
    team.put(*(f"more/{kind}/{number}.jpg" for kind in ("Tulip", "lorry") for number in range(25)))
    apply(team, "more", grows="flowers")
    refused = wait_for_condition("more", "Stalled", reason="CategoryOverlap")
    assert "The base already has 'Tulip'." in message(refused, "Stalled")


def test_a_circle_is_refused_on_both_sides_and_one_edit_mends_it(
    team: Team, wait_for_condition: Waiter
) -> None:
    apply(team, "cars", grows="flowers")
    apply(team, "flowers", grows="cars")
    wait_for_condition("cars", "Stalled", reason="BaseCircle")
    refused = wait_for_condition("flowers", "Stalled", reason="BaseCircle")
    assert "flowers -> cars -> flowers" in message(refused, "Stalled")
    team.patch("cars", base={"expansionRef": None, "pretrained": {}})
    wait_for(lambda: grown(team) == (1, 1), "both to be ready")


def test_a_base_deleted_while_its_version_is_grown_loses_nothing(
    team: Team, wait_for_condition: Waiter
) -> None:
    apply(team, "cars")
    wait_for_condition("cars", "Ready")
    team.place.write("models-flowers/behaviour", b"slow:15")
    apply(team, "flowers", grows="cars")
    wait_for_condition("flowers", "Trained", "Unknown", reason="Running")
    team.api.delete(EXPANSIONS, team.namespace, "cars")
    wait_for_condition("flowers", "DatasetResolved", "Unknown", reason="BaseMissing")
    (job,) = [job for job in team.jobs() if job["metadata"]["name"].startswith("flowers-")]
    wait_for(
        lambda: team.api.get("jobs", team.namespace, job["metadata"]["name"])["status"].get("succeeded"),
        "its end",
    )
    apply(team, "cars")
    wait_for(lambda: grown(team) == (1, 1), "flowers to publish what it trained")
    assert sum(1 for _ in team.place.list("models-flowers/attempts/")) == 1


def test_a_version_that_is_gone_is_named_and_grown_when_it_is_back(
    team: Team, wait_for_condition: Waiter
) -> None:
    apply(team, "cars")
    wait_for_condition("cars", "Ready")
    key = f"models-cars/{layout.version(1, layout.MANIFEST)}"
    manifest = team.place.read(key)
    team.place.delete(key)
    uri = f"s3://{team.bucket}/models-cars/versions/1"
    apply(team, "flowers", base={"model": {"uri": uri}})
    refused = wait_for_condition("flowers", "Stalled", reason="BaseVersionMissing")
    assert f"{uri}/manifest.json does not exist" in message(refused, "Stalled")
    team.place.write(key, manifest)
    team.patch("flowers", acceptance={"minimumAccuracy": 0.5})
    wait_for(lambda: grown(team) == (1, 1), "flowers to grow it")


def test_an_overlap_found_by_the_trainer_waits_for_its_owner(team: Team, wait_for_condition: Waiter) -> None:
    team.place.write("models-flowers/behaviour", b"overlap succeed")
    apply(team, "flowers")
    refused = wait_for_condition("flowers", "Stalled", reason="CategoryOverlap")
    assert condition_of(refused, "Trained")["reason"] == "CategoryOverlap"
    team.patch("flowers", categories={"onOverlap": "KeepBoth"})
    wait_for_condition("flowers", "Ready")
