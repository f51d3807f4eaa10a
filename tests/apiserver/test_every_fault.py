"""Whatever call fails, wherever the operator dies, whichever events are lost: it ends as it would have ended. See faults_run."""

import subprocess
import sys
from pathlib import Path

import pytest
from faults_life import LIFE, Passed
from faults_run import ROTATION, planned
from faults_wire import API, Call, Fault, Line
from faults_world import difference

from expansion_development import processes

pytestmark = [pytest.mark.apiserver, pytest.mark.timeout(1800)]
HERE = Path(__file__).parent


def test_every_call_may_fail_once_and_nobody_can_tell_from_what_is_left() -> None:
    known = processes.python_environment()
    environment = {**known, "PYTHONPATH": f"{HERE}:{known['PYTHONPATH']}"}
    ended = subprocess.run(
        [sys.executable, str(HERE / "faults_run.py")], env=environment, capture_output=True, text=True
    )
    print(ended.stdout, ended.stderr)
    assert ended.stdout.splitlines()[-1].endswith(", deviations 0")
    assert ended.returncode == 0


def call(method: str = "GET", target: str = "/a") -> Call:
    return Call(server=API, method=method, target=target, body=b"")


def test_a_call_that_fails_fails_as_often_as_its_client_tries_it_and_no_other_one_does() -> None:
    line = Line()
    line.plan(1, Fault.BROKEN)
    met = [line.take(call()) for _ in range(6)]
    assert met == [None, *[Fault.BROKEN] * 4, None]
    line.plan(0, Fault.BEFORE)
    assert [line.take(call("PATCH")), line.take(call()), line.take(call("PATCH"))] == [
        Fault.BEFORE,
        None,
        None,
    ]


def test_a_lost_answer_is_lost_once() -> None:
    line = Line()
    line.plan(0, Fault.TIMEOUT)
    assert [line.take(call()), line.take(call())] == [Fault.TIMEOUT, None]


def test_what_differs_is_named() -> None:
    expected = {"jobs": [{"run": "a"}], "versions": [1, 2], "same": None}
    seen = {"jobs": [{"run": "b"}], "versions": [1, 2, 3], "same": None}
    assert difference(expected, seen) == [
        '/jobs/0/run: "a" became "b"',
        "/versions: [1, 2] became [1, 2, 3]",
    ]


def test_every_call_of_every_phase_is_planned_once_and_at_most_one_in_a_phase_of_a_life() -> None:
    calls = tuple(call(target=f"/{number}") for number in range(12))
    reference = [
        Passed(state={}, calls=calls[: 3 + phase % 5], met=None, problems=[], seconds=0.0)
        for phase in range(len(LIFE))
    ]
    for full, times in ((False, 1), (True, len(ROTATION) + 1)):
        planned_lives = planned(reference, full)
        assert all(len({one.phase for one in life}) == len(life) for life in planned_lives)
        failing = [one for life in planned_lives for one in life if one.fault is not Fault.KILLED]
        assert len(failing) == times * sum(len(passed.calls) for passed in reference)
        assert len({(one.phase, one.call, one.fault) for one in failing}) == len(failing)
