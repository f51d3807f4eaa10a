"""What is asked of kopf, and how its dead watchers are found."""

import asyncio
import copy
import itertools
import time
from typing import Any

import kopf
import pytest

from expansion_contract.environment import NAME_LABEL
from expansion_operator.handlers import EndlessBackoffs, Knows, Watchers, registry, settings
from expansion_operator.neighbours import Neighbours
from expansion_operator.work_queue import Key, WorkQueue

NAMES = (
    "watcher for classifierexpansions.v1alpha1.classifierexpansion.dev@None",
    "watcher for jobs.v1.batch@None",
    "watcher for deployments.v1.apps@None",
    "watcher for services.v1@None",
)


async def nothing(_: Key) -> None:
    return None


def never(_: object) -> bool:
    return False


def test_kopf_never_gives_a_watcher_up() -> None:
    backoffs = EndlessBackoffs()
    assert len(list(itertools.islice(backoffs, 10_000))) == 10_000
    assert next(iter(backoffs)) == 1, "and begins anew for the next failure"
    assert settings().networking.error_backoffs.__class__ is EndlessBackoffs


def test_no_handler_writes_to_a_users_object() -> None:
    made = registry(WorkQueue(nothing), Neighbours(), never)
    assert made._watching.get_all_handlers()
    for kind in (made._changing, made._spawning, made._indexing, made._webhooks):
        assert not list(kind.get_all_handlers())
    assert settings().posting.enabled is False


def test_thousands_of_resources_are_listed_in_pieces() -> None:
    made = settings()
    assert made.watching.chunk_size is not None
    assert 0 < made.watching.chunk_size <= 100
    assert made.queueing.idle_timeout <= 1, "for as long every worker keeps the last state of its object"


def test_only_our_jobs_deployments_and_services_are_watched() -> None:
    selectors = settings().watching.label_selectors
    assert set(selectors.values()) == {"app.kubernetes.io/managed-by=classifier-expansion"}
    assert len(selectors) == 3


async def looked_at(watchers: Watchers, names: tuple[str, ...]) -> None:
    tasks = [asyncio.create_task(asyncio.sleep(60), name=name) for name in names]
    looking = asyncio.create_task(watchers.look(every=0.01))
    await asyncio.sleep(0.05)
    for task in (*tasks, looking):
        task.cancel()


def test_a_watcher_that_is_gone_is_named_after_a_moment() -> None:
    watchers = Watchers((), grace_seconds=0.02)
    watchers.expect()
    asyncio.run(looked_at(watchers, NAMES[:2]))
    assert watchers.up() == {
        "classifierexpansions": True,
        "jobs": True,
        "deployments": False,
        "services": False,
    }
    assert watchers.problem() == "nobody watches deployments, services"
    assert watchers.not_ready() == "not watching deployments, services yet"


def test_all_is_well_with_all_watchers() -> None:
    watchers = Watchers((), grace_seconds=5)
    watchers.expect()
    asyncio.run(looked_at(watchers, NAMES))
    assert (watchers.problem(), watchers.not_ready()) == (None, None)


def test_every_namespace_needs_its_watchers() -> None:
    watchers = Watchers(("a", "b"), grace_seconds=5)
    asyncio.run(looked_at(watchers, tuple(name.replace("None", "a") for name in NAMES)))
    assert not any(watchers.up().values())


def test_a_stuck_event_loop_is_a_problem() -> None:
    watchers = Watchers((), grace_seconds=0.01)
    time.sleep(0.05)
    assert "the event loop has not moved" in (watchers.problem() or "")


@pytest.mark.parametrize("name", NAMES)
def test_a_watcher_is_called_as_kopf_calls_it(name: str) -> None:
    """kopf names its tasks by `{resource}@{namespace}`; another version might not."""
    from kopf._cogs.structs.references import Resource

    kind, _, _ = name.removeprefix("watcher for ").partition("@")
    plural, version, group = (*kind.split(".", 2), "")[:3]
    assert str(Resource(group=group, version=version, plural=plural)) == kind


def changed(
    queue: WorkQueue, neighbours: Neighbours, kind: str | None, body: dict[str, Any], knows: Knows = never
) -> None:
    """An event of a resource of ours."""
    handler = named("resource_changed", registry(queue, neighbours, knows))
    asyncio.run(handler(event={"type": kind, "object": body}, body=body))


def named(name: str, made: kopf.OperatorRegistry) -> Any:
    """The handler, or the first of those that share it."""
    handlers = made._watching.get_all_handlers()
    return next(handler.fn for handler in handlers if handler.fn.__name__ == name)


def body(name: str, created: str = "10:00", **spec: object) -> dict[str, Any]:
    metadata = {"namespace": "team", "name": name, "uid": name, "creationTimestamp": created}
    return {"metadata": metadata, "spec": {"output": {"models": f"s3://models/{name}/"}, **spec}}


def test_a_deleted_resource_wakes_those_that_wait_for_its_output() -> None:
    queue, neighbours = WorkQueue(nothing), Neighbours()
    output = {"output": {"models": "s3://models/a/"}}
    neighbours.remember(body("waiting", "10:00", **output))
    changed(queue, neighbours, "DELETED", body("first", "09:00", **output))
    assert queue.depth == 2


@pytest.mark.parametrize("kind", ["ADDED", "MODIFIED", "DELETED"])
def test_a_changed_resource_wakes_those_that_grow_it(kind: str) -> None:
    queue, neighbours = WorkQueue(nothing), Neighbours()
    neighbours.remember(body("flowers", base={"expansionRef": {"name": "cars"}}))
    changed(queue, neighbours, kind, body("cars"))
    assert queue.depth == 2


class Hand:
    """A clock that is moved by hand."""

    def __init__(self, seconds: float = 1000.0) -> None:
        self.seconds = seconds

    def __call__(self) -> float:
        return self.seconds


async def asking_in_vain(watchers: Watchers, name: str, hand: Hand) -> list[object]:
    """What is known while a watcher's first attempt is under way, after it failed, and when a later one was answered."""

    async def watcher() -> list[object]:
        found: list[object] = []
        pauses = iter(watchers.backoffs)
        for _ in range(2):
            next(pauses)
            watchers._look({task.get_name() for task in asyncio.all_tasks()})
            found.append((watchers.up()["jobs"], watchers.problem()))
        found.append(watchers.remark())
        del pauses
        hand.seconds += 1.5
        found.append(watchers.remark())
        return found

    others = [asyncio.create_task(asyncio.sleep(60), name=other) for other in NAMES if other != name]
    found = await asyncio.create_task(watcher(), name=name)
    for task in others:
        task.cancel()
    return found


def test_a_watcher_that_is_alive_and_not_answered_is_not_up_and_asks_for_no_restart() -> None:
    watchers, hand = Watchers((), grace_seconds=5), Hand(time.monotonic())
    watchers.backoffs = EndlessBackoffs(hand)
    watchers.expect()
    first, second, remark, answered = asyncio.run(asking_in_vain(watchers, NAMES[1], hand))
    assert (first, second) == ((True, None), (False, None))
    assert remark == "the API server has not let us watch jobs for 0 s"
    assert answered is None


def test_a_watch_that_is_given_up_for_its_silence_and_asked_for_again_is_not_answered() -> None:
    """kopf does so every 70 s, however long the API server refuses."""
    hand = Hand()
    backoffs = EndlessBackoffs(hand)
    for _ in range(5):
        pauses = iter(backoffs)
        for _ in range(9):
            next(pauses)
            hand.seconds += 8
        assert backoffs.unanswered() == {"": 1008.0}
        del pauses
        hand.seconds += 0.1
        assert backoffs.unanswered() == {"": 1008.0}
    hand.seconds += 1
    assert backoffs.unanswered() == {}


def test_what_is_left_of_an_earlier_request_does_not_answer_the_next_one() -> None:
    """An exception may keep it for a while."""
    hand = Hand()
    backoffs = EndlessBackoffs(hand)
    earlier, later = iter(backoffs), iter(backoffs)
    assert [next(earlier), next(earlier), next(later), next(later)] == [1, 1, 1, 1]
    del earlier
    hand.seconds += 10
    assert backoffs.unanswered() == {"": 1000.0}
    del later
    hand.seconds += 10
    assert backoffs.unanswered() == {}


@pytest.mark.parametrize("kind", [None, "ADDED", "MODIFIED"])
def test_while_an_event_is_worked_on_no_more_is_kept_than_names_its_resource(kind: str | None) -> None:
    """kopf keeps it for a while, and all of them when we start."""
    heavy = body("flowers", status={"observedGeneration": 1})
    heavy["metadata"] |= {"managedFields": [{"fieldsV1": {"f:spec": {}}}], "annotations": {"note": "n"}}
    queue = WorkQueue(nothing)
    changed(queue, Neighbours(), kind, heavy)
    assert heavy == {"metadata": body("flowers")["metadata"]}
    assert queue.depth == 1


def test_a_listed_resource_is_looked_at_without_waiting_for_an_answer_of_ours() -> None:
    """Nothing of ours is under way yet, and a thousand workers that wait need memory."""
    told = body("flowers") | {"status": {"observedGeneration": 1}}
    told["metadata"]["generation"] = 1
    handler = named("resource_changed", registry(WorkQueue(nothing), Neighbours(), never))

    async def ends_at_once(kind: str | None) -> bool:
        resource = copy.deepcopy(told)
        task = asyncio.create_task(handler(event={"type": kind, "object": resource}, body=resource))
        await asyncio.sleep(0)
        return task.done()

    assert asyncio.run(ends_at_once(None))
    assert not asyncio.run(ends_at_once("MODIFIED"))


def test_what_was_looked_at_already_wakes_nobody() -> None:
    """Our own status comes back as an event."""
    queue = WorkQueue(nothing)
    changed(queue, Neighbours(), "MODIFIED", body("flowers"), knows=lambda _: True)
    assert queue.depth == 0
    changed(queue, Neighbours(), "DELETED", body("flowers"), knows=lambda _: True)
    assert queue.depth == 1


JOB = {"metadata": {"namespace": "team", "name": "flowers-1", "labels": {NAME_LABEL: "flowers"}}}


@pytest.mark.parametrize(
    ("kind", "known", "woken"),
    [
        pytest.param("MODIFIED", False, 1, id="changed"),
        pytest.param("MODIFIED", True, 0, id="seen by a look meanwhile"),
        pytest.param("DELETED", True, 1, id="gone"),
    ],
)
def test_an_event_of_a_child_wakes_its_resource_unless_it_was_looked_at_meanwhile(
    kind: str, known: bool, woken: int
) -> None:
    queue, looked_at = WorkQueue(nothing), []

    async def script() -> None:
        made = registry(queue, Neighbours(), never, lambda _: bool(looked_at), 0.01)
        await named("child_changed", made)(event={"type": kind, "object": JOB}, body=JOB)
        looked_at.extend([JOB] if known else [])
        await asyncio.sleep(0.1)

    asyncio.run(script())
    assert queue.depth == woken
