"""What the operator does next, and what it must never do."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from operator_values import (
    CHANGED,
    DEPLOYMENT,
    EXPANSION,
    NEW,
    NOW,
    OTHER_RUN,
    RUN,
    SETTINGS,
    SETTLED,
    after,
    agent,
    applied,
    condition,
    counted,
    document,
    failed,
    job,
    listing,
    message,
    only,
    planned,
    progress,
    reported,
    respecified,
    says,
    version,
    with_status,
)

from expansion_contract.dataset import Problem
from expansion_contract.exit_codes import ExitCode
from expansion_contract.resource import FINALIZER, RETRAIN_ANNOTATION, HistoryEntry, RunStatus
from expansion_contract.run import Owner
from expansion_contract.version import AgentStatus, ServingDocument
from expansion_operator import starts
from expansion_operator.conditions import stamp
from expansion_operator.observed import (
    Announce,
    Apply,
    Delete,
    HoldDeletion,
    JobPhase,
    Observed,
    Plan,
    Prune,
    Publish,
    ReportSeen,
    Trouble,
    WriteRun,
    WriteServing,
    deleted,
)
from expansion_operator.plan import plan

QUOTA = Trouble(reason="QuotaExceeded", message="exceeded quota: gpus", permanent=False)


def finished(phase: JobPhase, **changes: object) -> tuple[Observed, Plan]:
    """A run whose Job has ended without a report, looked at when the report's time is over."""
    observed = replace(CHANGED, job=job(phase, OTHER_RUN, **changes))
    observed = after(observed, planned(observed))
    return observed, planned(observed, 31)


# Settled


def test_a_settled_resource_only_applies_its_model_servers_again() -> None:
    result = planned(SETTLED)
    assert {type(action) for action in result.actions} == {Apply}
    assert [a.manifest["kind"] for a in only(result, Apply)] == ["Service", "Deployment"]
    assert result.status == SETTLED.expansion.status.to_wire()
    assert says(result, "Ready") == ("True", "Ready")


@pytest.mark.parametrize(
    ("interval", "seconds"), [("10m", 600), ("1h30m", 5400), ("2d", 172800), ("45s", 45), ("0s", 10)]
)
def test_a_settled_resource_is_looked_at_when_its_images_are_due(interval: str, seconds: float) -> None:
    assert planned(respecified(SETTLED, retrain={"pollInterval": interval})).poll_after == seconds


def test_a_resource_that_is_being_deleted_is_left_alone() -> None:
    metadata = EXPANSION.metadata.model_copy(update={"deletion_timestamp": "2026-11-22T12:00:00Z"})
    expansion = SETTLED.expansion.model_copy(update={"metadata": metadata})
    result = planned(replace(CHANGED, expansion=expansion))
    assert (result.actions, result.requeue_after) == ((), None)
    assert result.status == SETTLED.expansion.status.to_wire()


# What can be known before a Job


def test_a_field_of_a_later_release_is_refused_by_name_and_starts_nothing() -> None:
    canary = {"rollout": {"strategy": "Canary"}}
    result = planned(respecified(NEW, compute={"workers": 2}, serving=canary))
    assert says(result, "Stalled") == ("True", "NotSupported")
    assert "spec.compute.workers" in message(result, "Stalled")
    assert "spec.serving.rollout.strategy" in message(result, "Stalled")
    assert says(result, "Ready") == ("False", "NotSupported")
    assert only(result, WriteRun, Apply) == ()
    assert result.requeue_after is None


def test_an_unknown_architecture_is_refused_with_the_nearest_names() -> None:
    result = planned(respecified(NEW, base={"pretrained": {"architecture": "MobilNetV2"}}))
    assert says(result, "Stalled") == ("True", "UnknownArchitecture")
    assert "Did you mean MobileNetV2" in message(result, "Stalled")
    assert only(result, WriteRun, Apply) == ()


def test_local_folders_are_refused_in_a_cluster_all_of_them_by_name() -> None:
    spec = {"categories": {"images": "/data/flowers/"}, "replay": {"images": "./old/"}}
    result = planned(respecified(NEW, **spec))
    assert says(result, "Stalled") == ("True", "InvalidSpec")
    assert "spec.categories.images must be an s3:// address, got /data/flowers/" in message(result, "Stalled")
    assert "spec.replay.images" in message(result, "Stalled")


def test_a_name_too_long_for_its_job_is_refused() -> None:
    metadata = EXPANSION.metadata.model_copy(update={"name": "f" * 45})
    result = planned(replace(NEW, expansion=EXPANSION.model_copy(update={"metadata": metadata})))
    assert says(result, "Stalled") == ("True", "InvalidSpec")
    assert "at most 44 characters" in message(result, "Stalled")


def test_an_output_that_another_resource_has_is_refused_and_names_it() -> None:
    result = planned(replace(SETTLED, output_owner="team/roses"))
    assert says(result, "Stalled") == ("True", "OutputConflict")
    assert "team/roses" in message(result, "Stalled")
    assert result.actions == (only(result, Announce))
    assert result.requeue_after == 60


def test_a_circle_of_bases_is_refused_and_shown() -> None:
    result = planned(replace(NEW, circle=("flowers", "cars", "flowers")))
    assert says(result, "Stalled") == ("True", "BaseCircle")
    assert "flowers -> cars -> flowers" in message(result, "Stalled")
    assert only(result, WriteRun, Apply) == ()


@pytest.mark.parametrize("permanent", [True, False])
def test_a_base_that_is_not_there_is_said_and_stops_neither_what_runs_nor_what_serves(
    permanent: bool,
) -> None:
    missing = Trouble(reason="BaseNotPublished", message="It waits.", permanent=permanent)
    seen = replace(SETTLED, run_id=None, base_trouble=missing, job=job(), old_jobs=(job(of=OTHER_RUN),))
    result = planned(seen)
    assert says(result, "DatasetResolved") == ("False" if permanent else "Unknown", "BaseNotPublished")
    assert says(result, "Stalled" if permanent else "Reconciling") == ("True", "BaseNotPublished")
    assert result.requeue_after == (60 if permanent else 15)
    assert only(result, Delete, WriteRun, Publish) == ()
    assert [a.manifest["kind"] for a in only(result, Apply)] == ["Service", "Deployment"]
    assert condition(result, "Published") == condition(planned(SETTLED), "Published")


def test_an_overlap_that_the_trainer_found_needs_its_owner() -> None:
    words = "The base answers 'panda' to 31 of 40 images of 'giant panda'. Set spec.categories.onOverlap."
    result = planned(replace(CHANGED, report=failed("CategoryOverlap", words, OTHER_RUN)))
    assert says(result, "Stalled") == ("True", "CategoryOverlap")
    assert says(result, "Trained") == ("False", "CategoryOverlap")
    assert message(result, "Stalled") == words


@pytest.mark.parametrize("permanent", [True, False])
def test_trouble_with_storage_is_said_in_its_own_words_and_looked_at_again(permanent: bool) -> None:
    trouble = Trouble(reason="StorageRefused", message="The key is wrong.", permanent=permanent)
    result = planned(Observed(expansion=SETTLED.expansion, trouble=trouble))
    assert says(result, "DatasetResolved") == ("False" if permanent else "Unknown", "StorageRefused")
    assert message(result, "DatasetResolved") == "The key is wrong."
    assert says(result, "Stalled" if permanent else "Reconciling") == ("True", "StorageRefused")
    assert says(result, "Reconciling" if permanent else "Stalled") is None
    assert result.requeue_after == (60 if permanent else 15)
    assert only(result, Apply, Delete, Publish, WriteServing, Prune) == ()


def test_trouble_with_storage_changes_nothing_that_could_not_be_seen() -> None:
    trouble = Trouble(reason="SecretMissing", message="Create it.", permanent=False)
    result = planned(Observed(expansion=SETTLED.expansion, trouble=trouble), 60)
    for kind in ("Trained", "Accepted", "Published", "Serving"):
        assert condition(result, kind) == condition(planned(SETTLED), kind)
    before = SETTLED.expansion.status.to_wire()
    for key in ("dataset", "run", "candidate", "model", "serving", "history"):
        assert result.status[key] == before[key]


def test_a_missing_secret_heals_without_an_edit() -> None:
    trouble = Trouble(reason="SecretMissing", message="Create it.", permanent=False)
    missing = Observed(expansion=EXPANSION, trouble=trouble)
    healed = replace(NEW, expansion=after(missing, planned(missing)).expansion)
    assert only(planned(healed), WriteRun) == (WriteRun(run_id=RUN),)


def test_storage_trouble_never_deletes_a_running_job() -> None:
    trouble = Trouble(reason="StorageUnavailable", message="503", permanent=False)
    observed = Observed(
        expansion=SETTLED.expansion, trouble=trouble, old_jobs=(job(),), job=job(of=OTHER_RUN)
    )
    assert only(planned(observed), Delete) == ()


def test_errors_of_the_data_set_stop_before_a_job_and_are_all_said() -> None:
    errors = (
        Problem(reason="CategoryOverlap", message="The base has rose."),
        Problem(reason="InvalidCategoryName", message="A bad name."),
    )
    result = planned(replace(NEW, listing=listing("sha256:a", *errors)))
    assert says(result, "DatasetResolved") == ("False", "CategoryOverlap")
    assert message(result, "DatasetResolved") == "The base has rose. A bad name."
    assert says(result, "Stalled") == ("True", "CategoryOverlap")
    assert only(result, WriteRun, Apply) == ()
    assert result.poll_after == 600


def test_errors_of_the_data_set_leave_a_run_its_latch_and_its_job() -> None:
    broken = listing("sha256:b", Problem(reason="NoCategories", message="None."))
    result = planned(replace(CHANGED, listing=broken, old_jobs=(job(),)))
    assert result.status["run"] == SETTLED.expansion.status.to_wire()["run"]
    assert only(result, Delete) == ()


def test_warnings_of_the_data_set_stand_in_its_condition() -> None:
    warning = Problem(reason="FewImages", message="Fewer than 20: rose (3).", is_error=False)
    result = planned(replace(SETTLED, listing=listing("sha256:a", warning)))
    assert says(result, "DatasetResolved") == ("True", "Listed")
    assert "Fewer than 20: rose (3)." in message(result, "DatasetResolved")


# Suspended


@pytest.mark.parametrize("phase", [JobPhase.PENDING, JobPhase.RUNNING])
def test_suspend_stops_the_run_and_older_ones_and_keeps_serving(phase: JobPhase) -> None:
    running = replace(CHANGED, job=job(phase, OTHER_RUN), old_jobs=(job(),))
    result = planned(counted(respecified(running, suspend=True)))
    assert {d.name for d in only(result, Delete)} == {job().name, job(of=OTHER_RUN).name}
    assert says(result, "Suspended") == ("True", "Suspended")
    assert says(result, "Serving") == ("True", "Live")
    assert (says(result, "Reconciling"), says(result, "Stalled")) == (None, None)
    assert applied(result, "Deployment") != []
    assert result.status["observedGeneration"] == 2
    assert result.status["phase"] == "Suspended"


@pytest.mark.parametrize(
    "observed",
    [
        pytest.param(CHANGED, id="a run to start"),
        pytest.param(replace(CHANGED, report=reported(OTHER_RUN)), id="a version to publish"),
        pytest.param(replace(SETTLED, serving_document=None), id="a version to serve"),
        pytest.param(replace(CHANGED, job=job(JobPhase.FAILED, OTHER_RUN)), id="a failed Job to keep"),
    ],
)
def test_while_suspended_nothing_is_started_published_or_removed(observed: Observed) -> None:
    result = planned(respecified(observed, suspend=True))
    assert only(result, WriteRun, Publish, WriteServing, Prune, Delete) == ()
    assert applied(result, "Job") == []
    assert says(result, "Ready") == ("False", "Suspended")
    assert result.poll_after == 600 or not observed.serving_document


def test_a_suspended_resource_that_is_up_to_date_is_ready() -> None:
    result = planned(respecified(SETTLED, suspend=True))
    assert (says(result, "Ready"), says(result, "Suspended")) == (("True", "Ready"), ("True", "Suspended"))


def test_suspend_stops_a_run_while_storage_is_away() -> None:
    trouble = Trouble(reason="StorageUnavailable", message="503", permanent=False)
    observed = respecified(Observed(expansion=EXPANSION, trouble=trouble, job=job()), suspend=True)
    assert only(planned(counted(observed)), Delete) == (deleted(job()),)


def test_after_suspension_the_run_is_started_again_when_its_job_is_gone() -> None:
    ending = replace(NEW, job=job(terminating=True))
    result = planned(ending)
    assert (only(result, WriteRun, Apply, Delete), result.requeue_after) == ((), 2)
    assert only(planned(replace(ending, job=None)), WriteRun) == (WriteRun(run_id=RUN),)


# Starting


def test_a_new_run_is_written_before_its_job_is_created_and_created_only_once() -> None:
    result = planned(NEW)
    write, create = only(result, WriteRun, Apply)
    assert write == WriteRun(run_id=RUN)
    assert (create.manifest["kind"], create.manifest["metadata"]["name"], create.once) == (
        "Job",
        f"flowers-{RUN[:10]}",
        True,
    )
    assert result.requeue_after == 5
    assert result.status["run"] == {"id": RUN}
    assert says(result, "Reconciling") == ("True", "Starting")


def test_an_old_run_is_deleted_and_waited_for_before_the_new_one_starts() -> None:
    replaced = counted(replace(CHANGED, old_jobs=(job(),)))
    first = planned(replaced)
    assert only(first, Delete) == (deleted(job()),)
    assert (only(first, WriteRun), applied(first, "Job"), first.requeue_after) == ((), [], 2)
    ending = planned(replace(replaced, old_jobs=(job(terminating=True),)))
    assert only(ending, Delete, WriteRun) == ()
    assert says(ending, "Reconciling") == ("True", "OldRunEnding")
    assert only(planned(CHANGED), WriteRun) == (WriteRun(run_id=OTHER_RUN),)


@pytest.mark.parametrize("again", [False, True], ids=["for another run", "for the same run"])
def test_a_deleted_job_that_does_not_go_says_what_holds_it_and_needs_somebody(again: bool) -> None:
    held = "pod flowers-x on node gpu-7"
    of = OTHER_RUN if again else RUN
    old = job(of=of, terminating=True, deleted_at="2026-11-22T11:50:00Z", held_by=held)
    result = planned(replace(CHANGED, job=old) if again else replace(CHANGED, old_jobs=(old,)))
    assert says(result, "Stalled") == ("True", "JobEnding" if again else "OldRunEnding")
    assert f"{old.name} was deleted at 2026-11-22T11:50:00Z and is held by {held}." in message(
        result, "Ready"
    )
    assert "kubectl delete pod NAME --grace-period=0 --force" in message(result, "Ready")
    young = replace(old, deleted_at="2026-11-22T11:58:00Z")
    patient = planned(replace(CHANGED, job=young) if again else replace(CHANGED, old_jobs=(young,)))
    assert says(patient, "Reconciling") is not None
    assert result.requeue_after is not None


def test_a_job_of_somebody_else_is_neither_used_nor_deleted() -> None:
    result = planned(replace(CHANGED, job=job(of=OTHER_RUN, ours=False)))
    assert says(result, "Stalled") == ("True", "NameConflict")
    assert f"kubectl delete job flowers-{OTHER_RUN[:10]}" in message(result, "Trained")
    assert (only(result, Delete, WriteRun), applied(result, "Job")) == ((), [])


def test_a_job_refused_by_a_quota_is_said_in_its_words_and_tried_again() -> None:
    result = planned(replace(CHANGED, refusals=(QUOTA,)))
    assert says(result, "Reconciling") == ("True", "QuotaExceeded")
    assert says(result, "Trained") == ("Unknown", "QuotaExceeded")
    assert message(result, "Ready") == "exceeded quota: gpus"
    assert only(result, WriteRun) == (WriteRun(run_id=OTHER_RUN),)
    assert result.requeue_after == 15


def test_a_refusal_that_needs_a_person_is_stalled_and_still_tried_again() -> None:
    denied = Trouble(reason="AdmissionDenied", message="denied the request: no", permanent=True)
    result = planned(replace(CHANGED, refusals=(denied,)))
    assert says(result, "Stalled") == ("True", "AdmissionDenied")
    assert only(result, WriteRun) == (WriteRun(run_id=OTHER_RUN),)
    assert result.requeue_after == 60


def test_a_refusal_of_something_else_does_not_hide_a_running_run() -> None:
    result = planned(replace(CHANGED, job=job(of=OTHER_RUN), refusals=(QUOTA,)))
    assert says(result, "Trained") == ("Unknown", "Running")


def test_a_refused_model_server_is_not_ready() -> None:
    result = planned(replace(SETTLED, refusals=(QUOTA,)))
    assert says(result, "Ready") == ("False", "QuotaExceeded")


@pytest.mark.parametrize("suspend", [True, False])
def test_jobs_that_are_not_ours_are_never_deleted(suspend: bool) -> None:
    foreign = replace(CHANGED, job=job(of=OTHER_RUN, ours=False), old_jobs=(job(ours=False),))
    assert only(planned(respecified(foreign, suspend=suspend)), Delete) == ()


# Running


def test_a_running_job_is_left_alone() -> None:
    result = planned(replace(CHANGED, job=job(of=OTHER_RUN), progress=progress(run_id=OTHER_RUN)))
    assert (only(result, WriteRun, Delete, Publish), applied(result, "Job")) == ((), [])
    assert says(result, "Trained") == ("Unknown", "Running")
    assert says(result, "Reconciling") == ("True", "Running")
    assert result.requeue_after == 15


def test_progress_stands_in_status_in_rounded_numbers() -> None:
    result = planned(replace(CHANGED, job=job(of=OTHER_RUN), progress=progress(run_id=OTHER_RUN)))
    assert result.status["run"] == {
        "id": OTHER_RUN,
        "job": f"flowers-{OTHER_RUN[:10]}",
        "stage": "bottlenecks",
        "percent": 40,
        "imagesPerSecond": "123.5",
        "eta": "2026-11-22T12:01:00Z",
        "startedAt": "2026-11-22T11:59:50Z",
    }


def test_time_alone_does_not_rewrite_the_status_of_a_running_run() -> None:
    running = replace(CHANGED, job=job(of=OTHER_RUN), progress=progress(run_id=OTHER_RUN))
    running = after(running, planned(running))
    assert planned(running, 14).status == running.expansion.status.to_wire()


def test_progress_of_another_run_is_not_shown() -> None:
    assert (
        "percent" not in planned(replace(CHANGED, job=job(of=OTHER_RUN), progress=progress())).status["run"]
    )


def test_a_pending_job_says_why_in_the_words_of_the_cluster() -> None:
    image = Trouble(reason="ImagePullBackOff", message="Back-off pulling image x.", permanent=False)
    result = planned(replace(NEW, job=job(JobPhase.PENDING, waiting=image)))
    assert says(result, "Reconciling") == ("True", "ImagePullBackOff")
    assert message(result, "Trained") == "Back-off pulling image x."
    assert (result.requeue_after, result.status["phase"]) == (5, "Pending")


def test_a_retry_that_finds_no_node_says_so() -> None:
    waiting = Trouble(reason="Unschedulable", message="0/3 nodes.", permanent=False)
    result = planned(replace(NEW, job=job(JobPhase.RUNNING, waiting=waiting, attempts=2)))
    assert message(result, "Trained") == "0/3 nodes. Pods of this run that failed before: 2."


PATIENCE = {"compute": {"pendingDeadlineSeconds": 60}}


def test_a_job_that_is_pending_too_long_is_given_up_and_deleted() -> None:
    image = Trouble(reason="ImagePullBackOff", message="Back-off pulling image x.", permanent=False)
    stuck = counted(respecified(replace(NEW, job=job(JobPhase.PENDING, waiting=image)), **PATIENCE))
    assert says(planned(stuck, 50), "Stalled") is None
    result = planned(stuck, 51)
    assert says(result, "Stalled") == ("True", "ImagePullBackOff")
    assert "spec.compute.pendingDeadlineSeconds (60). Back-off pulling image x." in message(result, "Trained")
    assert only(result, Delete) == (deleted(job()),)
    assert result.status["run"]["outcome"] == "Failed"
    again = planned(after(stuck, result), 52)
    assert only(again, Delete) == only(result, Delete)
    gone = planned(replace(after(stuck, result), job=None), 53)
    assert only(gone, WriteRun, Apply, Delete) == ()
    assert says(gone, "Stalled") == ("True", "ImagePullBackOff")


def test_a_job_that_is_pending_too_long_without_a_reason_has_one_of_ours() -> None:
    result = planned(respecified(replace(NEW, job=job(JobPhase.PENDING)), **PATIENCE), 51)
    assert says(result, "Stalled") == ("True", "PendingTooLong")


@pytest.mark.parametrize(
    "observed",
    [
        pytest.param(
            replace(NEW, job=job(JobPhase.PENDING, pending_since="2026-11-22T12:00:20Z")), id="a new pod"
        ),
        pytest.param(
            replace(NEW, job=job(JobPhase.PENDING), progress=progress(updated_at="2026-11-22T12:00:20Z")),
            id="it has run before",
        ),
    ],
)
def test_an_evicted_pod_waits_since_its_eviction(observed: Observed) -> None:
    assert says(planned(respecified(observed, **PATIENCE), 79), "Stalled") is None
    assert says(planned(respecified(observed, **PATIENCE), 81), "Stalled") is not None


# The end of a run


def test_a_failed_report_is_latched_with_its_own_words_and_never_started_again() -> None:
    observed = replace(CHANGED, report=failed("BadWeights", "The digest is wrong.", OTHER_RUN))
    result = planned(observed)
    assert says(result, "Trained") == ("False", "BadWeights")
    assert says(result, "Stalled") == ("True", "BadWeights")
    run = result.status["run"]
    assert (run["outcome"], run["reason"], run["message"]) == ("Failed", "BadWeights", "The digest is wrong.")
    forgotten = replace(after(observed, result), report=None)
    assert (only(planned(forgotten), WriteRun), applied(planned(forgotten), "Job")) == ((), [])
    assert says(planned(forgotten), "Serving") == ("True", "Live")


def test_a_job_that_has_just_reported_its_failure_is_left_to_end_and_one_that_goes_on_is_stopped() -> None:
    """Its report comes before its end; people read the logs of its pod."""
    report = reported(OTHER_RUN, outcome="Failed", reason="BadDataset", metrics=None, finished_at=stamp(NOW))
    observed = counted(replace(CHANGED, report=report, job=job(of=OTHER_RUN, phase=JobPhase.RUNNING)))
    soon, late = planned(observed, 10), planned(observed, 61)
    assert (says(soon, "Stalled"), only(soon, Delete), soon.requeue_after) == (("True", "BadDataset"), (), 5)
    assert only(late, Delete) == (deleted(job(of=OTHER_RUN)),)


def test_images_that_changed_during_the_run_are_listed_again_at_once_and_nobody_failed() -> None:
    observed = replace(CHANGED, report=failed("DatasetChanged", "3 images are others now.", OTHER_RUN))
    result = planned(observed)
    assert (result.relist, result.requeue_after) == (True, 0)
    assert (says(result, "Stalled"), says(result, "Reconciling")) == (None, ("True", "DatasetChanged"))
    assert [entry["outcome"] for entry in result.status["history"]] == ["Published"]


def test_images_that_are_as_before_after_a_change_stop_the_listing() -> None:
    observed = replace(CHANGED, report=failed("DatasetChanged", "3 images are others now.", OTHER_RUN))
    observed = after(observed, planned(observed))
    soon, late = planned(observed, 10), planned(observed, 61)
    assert (soon.relist, soon.requeue_after) == (True, 5)
    assert (late.relist, late.poll_after) == (False, 600)
    assert "raise spec.retrain.revision" in message(late, "Stalled")


def test_a_job_that_says_by_its_exit_code_that_the_images_changed_is_no_failure() -> None:
    observed, result = finished(JobPhase.FAILED, exit_code=int(ExitCode.DATASET_CHANGED), attempts=1)
    assert (result.relist, says(result, "Stalled")) == (True, None)
    assert planned(after(observed, result), 31).status == result.status


@pytest.mark.parametrize(
    ("seen", "says_what"),
    [
        pytest.param(ReportSeen(report=None, problem="formatVersion is 9."), "formatVersion is 9.", id="unknown version"),
        pytest.param(reported("another"), "it speaks of run 'another'", id="another run's"),
        pytest.param(reported(OTHER_RUN, metrics=None), "has no metrics", id="no metrics"),
    ],
)  # fmt: skip
def test_a_report_that_cannot_be_read_is_named_and_starts_nothing(seen: ReportSeen, says_what: str) -> None:
    result = planned(replace(CHANGED, report=seen))
    assert says(result, "Trained") == ("False", "ReportUnreadable")
    assert says(result, "Stalled") == ("True", "ReportUnreadable")
    text = message(result, "Stalled")
    assert f"s3://models/flowers/runs/{OTHER_RUN}/report.json" in text
    assert says_what in text
    assert "The trainer image and the operator must come from the same release" in text
    assert (only(result, WriteRun, Publish), applied(result, "Job")) == ((), [])


def test_a_report_may_come_a_little_later_than_the_end_of_its_job() -> None:
    observed = replace(CHANGED, job=job(JobPhase.SUCCEEDED, OTHER_RUN))
    first = planned(observed)
    assert says(first, "Reconciling") == ("True", "ReportAwaited")
    assert first.requeue_after == 2
    observed = after(observed, first)
    assert says(planned(observed, 30), "Stalled") is None
    late = planned(observed, 31)
    assert says(late, "Stalled") == ("True", "ReportMissing")
    assert f"runs/{OTHER_RUN}/report.json" in message(late, "Stalled")
    came = planned(replace(after(observed, late), report=reported(OTHER_RUN)), 40)
    assert (says(came, "Trained"), came.status["run"]["outcome"]) == (("True", "Succeeded"), "Succeeded")


@pytest.mark.parametrize(
    ("changes", "reason", "words"),
    [
        pytest.param(
            {"oom_killed": True, "exit_code": 137, "memory_limit": "8Gi"},
            "OutOfMemory",
            "needed more memory than its limit (8Gi): raise spec.compute.podTemplate.resources.limits.memory",
            id="out of memory",
        ),
        pytest.param(
            {"failure_reason": "DeadlineExceeded", "exit_code": 143},
            "DeadlineExceeded",
            "spec.compute.activeDeadlineSeconds (86400)",
            id="deadline",
        ),
        pytest.param({"exit_code": 13}, "BadWeights", "exit code 13", id="weights"),
        pytest.param({"exit_code": 139}, "TrainingFailed", "exit code 139", id="crashed"),
        pytest.param({}, "TrainingFailed", "No pod of the run says how it ended", id="no pod left"),
    ],
)
def test_a_failed_job_without_a_report_is_named_by_how_it_ended(
    changes: dict[str, object], reason: str, words: str
) -> None:
    details = {"failure_reason": "BackoffLimitExceeded", "attempts": 4, "termination_message": "last words\n"}
    observed, result = finished(JobPhase.FAILED, **{**details, **changes})
    assert says(result, "Stalled") == ("True", reason)
    text = message(result, "Trained")
    assert words in text
    assert "failed after 4 attempts" in text
    assert "Its last words: last words" in text
    assert "raise spec.retrain.revision" in text
    logs_are_there = changes.get("failure_reason") != "DeadlineExceeded"
    assert ("See kubectl logs job/" in text, "removed with its log" in text) == (
        logs_are_there,
        not logs_are_there,
    )
    assert (result.status["run"]["outcome"], result.status["run"]["reason"]) == ("Failed", reason)
    assert only(result, Delete) == ()
    assert only(planned(replace(after(observed, result), job=None), 60), WriteRun) == ()


def test_a_failed_job_is_kept_until_there_is_a_new_run() -> None:
    observed, result = finished(JobPhase.FAILED, exit_code=1, attempts=1)
    kept = after(observed, result)
    assert only(planned(kept, 100), Delete) == ()
    replaced = replace(
        kept, listing=listing("sha256:c"), run_id="c" * 16, job=None, old_jobs=(job(of=OTHER_RUN),)
    )
    assert only(planned(replaced, 100), Delete) == (deleted(job(of=OTHER_RUN)),)


def test_words_of_a_megabyte_still_make_a_status_the_api_server_takes() -> None:
    _, result = finished(JobPhase.FAILED, exit_code=1, termination_message="x" * 1_000_000)
    assert len(result.status["run"]["message"]) <= 4096
    assert len(message(result, "Stalled")) <= 32768
    assert all(len(announce.message) <= 1024 for announce in only(result, Announce))


# The gate


STRICT = {"acceptance": {"minimumAccuracy": 0.99}}


def test_a_refused_candidate_is_stalled_with_the_gates_words_and_its_figures_stand_in_status() -> None:
    result = planned(respecified(replace(CHANGED, report=reported(OTHER_RUN)), **STRICT))
    assert says(result, "Accepted") == ("False", "GateRefused")
    assert says(result, "Stalled") == ("True", "GateRefused")
    assert "spec.acceptance.minimumAccuracy 0.990" in message(result, "Accepted")
    candidate = result.status["candidate"]
    assert (candidate["accuracy"], candidate["accepted"], candidate["runId"]) == ("0.9500", False, OTHER_RUN)
    assert only(result, Publish, WriteServing) == ()
    assert says(result, "Serving") == ("True", "Live")
    assert says(result, "Ready") == ("False", "GateRefused")
    assert result.status["model"] == SETTLED.expansion.status.to_wire()["model"]


def test_the_candidate_of_another_run_is_not_shown_as_this_ones() -> None:
    assert "candidate" in SETTLED.expansion.status.to_wire()
    assert "candidate" not in planned(CHANGED).status


def test_an_edited_threshold_asks_the_gate_again_without_a_job() -> None:
    strict = respecified(replace(CHANGED, report=reported(OTHER_RUN)), **STRICT)
    refused = after(strict, planned(strict))
    result = planned(respecified(refused))
    assert only(result, Publish) == (Publish(run_id=OTHER_RUN, version=2),)
    assert (only(result, WriteRun), applied(result, "Job")) == ((), [])


def test_a_raised_threshold_takes_no_served_model_away() -> None:
    result = planned(respecified(SETTLED, **STRICT))
    assert says(result, "Stalled") == ("True", "GateRefused")
    assert says(result, "Serving") == ("True", "Live")
    assert applied(result, "Deployment") != []
    assert result.status["model"]["version"] == 1


def test_a_published_version_whose_report_is_gone_is_neither_trained_nor_asked_again() -> None:
    result = planned(replace(SETTLED, report=None))
    assert says(result, "Ready") == ("True", "Ready")
    assert says(result, "Accepted") == ("True", "AcceptedEarlier")
    assert result.status["model"] == SETTLED.expansion.status.to_wire()["model"]
    assert only(result, WriteRun) == ()


# Publication


def test_an_accepted_candidate_is_published_with_a_number_never_given_before() -> None:
    accepted = replace(CHANGED, report=reported(OTHER_RUN), serving_document=document(last=6))
    result = planned(accepted)
    assert only(result, Publish) == (Publish(run_id=OTHER_RUN, version=7),)
    assert says(result, "Reconciling") == ("True", "Publishing")
    assert result.requeue_after == 1


def test_the_model_servers_are_told_of_a_committed_version() -> None:
    committed = replace(CHANGED, report=reported(OTHER_RUN), versions=(version(), version(2, OTHER_RUN)))
    result = planned(committed)
    assert only(result, Publish, WriteServing) == (WriteServing(document=document(2, OTHER_RUN)),)
    assert says(result, "Published") == ("Unknown", "Publishing")


OTHERS = document().model_copy(update={"term": 4})
"""Told by an operator that led before."""


@pytest.mark.parametrize("term", [5, 0])
@pytest.mark.parametrize(
    "seen",
    [
        pytest.param(SETTLED, id="at rest"),
        pytest.param(CHANGED, id="about to train"),
        pytest.param(respecified(SETTLED, suspend=True), id="suspended"),
        pytest.param(respecified(SETTLED, serving={"version": 9}), id="asked for what is not there"),
    ],
)
def test_what_another_leader_told_is_told_again_in_our_own_name_once(seen: Observed, term: int) -> None:
    theirs = replace(seen, serving_document=OTHERS, term=term)
    ours = OTHERS.model_copy(update={"term": term})
    before, result = planned(seen), planned(theirs)
    assert only(result, WriteServing) == (WriteServing(document=ours),)
    assert result.status == before.status
    assert planned(replace(theirs, serving_document=ours)).actions == before.actions


def test_something_new_is_told_in_our_own_name_and_nothing_else() -> None:
    committed = replace(CHANGED, report=reported(OTHER_RUN), versions=(version(), version(2, OTHER_RUN)))
    result = planned(replace(committed, serving_document=OTHERS, term=5))
    ours = document(2, OTHER_RUN).model_copy(update={"term": 5})
    assert only(result, WriteServing) == (WriteServing(document=ours),)


def test_what_another_resource_told_is_not_told_again() -> None:
    strangers = OTHERS.model_copy(update={"owner": Owner(namespace="team", name="trees")})
    seen = replace(CHANGED, serving_document=strangers, term=5)
    assert only(planned(seen), WriteServing) == ()


def test_the_model_in_status_is_one_that_the_servers_were_told_of() -> None:
    committed = replace(CHANGED, report=reported(OTHER_RUN), versions=(version(), version(2, OTHER_RUN)))
    assert planned(committed).status["model"]["version"] == 1
    told = replace(committed, serving_document=document(2, OTHER_RUN))
    assert planned(told).status["model"]["version"] == 2


def test_a_git_revert_publishes_the_version_of_that_run_again_without_a_job() -> None:
    both = (version(), version(2, OTHER_RUN))
    at_two = replace(
        SETTLED, versions=both, serving_document=document(2, OTHER_RUN), agents=(agent(2), agent(2))
    )
    result = planned(at_two)
    assert only(result, WriteServing) == (WriteServing(document=document(1, RUN, last=2)),)
    assert (only(result, Publish, WriteRun), applied(result, "Job")) == ((), [])


def test_the_first_version_is_served_as_soon_as_the_servers_can_be_told_of_it() -> None:
    told = replace(NEW, report=reported(), versions=(version(),))
    assert applied(planned(told), "Deployment") == []
    result = planned(replace(told, serving_document=document()))
    assert [a.manifest["kind"] for a in only(result, Apply)] == ["Service", "Deployment"]
    assert says(result, "Serving") == ("False", "Starting")
    assert says(result, "Reconciling") == ("True", "RollingOut")
    assert result.status["model"]["uri"] == "s3://models/flowers/versions/1"


MANY = tuple(version(n, f"{n:016d}") for n in range(1, 8))
FULL = replace(
    SETTLED, versions=(*MANY, version(8)), serving_document=document(8), agents=(agent(8), agent(8))
)


def test_versions_beyond_those_to_keep_are_removed_oldest_first() -> None:
    assert only(planned(FULL), Prune) == (Prune(version=1), Prune(version=2), Prune(version=3))


def test_a_removal_that_was_cut_short_is_ended() -> None:
    """Its manifest went first: nothing counts it as a version any more."""
    cut_short = replace(FULL, versions=FULL.versions[3:], remains=frozenset({2, 3}))
    assert only(planned(cut_short), Prune) == (Prune(version=2), Prune(version=3))
    assert only(planned(replace(cut_short, agents=(agent(8), agent(2)))), Prune) == ()


def test_a_version_without_its_manifest_can_be_restored_until_so_many_newer_ones_are_there() -> None:
    lost = replace(FULL, versions=(*FULL.versions[3:5], *FULL.versions[6:]), remains=frozenset({6}))
    assert only(planned(lost), Prune) == ()


def test_a_version_that_is_wanted_or_still_answers_is_never_removed() -> None:
    assert only(planned(respecified(FULL, serving={"mode": "None"})), Prune) == (
        Prune(version=1), Prune(version=2), Prune(version=3)
    )  # fmt: skip
    still = replace(FULL, agents=(agent(8), agent(2)))
    assert only(planned(still), Prune) == ()
    still = respecified(still, serving={"mode": "None"})
    assert only(planned(still), Prune) == (Prune(version=1), Prune(version=3))
    reverted = replace(FULL, versions=(version(1), *MANY[1:], version(8, OTHER_RUN)), serving_document=document(1, last=8), agents=(agent(), agent()))  # fmt: skip
    assert only(planned(reverted), Prune) == (Prune(version=2), Prune(version=3))


def test_a_version_that_a_run_of_another_resource_grows_is_kept_until_it_ends() -> None:
    assert only(planned(replace(FULL, held_versions=frozenset({2}))), Prune) == (
        Prune(version=1), Prune(version=3)
    )  # fmt: skip


def test_the_version_that_knows_every_index_is_kept() -> None:
    longest = replace(
        MANY[1], manifest=MANY[1].manifest.model_copy(update={"given": ["rose", "tulip", "aster"]})
    )
    told = document(8).model_copy(update={"given": ["rose", "tulip", "aster"]})
    seen = replace(FULL, versions=(MANY[0], longest, *MANY[2:], version(8)), serving_document=told)
    assert only(planned(seen), Prune) == (Prune(version=1), Prune(version=3))


# A version that is asked for


TWO = replace(
    SETTLED,
    versions=(version(1, OTHER_RUN), version(2)),
    serving_document=document(2),
    agents=(agent(2), agent(2)),
)


def asking(number: int | None, observed: Observed = TWO) -> Observed:
    return respecified(observed, serving={"version": number} if number else {})


def pinned(number: int, of: str = RUN, last: int = 2) -> ServingDocument:
    return document(number, of, last).model_copy(update={"pinned": True})


def test_an_earlier_version_is_served_without_a_run() -> None:
    result = planned(asking(1))
    assert only(result, WriteServing) == (WriteServing(document=pinned(1, OTHER_RUN)),)
    assert (only(result, WriteRun, Publish), applied(result, "Job")) == ((), [])
    rolled = replace(asking(1), serving_document=pinned(1, OTHER_RUN), agents=(agent(1), agent(1)))
    result = planned(rolled)
    assert says(result, "Ready") == ("True", "Ready")
    assert message(result, "Ready") == (
        "Version 1 with 1002 categories answers on 2 model servers. spec.serving.version asks for it; the newest is 2."
    )
    assert (result.status["model"]["version"], result.status["model"]["announced"]) == (2, 1)
    assert only(result, Prune) == ()


@pytest.mark.parametrize(
    "world",
    [
        pytest.param({"job": job(of=OTHER_RUN)}, id="a run is under way"),
        pytest.param({"report": failed("BadDataset", "No image.", OTHER_RUN)}, id="the run failed"),
        pytest.param(
            {"listing": listing("sha256:b", Problem(reason="NoCategories", message="None."))}, id="no images"
        ),
        pytest.param({"listing": None, "run_id": None}, id="not listed yet"),
    ],
)
def test_an_asked_version_is_served_at_once_whatever_becomes_of_the_current_run(
    world: dict[str, object],
) -> None:
    busy = replace(CHANGED, versions=(version(1, "r1"), version(2)), serving_document=document(2))
    result = planned(asking(1, replace(busy, **world)))
    assert only(result, WriteServing) == (WriteServing(document=pinned(1, "r1")),)
    assert result.status["model"]["announced"] == 2, "not before it is told"


def test_a_suspended_resource_serves_what_is_asked_for() -> None:
    suspended = respecified(TWO, suspend=True, serving={"version": 1})
    assert only(planned(suspended), WriteServing) == (WriteServing(document=pinned(1, OTHER_RUN)),)


def test_a_new_run_is_published_and_does_not_replace_what_is_asked_for() -> None:
    trained = replace(
        asking(1, CHANGED),
        report=reported(OTHER_RUN),
        serving_document=pinned(1, last=1),
        versions=(version(1),),
    )
    result = planned(trained)
    assert only(result, Publish) == (Publish(run_id=OTHER_RUN, version=2),)
    published = replace(trained, versions=(version(1), version(2, OTHER_RUN)))
    assert only(planned(published), WriteServing) == (WriteServing(document=pinned(1)),)


def test_the_newest_version_is_served_again_when_nobody_asks_any_more() -> None:
    rolled = replace(TWO, serving_document=pinned(1, OTHER_RUN), agents=(agent(1), agent(1)))
    assert only(planned(asking(None, rolled)), WriteServing) == (WriteServing(document=document(2)),)


def test_without_a_version_of_the_current_run_the_newest_one_takes_over() -> None:
    training = replace(CHANGED, versions=TWO.versions, serving_document=pinned(1), job=job(of="r9"))
    training = replace(training, run_id="r9", job=job(of="r9"))
    assert only(planned(training), WriteServing) == (WriteServing(document=document(2)),)


def test_a_version_that_is_not_there_is_named_and_what_is_served_goes_on() -> None:
    result = planned(asking(7))
    assert says(result, "Stalled") == ("True", "VersionMissing")
    assert message(result, "Stalled") == (
        "spec.serving.version 7 is no published version (there are 1, 2). Version 2 goes on. Name one of them, or remove the field to"
        " serve the newest."
    )
    assert only(result, WriteServing, Prune) == ()
    training = planned(asking(7, replace(CHANGED, job=job(of=OTHER_RUN))))
    assert says(training, "Reconciling") == ("True", "Running")
    assert "spec.serving.version 7 is no published version" in message(training, "Serving")


# Storage that goes with its resource


def leaving(policy: str, *finalizers: str, observed: Observed = NEW) -> Observed:
    seen = respecified(observed, output={"models": "s3://models/flowers/", "deletionPolicy": policy})
    metadata = seen.expansion.metadata.model_copy(update={"finalizers": list(finalizers)})
    return replace(seen, expansion=seen.expansion.model_copy(update={"metadata": metadata}))


def test_a_resource_whose_storage_goes_with_it_is_held_before_anything_is_written() -> None:
    result = planned(leaving("Delete"))
    assert result.actions[0] == HoldDeletion(wanted=True)
    assert only(planned(leaving("Delete", FINALIZER)), HoldDeletion) == ()


def test_a_resource_whose_storage_stays_is_not_held() -> None:
    assert only(planned(leaving("Retain", "another/finalizer")), HoldDeletion) == ()
    assert only(planned(leaving("Retain", FINALIZER)), HoldDeletion) == (HoldDeletion(wanted=False),)


def test_a_resource_that_has_no_output_of_its_own_is_never_held() -> None:
    assert only(planned(replace(leaving("Delete"), output_owner="team/roses")), HoldDeletion) == ()


# A wish for one more run


def wished(observed: Observed, value: str) -> Observed:
    metadata = observed.expansion.metadata.model_copy(update={"annotations": {RETRAIN_ANNOTATION: value}})
    wishing = observed.expansion.model_copy(update={"metadata": metadata})
    return starts.identified(replace(observed, expansion=wishing))


def test_a_wish_is_another_run_and_is_remembered_when_its_annotation_is_gone() -> None:
    asked = wished(SETTLED, "2026-11-22T12:00:00Z")
    assert asked.run_id != SETTLED.run_id
    remembered = after(asked, planned(asked))
    assert remembered.expansion.status.last_handled_retrain_at == "2026-11-22T12:00:00Z"
    assert wished(remembered, "").run_id == asked.run_id
    assert wished(remembered, "2026-11-23T12:00:00Z").run_id not in {SETTLED.run_id, asked.run_id}


def test_other_annotations_wish_for_nothing() -> None:
    metadata = SETTLED.expansion.metadata.model_copy(update={"annotations": {"a": "b"}})
    noted = replace(SETTLED, expansion=SETTLED.expansion.model_copy(update={"metadata": metadata}))
    assert starts.identified(noted).run_id == SETTLED.run_id
    assert planned(noted).status == SETTLED.expansion.status.to_wire()


def test_the_model_servers_document_remembers_every_index_given() -> None:
    longer = version().manifest.model_copy(update={"given": ["rose", "tulip"]})
    seen = replace(SETTLED, versions=(replace(version(), manifest=longer),))
    assert only(planned(seen), WriteServing)[0].document.given == ["rose", "tulip"]


# Serving


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"agents": (agent(), agent(None))}, id="one is loading"),
        pytest.param({"agents": (agent(),)}, id="one does not answer"),
        pytest.param({"agents": (agent(), agent(), agent(9))}, id="one has another version"),
        pytest.param({"deployment": replace(DEPLOYMENT, generation_observed=False)}, id="unseen generation"),
        pytest.param({"deployment": replace(DEPLOYMENT, ready_replicas=1)}, id="one is not ready"),
        pytest.param({"deployment": replace(DEPLOYMENT, replicas=1)}, id="not yet scaled"),
        pytest.param({"deployment": replace(DEPLOYMENT, old_pods=2)}, id="the old template's pods answer"),
    ],
)
def test_ready_means_that_every_model_server_answers_with_the_version(changes: dict[str, object]) -> None:
    result = planned(replace(SETTLED, **changes))
    assert says(result, "Ready") == ("False", "RollingOut")
    assert says(result, "Reconciling") == ("True", "RollingOut")
    assert says(result, "Serving") == ("True", "Live")
    assert (result.requeue_after, result.status["phase"]) == (5, "RollingOut")


def test_servers_that_roll_while_the_resource_is_stalled_are_looked_at_often() -> None:
    stalled = replace(CHANGED, report=failed("BadDataset", "No image.", OTHER_RUN))
    assert planned(stalled).poll_after == 600
    assert planned(replace(stalled, agents=(agent(), agent(None)))).requeue_after == 5


def test_a_failed_model_server_says_so_and_the_other_one_still_serves() -> None:
    broken = agent(None, state="Failed", message="Golden image 3 differs.")
    result = planned(replace(SETTLED, agents=(agent(), broken)))
    assert says(result, "Ready") == ("False", "ModelServerFailed")
    assert says(result, "Stalled") is None
    assert says(result, "Serving") == ("True", "Live")
    assert "Golden image 3 differs." in message(result, "Serving")
    alone = planned(replace(SETTLED, agents=(broken, broken)))
    assert says(alone, "Serving") == ("False", "ModelServerFailed")
    assert message(alone, "Serving") == "Golden image 3 differs."


@pytest.mark.parametrize("permanent", [True, False])
def test_model_servers_that_do_not_start_say_why(permanent: bool) -> None:
    waiting = Trouble(reason="InvalidImageName", message="No such image.", permanent=permanent)
    deployment = replace(DEPLOYMENT, ready_replicas=0, waiting=waiting)
    result = planned(replace(SETTLED, deployment=deployment, agents=()))
    assert says(result, "Stalled" if permanent else "Reconciling") == ("True", "InvalidImageName")
    assert says(result, "Serving") == ("False", "InvalidImageName")


def test_a_new_image_that_does_not_start_is_named_while_the_old_pods_answer() -> None:
    waiting = Trouble(reason="ErrImagePull", message="No such image.", permanent=False)
    result = planned(replace(SETTLED, deployment=replace(DEPLOYMENT, old_pods=2, waiting=waiting)))
    assert says(result, "Ready") == ("False", "ErrImagePull")
    assert says(result, "Serving") == ("True", "Live")


def test_ready_pods_that_the_operator_cannot_reach_are_told_from_pods_that_load() -> None:
    result = planned(replace(SETTLED, agents=()))
    assert "2 pods are ready, but only 0 answer the operator on port 8502" in message(result, "Ready")


def test_a_deployment_of_somebody_else_is_not_touched() -> None:
    result = planned(replace(SETTLED, deployment=replace(DEPLOYMENT, ours=False), agents=()))
    assert says(result, "Stalled") == ("True", "NameConflict")
    assert "kubectl delete deployment flowers-serving" in message(result, "Stalled")
    assert only(result, Apply, Delete) == ()
    unmanaged = replace(
        respecified(SETTLED, serving={"mode": "None"}), deployment=replace(DEPLOYMENT, ours=False)
    )
    assert only(planned(unmanaged), Delete) == (Delete(kind="Service", name="flowers-serving"),)


def test_without_managed_serving_the_servers_go_and_published_is_ready() -> None:
    result = planned(respecified(SETTLED, serving={"mode": "None"}))
    assert {(d.kind, d.name) for d in only(result, Delete)} == {
        ("Deployment", "flowers-serving"),
        ("Service", "flowers-serving"),
    }
    assert only(result, Apply) == ()
    assert says(result, "Serving") == ("False", "NotManaged")
    assert says(result, "Ready") == ("True", "Ready")


def test_no_replicas_is_a_choice_and_ready() -> None:
    none = respecified(
        replace(SETTLED, deployment=replace(DEPLOYMENT, replicas=0, ready_replicas=0), agents=()),
        serving={"replicas": 0},
    )
    result = planned(none)
    assert says(result, "Serving") == ("False", "ScaledToZero")
    assert says(result, "Ready") == ("True", "Ready")
    assert applied(result, "Deployment")[0]["spec"]["replicas"] == 0


def scaled(replicas: int, *agents: AgentStatus, ready: int = 0) -> Observed:
    """By somebody else: spec.serving.replicas is left out."""
    deployment = replace(DEPLOYMENT, replicas=replicas, ready_replicas=ready or len(agents))
    return respecified(replace(SETTLED, deployment=deployment, agents=agents), serving={"replicas": None})


def test_who_scales_in_our_place_is_neither_corrected_nor_taken_for_a_rollout() -> None:
    grown = scaled(5, agent(), agent(None), ready=1)
    result = planned(grown)
    assert "replicas" not in applied(result, "Deployment")[0]["spec"]
    assert (says(result, "Ready"), says(result, "Reconciling")) == (("True", "Ready"), None)
    assert message(result, "Ready") == "Version 1 with 1002 categories answers on 1 model server."
    assert message(result, "Serving") == "1 of 5 model servers answer with version 1."
    assert result.status["serving"]["replicas"] == 5


@pytest.mark.parametrize(
    "agents",
    [
        pytest.param((agent(None),), id="nobody answers yet"),
        pytest.param((agent(), agent(9)), id="one has another version"),
        pytest.param((), id="nobody is reached"),
    ],
)
def test_whoever_scales_ready_means_that_the_version_and_no_other_one_answers(
    agents: tuple[AgentStatus, ...],
) -> None:
    assert says(planned(scaled(2, *agents, ready=2)), "Ready") == ("False", "RollingOut")


def test_servers_that_somebody_scaled_to_zero_are_a_choice_and_named() -> None:
    result = planned(scaled(0))
    assert says(result, "Ready") == ("True", "Ready")
    assert message(result, "Serving") == "Deployment flowers-serving is scaled to 0."


def test_while_a_new_run_trains_the_old_version_is_served_and_kept_up() -> None:
    result = planned(replace(CHANGED, job=job(of=OTHER_RUN)))
    assert says(result, "Serving") == ("True", "Live")
    assert says(result, "Ready") == ("False", "Running")
    assert result.status["serving"]["version"] == 1
    assert applied(result, "Deployment") != []


def test_the_model_servers_are_kept_up_before_the_next_step_that_may_be_refused() -> None:
    kinds = [a.manifest["kind"] for a in only(planned(CHANGED), Apply)]
    assert kinds == ["Service", "Deployment", "Job"]


def test_before_anything_is_published_nothing_serves() -> None:
    result = planned(NEW)
    assert says(result, "Serving") == ("False", "NotPublished")
    assert "serving" not in result.status


# History and events


def test_every_outcome_of_a_run_is_remembered_once_newest_first() -> None:
    observed = replace(CHANGED, report=failed("BadDataset", "No image.", OTHER_RUN))
    twice = after(after(observed, planned(observed)), planned(after(observed, planned(observed))))
    history = twice.expansion.status.history
    assert [(e.run_id, e.outcome) for e in history] == [(OTHER_RUN, "Failed"), (RUN, "Published")]
    assert history[0].message == "BadDataset: No image."


def test_at_most_twenty_outcomes_are_remembered() -> None:
    old = [HistoryEntry(run_id=str(n), outcome="Failed") for n in range(20)]
    observed = replace(CHANGED, report=failed("BadDataset", "No image.", OTHER_RUN))
    history = planned(with_status(observed, history=old)).status["history"]
    assert len(history) == 20
    assert (history[0]["runId"], history[-1]["runId"]) == (OTHER_RUN, "18")


def test_events_are_made_when_something_comes_true_and_only_then() -> None:
    observed = replace(CHANGED, report=failed("BadDataset", "No image.", OTHER_RUN))
    result = planned(observed)
    assert only(result, Announce) == (Announce(kind="Warning", reason="BadDataset", message="No image."),)
    assert only(planned(after(observed, result)), Announce) == ()


def test_a_model_that_goes_live_is_announced() -> None:
    first = replace(SETTLED, expansion=EXPANSION)
    assert [a.reason for a in only(planned(first), Announce)] == [
        "Listed", "Succeeded", "GatePassed", "Published", "Live", "Ready"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("observed", "phase"),
    [
        pytest.param(SETTLED, "Ready", id="settled"),
        pytest.param(replace(NEW, listing=None, run_id=None), "Resolving", id="not listed"),
        pytest.param(NEW, "Pending", id="starting"),
        pytest.param(replace(NEW, job=job()), "Training", id="running"),
        pytest.param(replace(NEW, job=job(JobPhase.SUCCEEDED)), "Gating", id="ended"),
        pytest.param(replace(NEW, report=reported()), "Publishing", id="accepted"),
        pytest.param(replace(SETTLED, agents=()), "RollingOut", id="no server answers"),
        pytest.param(replace(NEW, report=failed("BadDataset", "No.")), "Stalled", id="failed"),
    ],
)
def test_the_phase_is_one_word_for_people(observed: Observed, phase: str) -> None:
    assert planned(observed).status["phase"] == phase


# Whatever is seen

TROUBLES = st.none() | st.builds(
    Trouble, reason=st.sampled_from(["StorageRefused", "no word"]), message=st.text(max_size=5), permanent=st.booleans()
)  # fmt: skip
JOBS = st.builds(
    job,
    phase=st.sampled_from(JobPhase),
    ours=st.booleans(),
    terminating=st.booleans(),
    oom_killed=st.booleans(),
    exit_code=st.sampled_from([None, 1, 11, 12, 137, 143]),
    waiting=TROUBLES,
)
REPORTS = st.sampled_from(
    [
        None,
        reported(),
        failed("BadDataset", "No image."),
        failed("DatasetChanged", "Changed."),
        ReportSeen(report=None, problem="Not JSON."),
    ]
)
AGENTS = st.builds(agent, st.sampled_from([None, 1, 2]), state=st.sampled_from(["Live", "Loading", "Failed"]))
RUNS = st.sampled_from(
    [
        None,
        RunStatus(id=RUN, outcome="Failed", reason="OutOfMemory", message="More."),
        RunStatus(id=RUN, outcome="Succeeded", finished_at="2026-11-22T10:00:00Z"),
        RunStatus(id=OTHER_RUN, outcome="Failed", reason="OutOfMemory", message="More."),
    ]
)
SPECS = st.fixed_dictionaries(
    {},
    optional={
        "suspend": st.booleans(),
        "acceptance": st.sampled_from([{}, {"minimumAccuracy": 0.99}]),
        "serving": st.sampled_from([{"mode": "None"}, {"replicas": 0}, {"replicas": 1}]),
        "compute": st.sampled_from([{"workers": 2}, {"pendingDeadlineSeconds": 30}]),
    },
)


@st.composite
def worlds(draw: st.DrawFn) -> Observed:
    """After a look, in which a Job that nobody had counted is counted and not deleted."""
    start = with_status(draw(st.sampled_from([NEW, SETTLED])), run=draw(RUNS))
    errors = draw(st.sampled_from([(), (Problem(reason="NoCategories", message="None."),)]))
    return counted(replace(
        respecified(start, **draw(SPECS)),
        trouble=draw(TROUBLES),
        output_owner=draw(st.sampled_from([None, None, "team/roses"])),
        listing=draw(st.sampled_from([None, listing("sha256:a", *errors)])),
        job=draw(st.none() | JOBS),
        old_jobs=tuple(draw(st.lists(st.builds(job, of=st.just(OTHER_RUN), terminating=st.booleans()), max_size=2))),
        report=draw(REPORTS),
        versions=draw(st.sampled_from([(), (version(),), (version(), version(2, OTHER_RUN))])),
        serving_document=draw(st.sampled_from([None, document(), document(2, OTHER_RUN)])),
        deployment=draw(st.none() | st.builds(replace, st.just(DEPLOYMENT), ours=st.booleans(), waiting=TROUBLES)),
        agents=tuple(draw(st.lists(AGENTS, max_size=3))),
        refusals=draw(st.sampled_from([(), (QUOTA,)])),
    ))  # fmt: skip


@settings(max_examples=100)
@given(worlds())
def test_planning_twice_plans_the_same_and_announces_nothing_new(observed: Observed) -> None:
    first = planned(observed)
    second = planned(after(observed, first))
    assert second.status == first.status
    assert only(second, Announce) == ()
    assert set(map(type, second.actions)) <= set(map(type, first.actions))


@settings(max_examples=100)
@given(worlds())
def test_there_are_never_two_runs_and_a_failed_one_is_never_started_again(observed: Observed) -> None:
    result = planned(observed)
    if applied(result, "Job"):
        assert observed.job is None
        assert [seen for seen in observed.old_jobs if seen.ours] == []
        assert not observed.expansion.spec.suspend
        run = observed.expansion.status.run
        assert run is None or run.id != RUN or run.outcome != "Failed"
        assert observed.report is None


@settings(max_examples=100)
@given(worlds())
def test_only_what_passed_the_gate_is_published_and_nothing_used_is_removed(observed: Observed) -> None:
    result = planned(observed)
    if only(result, Publish, WriteServing):
        assert says(result, "Accepted") in {("True", "GatePassed"), ("True", "AcceptedEarlier")}
    for action in only(result, Prune):
        assert action.version != observed.serving_document.version  # type: ignore[union-attr]
        assert action.version not in {seen.live_version for seen in observed.agents}
    for action in only(result, Publish):
        assert action.version > max([0, *(seen.manifest.version for seen in observed.versions)])


def test_now_is_the_only_clock() -> None:
    assert planned(CHANGED) == plan(CHANGED, SETTINGS, NOW)


# Waiting


@pytest.mark.parametrize(
    ("waiting", "heard"),
    [
        pytest.param(replace(NEW, job=job(JobPhase.QUEUED)), True, id="queued"),
        pytest.param(replace(NEW, job=job(JobPhase.PENDING)), True, id="pending"),
        pytest.param(replace(NEW, job=job()), True, id="running"),
        pytest.param(replace(SETTLED, agents=(agent(), agent(None))), True, id="rolling out"),
        pytest.param(NEW, False, id="a run is started"),
        pytest.param(replace(NEW, job=job(terminating=True)), False, id="a Job is being deleted"),
        pytest.param(replace(CHANGED, job=job(), old_jobs=(job(),)), False, id="another Job is unwanted"),
        pytest.param(SETTLED, False, id="at rest"),
        pytest.param(
            respecified(replace(SETTLED, agents=(agent(), agent(None))), suspend=True), False, id="suspended"
        ),
    ],
)
def test_what_is_waited_for_tells_of_itself_only_while_nothing_is_to_be_done(
    waiting: Observed, heard: bool
) -> None:
    assert planned(waiting).heard is heard
