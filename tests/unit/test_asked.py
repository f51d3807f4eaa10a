"""An edit of what stands in a Job and changes no model: it counts until the Job has begun."""

from dataclasses import replace
from typing import Any

import pytest
from operator_values import NEW, NOW, SETTINGS, after, applied, counted, job, message, only, respecified, says

from expansion_contract import environment
from expansion_operator.asked import asked
from expansion_operator.observed import Apply, Delete, JobPhase, Observed, deleted
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
    assert made["metadata"]["annotations"] == {environment.ASKED_ANNOTATION: asked(edited.expansion)}


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
