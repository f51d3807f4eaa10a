"""An edit of what stands in a Job and changes no model: it counts until the Job has begun, and of its limits until it has ended."""

from dataclasses import replace
from typing import Any

import pytest
from operator_values import NEW, NOW, SETTINGS, after, applied, counted, job, message, only, respecified, says

from expansion_contract import environment
from expansion_operator.asked import asked, limits, written
from expansion_operator.observed import Apply, Delete, JobPhase, Limit, Observed, Trouble, deleted
from expansion_operator.plan import plan

BEFORE = asked(NEW.expansion)
FEWER_GPUS = {"compute": {"gpusPerWorker": 0}}


def waiting(phase: JobPhase = JobPhase.PENDING, **changes: Any) -> Observed:
    return counted(replace(NEW, job=job(phase, asked=BEFORE, **changes)))


@pytest.mark.parametrize("phase", [JobPhase.PENDING, JobPhase.QUEUED])
@pytest.mark.parametrize(
    "edit",
    [
        pytest.param(FEWER_GPUS, id="GPUs"),
        pytest.param({"compute": {"queueName": "other"}}, id="another queue"),
        pytest.param({"compute": {"podTemplate": {"imagePullSecrets": ["registry"]}}}, id="a pull secret"),
        pytest.param({"storage": {"secretName": "other"}}, id="another Secret"),
    ],
)
def test_a_job_that_has_not_begun_is_made_anew_when_what_it_was_made_from_is_edited(
    phase: JobPhase, edit: dict[str, Any]
) -> None:
    edited = respecified(waiting(phase), **edit)
    first = plan(edited, SETTINGS, NOW)
    assert says(first, "Reconciling") == ("True", "AskedAnew")
    assert "has not begun and was made from another spec.compute or spec.storage" in message(first, "Ready")
    assert only(first, Delete, Apply) == (deleted(job(phase)),)
    (made,) = applied(plan(replace(edited, job=None), SETTINGS, NOW), "Job")
    assert made["metadata"]["annotations"][environment.ASKED_ANNOTATION] == asked(edited.expansion)


@pytest.mark.parametrize(
    ("observed", "edit"),
    [
        pytest.param(waiting(JobPhase.RUNNING), FEWER_GPUS, id="it trains"),
        pytest.param(waiting(managed_by="kueue.x-k8s.io/multikueue"), FEWER_GPUS, id="in another cluster"),
        pytest.param(
            counted(replace(NEW, job=job(JobPhase.PENDING))), FEWER_GPUS, id="of an earlier release"
        ),
        pytest.param(waiting(), {}, id="nothing"),
        pytest.param(waiting(), {"serving": {"replicas": 3}}, id="model servers"),
        pytest.param(waiting(), {"acceptance": {"minimumAccuracy": 0.9}}, id="a threshold"),
        pytest.param(waiting(), {"compute": {"pendingDeadlineSeconds": 60}}, id="how long it may wait"),
        pytest.param(waiting(), {"compute": {"gpusPerWorker": 1}}, id="the default, written down"),
    ],
)
def test_any_other_job_goes_on(observed: Observed, edit: dict[str, Any]) -> None:
    assert only(plan(respecified(observed, **edit), SETTINGS, NOW), Delete) == ()


def test_a_job_that_is_made_anew_before_it_has_begun_is_not_counted() -> None:
    """Else it would be its own successor's budget that it has spent."""
    edited = respecified(waiting(), **{**FEWER_GPUS, "retrain": {"maxRunsPerDay": 1}})
    first = plan(edited, SETTINGS, NOW)
    assert only(first, Delete) == (deleted(job(JobPhase.PENDING)),)
    gone = replace(after(edited, first), job=None)
    assert applied(plan(gone, SETTINGS, NOW), "Job") != []
    tried = replace(edited, job=job(JobPhase.PENDING, asked=BEFORE, attempts=1))
    again = replace(after(tried, plan(tried, SETTINGS, NOW)), job=None)
    assert says(plan(again, SETTINGS, NOW), "Reconciling") == ("True", "BudgetSpent")


# Limits

LONGER = {"compute": {"activeDeadlineSeconds": 7200, "backoffLimit": 1}}


def limited(phase: JobPhase = JobPhase.RUNNING, **changes: Any) -> Observed:
    before = {"limits": written(limits(NEW.expansion)), "resource_version": "7"}
    return waiting(phase, **{**before, **changes})


@pytest.mark.parametrize("phase", [JobPhase.QUEUED, JobPhase.PENDING, JobPhase.RUNNING])
def test_a_job_is_told_its_new_limits_once_and_goes_on(phase: JobPhase) -> None:
    edited = respecified(limited(phase), **LONGER)
    first = plan(edited, SETTINGS, NOW)
    told = {"activeDeadlineSeconds": 7200, "backoffLimit": 1}
    seen = job(phase)
    assert only(first, Limit, Delete) == (Limit(name=seen.name, uid=seen.uid, version="7", limits=told),)
    assert applied(first, "Job") == []
    assert not first.heard, "if somebody was faster it is told again soon"
    then = replace(after(edited, first), job=job(phase, asked=BEFORE, limits=written(told)))
    assert only(plan(then, SETTINGS, NOW), Limit, Delete) == ()


@pytest.mark.parametrize(
    ("observed", "edit"),
    [
        pytest.param(limited(), {}, id="no edit"),
        pytest.param(limited(), {"compute": {"backoffLimit": 3}}, id="the default, written down"),
        pytest.param(limited(JobPhase.SUCCEEDED), LONGER, id="it has ended"),
        pytest.param(limited(JobPhase.FAILED), LONGER, id="it has failed"),
        pytest.param(limited(terminating=True), LONGER, id="it is being deleted"),
        pytest.param(limited(ours=False), LONGER, id="somebody else's"),
        pytest.param(limited(managed_by="kueue.x-k8s.io/multikueue"), LONGER, id="in another cluster"),
        pytest.param(limited(limits=""), LONGER, id="of an earlier release"),
        pytest.param(limited(), {**LONGER, "suspend": True}, id="it is stopped now"),
        pytest.param(
            limited(JobPhase.PENDING), {"compute": {"backoffLimit": 1, "gpusPerWorker": 0}}, id="made anew"
        ),
        pytest.param(limited(), {"compute": {"backoffLimit": 1, "workers": 2}}, id="refused"),
    ],
)
def test_no_other_job_is_told_limits(observed: Observed, edit: dict[str, Any]) -> None:
    assert only(plan(respecified(observed, **edit), SETTINGS, NOW), Limit) == ()


def test_limits_that_the_cluster_refuses_are_said_and_the_run_is_not_counted_as_failed() -> None:
    edited = respecified(limited(), **LONGER)
    refusal = Trouble(reason="Forbidden", message="may not patch jobs", permanent=True)
    refused = replace(edited, refusals=(refusal,))
    result = plan(refused, SETTINGS, NOW)
    assert says(result, "Stalled") == ("True", "Forbidden")
    assert "may not patch jobs" in message(result, "Ready")
    assert result.status["run"].get("outcome") is None
    assert len(only(result, Limit)) == 1, "it is tried again"
