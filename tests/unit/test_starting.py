"""When a wanted run does not start yet: uploads that go on, a budget that is spent, and a run that says nothing any more."""

from dataclasses import replace
from datetime import timedelta

import pytest
from operator_values import (
    CHANGED,
    NEW,
    NOW,
    OTHER_RUN,
    RUN,
    SETTLED,
    after,
    applied,
    at,
    counted,
    failed,
    job,
    message,
    only,
    planned,
    progress,
    respecified,
    says,
    with_status,
)

from expansion_contract.resource import StartedRun
from expansion_operator.conditions import stamp
from expansion_operator.observed import Delete, JobPhase, Observed, Trouble, WriteRun, deleted


def listed(observed: Observed, newest: float, seconds: float = 0) -> Observed:
    """The images were listed so many seconds from now, the newest one had arrived then."""
    return replace(observed, newest_image=at(newest), listed_at=at(seconds))


# Uploads


def test_images_that_have_lain_there_long_enough_start_a_run_at_once() -> None:
    assert only(planned(listed(NEW, newest=-31)), WriteRun) == (WriteRun(run_id=RUN),)


def test_a_run_waits_while_images_arrive_and_says_until_when() -> None:
    result = planned(listed(NEW, newest=-10))
    assert says(result, "Trained") == ("Unknown", "Settling")
    assert says(result, "Reconciling") == ("True", "Settling")
    assert "Images arrived until 2026-11-22T11:59:50Z." in message(result, "Trained")
    assert "spec.retrain.settle (30s), at 2026-11-22T12:05:00Z at the latest" in message(result, "Trained")
    assert (only(result, WriteRun), result.requeue_after, result.relist) == ((), 20, False)


def test_the_images_are_listed_again_before_the_run_starts() -> None:
    """Only a listing made when all was quiet shows that nothing has arrived since."""
    waiting = listed(NEW, newest=-10)
    waiting = after(waiting, planned(waiting))
    due = planned(waiting, 20)
    assert (only(due, WriteRun), due.relist, due.requeue_after) == ((), True, 0)
    assert only(planned(listed(waiting, newest=-10, seconds=20), 20), WriteRun) == (WriteRun(run_id=RUN),)
    more = planned(listed(waiting, newest=15, seconds=20), 20)
    assert (only(more, WriteRun), more.requeue_after) == ((), 25)


def test_a_stream_of_images_that_never_ends_keeps_no_run_from_starting() -> None:
    seen, started = listed(NEW, newest=0), None
    for second in range(0, 600, 20):
        seen = listed(seen, newest=second, seconds=second)
        result = planned(seen, second)
        if only(result, WriteRun):
            started = second
            break
        seen = after(seen, result)
    assert started == 300


def test_the_wait_is_forgotten_when_it_is_over() -> None:
    waiting = listed(NEW, newest=-10)
    waiting = after(waiting, planned(waiting))
    assert waiting.expansion.status.dataset is not None
    assert waiting.expansion.status.dataset.settling_since == stamp(NOW)
    assert "settlingSince" not in planned(listed(waiting, newest=-10, seconds=20), 20).status["dataset"]


@pytest.mark.parametrize("settle", ["0s", "10s"])
def test_how_long_it_must_be_quiet_can_be_set(settle: str) -> None:
    quick = respecified(listed(NEW, newest=-10), retrain={"settle": settle})
    assert only(planned(quick), WriteRun) == (WriteRun(run_id=RUN),)


def test_a_store_whose_clock_is_ahead_does_not_hold_a_run_up_for_ever() -> None:
    ahead = listed(NEW, newest=3600)
    result = planned(ahead)
    assert result.requeue_after == 30
    ahead = after(ahead, result)
    assert only(planned(listed(ahead, newest=3600, seconds=300), 300), WriteRun) != ()


def test_a_clock_that_is_put_back_makes_the_wait_no_longer() -> None:
    waiting = listed(NEW, newest=-10)
    waiting = after(waiting, planned(waiting))
    day, started = -86400.0, None
    for second in range(0, 600, 20):
        waiting = listed(waiting, newest=-10, seconds=day + second)
        result = planned(waiting, day + second)
        if only(result, WriteRun):
            started = second
            break
        waiting = after(waiting, result)
    assert started == 300


def test_a_run_under_way_does_not_wait() -> None:
    assert says(planned(replace(listed(NEW, newest=-1), job=job())), "Trained") == ("Unknown", "Running")


def test_while_suspended_nothing_is_listed_again() -> None:
    assert not planned(respecified(listed(NEW, newest=-40, seconds=-35), suspend=True)).relist


# The budget


def spent(*hours_ago: float, most: int = 2) -> Observed:
    """Runs were started so many hours ago."""
    runs = [
        StartedRun(started_at=ago(hours), run_id=f"r{hours:.0f}", job_uid=f"j{hours:.0f}")
        for hours in sorted(hours_ago, reverse=True)
    ]
    return with_status(respecified(CHANGED, retrain={"maxRunsPerDay": most}), started_runs=runs)


def ago(hours: float) -> str:
    return stamp(NOW - timedelta(hours=hours))


def times(observed: Observed) -> list[str | None]:
    """When the runs that status remembers were started."""
    return [run.started_at for run in observed.expansion.status.started_runs]


def test_a_spent_budget_holds_the_next_run_back_until_it_is_free() -> None:
    result = planned(spent(20, 3))
    assert says(result, "Reconciling") == ("True", "BudgetSpent")
    assert message(result, "Trained") == (
        "spec.retrain.maxRunsPerDay (2) is spent: runs were started at 2026-11-21T16:00:00Z, 2026-11-22T09:00:00Z. Run"
        f" {OTHER_RUN} starts at 2026-11-22T16:00:00Z; raise the limit to start it now."
    )
    assert (only(result, WriteRun), applied(result, "Job"), result.requeue_after) == ((), [], 4 * 3600)
    assert only(planned(spent(20, 3), 4 * 3600), WriteRun) == (WriteRun(run_id=OTHER_RUN),)


@pytest.mark.parametrize(
    "observed",
    [
        pytest.param(spent(3), id="one is left"),
        pytest.param(spent(25, 3), id="the older one is a day ago"),
        pytest.param(spent(20, 3, most=3), id="the limit was raised"),
        pytest.param(respecified(spent(20, 3)), id="no limit"),
    ],
)
def test_within_the_budget_a_run_starts(observed: Observed) -> None:
    assert only(planned(observed), WriteRun) == (WriteRun(run_id=OTHER_RUN),)


def test_nothing_overrides_the_budget_but_raising_it() -> None:
    revised = respecified(spent(20, 3), retrain={"maxRunsPerDay": 2, "revision": 5})
    assert only(planned(revised), WriteRun) == ()


def test_a_run_under_way_and_a_published_one_need_no_budget() -> None:
    busy = replace(spent(20, 3), job=job(of=OTHER_RUN))
    assert says(planned(busy), "Trained") == ("Unknown", "Running")
    settled = respecified(SETTLED, retrain={"maxRunsPerDay": 1})
    assert says(planned(settled), "Ready") == ("True", "Ready")


def test_every_job_of_ours_is_counted_once_and_strangers_are_not() -> None:
    foreign = job(of="r9", ours=False, created_at="2026-11-22T11:00:00Z")
    busy = replace(CHANGED, job=job(of=OTHER_RUN), old_jobs=(foreign,))
    looked_at = after(busy, planned(busy))
    assert looked_at.expansion.status.started_runs == [
        StartedRun(started_at="2026-11-22T11:59:50Z", run_id=OTHER_RUN, job_uid=job(of=OTHER_RUN).uid)
    ]
    assert planned(looked_at, 60).status == looked_at.expansion.status.to_wire()


@pytest.mark.parametrize(
    "others", [pytest.param(OTHER_RUN, id="of one run"), pytest.param("r9", id="of two")]
)
def test_jobs_of_one_second_are_as_many_as_they_are(others: str) -> None:
    """Seen together or one after the other, whichever is gone by then."""
    first, second = job(of=OTHER_RUN, uid="j1"), job(of=others, uid="j2")
    together = replace(CHANGED, job=first, old_jobs=(second,))
    assert len(times(after(together, planned(together)))) == 2
    alone = replace(CHANGED, job=first)
    then = replace(after(alone, planned(alone)), job=second)
    assert times(after(then, planned(then))) == [first.created_at, second.created_at]
    limited = respecified(replace(after(then, planned(then)), job=None), retrain={"maxRunsPerDay": 2})
    assert says(planned(limited), "Reconciling") == ("True", "BudgetSpent")


def test_a_job_is_counted_before_it_is_deleted_so_that_a_lost_write_of_status_loses_no_run() -> None:
    unwanted = replace(CHANGED, old_jobs=(job(created_at="2026-11-22T11:59:50Z"),))
    first = planned(unwanted)
    assert (only(first, Delete), first.requeue_after) == ((), 1)
    assert only(planned(unwanted, 5), Delete) == (), "its write was lost"
    looked_at = after(unwanted, first)
    assert only(planned(looked_at, 1), Delete) == (deleted(job()),)
    assert times(looked_at) == ["2026-11-22T11:59:50Z"]


def test_a_run_that_is_to_be_stopped_is_counted_first() -> None:
    hung = replace(CHANGED, job=job(of=OTHER_RUN), progress=progress(run_id=OTHER_RUN))
    first = planned(hung, 3610)
    assert (says(first, "Stalled"), only(first, Delete), first.requeue_after) == (
        ("True", "NoProgress"),
        (),
        1,
    )
    assert only(planned(after(hung, first), 3611), Delete) != ()


def test_a_job_of_days_ago_that_status_has_forgotten_may_go() -> None:
    kept = replace(CHANGED, old_jobs=(job(created_at="2026-11-19T12:00:00Z"),))
    assert only(planned(kept), Delete) == (deleted(job()),)


def test_what_an_earlier_operator_counted_goes_on_counting() -> None:
    """It knew only the second."""
    upgraded = with_status(spent(), recent_runs=[ago(30), ago(20), ago(3)])
    held = planned(upgraded)
    assert says(held, "Reconciling") == ("True", "BudgetSpent")
    taken_over = after(upgraded, held)
    assert (times(taken_over), taken_over.expansion.status.recent_runs) == ([ago(20), ago(3)], [])
    assert says(planned(taken_over), "Reconciling") == ("True", "BudgetSpent")
    assert only(planned(taken_over, 4 * 3600), WriteRun) == (WriteRun(run_id=OTHER_RUN),)


def test_a_job_that_an_earlier_operator_counted_is_not_counted_again() -> None:
    seen = job(of=OTHER_RUN)
    upgraded = replace(with_status(spent(), recent_runs=[ago(3), seen.created_at]), job=seen)
    taken_over = after(upgraded, planned(upgraded))
    assert times(taken_over) == [ago(3), seen.created_at]
    assert taken_over.expansion.status.started_runs[-1].job_uid == seen.uid
    assert planned(taken_over, 60).status == taken_over.expansion.status.to_wire()


def test_passing_time_alone_writes_nothing() -> None:
    remembered = spent(20, 3)
    assert planned(remembered, 3600).status["startedRuns"] == [
        run.to_wire() for run in remembered.expansion.status.started_runs
    ]


def test_starts_of_more_than_a_day_ago_are_forgotten_with_the_next_one() -> None:
    busy = replace(spent(30, 3), job=job(of=OTHER_RUN))
    assert times(after(busy, planned(busy))) == ["2026-11-22T09:00:00Z", "2026-11-22T11:59:50Z"]


# A run that says nothing


def test_a_run_that_says_nothing_new_is_stopped_and_not_started_again() -> None:
    hung = counted(replace(CHANGED, job=job(of=OTHER_RUN), progress=progress(run_id=OTHER_RUN)))
    assert says(planned(hung, 3590), "Trained") == ("Unknown", "Running")
    result = planned(hung, 3610)
    assert says(result, "Stalled") == ("True", "NoProgress")
    assert "has said nothing new since 2026-11-22T11:59:58Z in stage bottlenecks" in message(
        result, "Stalled"
    )
    assert "spec.compute.noProgressDeadlineSeconds (3600)" in message(result, "Stalled")
    assert only(result, Delete) == (deleted(job(of=OTHER_RUN)),)
    gone = replace(after(hung, result), job=None)
    assert only(planned(gone, 3700), WriteRun) == ()
    assert says(planned(gone, 3700), "Stalled") == ("True", "NoProgress")


def test_a_retry_that_never_gets_a_node_is_stopped_in_the_schedulers_words() -> None:
    waiting = Trouble(reason="Unschedulable", message="0/3 nodes have a GPU.", permanent=False)
    retry = replace(CHANGED, job=job(JobPhase.RUNNING, OTHER_RUN, waiting=waiting, attempts=1))
    result = planned(retry, 3700)
    assert says(result, "Stalled") == ("True", "Unschedulable")
    assert "0/3 nodes have a GPU." in message(result, "Stalled")


def test_a_new_attempt_has_its_own_time() -> None:
    retry = job(of=OTHER_RUN, pending_since=stamp(at(3500)))
    hung = replace(CHANGED, job=retry, progress=progress(run_id=OTHER_RUN))
    assert says(planned(hung, 3700), "Trained") == ("Unknown", "Running")


def test_a_run_that_failed_by_its_report_is_not_called_hung() -> None:
    ended = replace(CHANGED, job=job(of=OTHER_RUN), report=failed("BadDataset", "No.", OTHER_RUN))
    assert says(planned(ended, 9999), "Stalled") == ("True", "BadDataset")
