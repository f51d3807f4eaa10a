"""Runs that take too long or hang, on a real API server with its real Job controller: each is ended, told why, and leaves no pod."""

import pytest
from apiserver_expansions import Team, message
from apiserver_waiting import Waiter, condition_of, wait_for

from expansion_contract import layout
from expansion_contract.report import Progress
from expansion_development.kubernetes_api import Manifest

pytestmark = pytest.mark.apiserver
LEAST = 60
"""Seconds: no deadline of these two may be shorter."""
LONGER = LEAST + 25
"""Past the deadline and the look that follows it."""


def begin(team: Team, name: str, behaviour: str, **deadlines: int) -> None:
    """A run in a folder of its own."""
    team.place.write(f"models/{name}/behaviour", behaviour.encode())
    compute = {"gpusPerWorker": 0, "backoffLimit": 1, **deadlines}
    team.apply(name, output={"models": f"s3://{team.bucket}/models/{name}/"}, compute=compute)


def named(team: Team, kind: str, name: str) -> list[Manifest]:
    return team.api.list(kind, team.namespace, labelSelector=f"classifierexpansion.dev/name={name}")


def attempts(team: Team, name: str) -> int:
    return sum(1 for _ in team.place.list(f"models/{name}/attempts/"))


def leaves_no_pod(team: Team, name: str) -> None:
    wait_for(lambda: not named(team, "pods", name), f"the pods of {name} to be gone")
    assert attempts(team, name) == 1, "it was started again"


def test_runs_end_at_their_deadlines_and_one_that_says_something_new_goes_on(
    team: Team, wait_for_condition: Waiter
) -> None:
    """Side by side, because each deadline is a minute."""
    begin(team, "busy", f"busy:{LONGER}", noProgressDeadlineSeconds=LEAST)
    begin(team, "long", "busy:600", activeDeadlineSeconds=LEAST)
    begin(team, "hung", "slow:600", noProgressDeadlineSeconds=LEAST)
    ended_by_kubernetes(team, wait_for_condition("long", "Stalled", reason="DeadlineExceeded", timeout=180))
    ended_by_the_operator(team, wait_for_condition("hung", "Stalled", reason="NoProgress", timeout=180))
    wait_for_condition("busy", "Ready", timeout=180)
    assert attempts(team, "busy") == 1


def test_an_edited_deadline_reaches_the_job_that_is_there(team: Team, wait_for_condition: Waiter) -> None:
    """Raised before it comes, and lowered to a time that has passed."""
    begin(team, "raised", f"busy:{LONGER}", activeDeadlineSeconds=LEAST)
    begin(team, "lowered", "busy:600")
    jobs = {}
    for name in ("raised", "lowered"):
        wait_for_condition(name, "Trained", "Unknown", reason="Running")
        (jobs[name],) = named(team, "jobs", name)
    team.patch("raised", compute={"activeDeadlineSeconds": 600, "backoffLimit": 4})
    (raised,) = wait_for(
        lambda: [j for j in named(team, "jobs", "raised") if limits(j) == (600, 4)], "new limits"
    )
    assert raised["metadata"]["uid"] == jobs["raised"]["metadata"]["uid"]
    wait_for_condition("raised", "Ready", timeout=180)
    assert attempts(team, "raised") == 1
    team.patch("lowered", compute={"activeDeadlineSeconds": LEAST})
    told = wait_for_condition("lowered", "Stalled", reason="DeadlineExceeded")
    assert "removed with its log" in message(told, "Ready")


def limits(job: Manifest) -> tuple[int, int]:
    return job["spec"]["activeDeadlineSeconds"], job["spec"]["backoffLimit"]


def ended_by_kubernetes(team: Team, resource: Manifest) -> None:
    assert "spec.compute.activeDeadlineSeconds (60): raise it." in message(resource, "Ready")
    (job,) = named(team, "jobs", "long")
    assert condition_of(job, "Failed").get("reason") == "DeadlineExceeded"
    leaves_no_pod(team, "long")


def ended_by_the_operator(team: Team, resource: Manifest) -> None:
    told, last = message(resource, "Ready"), progress(team, resource)
    assert f"has said nothing new since {last.updated_at} in stage {last.stage}, longer than" in told
    assert "spec.compute.noProgressDeadlineSeconds (60)" in told
    wait_for(lambda: not named(team, "jobs", "hung"), "the Job of hung to be gone")
    leaves_no_pod(team, "hung")


def progress(team: Team, resource: Manifest) -> Progress:
    """What its trainer said last."""
    key = layout.run(resource["status"]["run"]["id"], layout.PROGRESS)
    return Progress.model_validate_json(team.place.read(f"models/{resource['metadata']['name']}/{key}"))
