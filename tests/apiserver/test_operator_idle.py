"""What a resource costs that nobody tells anything of: at rest one listing when it is due, on its way little more than its progress."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from apiserver_expansions import Team, install_definition
from apiserver_waiting import condition_of, wait_for
from kubernetes import client, config

from expansion_contract import environment, layout
from expansion_contract.report import Progress
from expansion_contract.resource import ClassifierExpansion
from expansion_contract.version import ServingDocument
from expansion_development import processes
from expansion_development.control_plane import ControlPlane
from expansion_development.kubernetes_api import Api
from expansion_development.object_store import ObjectStore
from expansion_operator.cluster import Cluster
from expansion_operator.memory import LONGEST_WAIT
from expansion_operator.observed import Settings
from expansion_operator.plan import plan
from expansion_operator.reconcile import FULL_LOOK, Clock, Reconciler
from expansion_operator.waits import BUSY, PROGRESS
from expansion_storage import Credentials
from expansion_storage.s3 import client as s3_client

pytestmark = pytest.mark.apiserver
POLL = 600.0
"""Seconds; the default of spec.retrain.pollInterval."""
TRAINER = Path(__file__).with_name("instant_trainer.py")


class CountingClient(client.ApiClient):
    """The official client, which tells what it was asked to send."""

    sent: list[str]

    def call_api(self, method: str, url: str, *arguments: Any, **options: Any) -> Any:
        self.sent.append(f"{method} {url.partition('/apis/')[2] or url.partition('/api/')[2]}")
        return super().call_api(method, url, *arguments, **options)  # type: ignore[no-untyped-call]


class Nobody:
    def seen(self, expansion: ClassifierExpansion, status: dict[str, Any]) -> None: ...
    def gone(self, key: str) -> None: ...


@dataclass
class Driven:
    """The operator's reconciler, looked at one step at a time, with a clock of its own."""

    api: CountingClient
    team: Team
    seconds: float = 0.0
    reconciler: Reconciler = field(init=False)

    def __post_init__(self) -> None:
        started = datetime.now(UTC)
        self.reconciler = Reconciler(
            cluster=Cluster(self.api),
            planner=plan,
            settings=Settings(trainer_image="nobody:1", model_sync_image="nobody:1"),
            ask=lambda _: (),
            clock=Clock(
                now=lambda: started + timedelta(seconds=self.seconds), monotonic=lambda: self.seconds
            ),
            audience=Nobody(),
        )

    def look(self) -> float | None:
        """As after an event."""
        return self.reconciler.reconcile(self.team.namespace, "flowers")

    def glance(self) -> float | None:
        """As when its time has come."""
        return self.reconciler.glance(self.team.namespace, "flowers")

    def cost(self, of: Callable[[], object]) -> tuple[list[str], int]:
        """Requests to the API server, and listings of the store."""
        self.api.sent.clear()
        listings, events = (
            [],
            s3_client(self.team.store.access, self.team.store.credentials, None).meta.events,
        )
        events.register("before-call.s3.ListObjectsV2", lambda **_: listings.append(1), unique_id="idle")
        of()
        events.unregister("before-call.s3.ListObjectsV2", unique_id="idle")
        return list(self.api.sent), len(listings)

    def train(self) -> None:
        """Every run that was written and has no report yet."""
        for entry in list(self.team.place.list("models/runs/")):
            folder, _, name = entry.key.rpartition("/")
            if name == layout.RUN and self.team.place.find(f"{folder}/{layout.REPORT}") is None:
                run = f"s3://{self.team.bucket}/{entry.key}"
                subprocess.run([sys.executable, TRAINER, "--run", run], env=self._environment(), check=True)

    def _environment(self) -> dict[str, str]:
        way = environment.of_storage(self.team.store.access)
        return {**os.environ, **processes.python_environment(), **way, **self.team.store.secret()}

    def settle(self) -> None:
        """Until it is Ready and a look finds nothing to do."""
        wait_for(self._is_settled, "the resource to be ready")

    def _is_settled(self) -> bool:
        self.train()
        self.seconds += 1
        wait = self.look()
        is_ready = condition_of(self.team.get(), "Ready").get("status") == "True"
        return is_ready and wait is not None and wait > 1


@pytest.fixture(scope="module")
def kubeconfig() -> Iterator[Path]:
    """Of an API server of this module's own: no node takes its pods, whatever other tests have started."""
    with ControlPlane() as running:
        yield running.kubeconfig


@pytest.fixture(scope="module")
def api(kubeconfig: Path) -> Api:
    return Api(kubeconfig)


@pytest.fixture
def team(api: Api, namespace: str, moto_store: ObjectStore, bucket: str) -> Team:
    install_definition(api)
    team = Team(api, namespace, moto_store, bucket)
    team.create_secret()
    team.put_images(tulip=30, rose=30)
    return team


@pytest.fixture
def new(team: Team, kubeconfig: Path) -> Driven:
    api = config.new_client_from_config(str(kubeconfig))  # type: ignore[no-untyped-call]
    counting = CountingClient(api.configuration)  # type: ignore[no-untyped-call]
    counting.sent = []
    team.apply()
    return Driven(counting, team)


@pytest.fixture
def driven(new: Driven) -> Driven:
    new.settle()
    return new


def test_a_settled_resource_costs_one_listing_when_it_is_due_and_no_request(driven: Driven) -> None:
    wait = driven.look()
    assert wait is not None
    assert POLL - 60 < wait <= POLL
    assert driven.cost(driven.glance) == ([], 0), "not due yet"
    driven.seconds += POLL
    assert driven.cost(driven.glance) == ([], 1)
    assert driven.cost(driven.glance) == ([], 0)


def test_everything_is_looked_at_once_an_hour_all_the_same(driven: Driven) -> None:
    driven.seconds += driven.look() or 0
    requests = [0]
    while not requests[-1] and driven.seconds < FULL_LOOK + 2 * POLL:
        sent, _ = driven.cost(lambda: advance(driven))
        requests.append(len(sent))
    assert FULL_LOOK <= driven.seconds < FULL_LOOK + 2 * POLL
    assert 0 < requests[-1] <= 12, "one for each five minutes"


def advance(driven: Driven) -> None:
    driven.seconds += driven.glance() or 0


def test_what_somebody_else_told_the_model_servers_is_found_without_an_event(driven: Driven) -> None:
    wanted = told(driven.team)
    tell(driven.team, wanted.model_copy(update={"version": 7}))
    driven.seconds += driven.look() or 0
    assert told(driven.team) == wanted, "by a look at everything"
    tell(driven.team, wanted.model_copy(update={"version": 7}))
    driven.seconds += POLL
    driven.glance()
    assert told(driven.team) == wanted


def test_a_write_that_somebody_overtakes_is_planned_again_and_is_nobodys_trouble(driven: Driven) -> None:
    team, before = driven.team, told(driven.team)
    theirs = before.model_copy(update={"term": 7})
    other = replace(team.store, credentials=Credentials(access_key_id="other", secret_access_key="other"))
    overtaken: list[str] = []

    def overtake(params: dict[str, Any], **_: Any) -> None:
        if not overtaken and params["url_path"].endswith("/serving.json"):
            overtaken.append(params["url_path"])
            tell(replace(team, store=other), theirs)

    events = s3_client(team.store.access, team.store.credentials, None).meta.events
    events.register("before-call.s3.PutObject", overtake, unique_id="overtake")
    team.patch(serving={"version": 1})
    driven.look()
    events.unregister("before-call.s3.PutObject", unique_id="overtake")
    assert overtaken
    assert told(team) == before.model_copy(update={"pinned": True})
    assert condition_of(team.get(), "Ready")["status"] == "True"


@pytest.fixture
def successor(driven: Driven) -> Driven:
    """Who leads after the Lease has changed hands."""
    made = Driven(driven.api, driven.team, driven.seconds)
    made.reconciler.term = lambda: 1
    return made


def test_who_takes_over_says_so_at_little_cost_and_then_rests(driven: Driven, successor: Driven) -> None:
    before = told(driven.team)
    sent, listings = successor.cost(successor.look)
    assert told(driven.team) == before.model_copy(update={"term": 1})
    assert listings == 2, "of the images, and of the versions"
    assert not [request for request in sent if not request.startswith("GET ")]
    successor.seconds += POLL + 1
    assert successor.cost(successor.glance) == ([], 1)


def test_what_is_told_just_after_a_take_over_is_found_at_the_next_poll(successor: Driven) -> None:
    team = successor.team
    other = replace(team.store, credentials=Credentials(access_key_id="other", secret_access_key="other"))
    wanted = told(team).model_copy(update={"term": 1})
    overtaken: list[ServingDocument] = []

    def overtake(**_: Any) -> None:
        overtaken.append(told(team))
        tell(replace(team, store=other), wanted.model_copy(update={"version": 7}))

    events = s3_client(team.store.access, team.store.credentials, None).meta.events
    events.register("after-call.s3.PutObject", overtake, unique_id="overtake")
    successor.look()
    events.unregister("after-call.s3.PutObject", unique_id="overtake")
    assert (overtaken, told(team).version) == ([wanted], 7)
    successor.seconds += POLL
    successor.glance()
    assert told(team) == wanted


def told(team: Team) -> ServingDocument:
    return ServingDocument.model_validate_json(team.place.read("models/serving.json"))


def tell(team: Team, document: ServingDocument) -> None:
    team.place.write("models/serving.json", document.to_json())


def test_other_images_are_found_without_an_event(driven: Driven) -> None:
    driven.team.put_images(lily=20)
    driven.seconds += POLL
    sent, listings = driven.cost(driven.glance)
    assert any("DELETE" in request and "jobs" in request for request in sent), "of the earlier run"
    assert listings == 2, "of the images, and of the versions"
    driven.settle()
    assert driven.team.versions() == [1, 2]


def test_what_an_event_tells_is_looked_at_at_once(driven: Driven) -> None:
    driven.look()
    assert driven.reconciler.memories.knows(driven.team.get())
    driven.team.patch(acceptance={"minimumAccuracy": 0.99})
    assert not driven.reconciler.memories.knows(driven.team.get())
    driven.look()
    assert condition_of(driven.team.get(), "Stalled")["reason"] == "GateRefused"
    assert driven.reconciler.memories.knows(driven.team.get()), "our own status is no news"


def test_a_store_that_does_not_answer_is_told_at_the_next_listing(driven: Driven) -> None:
    driven.look()
    driven.team.create_secret(AWS_ACCESS_KEY_ID=None)
    driven.seconds += POLL
    sent, _ = driven.cost(driven.glance)
    assert sent == [], "the keys that were read before still work"
    driven.seconds += FULL_LOOK
    driven.glance()
    assert condition_of(driven.team.get(), "Ready")["reason"] == "SecretIncomplete"


def told_nothing(driven: Driven, hours: float) -> list[str]:
    """Requests while nothing is told, each time that has come."""
    sent, end = [], driven.seconds + hours * 3600
    while driven.seconds < end:
        sent += driven.cost(lambda: advance(driven))[0]
    return sent


def test_an_hour_in_which_no_pod_starts_costs_few_requests(new: Driven) -> None:
    new.look()
    wait_for(
        lambda: new.look() == BUSY and "Pending" in str(new.team.get()["status"]), "a pod to be waited for"
    )
    costs = []
    for _ in range(5):
        new.seconds += BUSY
        costs.append(len(new.cost(new.glance)[0]))
    assert costs.count(0) >= 2, "between two looks at everything only storage is asked"
    assert max(costs) <= 5
    assert len(told_nothing(new, 0.9)) <= 100


def begin_training(driven: Driven) -> str:
    """A node takes the pod, and nobody tells us. The name of the Job."""
    driven.look()
    api, where = driven.team.api, driven.team.namespace
    wait_for(lambda: api.list("pods", where), "the Job controller to make a pod")
    (pod,) = api.list("pods", where)
    name, now = pod["metadata"]["name"], "2026-11-22T12:00:00Z"
    container = {
        "name": environment.TRAINER,
        "image": "nobody:1",
        "imageID": "",
        "ready": True,
        "restartCount": 0,
        "state": {"running": {"startedAt": now}},
    }
    status = {"phase": "Running", "startTime": now, "containerStatuses": [container]}
    api.patch("pods", where, name, {"status": status}, "status")
    wait_for(lambda: driven.look() == PROGRESS, "the run to be seen")
    (job,) = driven.team.jobs()
    return str(job["metadata"]["name"])


def tell_progress(driven: Driven, percent: int) -> None:
    run_id = driven.team.get()["status"]["run"]["id"]
    progress = Progress(
        run_id=run_id, stage="Bottlenecks", percent=percent, updated_at="2026-11-22T12:00:00Z"
    )
    driven.team.place.write(f"models/{layout.run(run_id, layout.PROGRESS)}", progress.to_json())


def test_progress_of_a_run_costs_one_request_and_none_while_there_is_none(new: Driven) -> None:
    begin_training(new)
    assert new.cost(new.glance)[0] == []
    tell_progress(new, 40)
    (sent,), _ = new.cost(new.glance)
    assert sent.startswith("PATCH ")
    assert new.team.get()["status"]["run"]["percent"] == 40
    assert new.reconciler.memories.knows(new.team.get()), "our own status is no news"
    assert new.cost(new.glance)[0] == []


def test_a_run_that_ended_is_looked_at_as_soon_as_its_report_is_there(new: Driven) -> None:
    begin_training(new)
    new.train()
    sent, _ = new.cost(new.glance)
    assert any(request.endswith("/jobs") or "jobs?" in request for request in sent)
    assert new.team.versions() == [1]


def test_a_job_that_vanished_without_an_event_is_missed_within_minutes(new: Driven) -> None:
    name = begin_training(new)
    (before,) = new.team.jobs()
    new.team.api.delete("jobs", new.team.namespace, name)
    wait_for(lambda: not new.team.jobs(), "the Job to be gone")
    vanished = new.seconds
    while not new.team.jobs() and new.seconds < vanished + 2 * LONGEST_WAIT:
        new.seconds += new.glance() or 0
    assert new.seconds - vanished <= LONGEST_WAIT
    (after,) = new.team.jobs()
    assert after["metadata"]["uid"] != before["metadata"]["uid"]


def test_what_a_look_has_seen_of_its_job_is_no_news(new: Driven) -> None:
    name = begin_training(new)
    (job,) = new.team.jobs()
    new.look()
    assert new.reconciler.memories.knows_child(job)
    label = {"metadata": {"labels": {"somebody": "was-here"}}}
    assert not new.reconciler.memories.knows_child(
        new.team.api.patch("jobs", new.team.namespace, name, label)
    )


def test_one_look_asks_for_each_thing_once(driven: Driven) -> None:
    driven.look()
    sent, _ = driven.cost(driven.look)
    assert len(sent) == len(set(sent)) == 5, "the resource, its Jobs, their pods, its Deployment, its Service"


def test_a_deletion_that_waits_is_never_taken_for_rest(driven: Driven) -> None:
    driven.team.patch(output={"models": f"s3://{driven.team.bucket}/models/", "deletionPolicy": "Delete"})
    driven.look()
    driven.settle()
    driven.team.api.delete("classifierexpansions", driven.team.namespace, "flowers")
    driven.look()
    wait_for(lambda: is_gone(driven), "the resource to be gone")


def is_gone(driven: Driven) -> bool:
    driven.glance()
    return driven.team.api.find("classifierexpansions", driven.team.namespace, "flowers") is None
