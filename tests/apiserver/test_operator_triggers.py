"""When a run starts and when it does not, with a real API server and S3 server: uploads, times, and budgets."""

import pytest
from apiserver_expansions import EXPANSIONS, Team, message
from apiserver_waiting import Waiter, condition_of, wait_for

pytestmark = pytest.mark.apiserver


def test_a_run_waits_for_the_end_of_an_upload_and_takes_all_of_it(
    team: Team, wait_for_condition: Waiter
) -> None:
    team.put_images(tulip=30, rose=30)
    team.apply(retrain={"settle": "8s"})
    waiting = wait_for_condition("flowers", "Trained", "Unknown", reason="Settling")
    assert condition_of(waiting, "Reconciling")["status"] == "True"
    team.put_images(lily=25)
    settled = wait_for_condition("flowers", "Ready")
    assert settled["status"]["dataset"]["categories"] == 3
    assert team.attempts() == 1


def test_a_time_of_the_schedule_that_nobody_saw_leads_to_one_run_and_the_next_one_is_told(
    team: Team, wait_for_condition: Waiter
) -> None:
    team.apply(retrain={"schedule": "30 6 1 1 *", "timeZone": "Asia/Kolkata"})
    settled = wait_for_condition("flowers", "Ready")
    following = settled["status"]["schedule"]["nextAt"]
    assert following.endswith("-01-01T01:00:00Z")
    missed = {"schedule": {"nextAt": "2020-01-01T01:00:00Z"}}
    team.api.patch(EXPANSIONS, team.namespace, "flowers", {"status": missed}, part="status")
    wait_for(lambda: team.versions() == [1, 2], "version 2")
    settled = wait_for_condition("flowers", "Ready")
    times = settled["status"]["schedule"]
    assert times["nextAt"] == following
    assert int(times["lastAt"][:4]) == int(following[:4]) - 1
    assert team.attempts() == 2


def test_a_spent_budget_holds_even_a_raised_revision_back(team: Team, wait_for_condition: Waiter) -> None:
    team.apply(retrain={"maxRunsPerDay": 1})
    wait_for_condition("flowers", "Ready")
    team.patch(retrain={"revision": 1})
    waiting = wait_for_condition("flowers", "Trained", "Unknown", reason="BudgetSpent")
    assert "spec.retrain.maxRunsPerDay (1) is spent" in message(waiting, "Trained")
    assert team.attempts() == 1
    team.patch(retrain={"maxRunsPerDay": 2})
    wait_for(lambda: team.versions() == [1, 2], "version 2")
    wait_for(lambda: len(team.get()["status"]["startedRuns"]) == 2, "both runs to be counted")
