"""When a schedule asks for a run: calendars, changes of clocks, missed times, and what holds such a run back."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from operator_values import (
    NOW,
    RUN,
    SETTINGS,
    SETTLED,
    after,
    document,
    job,
    reported,
    respecified,
    says,
    version,
)

from expansion_contract.resource import Retrain
from expansion_operator import schedule, starts
from expansion_operator.conditions import stamp
from expansion_operator.observed import Apply, JobPhase, JobSeen, Observed, Plan
from expansion_operator.plan import plan

NIGHTLY = {"schedule": "0 3 * * *"}
DAY = timedelta(days=1)
FIRST, SECOND = datetime(2026, 11, 23, 3, tzinfo=UTC), datetime(2026, 11, 24, 3, tzinfo=UTC)
"""After NOW."""


def times(cron: str, zone: str, since: str, until: str) -> list[str]:
    asked = schedule.schedule_of(Retrain(schedule=cron, time_zone=zone))
    assert asked is not None
    found, at = [], datetime.fromisoformat(since)
    while (at := asked.after(at)) <= datetime.fromisoformat(until):
        found.append(stamp(at))
    return found


def scheduled(**retrain: Any) -> Observed:
    """A settled resource whose schedule was seen at NOW."""
    seen = respecified(SETTLED, retrain={**NIGHTLY, **retrain})
    return after(seen, plan(seen, SETTINGS, NOW))


def look(world: Observed, now: datetime, *jobs: JobSeen) -> tuple[Observed, Plan]:
    """One reconciliation: what it saw with the status that it wrote, and what it planned."""
    wanted = starts.on_schedule(starts.identified(replace(world, old_jobs=())), jobs, now)
    seen = starts.with_earlier_run(wanted, jobs)
    is_same = seen.run_id == world.run_id
    seen = replace(
        seen,
        report=world.report if is_same else None,
        job=next((one for one in jobs if one.run_id == seen.run_id), None),
        old_jobs=tuple(one for one in jobs if one.run_id != seen.run_id),
    )
    planned = plan(seen, SETTINGS, now)
    return after(seen, planned), planned


def starts_a_run(planned: Plan) -> bool:
    return any(isinstance(action, Apply) and action.once for action in planned.actions)


def published(seen: Observed, number: int) -> Observed:
    """Its run has ended, passed the gate, and is served."""
    run_id = seen.run_id or ""
    return replace(
        seen,
        report=reported(run_id),
        versions=(*seen.versions, version(number, run_id)),
        serving_document=document(number, run_id),
        agents=tuple(replace_version(one, number) for one in seen.agents),
    )


def replace_version(agent: Any, number: int) -> Any:
    return agent.model_copy(update={"live_version": number, "desired_version": number})


def at_rest(seen: Observed) -> Observed:
    return after(seen, plan(seen, SETTINGS, NOW))


# Calendars


@pytest.mark.parametrize(
    ("cron", "expected"),
    [
        pytest.param("30 4 * * *", ["2026-11-22T04:30:00Z", "2026-11-23T04:30:00Z"], id="daily"),
        pytest.param("@daily", ["2026-11-23T00:00:00Z", "2026-11-24T00:00:00Z"], id="nickname"),
        pytest.param("@weekly", [], id="no Sunday night in it"),
        pytest.param("0 0 * * mon-TUE", ["2026-11-23T00:00:00Z", "2026-11-24T00:00:00Z"], id="names"),
        pytest.param("0 */12 23 11 *", ["2026-11-23T00:00:00Z", "2026-11-23T12:00:00Z"], id="steps"),
        pytest.param("0 6 23 * 7", ["2026-11-22T06:00:00Z", "2026-11-23T06:00:00Z"], id="day or weekday"),
    ],
)
def test_cron_means_what_it_means_elsewhere(cron: str, expected: list[str]) -> None:
    assert times(cron, "UTC", "2026-11-22T00:00:00+00:00", "2026-11-24T06:00:00+00:00")[:2] == expected


def test_a_time_zone_moves_with_its_summer_time() -> None:
    summer = times("0 3 * * *", "Europe/Berlin", "2026-07-01T00:00:00+00:00", "2026-07-01T23:00:00+00:00")
    winter = times("0 3 * * *", "Europe/Berlin", "2026-12-01T00:00:00+00:00", "2026-12-01T23:00:00+00:00")
    assert (summer, winter) == (["2026-07-01T01:00:00Z"], ["2026-12-01T02:00:00Z"])


def test_a_time_that_spring_skips_comes_right_after_the_change_of_clocks() -> None:
    night = times("30 2 * * *", "Europe/Berlin", "2026-03-28T12:00:00+00:00", "2026-03-30T12:00:00+00:00")
    assert night == ["2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"]


def test_a_time_that_autumn_repeats_comes_once() -> None:
    night = times("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00+00:00", "2026-10-26T12:00:00+00:00")
    assert night == ["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "UTC"])
@pytest.mark.parametrize("cron", ["30 2 * * *", "*/15 1-3 * * *", "59 1 * * SUN"])
@pytest.mark.parametrize(
    "day", ["2026-03-07", "2026-03-28", "2026-04-04", "2026-10-03", "2026-10-24", "2026-10-31"]
)
def test_the_latest_time_is_the_one_before_the_next_through_every_change_of_clocks(
    zone: str, cron: str, day: str
) -> None:
    asked = schedule.schedule_of(Retrain(schedule=cron, time_zone=zone))
    assert asked is not None
    start = datetime.fromisoformat(f"{day}T00:00:00+00:00")
    for minutes in range(0, 30 * 60, 25):
        now = start + timedelta(minutes=minutes)
        latest, following = asked.latest(now), asked.after(now)
        assert latest <= now < following
        assert asked.after(latest) == following


@pytest.mark.parametrize(
    ("retrain", "message"),
    [
        pytest.param(
            {"schedule": "0 3 30 2 *"},
            "spec.retrain.schedule '0 3 30 2 *' never fires: no month that it names has such a day; use another day-of-month or month.",
            id="30 February",
        ),
        pytest.param(
            {"schedule": "0 18-8 * * *"},
            "spec.retrain.schedule '0 18-8 * * *' has a range in its hour that runs backwards; use the smaller value first.",
            id="backwards",
        ),
        pytest.param(
            {"schedule": "@daily", "timeZone": "Europe/Berlim"},
            "spec.retrain.timeZone 'Europe/Berlim' is no known time zone; use an IANA name such as Europe/Berlin.",
            id="unknown zone",
        ),
    ],
)
def test_what_no_calendar_knows_is_refused_by_name(retrain: dict[str, str], message: str) -> None:
    result = plan(respecified(SETTLED, retrain=retrain), SETTINGS, NOW)
    assert says(result, "Stalled") == ("True", "InvalidSchedule")
    assert [c["message"] for c in result.status["conditions"] if c["type"] == "Stalled"] == [message]


@pytest.mark.parametrize("cron", ["0 3 29 2 *", "0 3 30 2 MON", "0 3 31 * *", "5/20 * * * 0-7", "@yearly"])
def test_what_fires_seldom_is_taken(cron: str) -> None:
    assert schedule.problem_with(Retrain(schedule=cron)) is None


# Runs


def test_a_schedule_that_is_new_starts_nothing_and_says_when_it_will() -> None:
    seen = scheduled()
    _, planned = look(seen, NOW)
    assert (seen.run_id, starts_a_run(planned)) == (RUN, False)
    assert planned.status["schedule"] == {"asked": "0 3 * * * UTC", "nextAt": stamp(FIRST)}


def test_the_operator_wakes_at_the_time_and_not_only_when_the_images_are_due() -> None:
    seen = scheduled(pollInterval="10d")
    _, planned = look(seen, FIRST - timedelta(seconds=90))
    assert planned.requeue_after == 90.0


def test_at_its_time_a_run_starts_whose_identity_is_that_time() -> None:
    seen, planned = look(scheduled(), FIRST)
    assert starts_a_run(planned)
    assert seen.run_id != RUN
    assert planned.status["schedule"] == {
        "asked": "0 3 * * * UTC",
        "lastAt": stamp(FIRST),
        "nextAt": stamp(SECOND),
    }
    again, _ = look(seen, FIRST + timedelta(hours=5))
    assert again.run_id == seen.run_id, "until the next one"


def test_before_its_time_nothing_starts() -> None:
    _, planned = look(scheduled(), FIRST - timedelta(seconds=1))
    assert not starts_a_run(planned)


def test_of_many_missed_times_the_newest_alone_counts() -> None:
    seen, planned = look(scheduled(), FIRST + 10 * DAY + timedelta(hours=1))
    assert planned.status["schedule"]["lastAt"] == stamp(FIRST + 10 * DAY)
    assert planned.status["schedule"]["nextAt"] == stamp(FIRST + 11 * DAY)
    _, afterwards = look(at_rest(published(seen, 2)), FIRST + 10 * DAY + timedelta(hours=2))
    assert not starts_a_run(afterwards)


def test_an_operator_killed_before_it_wrote_the_status_names_the_same_run_again() -> None:
    before = scheduled()
    first, _ = look(before, FIRST + timedelta(seconds=1))
    second, _ = look(before, FIRST + timedelta(hours=2))
    assert first.run_id == second.run_id


def test_times_that_pass_while_suspended_lead_to_one_run_when_it_is_resumed() -> None:
    sleeping = respecified(scheduled(), retrain=NIGHTLY, suspend=True)
    seen, planned = look(at_rest(sleeping), FIRST + 3 * DAY)
    assert (seen.run_id, starts_a_run(planned)) == (RUN, False)
    awake = respecified(seen, retrain=NIGHTLY)
    resumed, planned = look(awake, FIRST + 3 * DAY + timedelta(hours=1))
    assert starts_a_run(planned)
    assert planned.status["schedule"]["lastAt"] == stamp(FIRST + 3 * DAY)
    assert resumed.run_id != RUN


def test_an_edit_of_the_schedule_starts_nothing() -> None:
    edited = respecified(scheduled(), retrain={"schedule": "0 * * * *"})
    seen, planned = look(edited, FIRST + timedelta(minutes=30))
    assert (seen.run_id, starts_a_run(planned)) == (RUN, False)
    assert planned.status["schedule"]["nextAt"] == "2026-11-23T04:00:00Z"


def test_a_schedule_that_is_taken_away_takes_no_model_back() -> None:
    seen, _ = look(scheduled(), FIRST)
    without = respecified(at_rest(published(seen, 2)), retrain={})
    rested, planned = look(without, FIRST + DAY)
    assert rested.run_id == seen.run_id
    assert planned.status["schedule"] == {"lastAt": stamp(FIRST)}


def test_while_its_inputs_are_being_trained_a_time_waits_even_where_edits_replace_runs() -> None:
    seen, _ = look(scheduled(), FIRST)
    running = job(JobPhase.RUNNING, seen.run_id or "", created_at=stamp(FIRST))
    during, _ = look(seen, FIRST + timedelta(minutes=1), running)
    later, planned = look(during, SECOND + timedelta(minutes=1), running)
    assert (later.run_id, later.old_jobs) == (seen.run_id, ())
    assert planned.status["schedule"]["nextAt"] == stamp(SECOND)
    done = at_rest(published(later, 2))
    following, planned = look(done, SECOND + timedelta(hours=1))
    assert starts_a_run(planned)
    assert following.expansion.status.schedule is not None
    assert following.expansion.status.schedule.last_at == stamp(SECOND)


def test_a_time_that_waits_is_looked_at_again_at_once_when_the_run_is_announced() -> None:
    seen, _ = look(scheduled(pollInterval="10d"), FIRST)
    running = job(JobPhase.SUCCEEDED, seen.run_id or "", created_at=stamp(FIRST))
    during, _ = look(seen, FIRST + timedelta(minutes=1), running)
    _, planned = look(published(during, 2), SECOND + timedelta(minutes=1), running)
    assert planned.requeue_after is not None
    assert planned.requeue_after <= 5


def test_where_a_run_may_finish_one_for_other_images_goes_on_and_the_time_is_taken_up_behind_it() -> None:
    seen, _ = look(scheduled(updatePolicy="Finish"), FIRST)
    running = job(JobPhase.RUNNING, seen.run_id or "", created_at=stamp(FIRST))
    during, _ = look(seen, FIRST + timedelta(minutes=1), running)
    assert during.listing is not None
    edited = replace(during, listing=replace(during.listing, digest="sha256:c"))
    later, _ = look(edited, SECOND, running)
    assert (later.run_id, later.job) == (seen.run_id, running)
    assert later.waiting_run not in {None, seen.run_id}


def test_a_budget_holds_a_scheduled_run_back() -> None:
    seen, first = look(scheduled(schedule="0 * * * *", maxRunsPerDay=1), NOW + timedelta(hours=1))
    assert starts_a_run(first)
    ran = job(JobPhase.RUNNING, seen.run_id or "", created_at=stamp(NOW + timedelta(hours=1)))
    done, _ = look(seen, NOW + timedelta(hours=1, minutes=1), ran)
    later, planned = look(at_rest(published(done, 2)), NOW + timedelta(hours=3))
    assert says(planned, "Trained") == ("Unknown", "BudgetSpent")
    assert later.run_id != seen.run_id


def test_a_failed_run_is_tried_again_at_the_next_time() -> None:
    seen, _ = look(scheduled(), FIRST)
    failed = job(JobPhase.FAILED, seen.run_id or "", created_at=stamp(FIRST), exit_code=1)
    ended, _ = look(seen, FIRST + timedelta(minutes=1), failed)
    stalled, planned = look(ended, FIRST + timedelta(minutes=2), failed)
    assert says(planned, "Stalled") == ("True", "TrainingFailed")
    _, planned = look(stalled, SECOND)
    assert starts_a_run(planned)


def test_while_storage_is_away_a_time_is_not_lost() -> None:
    before = scheduled()
    blind = Observed(expansion=before.expansion)
    planned = plan(blind, SETTINGS, FIRST + DAY)
    kept = replace(before, expansion=after(blind, planned).expansion)
    _, planned = look(kept, FIRST + DAY + timedelta(hours=1))
    assert starts_a_run(planned)
