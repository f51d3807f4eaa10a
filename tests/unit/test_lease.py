"""Promises about who may act: never two at once, a silent holder is replaced, an orderly end hands over at once."""

import copy
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from expansion_operator.lease import DURATION, RENEW_DEADLINE, RETRY, Elector, taken


@dataclass
class ApiServer:
    """One Lease with the API server's optimistic concurrency; it may be out of reach."""

    lease: dict[str, Any] | None = None
    version: int = 0
    is_reachable: bool = True
    writes: list[str] = field(default_factory=list)

    def read(self) -> dict[str, Any] | None:
        self._reach()
        return copy.deepcopy(self.lease)

    def write(self, lease: dict[str, Any]) -> bool:
        self._reach()
        if lease["metadata"].get("resourceVersion", "0") != str(self.version if self.lease else 0):
            return False
        self.version += 1
        self.lease = copy.deepcopy(lease) | {"metadata": {"resourceVersion": str(self.version)}}
        self.writes.append(lease["spec"]["holderIdentity"])
        return True

    def _reach(self) -> None:
        if not self.is_reachable:
            raise ConnectionError("out of reach")


@dataclass
class Clock:
    seconds: float = 0.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


def electors(server: ApiServer, clock: Clock, *names: str) -> list[Elector]:
    return [Elector(server, name, clock) for name in names]


def test_the_first_takes_it_and_the_second_waits(clock: Clock) -> None:
    first, second = electors(ApiServer(), clock, "a", "b")
    assert first.attempt()
    assert not second.attempt()
    assert (first.is_leading(), second.is_leading()) == (True, False)


def test_whoever_leads_later_has_a_higher_term(clock: Clock) -> None:
    first, second = electors(ApiServer(), clock, "a", "b")
    first.attempt()
    second.attempt()
    clock.seconds += DURATION
    assert second.attempt()
    assert (first.term(), second.term()) == (0, 1)
    second.give_back()
    assert first.attempt()
    assert (first.term(), second.term()) == (2, 1)


def test_a_silent_holder_is_replaced_after_its_duration_and_not_before(clock: Clock) -> None:
    first, second = electors(ApiServer(), clock, "a", "b")
    first.attempt()
    assert not second.attempt()
    clock.seconds += DURATION - 0.1
    assert not second.attempt()
    clock.seconds += 0.1
    assert second.attempt()


def test_a_holder_stops_believing_in_itself_before_a_rival_may_start(clock: Clock) -> None:
    first, second = electors(ApiServer(), clock, "a", "b")
    first.attempt()
    second.attempt()
    clock.seconds += RENEW_DEADLINE
    assert not first.is_leading()
    assert not second.attempt()


def test_a_rivals_wrong_clock_does_not_matter(clock: Clock) -> None:
    """Its renewTime may say anything: only that it changes is looked at."""
    server = ApiServer()
    server.write(taken(None, "a", "1970-01-01T00:00:00.000000Z"))
    (second,) = electors(server, clock, "b")
    assert not second.attempt()


def test_what_is_given_back_is_taken_at_the_next_try(clock: Clock) -> None:
    first, second = electors(ApiServer(), clock, "a", "b")
    first.attempt()
    second.attempt()
    first.give_back()
    assert not first.is_leading()
    assert second.attempt()


def test_of_two_who_try_at_once_one_gets_it(clock: Clock) -> None:
    server = ApiServer()
    stale = server.read()
    (first,) = electors(server, clock, "a")
    assert first.attempt()
    assert not server.write(taken(stale, "b", "now"))
    assert server.lease is not None
    assert server.lease["spec"]["holderIdentity"] == "a"


def test_a_new_holder_counts_a_transition_and_a_renewal_does_not(clock: Clock) -> None:
    server = ApiServer()
    first, second = electors(server, clock, "a", "b")
    first.attempt()
    clock.seconds += RETRY
    first.attempt()
    assert server.lease is not None
    assert server.lease["spec"]["leaseTransitions"] == 0
    first.give_back()
    second.attempt()
    assert server.lease["spec"]["leaseTransitions"] == 1


def test_while_the_api_server_is_out_of_reach_nobody_leads_for_long(clock: Clock) -> None:
    server = ApiServer()
    (first,) = electors(server, clock, "a")
    first.attempt()
    server.is_reachable = False
    clock.seconds += RENEW_DEADLINE - 1
    assert not first.attempt()
    assert first.is_leading()
    clock.seconds += 1
    assert not first.attempt()
    assert not first.is_leading()


def test_giving_back_what_another_has_taken_changes_nothing(clock: Clock) -> None:
    server = ApiServer()
    first, second = electors(server, clock, "a", "b")
    first.attempt()
    second.attempt()
    clock.seconds += DURATION
    second.attempt()
    first.give_back()
    assert server.lease is not None
    assert server.lease["spec"]["holderIdentity"] == "b"


@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.floats(0.1, 6), st.booleans(), st.booleans()),
        max_size=60,
    )
)
def test_never_two_at_once_whatever_fails_in_whatever_order(
    steps: list[tuple[str, float, bool, bool]],
) -> None:
    clock, server = Clock(), ApiServer()
    everybody = {name: Elector(server, name, clock) for name in "abc"}
    for name, seconds, is_reachable, gives_back in steps:
        clock.seconds += seconds
        server.is_reachable = is_reachable
        if gives_back and everybody[name].is_leading():
            everybody[name].give_back()
        else:
            everybody[name].attempt()
        assert sum(one.is_leading() for one in everybody.values()) <= 1


def test_who_waits_knows_how_long_the_api_server_has_been_silent(clock: Clock) -> None:
    server = ApiServer()
    leader, waiting = electors(server, clock, "a", "b")
    assert leader.attempt()
    clock.seconds = 20
    assert leader.attempt()
    assert not waiting.attempt()
    assert waiting.silence() == 0
    server.is_reachable = False
    clock.seconds = 60
    assert not waiting.attempt()
    assert waiting.silence() == 40
