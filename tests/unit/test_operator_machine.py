"""Edits, child events, deletions, restarts and clock jumps in any order, against what a careful person would keep count of."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)
from operator_values import SETTINGS, at, kstatus
from test_convergence import ENDED, World, dies, fails, next_base, storage_was_away

from expansion_contract.gate import verdict
from expansion_contract.resource import ExpansionStatus
from expansion_operator import derived
from expansion_operator.asked import is_outdated
from expansion_operator.conditions import moment
from expansion_operator.observed import (
    Action,
    Announce,
    Apply,
    Delete,
    JobPhase,
    JobSeen,
    Observed,
    Plan,
    Prune,
    Publish,
    Trouble,
    WriteRun,
    WriteServing,
)
from expansion_operator.plan import plan

STEPS = 2000
QUOTA = Trouble(reason="QuotaExceeded", message="exceeded quota: gpus", permanent=False)
DAY = 86400.0 - 1.0
"""Seconds in which runs are counted, and one for what is rounded."""
LONG = 3 * 86400.0
"""Seconds after which every deadline, retry and budget is over."""


@dataclass
class Counted(World):
    """A world in which it is counted what may be done again, and why."""

    excused: set[str] = field(default_factory=set)
    """Runs that may be started once more: nobody knows how their last attempt ended, or it ended for a reason that passes."""
    born: dict[str, float] = field(default_factory=dict)
    """Uids of Jobs, and when they were created."""
    quota: bool = False
    newest_image: float | None = None
    refusals: tuple[Trouble, ...] = ()
    deleted: int = 0

    def observed(self) -> Observed:
        seen = super().observed()
        newest = None if self.newest_image is None else at(self.newest_image)
        return replace(seen, refusals=self.refusals, listed_at=at(self.seconds), newest_image=newest)

    # What the operator does

    def look(self, dies_after: int | None = None) -> Plan:
        """As `Reconciler` does it: up to the first refusal, which the next plan knows of."""
        observed = self.observed()
        result = plan(observed, SETTINGS, at(self.seconds))
        refusals = self._act(result.actions[:dies_after])
        if dies_after is not None:
            self.refusals = ()
            return result
        if refusals != observed.refusals:
            self.refusals = refusals
            result = plan(replace(observed, refusals=refusals), SETTINGS, at(self.seconds))
        self.status = ExpansionStatus.model_validate(result.status)
        self.forget_unused(observed.job)
        self.must_say_only_what_is_so(observed)
        self.must_have_counted()
        return result

    def _act(self, actions: tuple[Action, ...]) -> tuple[Trouble, ...]:
        for action in actions:
            if self.quota and isinstance(action, Apply) and action.manifest["kind"] == "Job":
                return (QUOTA,)
            self.do(action)
        return ()

    def create(self, manifest: dict[str, Any]) -> None:
        run = manifest["metadata"]["labels"]["classifierexpansion.dev/run"]
        assert run not in self.started or run in self.excused, "a run is trained twice without a reason"
        self.excused.discard(run)
        super().create(manifest)
        self.born[self.jobs[run].uid] = self.seconds

    def do(self, action: Action) -> None:
        match action:
            case Delete(kind="Job", name=name):
                self.forget_old()
                current = self.observed().job
                self.forget_unused(current if current and current.name == name else None)
                self.excused |= {
                    run for run, job in self.jobs.items() if job.name == name and self.may_be_repeated(run)
                }
            case Publish(run_id=run):
                self.must_be_accepted(run)
            case WriteServing(document=told) if not told.pinned and not (
                self.serving and self.serving.pinned
            ):
                if self.serving is None or told.version != self.serving.version:
                    self.must_be_accepted(told.run_id)
        super().do(action)

    def may_be_repeated(self, run: str) -> bool:
        """It is ended before its end, or its end says that it passes."""
        job = self.jobs[run]
        return job.phase not in ENDED or job.exit_code == 20

    def forget_old(self) -> None:
        """By the clock as it stands: what goes while it says that a day is over was not counted, even if it is put back then."""
        self.born = {uid: seconds for uid, seconds in self.born.items() if seconds > self.seconds - DAY}

    def forget_unused(self, job: JobSeen | None) -> None:
        """The current run's Job cost nothing if it goes, for whatever reason, and is made anew before it has begun."""
        if job is not None and is_outdated(job, self.expansion):
            self.born.pop(job.uid, None)

    def moved(self, job: JobSeen) -> JobSeen:
        """One that was to be made anew and begins after all counts again."""
        after = super().moved(job)
        if after.phase is JobPhase.RUNNING and (created := moment(job.created_at)) is not None:
            self.born.setdefault(job.uid, (created - at(0)).total_seconds())
        return after

    # What must hold

    def must_be_accepted(self, run: str) -> None:
        """Now, or when it was published, if its report is gone."""
        seen = self.reports.get(run)
        if seen is None:
            assert run in [version.manifest.run_id for version in self.versions]
            return
        assert seen.report is not None
        assert verdict(seen.report, self.expansion.spec.acceptance).accepted, "the gate refuses it"

    def must_say_only_what_is_so(self, observed: Observed) -> None:
        """Of what this look could see: what happens later is another look's."""
        if kstatus(self.expansion) != "Current" or self.expansion.spec.suspend:
            return
        wanted = derived.announced_version(observed)
        assert not self.storage_is_away
        assert observed.waiting_run is None
        assert wanted is not None
        assert derived.published_version(observed) is not None, "another run is needed"
        assert self.serving is not None
        assert self.serving.version == wanted.manifest.version
        running = [job for job in (observed.job, *observed.old_jobs) if job and job.phase not in ENDED]
        assert not observed.old_jobs or observed.job not in running, "two runs at once"
        said = next(c.message for c in self.status.conditions if c.type == "Ready")
        assert all(job.name in said for job in running if job in observed.old_jobs), "a Job ends unsaid"
        if derived.is_managed(observed):
            assert self.live == self.serving.version, "not served yet"

    def must_have_counted(self) -> None:
        """Every Job of the last day once, before it goes; only what somebody else deletes can go too soon for that."""
        self.forget_old()
        there = {job.uid for job in self.jobs.values()}
        assert self.born.keys() - there <= set(self.counted), "a Job is gone and was not counted"
        assert len(self.counted) == len(set(self.counted)), "a Job is counted twice"

    @property
    def counted(self) -> list[str | None]:
        return [run.job_uid for run in self.status.started_runs]

    # What happens meanwhile

    def forget_jobs(self, gone: Callable[[str], bool]) -> None:
        for run in [run for run in self.jobs if gone(run)]:
            if run not in self.reports and not self.is_latched(run):
                self.excused.add(run)
            if (uid := self.jobs.pop(run).uid) not in self.counted:
                self.born.pop(uid, None)

    def is_latched(self, run: str) -> bool:
        """Does status know that it failed for good?"""
        last, history = self.status.run, self.status.history
        known = last is not None and last.id == run and last.outcome is not None
        return known or any(entry.run_id == run and entry.outcome == "Failed" for entry in history)

    def is_deleted_and_created_again(self) -> None:
        """Storage stays; what belonged to it goes when the garbage collector comes by."""
        self.forget_jobs(lambda run: run not in self.reports)
        self.jobs = {run: replace(job, ours=False, terminating=True) for run, job in self.jobs.items()}
        self.status, self.generation, self.refusals = ExpansionStatus(), 1, ()
        self.born = {}
        self.deployment, self.live = None, None
        self.excused |= {run for run in self.started if run not in self.reports}

    def comes_to_rest(self) -> None:
        """Everybody helps, and much time passes."""
        self.storage_is_away, self.quota = False, False
        self.edit(suspend=False)
        self.works_it_off()
        self.pass_time(LONG)
        self.works_it_off()

    def works_it_off(self) -> None:
        """Looked at when it asks to be, until nothing has changed for three looks; never if it goes round in circles."""
        quiet = 0
        for _ in range(60):
            before = self.status
            wait = self.look().requeue_after
            self.pass_time(max(5.0, wait or 0.0))
            quiet = quiet + 1 if self.status == before else 0
            if quiet == 3:
                return
        raise AssertionError(f"it does not come to rest: {self.status}")


class OperatorMachine(RuleBasedStateMachine):
    """One resource, one operator, and a world that does what it likes."""

    steps: ClassVar[int] = 0

    @initialize()
    def begin(self) -> None:
        self.world = Counted()

    def then(self) -> None:
        OperatorMachine.steps += 1

    @rule(times=st.integers(1, 3))
    def look(self, times: int) -> None:
        for _ in range(times):
            self.world.look()
        self.then()

    @rule(after=st.sampled_from([0, 1, 2, 3, 4, 99]))
    def die_and_start_again(self, after: int) -> None:
        self.world.look(dies_after=after)
        self.then()

    @rule(seconds=st.sampled_from([1.0, 5.0, 40.0, 3600.0]))
    def time_passes(self, seconds: float) -> None:
        self.world.pass_time(seconds)
        self.then()

    @rule()
    def time_passes_and_is_watched(self) -> None:
        for _ in range(4):
            self.world.look()
            self.world.pass_time()
        self.then()

    @rule(seconds=st.sampled_from([-86400.0, -600.0, -2.0, 600.0, 86400.0]))
    def the_clock_jumps(self, seconds: float) -> None:
        self.world.seconds += seconds
        self.then()

    # Edits

    @rule(
        edit=st.sampled_from(
            [
                {"training": {"seed": 1}},
                {"training": {}},
                {"acceptance": {"minimumAccuracy": 0.99}},
                {"acceptance": {"minimumAccuracy": 0.5}},
                {"acceptance": {}},
                {"retrain": {"revision": 1}},
                {"retrain": {"revision": 2, "updatePolicy": "Finish"}},
                {"retrain": {"maxRunsPerDay": 1}},
                {"retrain": {"onBaseChange": "Report"}},
                {"retrain": {}},
                {"serving": {"mode": "None"}},
                {"serving": {"replicas": 3}},
                {"serving": {"version": 1}},
                {"serving": {"version": 2}},
                {"serving": {}},
                {"suspend": True},
                {"suspend": False},
                {"output": {"models": "s3://models/flowers/", "keepVersions": 2}},
                {"compute": {"gpusPerWorker": 0}},
                {"compute": {"activeDeadlineSeconds": 3600}},
                {"base": {"pretrained": {"architecture": "MobileNetV2"}}},
                {"base": {"pretrained": {"architecture": "NoSuchNet"}}},
                {"base": {"pretrained": {}}},
            ]
        )
    )
    def somebody_edits(self, edit: dict[str, Any]) -> None:
        if "base" in edit:
            self.world.base = 0
        self.world.edit(**edit)
        self.then()

    @rule()
    def the_base_publishes(self) -> None:
        next_base(self.world)
        self.then()

    @rule(images=st.sampled_from("abc"), upload=st.booleans())
    def images_change(self, images: str, upload: bool) -> None:
        self.world.images = images
        self.world.newest_image = self.world.seconds if upload else None
        self.then()

    @rule(wish=st.sampled_from(["", "1", "2"]))
    def somebody_annotates(self, wish: str) -> None:
        self.world.wish = wish
        self.then()

    # Children and storage

    @rule(end=st.sampled_from([fails, dies, storage_was_away]))
    def the_trainer_ends_badly(self, end: Callable[[World], None]) -> None:
        before = dict(self.world.jobs)
        end(self.world)
        for run, job in self.world.jobs.items():
            if job is not before[run] and job.exit_code == 20:
                self.world.excused.add(run)
        self.then()

    @rule(end=st.sampled_from([fails, dies]))
    def a_run_fails_and_is_watched(self, end: Callable[[World], None]) -> None:
        for _ in range(4):
            self.world.look()
            self.world.pass_time(3)
            self.the_trainer_ends_badly(end)
        self.world.look()

    @rule()
    def ended_jobs_are_lost(self) -> None:
        self.world.forget_jobs(lambda run: self.world.jobs[run].phase in ENDED)
        self.then()

    @rule()
    def somebody_deletes_a_running_job(self) -> None:
        self.world.forget_jobs(lambda run: self.world.jobs[run].phase not in ENDED)
        self.then()

    @rule()
    def somebody_deletes_the_deployment(self) -> None:
        self.world.deployment, self.world.live = None, None
        self.then()

    @precondition(lambda self: self.world.deployment is not None)
    @rule(ready=st.integers(0, 2))
    def pods_come_and_go(self, ready: int) -> None:
        assert self.world.deployment is not None
        self.world.deployment = replace(self.world.deployment, ready_replicas=ready)
        self.then()

    @rule()
    def reports_of_published_runs_are_lost(self) -> None:
        for seen in self.world.versions:
            self.world.reports.pop(seen.manifest.run_id, None)
        self.then()

    @rule()
    def the_resource_is_deleted_and_created_again(self) -> None:
        self.world.is_deleted_and_created_again()
        self.then()

    @rule()
    def storage_comes_or_goes(self) -> None:
        self.world.storage_is_away = not self.world.storage_is_away
        self.then()

    @rule()
    def a_quota_comes_or_goes(self) -> None:
        self.world.quota = not self.world.quota
        self.then()

    def teardown(self) -> None:
        world = getattr(self, "world", None)
        if world is None:
            return
        world.comes_to_rest()
        assert kstatus(world.expansion) in {"Current", "Failed"}
        before = world.status
        actions = world.look().actions
        assert world.status == before
        assert not [
            a for a in actions if isinstance(a, WriteRun | Publish | WriteServing | Prune | Delete | Announce)
        ]


def test_whatever_happens_to_one_resource_nothing_is_done_twice_and_nothing_untrue_is_said() -> None:
    run_state_machine_as_test(
        OperatorMachine,
        settings=settings(
            max_examples=160,
            stateful_step_count=40,
            phases=[Phase.generate],
            report_multiple_bugs=False,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
        ),
    )
    assert OperatorMachine.steps >= STEPS


def test_a_job_that_goes_as_the_operator_is_killed_has_been_counted() -> None:
    """All is done but its status, of which the Job's place in the budget is a part."""
    world = Counted()
    world.look()
    world.edit(training={"seed": 1})
    world.look(dies_after=99)
    world.pass_time(1)
    world.settle()
    assert (len(world.started), len(world.counted)) == (2, 2)


@pytest.mark.parametrize("ends", [fails, dies])
def test_going_back_to_a_run_that_failed_does_not_start_it_again(ends: Callable[[World], None]) -> None:
    world = Counted()
    world.look()
    world.pass_time()
    ends(world)
    world.settle()
    world.edit(training={"seed": 1})
    world.settle()
    world.edit(training={})
    world.settle()
    assert len(world.started) == 2
    assert kstatus(world.expansion) == "Failed"
    assert world.status.run is not None
    assert world.status.run.reason in {"BadDataset", "OutOfMemory"}
