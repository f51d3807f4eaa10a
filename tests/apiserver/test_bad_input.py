"""What a user reads who gives us something that cannot work, and that nothing is started or half done because of it."""

import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from apiserver_expansions import EXPANSIONS, SERVED, Operator, Team, message
from apiserver_waiting import Waiter, condition_of, wait_for

from expansion_development import object_store, processes, programs
from expansion_development.kubernetes_api import Api
from expansion_development.object_store import ObjectStore

pytestmark = pytest.mark.apiserver
Stalled = Callable[..., str]


@pytest.fixture
def stalled(team: Team, wait_for_condition: Waiter) -> Stalled:
    """Applies a resource, waits until it is Stalled for this reason, and gives the message."""

    def wait(reason: str, timeout: float = 60, **spec: Any) -> str:
        team.apply(**spec)
        return message(wait_for_condition("flowers", "Stalled", reason=reason, timeout=timeout), "Stalled")

    return wait


def nothing_started(team: Team) -> bool:
    return not team.jobs() and not team.versions() and not team.half_published()


# Storage


def test_a_missing_bucket_is_named(team: Team, stalled: Stalled) -> None:
    said = stalled("BucketMissing", categories={"images": "s3://no-such-bucket/photos/"})
    assert said == (
        f"There is no bucket 'no-such-bucket' at {team.store.endpoint} (for s3://no-such-bucket/photos/)."
        " Create it, or correct the address."
    )
    assert nothing_started(team)


def test_an_output_bucket_that_is_missing_is_said_before_a_job_is_created(
    team: Team, stalled: Stalled
) -> None:
    assert "There is no bucket 'no-such-bucket'" in stalled(
        "BucketMissing", output={"models": "s3://no-such-bucket/models/"}
    )
    assert nothing_started(team)


def test_an_endpoint_that_nobody_answers_is_named_and_asked_again(
    team: Team, wait_for_condition: Waiter
) -> None:
    nobody = f"http://127.0.0.1:{processes.free_port()}"
    team.apply(storage={"endpointUrl": nobody})
    found = wait_for_condition("flowers", "DatasetResolved", "Unknown", reason="EndpointUnreachable")
    assert message(found, "DatasetResolved").startswith(f"{nobody} cannot be reached (")
    assert message(found, "Ready").endswith("Check spec.storage.endpointUrl and the network.")
    assert not condition_of(found, "Stalled"), "it may heal by itself"
    assert nothing_started(team)


def test_a_secret_that_is_created_later_heals_without_an_edit(team: Team, wait_for_condition: Waiter) -> None:
    team.apply(storage={"secretName": "later"})
    found = wait_for_condition("flowers", "DatasetResolved", "Unknown", reason="SecretMissing")
    assert message(found, "Ready") == (
        f"Secret {team.namespace}/later, named by spec.storage.secretName, does not exist. Create it; it is looked for again"
        " every 15 s."
    )
    assert nothing_started(team)
    team.create_secret("later")
    assert wait_for_condition("flowers", "Ready")["metadata"]["generation"] == 1


def test_a_secret_without_a_key_is_told_which(team: Team, wait_for_condition: Waiter) -> None:
    team.create_secret("half", AWS_SECRET_ACCESS_KEY=None)
    team.apply(storage={"secretName": "half"})
    found = wait_for_condition("flowers", "DatasetResolved", "Unknown", reason="SecretIncomplete")
    assert (
        f"Secret {team.namespace}/half, named by spec.storage.secretName, has no AWS_SECRET_ACCESS_KEY."
        in message(found, "Ready")
    )
    assert nothing_started(team)


def test_a_key_with_a_line_break_is_told_as_such(team: Team, wait_for_condition: Waiter) -> None:
    team.create_secret("pasted", AWS_ACCESS_KEY_ID="key\n")
    team.apply(storage={"secretName": "pasted"})
    found = wait_for_condition("flowers", "DatasetResolved", "Unknown", reason="SecretInvalid")
    assert "AWS_ACCESS_KEY_ID in Secret" in message(found, "Ready")
    assert "line break" in message(found, "Ready")


@pytest.fixture(scope="module")
def strict_store() -> Iterator[ObjectStore]:
    """A store that checks keys and signatures."""
    found = programs.obtain((programs.VERSITYGW,), programs.Places.of(dict(os.environ)), print)
    with object_store.versitygw(found[programs.VERSITYGW]) as store:
        yield store


@pytest.fixture
def strict_team(api: Api, namespace: str, strict_store: ObjectStore, operator: Operator) -> Team:
    strict_store.create_bucket(namespace)
    team = Team(api, namespace, strict_store, namespace)
    team.put_images(tulip=30, rose=30)
    return team


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        pytest.param({"AWS_SECRET_ACCESS_KEY": "wrong"}, "wrong secret key", id="wrong secret key"),
        pytest.param({"AWS_ACCESS_KEY_ID": "nobody"}, "unknown account", id="unknown account"),
    ],
)
def test_a_wrong_key_is_said_to_be_wrong(
    strict_team: Team, wait_for_condition: Waiter, changes: dict[str, str], what: str
) -> None:
    strict_team.create_secret(**changes)
    strict_team.apply()
    found = wait_for_condition("flowers", "Stalled", reason="WrongCredentials")
    assert "AWS_ACCESS_KEY_ID or AWS_SECRET_ACCESS_KEY is wrong" in message(found, "Ready"), what
    assert nothing_started(strict_team)


def test_the_right_key_works_with_a_store_that_checks(strict_team: Team, wait_for_condition: Waiter) -> None:
    strict_team.create_secret()
    strict_team.apply()
    wait_for_condition("flowers", "Ready")
    assert strict_team.versions() == [1]


# The data set


def test_a_bucket_without_folders_is_told_how_it_should_look(team: Team, stalled: Stalled) -> None:
    team.put("loose/1.jpg", "loose/2.jpg")
    said = stalled("NoCategories", categories={"images": f"s3://{team.bucket}/loose/"})
    assert (
        f"No category folders with images (.jpg, .jpeg, .png, .gif, .bmp, .webp) below s3://{team.bucket}/loose/"
        in said
    )
    assert f"for example s3://{team.bucket}/loose/sunflower/1.jpg" in said
    assert nothing_started(team)


@pytest.mark.parametrize(
    ("folder", "reason", "said"),
    [
        pytest.param(
            "Tulip ", "CategoryNamesCollide", "The folders 'Tulip ' and 'tulip' are the same", id="collision"
        ),
        pytest.param("..", "InvalidCategoryName", "The folder '..' below", id="a path"),
        pytest.param(
            "a\x07b", "InvalidCategoryName", "it contains control characters", id="control characters"
        ),
        pytest.param("daisy", "CategoryOverlap", "The base already has 'daisy'", id="a name the base has"),
    ],
)
def test_a_folder_that_cannot_be_a_category_is_named(
    team: Team, stalled: Stalled, folder: str, reason: str, said: str
) -> None:
    team.put(*(f"photos/{folder}/{number}.jpg" for number in range(25)))
    assert said in stalled(reason)
    assert nothing_started(team)


def test_images_that_come_later_are_found_without_an_edit(
    team: Team, stalled: Stalled, wait_for_condition: Waiter
) -> None:
    stalled(
        "NoCategories", categories={"images": f"s3://{team.bucket}/later/"}, retrain={"pollInterval": "10s"}
    )
    team.put(*(f"later/{name}/{number}.jpg" for name in ("oak", "elm") for number in range(20)))
    wait_for_condition("flowers", "Ready")


# The resource


def test_an_unknown_architecture_is_answered_with_the_nearest_names(team: Team, stalled: Stalled) -> None:
    said = stalled("UnknownArchitecture", base={"pretrained": {"architecture": "InceptionV33"}})
    assert "spec.base.pretrained.architecture 'InceptionV33' is not known. Did you mean InceptionV3" in said
    assert nothing_started(team)


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        pytest.param(
            {"training": {"fineTune": {"fromLayer": "mixed9"}}}, "spec.training.fineTune", id="fineTune"
        ),
        pytest.param({"compute": {"workers": 4}}, "spec.compute.workers", id="workers"),
        pytest.param(
            {"distortions": {"flipLeftRight": True}, "training": {"head": {"solver": "Discriminant"}}},
            "spec.distortions",
            id="copies of images that are only sums",
        ),
    ],
)
def test_a_feature_that_is_not_there_yet_is_refused_by_name(
    team: Team, stalled: Stalled, spec: dict[str, Any], field: str
) -> None:
    assert stalled("NotSupported", **spec).startswith(
        f"{field} asks for something this release does not do yet; "
    )
    assert nothing_started(team)


@pytest.mark.parametrize("below", ["", "deeper/"])
def test_the_second_resource_with_an_output_is_told_whose_it_is(
    team: Team, wait_for_condition: Waiter, below: str
) -> None:
    team.apply("first")
    wait_for_condition("first", "Ready")
    team.apply("second", output={"models": f"s3://{team.bucket}/models/{below}"}, retrain={"revision": 7})
    found = wait_for_condition("second", "Stalled", reason="OutputConflict")
    assert f"already belongs to ClassifierExpansion {team.namespace}/first" in message(found, "Ready")
    assert (len(team.jobs()), team.attempts(), team.versions()) == (1, 1, [1])
    assert condition_of(team.get("first"), "Ready")["status"] == "True"


def test_the_second_resource_takes_over_when_the_first_is_gone(
    team: Team, wait_for_condition: Waiter
) -> None:
    team.apply("first")
    wait_for_condition("first", "Ready")
    team.apply("second", retrain={"revision": 7})
    wait_for_condition("second", "Stalled", reason="OutputConflict")
    team.api.delete(EXPANSIONS, team.namespace, "first")
    wait_for_condition("second", "Ready", timeout=45)  # it does not wait for its next look, a minute later
    assert team.versions() == [1, 2]


# The cluster


def test_a_job_refused_by_quota_is_told_in_the_api_servers_words(
    team: Team, wait_for_condition: Waiter
) -> None:
    quota = {"metadata": {"name": "none"}, "spec": {"hard": {"count/jobs.batch": "0"}}}
    team.api.create("resourcequotas", team.namespace, {"apiVersion": "v1", "kind": "ResourceQuota", **quota})
    wait_for(
        lambda: team.api.get("resourcequotas", team.namespace, "none").get("status", {}).get("hard"),
        "the quota",
    )
    team.apply()
    found = wait_for_condition("flowers", "Trained", "Unknown", reason="QuotaExceeded")
    assert "exceeded quota: none" in message(found, "Ready")
    assert nothing_started(team)
    team.api.delete("resourcequotas", team.namespace, "none")
    wait_for_condition("flowers", "Ready")
    assert team.attempts() == 1


def test_pods_refused_by_quota_are_told_too(team: Team, wait_for_condition: Waiter) -> None:
    quota = {"metadata": {"name": "small"}, "spec": {"hard": {"pods": "0"}}}
    team.api.create("resourcequotas", team.namespace, {"apiVersion": "v1", "kind": "ResourceQuota", **quota})
    wait_for(
        lambda: team.api.get("resourcequotas", team.namespace, "small").get("status", {}).get("hard"),
        "the quota",
    )
    team.apply()
    found = wait_for_condition("flowers", "Trained", "Unknown", reason="QuotaExceeded")
    assert "exceeded quota: small" in message(found, "Trained")
    assert len(team.jobs()) == 1


def test_a_job_of_somebody_else_in_the_way_is_left_alone_and_named(
    team: Team, wait_for_condition: Waiter
) -> None:
    team.apply(suspend=True)
    wait_for_condition("flowers", "Suspended")
    run = wait_for(lambda: team.get()["status"].get("run"), "the run's id")
    assert run is not None
    name = f"flowers-{run['id'][:10]}"
    container = {"name": "main", "image": "nowhere:1"}
    template = {"spec": {"restartPolicy": "Never", "containers": [container]}}
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name},
        "spec": {"template": template},
    }
    team.api.create("jobs", team.namespace, job)
    team.patch(suspend=False)
    found = wait_for_condition("flowers", "Stalled", reason="NameConflict")
    assert f"Job {team.namespace}/{name} exists and does not belong to this ClassifierExpansion." in message(
        found, "Ready"
    )
    team.api.delete("jobs", team.namespace, name)
    team.apply(retrain={"revision": 0}, acceptance={"minimumAccuracy": 0.1})
    wait_for_condition("flowers", "Ready")


POD = {
    "metadata": {"labels": {"app": "shop"}},
    "spec": {"containers": [{"name": "main", "image": "nowhere:1"}]},
}
OF_SOMEBODY_ELSE = {
    "deployments": {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "spec": {"replicas": 0, "selector": {"matchLabels": {"app": "shop"}}, "template": POD},
    },
    "services": {
        "apiVersion": "v1",
        "kind": "Service",
        "spec": {"selector": {"app": "shop"}, "ports": [{"port": 80}]},
    },
}


@pytest.mark.parametrize("plural", OF_SOMEBODY_ELSE)
def test_model_servers_of_somebody_else_in_the_way_are_left_alone_and_named(
    team: Team, stalled: Stalled, plural: str
) -> None:
    body = {**OF_SOMEBODY_ELSE[plural], "metadata": {"name": "flowers-serving"}}
    made = team.api.create(plural, team.namespace, body)
    said = stalled("NameConflict", serving=SERVED)
    assert f"{body['kind']} {team.namespace}/flowers-serving" in said
    assert "exists and does not belong to this ClassifierExpansion. Delete" in said
    found = team.api.get(plural, team.namespace, "flowers-serving")
    assert found["spec"] == made["spec"]
    assert "labels" not in found["metadata"]
    team.api.delete(EXPANSIONS, team.namespace, "flowers")
    wait_for(lambda: team.api.find(EXPANSIONS, team.namespace, "flowers") is None, "the resource to be gone")
    assert (
        team.api.get(plural, team.namespace, "flowers-serving")["metadata"]["uid"] == found["metadata"]["uid"]
    )


# The trainer


def test_a_killed_trainer_is_started_again_and_nothing_is_lost(
    team: Team, wait_for_condition: Waiter
) -> None:
    team.behave("killed", "succeed")
    team.apply()
    wait_for_condition("flowers", "Ready", timeout=120)
    assert (team.attempts(), len(team.jobs()), team.versions()) == (2, 1, [1])


@pytest.mark.parametrize(
    ("behaviour", "reason", "said"),
    [
        pytest.param("fail:11", "BadDataset", "The images are not what they should be.", id="bad data"),
        pytest.param("no-report", "ReportMissing", "ended well but left no report at s3://", id="no report"),
        pytest.param(
            "future-report",
            "ReportUnreadable",
            "is of format version 2, this operator reads version 1",
            id="report of the future",
        ),
    ],
)
def test_a_run_that_fails_says_why_and_is_not_started_again(
    team: Team, stalled: Stalled, behaviour: str, reason: str, said: str
) -> None:
    team.behave(behaviour)
    compute = {"gpusPerWorker": 0, "backoffLimit": 0}
    assert said in stalled(reason, timeout=120, compute=compute)
    attempts = team.attempts()
    assert attempts == 1
    for job in team.jobs():
        team.api.delete("jobs", team.namespace, job["metadata"]["name"])
    wait_for(lambda: not team.jobs(), "the Job to be gone")
    team.apply(compute=compute, acceptance={"minimumAccuracy": 0.2})
    wait_for(lambda: team.get()["status"]["observedGeneration"] == 2, "the edit to be seen")
    assert (team.attempts(), team.jobs()) == (attempts, [])
    assert nothing_started(team)


@pytest.mark.parametrize(
    ("behaviour", "reason", "said"),
    [
        pytest.param("killed", "Killed", "The trainer was killed (SIGKILL, exit code 137)", id="killed"),
        pytest.param("fail:20", "StorageUnavailable", "The trainer ended with exit code 20.", id="storage"),
    ],
)
def test_a_run_that_failed_for_a_reason_that_passes_is_started_again_a_minute_later(
    team: Team, wait_for_condition: Waiter, behaviour: str, reason: str, said: str
) -> None:
    team.behave(behaviour, "succeed")
    team.apply(compute={"gpusPerWorker": 0, "backoffLimit": 0})
    waiting = wait_for_condition("flowers", "Trained", "Unknown", reason=reason, timeout=120)
    assert said in message(waiting, "Trained")
    assert "(retry 1 of 6)" in message(waiting, "Trained")
    assert waiting["status"]["run"]["failures"] == 1
    assert not condition_of(waiting, "Stalled")
    settled = wait_for_condition("flowers", "Ready", timeout=180)
    assert (team.attempts(), team.versions()) == (2, [1])
    assert "failures" not in settled["status"]["run"]


def test_out_of_memory_is_told_with_the_limit_and_where_to_raise_it(team: Team, stalled: Stalled) -> None:
    team.behave("out-of-memory")
    resources = {"requests": {"memory": "100Mi"}, "limits": {"memory": "300Mi"}}
    compute = {"gpusPerWorker": 0, "backoffLimit": 0, "podTemplate": {"resources": resources}}
    said = stalled("OutOfMemory", timeout=120, compute=compute)
    assert (
        "more memory than its limit (300Mi): raise spec.compute.podTemplate.resources.limits.memory" in said
    )
    assert team.versions() == []


def test_images_that_change_under_the_trainer_are_listed_again(
    team: Team, wait_for_condition: Waiter
) -> None:
    team.behave("images-changed", "succeed")
    team.apply()
    wait_for(lambda: team.attempts() == 1, "the first attempt")
    team.put_images(lily=1)  # at once: a listing in the middle of an upload would be a third data set
    found = wait_for_condition("flowers", "Ready", timeout=120)
    assert found["status"]["dataset"]["categories"] == 3
    assert (team.attempts(), team.versions()) == (2, [1])
