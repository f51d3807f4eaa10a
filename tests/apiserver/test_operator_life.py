"""The whole life of a resource with a real API server, a real S3 server, and a trainer that answers at once."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from apiserver_expansions import (
    EXPANSIONS,
    MODEL_SERVER,
    SERVED,
    Operator,
    Team,
    message,
)
from apiserver_waiting import Waiter, condition_of, wait_for

from expansion_development.kubernetes_api import Manifest
from expansion_operator.cluster import FIELD_MANAGER

pytestmark = pytest.mark.apiserver
Settled = Callable[..., Manifest]


@pytest.fixture
def ready(team: Team, wait_for_condition: Waiter) -> Settled:
    """Applies a resource and waits until it is Ready."""

    def wait(**spec: Any) -> Manifest:
        team.apply(**spec)
        return wait_for_condition("flowers", "Ready")

    return wait


def test_a_resource_becomes_ready_and_says_all_about_it(team: Team, ready: Settled) -> None:
    settled = ready(serving=SERVED)
    status = settled["status"]
    assert status["model"]["version"] == status["serving"]["version"] == 1
    assert status["model"]["categories"] == 1002
    assert status["model"]["accuracy"] == "0.9500"
    assert status["run"]["outcome"] == "Succeeded"
    assert status["dataset"]["images"] == 60
    assert [entry["outcome"] for entry in status["history"]] == ["Published"]
    assert settled["metadata"]["generation"] == status["observedGeneration"] == 1
    assert (team.versions(), team.served()) == ([1], 1)


def test_nothing_of_ours_stands_in_the_users_metadata(ready: Settled) -> None:
    metadata = ready()["metadata"]
    assert not {"finalizers", "annotations", "labels"} & metadata.keys()


def test_a_settled_resource_is_left_alone(team: Team, ready: Settled) -> None:
    ready(serving=SERVED)
    time.sleep(2)  # what the last change sets off
    before = versions_of(team)
    time.sleep(8)
    assert versions_of(team) == before


def test_applying_the_same_again_or_another_label_changes_nothing(team: Team, ready: Settled) -> None:
    ready()
    time.sleep(2)
    before, status = team.jobs(), team.get()["status"]
    team.apply()
    labelled = team.api.patch(EXPANSIONS, team.namespace, "flowers", {"metadata": {"labels": {"team": "b"}}})
    time.sleep(4)
    assert team.get()["metadata"]["resourceVersion"] == labelled["metadata"]["resourceVersion"]
    assert [job["metadata"]["uid"] for job in team.jobs()] == [job["metadata"]["uid"] for job in before]
    assert team.get()["status"] == status
    assert team.attempts() == 1


def test_editing_a_threshold_gates_again_without_a_second_run(team: Team, wait_for_condition: Waiter) -> None:
    team.behave("succeed:0.8")
    team.apply(acceptance={"minimumAccuracy": 0.9})
    refused = wait_for_condition("flowers", "Stalled", reason="GateRefused")
    assert message(refused, "Accepted") == (
        "Accuracy 0.800 (n=1000) is not at least spec.acceptance.minimumAccuracy 0.900."
    )
    assert refused["status"]["candidate"]["accepted"] is False
    assert team.versions() == []
    team.patch(acceptance={"minimumAccuracy": 0.7})
    accepted = wait_for_condition("flowers", "Ready")
    assert not condition_of(accepted, "Stalled")
    assert (team.versions(), team.attempts(), len(team.jobs())) == ([1], 1, 1)


def test_changed_images_become_the_next_version(team: Team, ready: Settled) -> None:
    ready(retrain={"pollInterval": "10s"})
    team.put_images(lily=1)  # at once: half an upload would be a version of its own
    wait_for(lambda: team.versions() == [1, 2], "version 2")
    settled = wait_for(lambda: is_ready_with(team, 2), "version 2 to be ready")
    assert settled is not None
    assert settled["status"]["dataset"]["categories"] == 3
    assert [entry["version"] for entry in settled["status"]["history"]] == [2, 1]
    assert len(team.jobs()) == 1, "the Job of the old run is gone"


def test_suspending_stops_a_run_and_keeps_serving(
    team: Team, ready: Settled, wait_for_condition: Waiter
) -> None:
    ready(serving=SERVED)
    team.behave("succeed", "slow:600", "succeed")
    team.patch(retrain={"revision": 1})
    wait_for(lambda: team.attempts() == 2, "the second run")
    team.patch(suspend=True)
    suspended = wait_for_condition("flowers", "Suspended")
    wait_for(lambda: not any(job["status"].get("active") for job in team.jobs()), "no active Job")
    assert condition_of(suspended, "Serving")["status"] == "True"
    assert suspended["status"]["observedGeneration"] == suspended["metadata"]["generation"]
    assert team.served() == 1
    team.patch(suspend=False)
    wait_for(lambda: is_ready_with(team, 2) and team.served() == 2, "version 2")


def test_an_earlier_version_is_served_again_by_one_field_and_without_a_run(
    team: Team, ready: Settled
) -> None:
    ready(serving=SERVED)
    team.patch(retrain={"revision": 1})
    wait_for(lambda: is_ready_with(team, 2) and team.get()["status"]["serving"]["version"] == 2, "version 2")
    team.patch(serving={"version": 1})
    wait_for(lambda: team.get()["status"]["serving"]["version"] == 1, "version 1 again")
    settled = wait_for(lambda: is_ready_with(team, 2), "the resource to be ready")
    assert settled is not None
    assert settled["status"]["model"]["announced"] == 1
    assert "spec.serving.version asks for it; the newest is 2." in message(settled, "Ready")
    team.patch(serving={"version": None})
    wait_for(lambda: team.get()["status"]["serving"]["version"] == 2, "version 2 again")
    assert team.attempts() == 2


def test_a_git_revert_serves_what_was_trained_then_without_a_run(team: Team, ready: Settled) -> None:
    ready(serving=SERVED)
    team.apply(serving=SERVED, training={"seed": 1})
    wait_for(lambda: is_ready_with(team, 2) and team.served() == 2, "version 2")
    team.apply(serving=SERVED)
    wait_for(lambda: is_ready_with(team, 1) and team.served() == 1, "version 1 again")
    assert (team.versions(), team.attempts(), team.jobs()) == ([1, 2], 2, [])


def test_an_annotation_asks_for_one_more_run_and_taking_it_away_for_none(team: Team, ready: Settled) -> None:
    ready()
    wish = {"classifierexpansion.dev/retrain-requested-at": "2026-11-22T12:00:00Z"}
    team.api.patch(EXPANSIONS, team.namespace, "flowers", {"metadata": {"annotations": wish}})
    wait_for(lambda: is_ready_with(team, 2), "version 2")
    assert team.get()["status"]["lastHandledRetrainAt"] == "2026-11-22T12:00:00Z"
    no_wish = dict.fromkeys(wish)
    team.api.patch(EXPANSIONS, team.namespace, "flowers", {"metadata": {"annotations": no_wish}})
    time.sleep(4)
    assert (team.versions(), team.served(), team.attempts()) == ([1, 2], 2, 2)


def test_a_run_under_way_may_finish_before_the_next_one_starts(team: Team, ready: Settled) -> None:
    team.behave("slow:6", "succeed")
    team.apply(retrain={"updatePolicy": "Finish"})
    wait_for(lambda: team.attempts() == 1, "the first run")
    wait_for(lambda: condition_of(team.get(), "Trained").get("reason") == "Running", "it to be seen")
    team.patch(retrain={"revision": 1})
    wait_for(lambda: is_ready_with(team, 2), "version 2")
    assert [entry["version"] for entry in team.get()["status"]["history"]] == [2, 1]
    assert team.attempts() == 2


def test_deleting_removes_the_children_and_leaves_what_was_published(team: Team, ready: Settled) -> None:
    ready(serving=SERVED)
    team.api.delete(EXPANSIONS, team.namespace, "flowers")
    wait_for(lambda: not children(team), "the children to be gone")
    assert (team.versions(), team.served()) == ([1], 1)


def test_a_resource_made_again_takes_up_what_was_published(
    team: Team, ready: Settled, wait_for_condition: Waiter
) -> None:
    ready()
    team.api.delete(EXPANSIONS, team.namespace, "flowers")
    wait_for(lambda: not children(team), "the children to be gone")
    team.apply()
    wait_for_condition("flowers", "Ready")
    assert (team.versions(), team.attempts()) == ([1], 1)


def test_a_deployment_edited_by_hand_is_put_right(team: Team, ready: Settled) -> None:
    ready(serving=SERVED)
    team.api.patch("deployments", team.namespace, "flowers-serving", {"spec": {"replicas": 0}})
    wait_for(
        lambda: team.api.get("deployments", team.namespace, "flowers-serving")["spec"]["replicas"] == 1,
        "one replica again",
    )


@pytest.mark.parametrize("plural", ["deployments", "services"])
def test_a_child_that_somebody_deletes_is_made_again(team: Team, ready: Settled, plural: str) -> None:
    ready(serving=SERVED)
    uid = team.api.get(plural, team.namespace, "flowers-serving")["metadata"]["uid"]
    team.api.delete(plural, team.namespace, "flowers-serving")
    wait_for(lambda: is_another(team.api.find(plural, team.namespace, "flowers-serving"), uid), "another one")


def is_another(found: Manifest | None, uid: str) -> bool:
    return found is not None and found["metadata"]["uid"] != uid


def test_what_others_add_to_a_child_stays_when_it_is_put_right(team: Team, ready: Settled) -> None:
    """A sidecar that a webhook injects, an annotation of a policy engine."""
    ready(serving=SERVED)
    sidecar = {"name": "sidecar", "image": "sidecar:1"}
    added = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "flowers-serving", "annotations": {"policy/checked": "yes"}},
        "spec": {"template": {"spec": {"containers": [sidecar]}}},
    }
    team.api.apply("deployments", team.namespace, added, "webhook")
    team.patch(serving={"replicas": 2})
    wait_for(lambda: deployment(team)["spec"]["replicas"] == 2, "two replicas")
    containers = deployment(team)["spec"]["template"]["spec"]["containers"]
    assert "sidecar" in [container["name"] for container in containers]
    assert deployment(team)["metadata"]["annotations"]["policy/checked"] == "yes"


def scale(team: Team, replicas: int) -> None:
    """As a HorizontalPodAutoscaler does it."""
    team.api.patch(
        "deployments", team.namespace, "flowers-serving", {"spec": {"replicas": replicas}}, "scale"
    )


def replicas_since(team: Team, version: str) -> set[int]:
    """Every number that the Deployment ever had since."""
    events = team.api.watch("deployments", team.namespace, version, seconds=2)
    return {body["spec"]["replicas"] for kind, body in events if kind == "MODIFIED"}


def test_replicas_that_are_left_out_are_whoever_scales_them(
    team: Team, ready: Settled, wait_for_condition: Waiter
) -> None:
    ready(serving={"mode": "Managed", "image": MODEL_SERVER})
    assert deployment(team)["spec"]["replicas"] == 1
    scale(team, 3)
    before = deployment(team)["metadata"]["resourceVersion"]
    wait_for(lambda: team.get()["status"]["serving"]["readyReplicas"] == 3, "three model servers")
    team.patch(acceptance={"minimumAccuracy": 0.6}, serving={"resources": {"requests": {"cpu": "100m"}}})
    wait_for_condition("flowers", "Ready")
    team.patch(retrain={"revision": 1})
    wait_for(lambda: team.served() == 2, "version 2")
    wait_for_condition("flowers", "Ready")
    assert replicas_since(team, before) == {3}


def test_replicas_that_are_given_are_ours_and_stay_as_they_are_when_they_are_left_out_again(
    team: Team, ready: Settled
) -> None:
    """Never 1 in between, which is Kubernetes' own number."""
    ready(serving={**SERVED, "replicas": 2})
    scale(team, 3)
    wait_for(lambda: deployment(team)["spec"]["replicas"] == 2, "two again")
    before = deployment(team)["metadata"]["resourceVersion"]
    team.patch(serving={"replicas": None})
    wait_for(lambda: not owns_replicas(team), "the operator to let go of them")
    team.patch(acceptance={"minimumAccuracy": 0.6})
    wait_for(lambda: is_looked_at(team), "the edit to be looked at")
    assert replicas_since(team, before) == {2}
    scale(team, 3)
    team.patch(acceptance={"minimumAccuracy": 0.5})
    wait_for(lambda: is_looked_at(team), "the edit to be looked at")
    assert deployment(team)["spec"]["replicas"] == 3
    team.patch(serving={"replicas": 1})
    wait_for(lambda: deployment(team)["spec"]["replicas"] == 1, "one, as it is given again")


def owns_replicas(team: Team) -> bool:
    owners = (
        entry["manager"]
        for entry in deployment(team)["metadata"]["managedFields"]
        if "f:replicas" in entry["fieldsV1"].get("f:spec", {})
    )
    return FIELD_MANAGER in owners


def is_looked_at(team: Team) -> bool:
    found = team.get()
    return bool(found["status"]["observedGeneration"] == found["metadata"]["generation"])


def deployment(team: Team) -> Manifest:
    return team.api.get("deployments", team.namespace, "flowers-serving")


def test_the_metrics_follow_the_resource_and_go_with_it(
    team: Team, ready: Settled, operator: Operator
) -> None:
    ready(serving=SERVED, acceptance={"minimumAccuracy": 0.9})
    labels = f'{{name="flowers",namespace="{team.namespace}"}}'

    def values() -> dict[str, float]:
        lines = (
            line.rsplit(" ", 1)
            for line in operator.scrape().splitlines()
            if f'namespace="{team.namespace}"' in line
        )
        return {name: float(value) for name, value in lines}

    seen = wait_for(lambda: values() if values().get(f"expansion_ready{labels}") == 1 else None, "Ready")
    assert seen is not None
    assert seen[f"expansion_accuracy_ratio{labels}"] == 0.95
    assert seen[f"expansion_accuracy_threshold_ratio{labels}"] == 0.9
    assert seen[f"expansion_served_version{labels}"] == 1
    assert (
        seen[f'expansion_runs_total{{name="flowers",namespace="{team.namespace}",result="Succeeded"}}'] == 1
    )
    assert seen[f'expansion_gate_total{{name="flowers",namespace="{team.namespace}",result="Accepted"}}'] == 1
    assert 'expansion_operator_watcher_up{kind="classifierexpansions"} 1.0' in operator.scrape()
    team.api.delete(EXPANSIONS, team.namespace, "flowers")
    wait_for(lambda: not values(), "no series of a deleted resource")


def test_conditions_are_told_as_events_once(team: Team, ready: Settled) -> None:
    settled = ready()
    uid = settled["metadata"]["uid"]
    events = team.api.list("events", team.namespace, fieldSelector=f"involvedObject.uid={uid}")
    assert events
    assert all(event["count"] == 1 for event in events)


def test_the_operator_stays_small(ready: Settled, operator: Operator) -> None:
    """After all that this module did with it."""
    ready()
    assert operator.process is not None
    lines = Path(f"/proc/{operator.process.pid}/status").read_text().splitlines()
    (resident,) = (int(line.split()[1]) for line in lines if line.startswith("VmRSS"))
    print(f"{resident // 1024} MB")
    assert resident < 150 * 1024, f"{resident // 1024} MB"


def is_ready_with(team: Team, version: int) -> Manifest | None:
    found = team.get()
    is_ready = condition_of(found, "Ready").get("status") == "True"
    return found if is_ready and found["status"]["model"]["version"] == version else None


def children(team: Team) -> list[str]:
    kinds = ("jobs", "deployments", "services", "pods")
    return [
        f"{kind}/{one['metadata']['name']}" for kind in kinds for one in team.api.list(kind, team.namespace)
    ]


def versions_of(team: Team) -> dict[str, str]:
    """Every write shows as another resourceVersion."""
    objects = [*team.jobs(), *team.api.list("deployments", team.namespace), team.get()]
    return {one["metadata"]["uid"]: one["metadata"]["resourceVersion"] for one in objects}
