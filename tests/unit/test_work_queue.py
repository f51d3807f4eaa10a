"""The queue: a key waits once, is worked on by one worker at a time, and comes back when it must."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from expansion_operator.work_queue import Backoff, Key, WorkQueue, resync

A, B = ("team", "a"), ("team", "b")


def run(queue: WorkQueue, script: Callable[[], Awaitable[None]]) -> None:
    """The script with the workers running, then the end."""

    async def both() -> None:
        working = asyncio.create_task(queue.run())
        await script()
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)

    asyncio.run(asyncio.wait_for(both(), 10))


def test_a_key_that_waits_already_waits_once() -> None:
    done: list[Key] = []

    async def work(key: Key) -> None:
        done.append(key)

    queue = WorkQueue(work, workers=1)

    async def script() -> None:
        for key in (A, A, B, A):
            queue.add(key)
        assert queue.depth == 2
        await asyncio.sleep(0.05)

    run(queue, script)
    assert done == [A, B]


def test_what_happens_during_the_work_is_worked_on_afterwards_and_never_beside() -> None:
    active, most, done = 0, 0, 0

    async def work(key: Key) -> None:
        nonlocal active, most, done
        active += 1
        most = max(most, active)
        if done == 0:
            queue.add(key)
            queue.add(key)
        await asyncio.sleep(0.02)
        active -= 1
        done += 1

    queue = WorkQueue(work, workers=4)

    async def script() -> None:
        queue.add(A)
        await asyncio.sleep(0.15)

    run(queue, script)
    assert (most, done) == (1, 2)


def test_different_keys_are_worked_on_side_by_side() -> None:
    both = asyncio.Event()
    inside: set[Key] = set()

    async def work(key: Key) -> None:
        inside.add(key)
        if inside == {A, B}:
            both.set()
        await both.wait()

    queue = WorkQueue(work, workers=2)

    async def script() -> None:
        queue.add(A)
        queue.add(B)
        await asyncio.wait_for(both.wait(), 1)

    run(queue, script)


def test_a_key_comes_back_when_it_asked_to() -> None:
    times: list[float] = []

    async def work(_: Key) -> float | None:
        times.append(asyncio.get_running_loop().time())
        return 0.1 if len(times) == 1 else None

    queue = WorkQueue(work)

    async def script() -> None:
        queue.add(A)
        await asyncio.sleep(0.4)

    run(queue, script)
    assert len(times) == 2
    assert 0.09 <= times[1] - times[0] < 0.3


def test_an_event_brings_it_back_earlier_and_the_planned_time_is_forgotten() -> None:
    count = 0

    async def work(_: Key) -> float | None:
        nonlocal count
        count += 1
        return 0.2 if count == 1 else None

    queue = WorkQueue(work)

    async def script() -> None:
        queue.add(A)
        await asyncio.sleep(0.05)
        queue.add(A)
        await asyncio.sleep(0.4)

    run(queue, script)
    assert count == 2


def test_the_earliest_of_several_times_counts() -> None:
    done: list[Key] = []

    async def work(key: Key) -> None:
        done.append(key)

    queue = WorkQueue(work)

    async def script() -> None:
        queue.add_after(A, 5)
        queue.add_after(A, 0.05)
        queue.add_after(A, 3)
        await asyncio.sleep(0.2)

    run(queue, script)
    assert done == [A]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_failure_is_tried_again_later_and_later_and_success_forgives() -> None:
    times: list[float] = []
    failed: list[Key] = []

    async def work(_: Key) -> float | None:
        times.append(asyncio.get_running_loop().time())
        if len(times) in {1, 2, 3, 5}:
            raise RuntimeError("the network")
        return 0.0 if len(times) == 4 else None

    queue = WorkQueue(work, backoff=Backoff(first=0.05, jitter=0), chance=lambda: 0.5, failed=failed.append)

    async def script() -> None:
        queue.add(A)
        await asyncio.sleep(0.8)

    run(queue, script)
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert len(times) == 6
    assert 0.05 <= gaps[0] < gaps[1] < gaps[2]
    assert gaps[4] < gaps[2], "the delay begins anew after a success"
    assert failed == [A] * 4


def test_one_failing_key_does_not_hold_up_the_others() -> None:
    done: list[Key] = []

    async def work(key: Key) -> None:
        if key == A:
            raise RuntimeError
        done.append(key)

    queue = WorkQueue(work, workers=1)

    async def script() -> None:
        queue.add(A)
        queue.add(B)
        await asyncio.sleep(0.05)

    run(queue, script)
    assert done == [B]


@given(failures=st.integers(1, 10_000), chance=st.floats(0, 1))
def test_no_delay_is_longer_than_the_longest_and_its_jitter(failures: int, chance: float) -> None:
    backoff = Backoff(first=0.5, most=300, jitter=0.2)
    assert 0.4 <= backoff.delay(failures, chance) <= 360


def comes_back_once(seen: list[str], after: float) -> WorkQueue:
    """Work asks for a glance `after` so many seconds, and that for nothing more."""

    async def work(_: Key) -> float | None:
        seen.append("work")
        return after

    async def glance(_: Key) -> float | None:
        seen.append("glance")
        return None

    return WorkQueue(work, glance=glance)


def test_a_key_that_only_comes_back_is_glanced_at_and_one_that_was_told_is_worked_on() -> None:
    seen: list[str] = []
    queue = comes_back_once(seen, after=0.02)

    async def script() -> None:
        queue.add(A)
        await asyncio.sleep(0.2)
        queue.add_soon(A, 0.02)
        await asyncio.sleep(0.01)
        assert seen == ["work", "glance"]
        await asyncio.sleep(0.2)

    run(queue, script)
    assert seen == ["work", "glance", "work", "glance"]


def test_what_is_told_during_a_glance_is_worked_on_afterwards() -> None:
    seen: list[str] = []

    async def work(_: Key) -> float | None:
        seen.append("work")
        return 0.01 if len(seen) == 1 else None

    async def glance(key: Key) -> float | None:
        seen.append("glance")
        queue.add(key)
        await asyncio.sleep(0.01)
        return None

    queue = WorkQueue(work, glance=glance)

    async def script() -> None:
        queue.add(A)
        await asyncio.sleep(0.2)

    run(queue, script)
    assert seen == ["work", "glance", "work"]


def test_what_many_are_told_in_a_moment_is_worked_on_once() -> None:
    done: list[Key] = []

    async def work(key: Key) -> None:
        done.append(key)

    queue = WorkQueue(work)

    async def script() -> None:
        for _ in range(5):
            queue.add_soon(A, 0.05)
            await asyncio.sleep(0)
        await asyncio.sleep(0.2)

    run(queue, script)
    assert done == [A]


def test_what_is_told_after_a_moment_has_ended_begins_a_moment_of_its_own() -> None:
    done: list[float] = []

    async def work(_: Key) -> None:
        done.append(asyncio.get_running_loop().time())

    queue = WorkQueue(work)

    async def script() -> None:
        queue.add_soon(A, 0.2)
        await asyncio.sleep(0.15)
        queue.add_soon(A, 0.2)
        await asyncio.sleep(0.1)
        queue.add_soon(A, 0.2)
        await asyncio.sleep(0.5)

    run(queue, script)
    assert len(done) == 2
    assert done[1] - done[0] >= 0.2


def test_of_two_moments_the_one_that_ends_first_counts() -> None:
    done: list[Key] = []

    async def work(key: Key) -> None:
        done.append(key)

    queue = WorkQueue(work)

    async def script() -> None:
        queue.add_soon(A, 60)
        queue.add_soon(A, 0.02)
        await asyncio.sleep(0.2)
        assert done == [A]

    run(queue, script)
    assert done == [A]


def test_a_hint_that_is_no_news_any_more_leaves_the_time_of_a_key_as_it_was() -> None:
    seen: list[str] = []
    queue = comes_back_once(seen, after=0.1)

    async def script() -> None:
        queue.add(A)
        await asyncio.sleep(0.02)
        queue.add_soon(A, 0.02, lambda: False)
        await asyncio.sleep(0.05)
        assert seen == ["work"]
        await asyncio.sleep(0.2)

    run(queue, script)
    assert seen == ["work", "glance"]


def test_one_piece_of_news_among_hints_is_enough() -> None:
    done: list[Key] = []

    async def work(key: Key) -> None:
        done.append(key)

    queue = WorkQueue(work)

    async def script() -> None:
        queue.add_soon(A, 0.02, lambda: False)
        queue.add_soon(A, 0.5)
        await asyncio.sleep(0.2)

    run(queue, script)
    assert done == [A]


def test_a_resync_adds_every_key_and_survives_a_failure() -> None:
    done: list[Key] = []
    asked = 0

    async def work(key: Key) -> None:
        done.append(key)

    async def keys() -> list[Key]:
        nonlocal asked
        asked += 1
        if asked == 1:
            raise RuntimeError("the API server restarts")
        return [A, B]

    queue = WorkQueue(work)

    async def script() -> None:
        syncing = asyncio.create_task(resync(queue, keys, 0.05, lambda: 0.5))
        await asyncio.sleep(0.17)
        syncing.cancel()

    run(queue, script)
    assert {A, B} <= set(done)
