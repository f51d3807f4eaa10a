"""The same promises as in tests/unit/test_operator_machine.py, fewer steps, with a real API server, garbage collector and S3 server."""

import time
from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, ClassVar

import contract_values
import pytest
from apiserver_expansions import EXPANSIONS, Team, install_definition
from apiserver_waiting import condition_of, wait_for
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test
from kubernetes import config
from operator_values import kstatus
from test_operator_idle import CountingClient, Driven

from expansion_contract import environment, layout
from expansion_contract.gate import verdict
from expansion_contract.report import File, RunReport
from expansion_contract.resource import parsed
from expansion_contract.version import VersionManifest
from expansion_development.kubernetes_api import Api, Manifest
from expansion_development.object_store import ObjectStore

pytestmark = pytest.mark.apiserver
MODEL = b"a model"
LEAST = 45
"""Steps."""
NEVER_DRAWN = 2
"""A seed that no other step asks for."""


class LiveMachine(RuleBasedStateMachine):
    """One resource in a bucket of its own. `new_team` is given by the test."""

    new_team: ClassVar[Callable[[], Team]]
    kubeconfig: ClassVar[Path]
    steps: ClassVar[int] = 0
    created: ClassVar[int] = 0
    """Jobs."""

    @initialize(minimum=st.sampled_from([0.5, 0.99]))
    def begin(self, minimum: float) -> None:
        self.team = type(self).new_team()
        self.team.create_secret()
        self.team.put_images(tulip=3, rose=3)
        self.team.apply(acceptance={"minimumAccuracy": minimum})
        self.driven = self._started()
        self.trained: dict[str, RunReport] = {}
        self.jobs: set[str] = set()
        self.published: dict[int, bytes] = {}

    def _started(self) -> Driven:
        made = config.new_client_from_config(str(self.kubeconfig))  # type: ignore[no-untyped-call]
        counting = CountingClient(made.configuration)  # type: ignore[no-untyped-call]
        counting.sent = []
        return Driven(counting, self.team)

    # What happens

    @rule(times=st.integers(1, 3))
    def look(self, times: int) -> None:
        for _ in range(times):
            self.driven.look()
            self.must_hold()
        LiveMachine.steps += 1

    @rule(seconds=st.sampled_from([5.0, 600.0, 4000.0]))
    def its_time_comes(self, seconds: float) -> None:
        self.driven.seconds += seconds
        self.driven.glance()
        self.must_hold()
        LiveMachine.steps += 1

    @rule()
    def a_new_operator_starts(self) -> None:
        seconds = self.driven.seconds
        self.driven = self._started()
        self.driven.seconds = seconds
        LiveMachine.steps += 1

    @rule()
    def the_trainer_is_done(self) -> None:
        self.train()
        LiveMachine.steps += 1

    @rule(
        edit=st.sampled_from(
            [
                {"training": {"seed": 1}},
                {"training": {"seed": 0}},
                {"acceptance": {"minimumAccuracy": 0.99}},
                {"acceptance": {"minimumAccuracy": 0.5}},
                {"retrain": {"revision": 1}},
                {"suspend": True},
                {"suspend": False},
                {"serving": {"version": 1}},
                {"serving": {"version": None}},
            ]
        )
    )
    def somebody_edits(self, edit: dict[str, Any]) -> None:
        self.team.patch(**edit)
        LiveMachine.steps += 1

    @rule()
    def images_arrive(self) -> None:
        self.team.put_images(lily=3)
        LiveMachine.steps += 1

    @rule()
    def jobs_are_lost(self) -> None:
        for job in self.team.jobs():
            self.team.api.delete("jobs", self.team.namespace, job["metadata"]["name"])
        LiveMachine.steps += 1

    @rule()
    def the_resource_is_deleted_and_created_again(self) -> None:
        self.team.api.delete(EXPANSIONS, self.team.namespace, "flowers")
        wait_for(lambda: self.team.api.find(EXPANSIONS, self.team.namespace, "flowers") is None, "it to go")
        self.team.apply()
        LiveMachine.steps += 1

    # What must hold

    def train(self) -> None:
        place = self.team.place
        for entry in list(place.list("models/runs/")):
            folder, _, name = entry.key.rpartition("/")
            run_id = folder.rpartition("/")[2]
            if name != layout.RUN or run_id in self.trained:
                continue
            file = File(path="saved_model.pb", size=len(MODEL), sha256=sha256(MODEL).hexdigest())
            report = contract_values.report(run_id=run_id, categories=1002, files=[file])
            place.write(f"models/{layout.candidate(run_id, file.path)}", MODEL)
            place.write(f"models/{layout.run(run_id, layout.REPORT)}", report.to_json())
            self.trained[run_id] = report

    def must_hold(self) -> None:
        body = self.team.get()
        self.one_job_at_most()
        self.versions_never_change(body)
        self.what_is_said_is_so(body)

    def one_job_at_most(self) -> None:
        jobs = [job for job in self.team.jobs() if "deletionTimestamp" not in job["metadata"]]
        assert len(jobs) <= 1, "two runs at once"
        for job in jobs:
            metadata = job["metadata"]
            run_id = metadata["labels"][environment.RUN_LABEL]
            is_new = metadata["uid"] not in self.jobs
            assert not (is_new and run_id in self.trained), "a finished run is trained again"
            self.jobs.add(metadata["uid"])

    def versions_never_change(self, body: Manifest) -> None:
        for number in self.team.versions():
            content = self.team.place.read(f"models/{layout.version(number, layout.MANIFEST)}")
            if number not in self.published:
                run_id = VersionManifest.model_validate_json(content).run_id
                assert verdict(self.trained[run_id], parsed(body).spec.acceptance).accepted, (
                    "the gate refuses it"
                )
            assert self.published.setdefault(number, content) == content, "a number was given twice"
        served = self.team.served()
        assert served is None or served in self.published

    def what_is_said_is_so(self, body: Manifest) -> None:
        if kstatus(parsed(body)) != "Current" or body["spec"].get("suspend"):
            return
        assert condition_of(body, "Ready")["status"] == "True"
        assert body["status"]["model"]["runId"] == body["status"]["run"]["id"], "another run is needed"
        assert self.team.served() == body["spec"]["serving"].get(
            "version", body["status"]["model"]["version"]
        )

    def teardown(self) -> None:
        if not hasattr(self, "team"):
            return
        try:
            self.comes_to_rest()
        finally:
            # Its Jobs never end: pods of theirs would hold a node's CPUs against everybody who comes later.
            self.team.api.delete("namespaces", "", self.team.namespace)
            LiveMachine.created += len(self.jobs)

    def comes_to_rest(self) -> None:
        """Whatever was drawn: a model, another one after it, and the first one again."""
        self.rests_with(suspend=False, acceptance={"minimumAccuracy": 0.5}, serving={"version": None})
        self.rests_with(training={"seed": NEVER_DRAWN})
        self.rests_with(serving={"version": min(self.team.versions())})

    def rests_with(self, **edit: Any) -> None:
        self.team.patch(**edit)
        wait_for(self.is_ready, f"the resource to be ready with {edit}", 60)
        before = self.team.get()["metadata"]["resourceVersion"]
        self.driven.look()
        assert self.team.get()["metadata"]["resourceVersion"] == before, "it does not come to rest"

    def is_ready(self) -> bool:
        self.train()
        self.driven.seconds += 700
        self.driven.look()
        self.must_hold()
        return kstatus(parsed(self.team.get())) == "Current"


def test_whatever_happens_on_a_real_api_server_nothing_is_done_twice(
    api: Api, namespace: str, moto_store: ObjectStore, kubeconfig: Path
) -> None:
    """Each life has a namespace and a bucket of its own, and leaves nothing on a node."""
    install_definition(api)
    lives, began = list[str](), time.monotonic()

    def new_team() -> Team:
        lives.append(f"{namespace}-{len(lives)}")
        manifest = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": lives[-1]}}
        api.create("namespaces", "", manifest)
        moto_store.create_bucket(lives[-1])
        return Team(api, lives[-1], moto_store, lives[-1])

    LiveMachine.new_team, LiveMachine.kubeconfig = staticmethod(new_team), kubeconfig
    run_state_machine_as_test(
        LiveMachine,
        settings=settings(
            max_examples=9,
            stateful_step_count=14,
            phases=[Phase.generate],
            report_multiple_bugs=False,
            suppress_health_check=list(HealthCheck),
        ),
    )
    print(
        f"steps {LiveMachine.steps}, lives {len(lives)}, Jobs {LiveMachine.created}, {time.monotonic() - began:.0f} s"
    )
    assert LiveMachine.steps >= LEAST
    wait_for(lambda: not pods_of(api, lives), "the pods of all lives to be gone", 120)


def pods_of(api: Api, namespaces: Sequence[str]) -> list[str]:
    """Each is 2 CPUs of a node, if a node takes it."""
    pods = (pod["metadata"] for pod in api.list("pods"))
    return [f"{pod['namespace']}/{pod['name']}" for pod in pods if pod["namespace"] in namespaces]
