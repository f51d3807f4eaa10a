"""Runs that failed for a reason that passes: started again, later each time, counted, and not for ever."""

from dataclasses import replace
from typing import Any

import pytest
from operator_values import (
    CHANGED,
    NOW,
    OTHER_RUN,
    after,
    applied,
    at,
    job,
    kstatus,
    message,
    only,
    planned,
    reported,
    respecified,
    says,
)

from expansion_operator.conditions import moment, stamp
from expansion_operator.observed import Delete, JobPhase, JobSeen, Observed, WriteRun, deleted

AWAY = {"exit_code": 20, "failure_reason": "BackoffLimitExceeded", "attempts": 4}


def ended(seconds: float = -60, **changes: Any) -> JobSeen:
    """A Job of that moment that has failed, because storage was away."""
    return job(JobPhase.FAILED, OTHER_RUN, created_at=stamp(at(seconds)), **{**AWAY, **changes})


def looked(observed: Observed, seconds: float = 0) -> Observed:
    return after(observed, planned(observed, seconds))


def failed_once(**changes: Any) -> Observed:
    """Looked at until its report was no longer waited for."""
    seen = replace(CHANGED, job=ended(**changes))
    return looked(looked(seen), 6)


def retry(observed: Observed) -> tuple[int | None, str | None]:
    run = observed.expansion.status.run
    assert run is not None
    return run.failures, run.retry_at


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        pytest.param({}, "StorageUnavailable", id="storage"),
        pytest.param({"exit_code": 21}, "WeightsUnavailable", id="weights"),
        pytest.param({"exit_code": 137}, "Killed", id="killed"),
        pytest.param({"exit_code": 143}, "Terminated", id="terminated"),
    ],
)
def test_what_passes_is_waited_for_and_nobody_is_asked_to_act(changes: dict[str, Any], reason: str) -> None:
    seen = failed_once(**changes)
    result = planned(seen, 7)
    assert says(result, "Trained") == ("Unknown", reason)
    assert says(result, "Stalled") is None
    assert kstatus(seen.expansion) == "InProgress"
    assert "The run is started again at 2026-11-22T12:01:06Z (retry 1 of 6)." in message(result, "Trained")
    assert retry(seen) == (1, "2026-11-22T12:01:06Z")


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"exit_code": 1}, id="a defect"),
        pytest.param({"exit_code": 137, "oom_killed": True}, id="memory"),
        pytest.param({"failure_reason": "DeadlineExceeded"}, id="deadline"),
        pytest.param({"exit_code": 11}, id="bad images"),
    ],
)
def test_what_does_not_pass_by_itself_is_left_to_a_person(changes: dict[str, Any]) -> None:
    assert kstatus(failed_once(**changes).expansion) == "Failed"


def test_looking_again_counts_nothing_twice() -> None:
    seen = failed_once()
    assert looked(seen, 20).expansion.status == seen.expansion.status
    assert planned(seen, 20).requeue_after == 46


def test_the_failed_job_stays_until_the_next_one_may_start() -> None:
    seen = failed_once()
    assert only(planned(seen, 65), Delete) == ()
    due = planned(seen, 67)
    assert only(due, Delete) == (deleted(ended()),)
    going = replace(seen, job=ended(terminating=True))
    assert only(planned(looked(going, 68), 68), WriteRun, Delete) == ()
    gone = replace(looked(going, 68), job=None)
    assert only(planned(gone, 69), WriteRun) == (WriteRun(run_id=OTHER_RUN),)


def test_a_failed_job_that_somebody_removes_does_not_hasten_the_next_one() -> None:
    gone = replace(failed_once(), job=None)
    waits = planned(gone, 30)
    assert says(waits, "Trained") == ("Unknown", "RetryAwaited")
    assert (only(waits, WriteRun), waits.requeue_after) == ((), 36)
    assert only(planned(gone, 67), WriteRun) == (WriteRun(run_id=OTHER_RUN),)


def test_each_retry_waits_longer_and_the_last_one_asks_for_a_person() -> None:
    seen, clock, waits = CHANGED, 0.0, []
    for _ in range(6):
        seen = replace(seen, job=ended(clock))
        seen = looked(looked(seen, clock + 10), clock + 16)
        due = moment(retry(seen)[1])
        assert due is not None
        waits.append((due - at(clock + 16)).total_seconds())
        clock = (due - NOW).total_seconds() + 5
    assert waits == [60, 120, 240, 480, 960, 1920]
    seen = replace(seen, job=ended(clock))
    seen = looked(looked(seen, clock + 10), clock + 16)
    assert kstatus(seen.expansion) == "Failed"
    gone = replace(seen, job=None)
    assert (only(planned(gone, 99_999), WriteRun), applied(planned(gone, 99_999), "Job")) == ((), [])


def test_a_job_that_fails_before_anybody_sees_it_run_is_counted_too() -> None:
    second = looked(looked(replace(failed_once(), job=ended(70)), 75), 81)
    assert retry(second) == (2, stamp(at(81 + 120)))


def test_a_success_forgets_the_failures() -> None:
    seen = replace(failed_once(), job=job(JobPhase.SUCCEEDED, OTHER_RUN), report=reported(OTHER_RUN))
    assert retry(looked(seen, 90)) == (None, None)


def test_another_run_starts_without_waiting() -> None:
    edited = respecified(failed_once(), retrain={"revision": 1})
    other = replace(edited, run_id="r9", job=None)
    assert only(planned(other, 8), WriteRun) == (WriteRun(run_id="r9"),)


def test_while_suspended_nothing_is_started_again() -> None:
    suspended = respecified(failed_once(), suspend=True)
    assert only(planned(replace(suspended, job=None), 99_999), WriteRun) == ()
