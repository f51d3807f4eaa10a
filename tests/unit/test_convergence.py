"""A small world in which plans come true: whatever happens in it and wherever the operator dies, it ends well."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import contract_values
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from operator_values import DEPLOYMENT, SETTINGS, agent, at, document, failed, kstatus, listing, reported

from expansion_contract.environment import ASKED_ANNOTATION, LIMITS_ANNOTATION
from expansion_contract.labels import vocabulary
from expansion_contract.resource import RETRAIN_ANNOTATION, ClassifierExpansion, ExpansionStatus
from expansion_contract.run import Owner, PublishedBase
from expansion_contract.version import ServingDocument, VersionManifest
from expansion_operator import starts
from expansion_operator.asked import written
from expansion_operator.observed import (
    Action,
    Apply,
    BaseSeen,
    Delete,
    DeploymentSeen,
    JobPhase,
    JobSeen,
    Limit,
    Observed,
    Plan,
    Prune,
    Publish,
    ReportSeen,
    Trouble,
    VersionSeen,
    WriteRun,
    WriteServing,
)
from expansion_operator.plan import plan

ENDED = {JobPhase.SUCCEEDED, JobPhase.FAILED}


def base(number: int) -> BaseSeen:
    model = PublishedBase(uri=f"s3://models/cars/versions/{number}", manifest_sha256=f"cars-{number}")
    return BaseSeen(model=model, version=number, names=vocabulary([]))


@dataclass
class World:
    """A cluster and a bucket, as far as the planner can see them."""

    spec: dict[str, Any] = field(default_factory=dict)
    generation: int = 1
    images: str = "a"
    wish: str = ""
    base: int = 0
    seconds: float = 0
    status: ExpansionStatus = field(default_factory=ExpansionStatus)
    storage_is_away: bool = False
    written: set[str] = field(default_factory=set)
    jobs: dict[str, JobSeen] = field(default_factory=dict)
    reports: dict[str, ReportSeen] = field(default_factory=dict)
    versions: list[VersionSeen] = field(default_factory=list)
    serving: ServingDocument | None = None
    deployment: DeploymentSeen | None = None
    live: int | None = None
    started: list[str] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)

    @property
    def expansion(self) -> ClassifierExpansion:
        made = contract_values.expansion(**self.spec)
        annotations = {RETRAIN_ANNOTATION: self.wish} if self.wish else {}
        changes = {"generation": self.generation, "annotations": annotations}
        metadata = made.metadata.model_copy(update=changes)
        return made.model_copy(update={"metadata": metadata, "status": self.status})

    @property
    def known(self) -> Observed:
        """What is known before anything is asked of a run."""
        seen = Observed(
            expansion=self.expansion,
            listing=listing(f"sha256:{self.images}"),
            versions=tuple(self.versions),
            serving_document=self.serving,
        )
        wanted = starts.identified(replace(seen, base=base(self.base)) if self.base else seen)
        due = starts.on_schedule(wanted, self.jobs.values(), at(self.seconds))
        return starts.with_earlier_run(due, self.jobs.values())

    @property
    def run(self) -> str:
        return self.known.run_id or ""

    def observed(self) -> Observed:
        cluster: dict[str, Any] = {
            "deployment": self.deployment,
            "service_exists": self.deployment is not None,
            "agents": tuple(
                agent(self.live) for _ in range(self.deployment.replicas if self.deployment else 0)
            ),
        }
        if self.storage_is_away:
            away = Trouble(reason="StorageUnavailable", message="503", permanent=False)
            last = self.status.run.id if self.status.run else ""
            return Observed(expansion=self.expansion, trouble=away, job=self.jobs.get(last), **cluster)
        return replace(
            self.known,
            **cluster,
            report=self.reports.get(self.run),
            job=self.jobs.get(self.run),
            old_jobs=tuple(job for run, job in self.jobs.items() if run != self.run),
        )

    # What the operator does

    def look(self, dies_after: int | None = None) -> Plan:
        """One reconciliation. `dies_after`: the operator is killed after so many actions, before it writes the status."""
        observed = self.observed()
        result = plan(observed, SETTINGS, at(self.seconds))
        for action in result.actions[:dies_after]:
            self.do(action)
        if dies_after is None:
            self.status = ExpansionStatus.model_validate(result.status)
        return result

    def do(self, action: Action) -> None:
        match action:
            case WriteRun(run_id=run):
                self.written.add(run)
            case Apply(manifest={"kind": "Job"} as manifest):
                self.create(manifest)
            case Apply(manifest={"kind": "Deployment"} as manifest):
                before = self.deployment.replicas if self.deployment else 1
                replicas = manifest["spec"].get("replicas", before)
                self.deployment = replace(
                    self.deployment or DEPLOYMENT, replicas=replicas, ready_replicas=replicas
                )
            case Limit(uid=uid, limits=limits):
                self.jobs = {
                    run: replace(j, limits=written(limits)) if j.uid == uid else j
                    for run, j in self.jobs.items()
                }
            case Delete(kind="Job", name=name):
                self.jobs = {
                    run: replace(j, terminating=j.terminating or j.name == name)
                    for run, j in self.jobs.items()
                }
            case Delete(kind="Deployment"):
                self.deployment, self.live = None, None
            case Publish() | WriteServing() | Prune():
                self.store(action)

    def create(self, manifest: dict[str, Any]) -> None:
        run = manifest["metadata"]["labels"]["classifierexpansion.dev/run"]
        assert run in self.written, "a trainer would find no run"
        assert [j for j in self.jobs.values() if j.phase not in ENDED] == [], "two runs at once"
        assert run not in self.reports, "a finished run is trained again"
        self.started.append(run)
        created = at(self.seconds).strftime("%Y-%m-%dT%H:%M:%SZ")
        self.jobs[run] = JobSeen(
            name=manifest["metadata"]["name"],
            run_id=run,
            uid=f"job-{len(self.started)}",
            ours=True,
            phase=JobPhase.PENDING,
            created_at=created,
            asked=manifest["metadata"]["annotations"][ASKED_ANNOTATION],
            limits=manifest["metadata"]["annotations"][LIMITS_ANNOTATION],
        )

    def store(self, action: Publish | WriteServing | Prune) -> None:
        match action:
            case Publish(run_id=run, version=number):
                assert number not in self.numbers, "a number was given twice"
                self.numbers.append(number)
                manifest = VersionManifest(
                    version=number,
                    run_id=run,
                    owner=Owner(namespace="team", name="flowers"),
                    published_at="2026-11-22T12:00:00Z",
                    categories=1002,
                    files=[],
                )
                self.versions.append(VersionSeen(manifest=manifest, manifest_sha256=f"sha-{number}"))
            case WriteServing(document=told):
                assert told.version in [seen.manifest.version for seen in self.versions]
                self.serving = told
            case Prune(version=number):
                assert number not in {self.live, self.serving.version if self.serving else None}
                self.versions = [seen for seen in self.versions if seen.manifest.version != number]

    # What happens meanwhile

    def pass_time(self, seconds: float = 5) -> None:
        """Pods start and end, deleted Jobs go, model servers load what they are told."""
        self.seconds += seconds
        self.jobs = {run: self.moved(job) for run, job in self.jobs.items() if not job.terminating}
        if self.deployment is not None and self.serving is not None:
            self.live = self.serving.version

    def moved(self, job: JobSeen) -> JobSeen:
        if job.phase is JobPhase.PENDING:
            return replace(job, phase=JobPhase.RUNNING)
        if job.phase is JobPhase.RUNNING:
            self.reports.setdefault(job.run_id, reported(job.run_id))
            return replace(job, phase=JobPhase.SUCCEEDED)
        return job

    def edit(self, **spec: Any) -> None:
        self.spec, self.generation = {**self.spec, **spec}, self.generation + 1

    def settle(self) -> None:
        for _ in range(16):
            self.look()
            self.pass_time()


def fails(world: World) -> None:
    """The trainer of the running Job gives up, with a report."""
    for run, job in world.jobs.items():
        if job.phase is JobPhase.RUNNING:
            world.reports[run] = failed("BadDataset", "No image can be read.", run)
            world.jobs[run] = replace(job, phase=JobPhase.FAILED, exit_code=11, attempts=1)


def dies(world: World) -> None:
    """The trainer is killed for its memory and leaves no report."""
    for run, job in world.jobs.items():
        if job.phase is JobPhase.RUNNING:
            world.jobs[run] = replace(job, phase=JobPhase.FAILED, oom_killed=True, exit_code=137, attempts=4)


def storage_was_away(world: World) -> None:
    """The trainer gives up because storage does not answer; it leaves no report."""
    for run, job in world.jobs.items():
        if job.phase is JobPhase.RUNNING:
            world.jobs[run] = replace(job, phase=JobPhase.FAILED, exit_code=20, attempts=4)


def job_is_lost(world: World) -> None:
    """Somebody or a time to live removes what has ended."""
    world.jobs = {run: job for run, job in world.jobs.items() if job.phase not in ENDED}


def toggled_storage(world: World) -> None:
    world.storage_is_away = not world.storage_is_away


def next_base(world: World) -> None:
    """The resource it grows publishes; before that it grew a pretrained network."""
    world.base += 1
    world.edit(base={"expansionRef": {"name": "cars"}})


HAPPENINGS: dict[str, Callable[[World], object]] = {
    "look": World.look,
    "time": World.pass_time,
    "killed at once": lambda world: world.look(dies_after=0),
    "killed after one": lambda world: world.look(dies_after=1),
    "killed after two": lambda world: world.look(dies_after=2),
    "killed before status": lambda world: world.look(dies_after=99),
    "new images": lambda world: setattr(world, "images", "b"),
    "old images": lambda world: setattr(world, "images", "a"),
    "suspend": lambda world: world.edit(suspend=True),
    "resume": lambda world: world.edit(suspend=False),
    "strict": lambda world: world.edit(acceptance={"minimumAccuracy": 0.99}),
    "lax": lambda world: world.edit(acceptance={}),
    "retrain": lambda world: world.edit(retrain={"revision": world.generation}),
    "not served": lambda world: world.edit(serving={"mode": "None"}),
    "served": lambda world: world.edit(serving={"mode": "Managed"}),
    "storage": toggled_storage,
    "version 1 is asked for": lambda world: world.edit(serving={"version": 1}),
    "a wish": lambda world: setattr(world, "wish", f"{world.wish}!"),
    "no annotation": lambda world: setattr(world, "wish", ""),
    "another base": next_base,
    "runs may finish": lambda world: world.edit(retrain={"updatePolicy": "Finish"}),
    "report of failure": fails,
    "out of memory": dies,
    "storage was away": storage_was_away,
    "job is lost": job_is_lost,
}


@settings(max_examples=60)
@given(st.lists(st.sampled_from(sorted(HAPPENINGS)), max_size=25))
def test_whatever_happens_it_ends_ready_or_says_who_must_act(happenings: list[str]) -> None:
    world = World()
    for happening in happenings:
        HAPPENINGS[happening](world)
    world.storage_is_away = False
    world.edit(suspend=False)
    world.settle()
    world.pass_time(3600)
    world.settle()
    assert kstatus(world.expansion) in {"Current", "Failed"}
    before = world.status
    world.look()
    assert world.status == before


@settings(max_examples=60)
@given(st.lists(st.sampled_from([0, 1, 2, 3, 4, 99, None]), max_size=20))
def test_an_operator_killed_anywhere_trains_once_and_ends_the_same(deaths: list[int | None]) -> None:
    world, undisturbed = World(), World()
    for dies_after in deaths:
        world.look(dies_after)
        world.pass_time()
    world.settle()
    undisturbed.settle()
    assert world.started == undisturbed.started == [world.run]
    assert (world.numbers, world.serving, world.live) == ([1], document(1, world.run), 1)
    assert world.status.phase == "Ready"
    assert [(e.outcome, e.version) for e in world.status.history] == [("Published", 1)]


@pytest.mark.parametrize("ends", [fails, dies])
def test_a_failed_run_is_started_once_even_if_its_job_is_lost(ends: Callable[[World], None]) -> None:
    world = World()
    world.look()
    world.pass_time()
    ends(world)
    world.settle()
    job_is_lost(world)
    world.settle()
    assert world.started == [world.run]
    assert kstatus(world.expansion) == "Failed"
    first = world.run
    world.edit(retrain={"revision": 1})
    world.settle()
    assert world.started == [first, world.run]
    assert world.status.phase == "Ready"


@pytest.mark.parametrize("lost", [True, False], ids=["its Job is lost", "its Job is there"])
def test_a_run_whose_storage_was_away_is_started_again_and_ends_well(lost: bool) -> None:
    world = World()
    world.look()
    world.pass_time()
    storage_was_away(world)
    world.look()
    world.pass_time(6)
    world.look()
    if lost:
        job_is_lost(world)
    for _ in range(25):
        world.settle()
    assert world.started == [world.run, world.run]
    assert (world.numbers, world.status.phase) == ([1], "Ready")


def test_a_git_revert_and_back_needs_no_third_run_and_no_new_number() -> None:
    world = World()
    world.settle()
    world.images = "b"
    world.settle()
    world.images = "a"
    world.settle()
    assert (world.live, world.numbers) == (1, [1, 2])
    world.images = "b"
    world.settle()
    assert (world.live, world.numbers, len(world.started)) == (2, [1, 2], 2)
    assert [(e.outcome, e.version) for e in world.status.history] == [
        ("Published", 2), ("Published", 1), ("Published", 2), ("Published", 1)
    ]  # fmt: skip


FINISH = {"retrain": {"updatePolicy": "Finish"}}


def trained_for_a_while(**spec: Any) -> World:
    world = World(spec=spec)
    world.look()
    world.pass_time()
    world.look()
    return world


def test_a_run_under_way_is_replaced_when_something_changes() -> None:
    world = trained_for_a_while()
    world.images = "b"
    world.settle()
    assert (len(world.started), world.numbers, len(world.versions)) == (2, [1], 1)


def test_a_run_that_may_finish_is_published_before_the_next_one_starts() -> None:
    world = trained_for_a_while(**FINISH)
    first, world.images = world.run, "b"
    world.settle()
    assert [seen.manifest.run_id for seen in world.versions] == [first, world.run]
    assert (len(world.started), world.live, world.status.phase) == (2, 2, "Ready")
    assert [(e.outcome, e.version) for e in world.status.history] == [("Published", 2), ("Published", 1)]


@pytest.mark.parametrize("ends", [fails, dies])
def test_a_run_that_fails_while_another_one_waits_gives_way_and_nobody_is_asked_to_act(
    ends: Callable[[World], None],
) -> None:
    world = trained_for_a_while(**FINISH)
    world.images = "b"
    ends(world)
    seen = []
    for _ in range(8):
        world.look()
        seen.append(kstatus(world.expansion))
        world.pass_time()
    assert "Failed" not in seen
    world.settle()
    assert (len(world.started), world.numbers, world.status.phase) == (2, [1], "Ready")


def test_a_run_that_the_gate_refuses_gives_way() -> None:
    strict = {"acceptance": {"minimumAccuracy": 0.99}}
    world = trained_for_a_while(**FINISH, **strict)
    world.images = "b"
    world.settle()
    assert (len(world.started), world.numbers) == (2, [])
    assert [entry.outcome for entry in world.status.history] == ["Refused", "Refused"]
    assert kstatus(world.expansion) == "Failed"


def test_a_run_whose_pod_has_not_started_is_replaced_even_if_runs_may_finish() -> None:
    world = World(spec=FINISH)
    world.look()
    world.look()
    first, world.images = world.run, "b"
    world.look()
    assert world.jobs[first].terminating
    world.settle()
    assert world.numbers == [1]


def test_suspending_stops_a_run_that_may_finish() -> None:
    world = trained_for_a_while(**FINISH)
    world.images = "b"
    world.edit(suspend=True)
    world.settle()
    assert world.jobs == {}


def test_a_base_that_goes_on_is_followed_once() -> None:
    world = World(spec={"base": {"expansionRef": {"name": "cars"}}}, base=1)
    world.settle()
    world.base = 2
    world.settle()
    assert (world.numbers, len(world.started), world.live) == ([1, 2], 2, 2)


def test_a_wish_trains_once_whatever_becomes_of_its_annotation() -> None:
    world = World()
    world.settle()
    world.wish = "now"
    world.settle()
    world.wish = ""
    world.settle()
    assert (world.numbers, len(world.started), world.live) == ([1, 2], 2, 2)


def test_going_back_and_forth_between_versions_starts_nothing() -> None:
    world = World()
    world.settle()
    world.images = "b"
    world.settle()
    world.edit(serving={"version": 1})
    world.settle()
    assert (world.live, world.status.phase) == (1, "Ready")
    world.edit(serving={})
    world.settle()
    assert (world.live, world.status.phase, len(world.started)) == (2, "Ready", 2)


def test_a_suspended_run_goes_on_when_it_is_resumed() -> None:
    world = World()
    world.look()
    world.pass_time()
    world.look()
    world.edit(suspend=True)
    world.settle()
    assert world.jobs == {}
    world.edit(suspend=False)
    world.settle()
    assert (world.status.phase, world.numbers) == ("Ready", [1])


def test_only_so_many_versions_are_kept_and_the_served_one_among_them() -> None:
    world = World(spec={"output": {"models": "s3://models/flowers/", "keepVersions": 2}})
    for revision in range(5):
        world.edit(retrain={"revision": revision})
        world.settle()
    assert [seen.manifest.version for seen in world.versions] == [4, 5]
    assert world.live == 5


def test_it_is_not_ready_while_a_newer_run_waits_for_an_earlier_one_that_is_served_already() -> None:
    """The edit comes between the first answer of version 2 and the look that would have seen it."""
    world = World()
    world.settle()
    world.images = "b"
    while world.live != 2:
        world.look()
        world.pass_time()
    world.edit(retrain={"updatePolicy": "Finish", "revision": 1})
    said = []
    for _ in range(10):
        waits = world.observed().waiting_run is not None
        world.look()
        said.append((waits, kstatus(world.expansion)))
        world.pass_time()
    assert (True, "InProgress") in said
    assert (True, "Current") not in said
    assert (len(world.started), said[-1]) == (3, (False, "Current"))
