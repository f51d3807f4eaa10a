"""What the agent decides, without disk, storage or server."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from expansion_contract.run import Owner
from expansion_contract.version import ServingDocument
from model_sync.model_server import ServerConfig, ServerSeen, VersionState
from model_sync.step import (
    SETTLE_SECONDS,
    Check,
    Decision,
    Memory,
    Patience,
    Seen,
    decide,
    desired_changed,
    failed,
    passed,
    went_live,
)

PATIENCE = Patience(load_seconds=100, first_pause=10)
GONE = ServerSeen(answers=False)


def document(version: int) -> ServingDocument:
    return ServingDocument(
        owner=Owner(namespace="team", name="flowers"),
        model_name="flowers",
        version=version,
        run_id="r",
        manifest_sha256=f"sha-{version}",
        last_version=version,
    )


def server(**states: str | VersionState) -> ServerSeen:
    """server(v7="AVAILABLE")"""
    return ServerSeen(
        answers=True,
        versions={
            int(name[1:]): state if isinstance(state, VersionState) else VersionState(state=state)
            for name, state in states.items()
        },
    )


def disk(*versions: int) -> dict[int, str]:
    return {version: f"sha-{version}" for version in versions}


def named(*versions: int, aside: int | None = None) -> ServerConfig:
    return ServerConfig(versions=versions, aside=aside)


SETTLED = Seen(
    now=1000.0, storage_answered=True, desired=document(7), disk=disk(7), server=server(v7="AVAILABLE")
)
REMEMBERED = Memory(good=7, proven=frozenset({7}), config=named(7))
WANTS_8 = replace(SETTLED, desired=document(8))
HAS_8 = replace(WANTS_8, disk=disk(7, 8))
NOTHING_LIVE = replace(HAS_8, server=server())


def settled(seen: Seen, memory: Memory = REMEMBERED) -> Decision:
    return decide(seen, memory, PATIENCE)


def test_a_live_version_is_left_alone():
    assert settled(SETTLED) == Decision(
        memory=REMEMBERED, state="Live", live=7, config=named(7), keep=frozenset({7})
    )


def test_deciding_twice_decides_the_same():
    first = settled(HAS_8)
    assert decide(HAS_8, first.memory, PATIENCE) == first


def test_before_storage_has_answered_the_servers_config_is_left_alone():
    seen = replace(SETTLED, storage_answered=False, desired=None, disk={}, server=GONE)
    assert settled(seen, Memory()).config is None


def test_before_storage_has_answered_the_version_of_before_is_served_and_nothing_is_removed():
    seen = replace(SETTLED, storage_answered=False, desired=None, disk=disk(6, 7, 8))
    decision = settled(seen, Memory(good=7))
    assert (decision.config, decision.check) == (named(7), Check(version=7))
    assert decision.keep == {6, 7, 8}


def test_with_nothing_to_serve_the_server_gets_an_empty_config():
    decision = settled(replace(SETTLED, desired=None, disk={}, server=GONE), Memory())
    assert (decision.state, decision.config) == ("Waiting", named())


def test_a_new_version_is_downloaded_while_the_old_one_serves():
    decision = settled(WANTS_8)
    assert (decision.state, decision.download, decision.live) == ("Downloading", document(8), 7)
    assert decision.config == named(7)


def test_a_whole_version_is_first_loaded_under_the_second_name():
    decision = settled(HAS_8)
    assert (decision.state, decision.config, decision.live) == ("Loading", named(7, aside=8), 7)


def test_it_is_asked_there_before_it_gets_the_models_name():
    decision = settled(replace(HAS_8, aside=server(v8="AVAILABLE")))
    assert (decision.state, decision.check) == ("Checking", Check(version=8, aside=True))
    assert (decision.config, decision.live) == (named(7, aside=8), 7)


@pytest.mark.parametrize("state", ["AVAILABLE", "UNLOADING"])
def test_having_passed_it_waits_until_the_second_name_is_empty(state: str):
    checked = replace(REMEMBERED, config=named(7, aside=8))
    decision = settled(replace(HAS_8, aside=server(v8=state)), passed(checked, 8))
    assert (decision.state, decision.config, decision.check) == ("Loading", named(7), None)
    assert "has unloaded version 8" in decision.message


def test_then_it_is_loaded_under_the_models_name_beside_the_live_one():
    decision = settled(replace(HAS_8, aside=server(v8="END")), passed(REMEMBERED, 8))
    assert (decision.state, decision.config, decision.live) == ("Loading", named(7, 8), 7)


def test_under_the_models_name_it_is_checked_once_more_before_it_is_live():
    seen = replace(HAS_8, server=server(v7="AVAILABLE", v8="AVAILABLE"), aside=server(v8="END"))
    decision = settled(seen, passed(REMEMBERED, 8))
    assert (decision.state, decision.check, decision.live) == ("Checking", Check(version=8), 7)


def test_another_version_waits_until_the_second_name_is_empty():
    seen = replace(HAS_8, disk=disk(6, 7, 8), aside=server(v6="LOADING"))
    assert settled(seen).config == named(7)
    assert settled(replace(seen, aside=server(v6="END"))).config == named(7, aside=8)


def test_a_second_name_that_is_never_empty_is_a_failure():
    memory = passed(REMEMBERED, 8)
    stuck = replace(HAS_8, aside=server(v8="UNLOADING"), now=HAS_8.now + 101)
    decision = settled(stuck, replace(memory, config=named(7), config_since=HAS_8.now))
    assert (decision.state, decision.live) == ("Failed", 7)


def test_with_nothing_live_a_version_is_loaded_under_the_models_name_at_once():
    decision = settled(NOTHING_LIVE, Memory())
    assert (decision.state, decision.config) == ("Loading", named(8))
    loaded = settled(replace(NOTHING_LIVE, server=server(v8="AVAILABLE")), Memory())
    assert (loaded.state, loaded.check, loaded.live) == ("Checking", Check(version=8), None)


def test_a_version_that_answers_and_is_not_proven_again_yet_is_no_reason_to_skip_the_check():
    decision = settled(HAS_8, Memory(good=7))
    assert decision.config == named(7, aside=8)
    assert decision.check == Check(version=7)


@pytest.mark.parametrize(
    "forget",
    [
        pytest.param(desired_changed, id="something else was wanted meanwhile"),
        pytest.param(lambda memory: failed(memory, 8, "sha-8", "broken", 0, 10), id="it failed afterwards"),
        pytest.param(
            lambda memory: settled(replace(HAS_8, server=GONE), memory).memory, id="the server went"
        ),
        pytest.param(lambda memory: went_live(memory, 8), id="it went live, and may be replaced"),
    ],
)
def test_a_version_passes_for_one_exchange_only(forget: Callable[[Memory], Memory]):
    assert forget(passed(REMEMBERED, 8)).passed is None


def test_once_live_the_new_version_is_alone_in_the_config_and_the_old_one_stays_on_the_disk():
    seen = replace(HAS_8, server=server(v7="AVAILABLE", v8="AVAILABLE"))
    memory = went_live(REMEMBERED, 8)
    decision = settled(seen, memory)
    assert (decision.state, decision.live, decision.config) == ("Live", 8, named(8))
    assert decision.keep == {7, 8}


def test_a_third_version_back_does_not_stay_on_the_disk():
    memory = went_live(went_live(REMEMBERED, 8), 9)
    seen = replace(SETTLED, desired=document(9), disk=disk(7, 8, 9), server=server(v9="AVAILABLE"))
    assert settled(seen, replace(memory, config=named(9))).keep == {8, 9}


def test_nothing_goes_from_the_disk_while_the_server_may_still_follow_the_config_before():
    memory = went_live(went_live(REMEMBERED, 8), 9)
    seen = replace(SETTLED, desired=document(9), disk=disk(7, 8, 9), server=server(v9="AVAILABLE"))
    changed = settled(seen, memory)
    assert changed.keep == {7, 8, 9}
    later = replace(seen, now=seen.now + SETTLE_SECONDS)
    assert settled(later, changed.memory).keep == {7, 8, 9}
    assert settled(replace(later, now=later.now + 1), changed.memory).keep == {8, 9}


def test_rolling_back_checks_what_is_on_the_disk_too():
    seen = replace(SETTLED, disk=disk(7, 8), server=server(v8="AVAILABLE", v7="END"))
    memory = Memory(good=8, previous=7, proven=frozenset({8}))
    decision = settled(seen, memory)
    assert (decision.download, decision.config, decision.live) == (None, named(8, aside=7), 8)
    assert settled(seen, passed(memory, 7)).config == named(7, 8)


def test_a_version_that_was_proven_and_unloaded_must_prove_itself_again():
    seen = replace(SETTLED, disk=disk(7, 8), server=server(v8="AVAILABLE", v7="END"))
    memory = settled(seen, Memory(good=8, proven=frozenset({7, 8}))).memory
    assert memory.proven == {8}


def test_a_server_that_has_gone_leaves_nothing_live():
    decision = settled(replace(SETTLED, server=GONE))
    assert (decision.state, decision.live, decision.config) == ("Loading", None, named(7))
    assert decision.memory.proven == frozenset()


def test_after_the_server_came_back_the_version_is_checked_before_it_is_live():
    gone = settled(replace(SETTLED, server=GONE))
    back = settled(SETTLED, gone.memory)
    assert (back.live, back.check) == (None, Check(version=7))


def test_a_server_that_stays_silent_is_reported_with_where_to_look():
    gone = settled(replace(SETTLED, server=GONE))
    late = settled(replace(SETTLED, server=GONE, now=SETTLED.now + 101), gone.memory)
    assert late.state == "Failed"
    assert "has not answered for 101 seconds" in late.message
    assert "log of the container model-server" in late.message


def test_a_server_that_starts_is_not_given_a_second_version_yet():
    assert settled(replace(HAS_8, server=GONE)).config == named(7)


def test_a_server_that_starts_is_given_the_first_version():
    seen = replace(SETTLED, server=GONE)
    assert settled(seen, Memory()).config == named(7)


def test_a_server_that_dies_with_two_versions_starts_again_with_one():
    loading = settled(HAS_8)
    died = settled(replace(HAS_8, server=GONE), loading.memory)
    assert died.config == named(7)
    assert "room for two versions" in died.message
    back = settled(replace(HAS_8, now=HAS_8.now + 5), died.memory)
    assert back.config == named(7)


@pytest.mark.parametrize(
    ("waited", "state"),
    [
        pytest.param(5, "Loading", id="what the server shows may be of an earlier attempt"),
        pytest.param(7, "Failed", id="it has had time to notice the new config"),
    ],
)
def test_a_failed_load_takes_the_version_out_of_the_config_again(waited: float, state: str):
    memory = settled(HAS_8).memory
    broken = server(v8=VersionState(state="END", error="DATA_LOSS: not an sstable"))
    decision = settled(replace(HAS_8, aside=broken, now=HAS_8.now + waited), memory)
    assert decision.state == state
    if state == "Failed":
        assert decision.config == named(7)
        assert "DATA_LOSS: not an sstable" in decision.message
        assert "Version 7 stays live." in decision.message


def test_under_the_models_name_a_load_may_fail_too():
    memory = settled(HAS_8, passed(REMEMBERED, 8)).memory
    broken = server(v7="AVAILABLE", v8=VersionState(state="END", error="out of memory"))
    early = settled(replace(HAS_8, server=broken, now=HAS_8.now + 5), memory)
    assert (early.state, early.config) == ("Loading", named(7, 8))
    late = settled(replace(HAS_8, server=broken, now=HAS_8.now + 7), memory)
    assert (late.state, late.config, late.live) == ("Failed", named(7), 7)


def test_how_it_ended_elsewhere_is_no_failure_of_this_load():
    broken = server(v7="AVAILABLE", v8=VersionState(state="END", error="out of memory"))
    memory = settled(HAS_8).memory
    later = replace(HAS_8, server=broken, now=HAS_8.now + 50)
    assert settled(later, memory).state == "Loading"


def test_a_version_that_ended_in_order_is_just_not_loaded_yet():
    memory = settled(HAS_8).memory
    seen = replace(HAS_8, aside=server(v8="END"), now=HAS_8.now + 50)
    assert settled(seen, memory).state == "Loading"


def test_a_load_that_takes_too_long_fails():
    memory = settled(HAS_8).memory
    seen = replace(HAS_8, aside=server(v8="LOADING"), now=HAS_8.now + 101)
    assert "not available after 101 seconds (it is LOADING)" in settled(seen, memory).message


def test_a_failed_version_is_tried_again_after_pauses_that_grow():
    memory = REMEMBERED
    pauses = []
    for _ in range(9):
        memory = failed(memory, 8, "sha-8", "broken", HAS_8.now, PATIENCE.first_pause)
        pauses.append(memory.failures[8].again_at - HAS_8.now)
    assert pauses == [10, 20, 40, 80, 160, 320, 600, 600, 600]
    assert settled(HAS_8, memory).state == "Failed"
    assert settled(replace(HAS_8, now=HAS_8.now + 600), memory).state == "Loading"


def test_a_failed_version_is_tried_at_once_when_somebody_decided_anew():
    memory = failed(REMEMBERED, 8, "sha-8", "broken", HAS_8.now, 10)
    assert settled(HAS_8, desired_changed(memory)).state == "Loading"


def test_a_failed_version_does_not_stop_another():
    memory = failed(REMEMBERED, 8, "sha-8", "broken", HAS_8.now, 10)
    seen = replace(SETTLED, desired=document(9), disk=disk(7, 8, 9))
    assert settled(seen, memory).config == named(7, aside=9)


def test_a_number_used_twice_is_refused():
    seen = replace(HAS_8, disk={7: "sha-7", 8: "another"})
    decision = settled(seen)
    assert decision.state == "Failed"
    assert decision.download is None
    assert "the number was used twice" in decision.message


def test_without_any_good_version_a_failed_one_is_not_served():
    seen = replace(SETTLED, server=server(v7="AVAILABLE"))
    memory = failed(Memory(), 7, "sha-7", "answers otherwise", seen.now, 600)
    decision = settled(seen, memory)
    assert (decision.config, decision.live) == (named(), None)
    assert "No version is live." in decision.message
