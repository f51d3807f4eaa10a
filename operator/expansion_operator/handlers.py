"""Introduces kopf to the queue, and is the only room that knows kopf: every event of ours puts a key in it, nothing else.

Only kopf's low-level event handlers are used: no annotation and no finalizer of kopf's ever stands on a user's object.
"""

import asyncio
import itertools
import logging
import time
from collections.abc import Callable, Iterator
from typing import Any

import kopf

from expansion_contract.environment import MANAGED_BY, MANAGED_BY_LABEL, NAME_LABEL
from expansion_contract.resource import GROUP, PLURAL, VERSION
from expansion_operator.neighbours import Neighbours, claim
from expansion_operator.work_queue import WorkQueue, key_of

JOBS = ("batch", "v1", "jobs")
DEPLOYMENTS = ("apps", "v1", "deployments")
SERVICES = ("", "v1", "services")
RESOURCES = (GROUP, VERSION, PLURAL)
_PREFIX = f"operator.{GROUP}"
_MORE_TO_COME = 1.0
"""Seconds: controllers change a child several times in a row, and one look at the last of it is enough."""
_OUR_ANSWER = 0.3
"""Seconds: an event may overtake the answer to the request that caused it."""
_ASKED_AGAIN = 1.0
"""Seconds after which kopf would have asked again, had it not been answered."""
Knows = Callable[[Any], bool]

logger = logging.getLogger(__name__)


class EndlessBackoffs:
    """Seconds between attempts. kopf gives a watcher up when they end, and a dead watcher looks like a quiet cluster.

    kopf takes one before every attempt and drops the rest when it is answered: so it is known whose request is not, and since when.
    It drops them as well when a watch was silent for `inactivity_timeout`, and asks again at once: that is no answer.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._asking: dict[str, object] = {}
        self._unanswered: dict[str, float] = {}
        self._dropped: dict[str, float] = {}

    def __iter__(self) -> Iterator[float]:
        task, asking = _task_name(), object()
        self._forget_answered()
        self._asking[task] = asking
        self._dropped.pop(task, None)
        try:
            for number, seconds in enumerate(
                itertools.chain((1, 1, 2, 3, 5, 8, 13, 21), itertools.repeat(30.0))
            ):
                if number:
                    self._unanswered.setdefault(task, self._clock())
                yield seconds
        finally:
            if self._asking.get(task) is asking:
                self._dropped[task] = self._clock()

    def unanswered(self) -> dict[str, float]:
        """Names of tasks, and since when (monotonic seconds) the API server refuses them or is silent."""
        self._forget_answered()
        return dict(self._unanswered)

    def _forget_answered(self) -> None:
        for task, at in tuple(self._dropped.items()):
            if self._clock() - at > _ASKED_AGAIN:
                self._dropped.pop(task, None)
                self._unanswered.pop(task, None)


def _task_name() -> str:
    try:
        task = asyncio.current_task()
    except RuntimeError:
        return ""
    return task.get_name() if task else ""


def settings(backoffs: EndlessBackoffs | None = None) -> kopf.OperatorSettings:
    made = kopf.OperatorSettings()
    made.posting.enabled = False
    made.scanning.disabled = True
    made.networking.error_backoffs = backoffs or EndlessBackoffs()
    made.networking.connect_timeout = 10
    made.watching.server_timeout = 300
    made.watching.client_timeout = 330
    made.watching.inactivity_timeout = 70
    # Thousands of objects at once, each kept by its worker until that has been idle, would not fit into our memory.
    made.watching.chunk_size = 100
    made.queueing.idle_timeout = 0.1
    made.process.ultimate_exiting_timeout = 30
    # Never written, see above; but should a handler ever bring them, they are not another operator's.
    made.persistence.finalizer = f"{_PREFIX}/finalizer"
    made.persistence.progress_storage = kopf.AnnotationsProgressStorage(prefix=_PREFIX, v1=False)
    made.persistence.diffbase_storage = kopf.AnnotationsDiffBaseStorage(prefix=_PREFIX, v1=False)
    ours = f"{MANAGED_BY_LABEL}={MANAGED_BY}"
    made.watching.label_selectors[JOBS] = ours
    made.watching.label_selectors[DEPLOYMENTS] = ours
    made.watching.label_selectors[SERVICES] = ours
    return made


def registry(
    queue: WorkQueue,
    neighbours: Neighbours,
    knows: Knows,
    knows_child: Knows = lambda _: False,
    more_to_come: float = _MORE_TO_COME,
) -> kopf.OperatorRegistry:
    """`knows`, `knows_child`: was this very state of a resource, of one of its children, looked at already?"""
    made = kopf.OperatorRegistry()
    kopf.on.login(registry=made)(kopf.login_via_client)

    async def resource_changed(event: Any, body: Any, **_: Any) -> None:
        namespace, name = body["metadata"]["namespace"], body["metadata"]["name"]
        if event["type"] == "DELETED":
            neighbours.forget(f"{namespace}/{name}")
            waiting = tuple(other.key for other in neighbours.younger(claim(body)))
            woken = (*waiting, *neighbours.growers(f"{namespace}/{name}"))
        else:
            neighbours.remember(body)
            woken = neighbours.woken_by(body)
        for key in woken:
            queue.add(key_of(key))
        may_be_ours = event["type"] is not None and _is_answered(body)
        _lighten(event["object"])
        if may_be_ours:
            await asyncio.sleep(_OUR_ANSWER)
        if not knows(body) or event["type"] == "DELETED":
            queue.add((namespace, name))

    async def child_changed(event: Any, body: Any, **_: Any) -> None:
        def is_news() -> bool:
            return not knows_child(body) or event["type"] == "DELETED"

        if owner := body["metadata"].get("labels", {}).get(NAME_LABEL):
            queue.add_soon((body["metadata"]["namespace"], owner), more_to_come, is_news)

    kopf.on.event(*RESOURCES, registry=made)(resource_changed)
    kopf.on.event(*JOBS, registry=made)(child_changed)
    kopf.on.event(*DEPLOYMENTS, registry=made)(child_changed)
    kopf.on.event(*SERVICES, registry=made)(child_changed)
    return made


def _lighten(body: dict[str, Any]) -> None:
    """Leaves what names it: whoever looks reads it anew, and a thousand wait here for a moment when we start."""
    for part in ("spec", "status"):
        body.pop(part, None)
    for part in ("managedFields", "annotations"):
        body["metadata"].pop(part, None)


def _is_answered(body: Any) -> bool:
    """Does status speak of this very spec? Then it may be our own writing that comes back."""
    observed = (body.get("status") or {}).get("observedGeneration")
    return observed is not None and observed == body["metadata"].get("generation")


async def watch(
    queue: WorkQueue,
    neighbours: Neighbours,
    knows: Knows,
    namespaces: tuple[str, ...],
    stop: asyncio.Event,
    backoffs: EndlessBackoffs,
    knows_child: Knows = lambda _: False,
) -> None:
    """Until `stop`, SIGTERM or SIGINT; raises if kopf gives up."""
    await kopf.operator(
        registry=registry(queue, neighbours, knows, knows_child),
        settings=settings(backoffs),
        standalone=True,
        clusterwide=not namespaces,
        namespaces=namespaces,
        stop_flag=stop,
    )


def _named(kind: tuple[str, str, str]) -> str:
    """`jobs.v1.batch`, `services.v1`."""
    return ".".join(part for part in reversed(kind) if part)


class Watchers:
    """Knows whether every kind is being watched: kopf's own health check is green when a watcher has died.

    One that is alive and not answered is not up, but no problem that a restart would mend.
    """

    def __init__(self, namespaces: tuple[str, ...], grace_seconds: float = 30.0) -> None:
        self._grace = grace_seconds
        self._tasks = {
            kind[-1]: [f"watcher for {_named(kind)}@{where}" for where in namespaces or (None,)]
            for kind in (RESOURCES, JOBS, DEPLOYMENTS, SERVICES)
        }
        self._last_up: dict[str, float] = {}
        self._looked = time.monotonic()
        self._up: dict[str, bool] = {}
        self.backoffs = EndlessBackoffs()

    def expect(self) -> None:
        """From now on every kind should be watched."""
        self._last_up = dict.fromkeys(self._tasks, time.monotonic())

    async def look(self, every: float = 5.0) -> None:
        while True:
            self._look({task.get_name() for task in asyncio.all_tasks() if not task.done()})
            await asyncio.sleep(every)

    def _look(self, running: set[str]) -> None:
        self._looked = time.monotonic()
        alive = {kind: running.issuperset(names) for kind, names in self._tasks.items()}
        self._last_up |= {
            kind: self._looked for kind, is_alive in alive.items() if is_alive and self._last_up
        }
        waiting = self.backoffs.unanswered().keys()
        self._up = {
            kind: is_alive and waiting.isdisjoint(self._tasks[kind]) for kind, is_alive in alive.items()
        }

    def up(self) -> dict[str, bool]:
        return dict(self._up)

    def problem(self) -> str | None:
        """What a restart would mend; None if all is well or has been until a moment ago. Asked from another thread."""
        now = time.monotonic()
        if now - self._looked > 2 * self._grace:
            return f"the event loop has not moved for {now - self._looked:.0f} s"
        dead = sorted(kind for kind, at in self._last_up.items() if now - at > self._grace)
        return f"nobody watches {', '.join(dead)}" if dead else None

    def remark(self) -> str | None:
        """What is wrong and no restart would mend."""
        waiting = self.backoffs.unanswered()
        since = {
            kind: min(times)
            for kind, names in self._tasks.items()
            if (times := [waiting[name] for name in names if name in waiting])
        }
        if not since:
            return None
        seconds = time.monotonic() - min(since.values())
        return f"the API server has not let us watch {', '.join(sorted(since))} for {seconds:.0f} s"

    def not_ready(self) -> str | None:
        down = sorted(kind for kind, up in self._up.items() if not up)
        return f"not watching {', '.join(down)} yet" if down or not self._up else None
