"""What is kept of the Jobs of earlier runs before they go."""

from dataclasses import replace
from typing import Any

import pytest
from operator_values import (
    NEW,
    OTHER_RUN,
    RUN,
    SETTLED,
    after,
    counted,
    job,
    listing,
    message,
    only,
    planned,
    says,
)

from expansion_contract.exit_codes import ExitCode
from expansion_operator.observed import Delete, JobPhase, JobSeen, WriteRun, deleted


def oom_killed(of: str = RUN, **changes: Any) -> JobSeen:
    failed = {"exit_code": 137, "oom_killed": True, "memory_limit": "8Gi"}
    return job(JobPhase.FAILED, of, **{**failed, **changes})


def test_a_run_that_failed_as_its_spec_was_edited_is_not_trained_again_when_the_edit_is_taken_back() -> None:
    """Nobody has looked at the Job between its end and the edit."""
    edited = counted(replace(NEW, run_id=OTHER_RUN, listing=listing("sha256:b"), old_jobs=(oom_killed(),)))
    first = planned(edited)
    assert only(first, Delete) == ()
    assert first.status["history"][0]["runId"] == RUN
    second = planned(after(edited, first))
    assert only(second, Delete) == (deleted(job()),)
    assert second.status["history"] == first.status["history"]
    reverted = replace(after(edited, second), run_id=RUN, listing=listing(), old_jobs=())
    result = planned(reverted)
    assert only(result, WriteRun) == ()
    assert says(result, "Stalled") == ("True", "OutOfMemory")
    assert "8Gi" in message(result, "Ready")


@pytest.mark.parametrize("code", [ExitCode.STORAGE_UNAVAILABLE, ExitCode.DATASET_CHANGED])
def test_what_failed_for_a_passing_reason_as_its_spec_was_edited_may_be_trained_again(code: ExitCode) -> None:
    passing = oom_killed(exit_code=int(code), oom_killed=False)
    edited = counted(replace(NEW, run_id=OTHER_RUN, listing=listing("sha256:b"), old_jobs=(passing,)))
    result = planned(edited)
    assert only(result, Delete) == (deleted(job()),)
    assert result.status["history"] == []


def test_a_failure_that_is_told_late_does_not_repeat_what_became_of_the_current_run() -> None:
    late = counted(replace(SETTLED, old_jobs=(oom_killed(OTHER_RUN),)))
    first = planned(late)
    assert [(e["runId"], e["outcome"]) for e in first.status["history"]] == [
        (RUN, "Published"),
        (OTHER_RUN, "Failed"),
    ]
    assert planned(after(late, first)).status["history"] == first.status["history"]


def test_a_job_that_still_ends_after_a_revert_is_told_beside_the_model_that_answers() -> None:
    ending = job(of=OTHER_RUN, terminating=True, held_by="pod flowers-x on node gpu-7")
    result = planned(counted(replace(SETTLED, old_jobs=(ending,))))
    assert says(result, "Ready") == ("True", "Ready")
    assert f"Job {ending.name} (held by pod flowers-x on node gpu-7) is still ending." in message(
        result, "Ready"
    )
    assert "still ending" not in message(planned(SETTLED), "Ready")
