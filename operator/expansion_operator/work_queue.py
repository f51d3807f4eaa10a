"""A queue of keys as controller-runtime has it: a key waits once, is worked on by one worker, and comes back when it must.

Every event only adds a key. It knows nothing of what the keys mean, but whether somebody told it of one or only its time has come.
"""

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

Key = tuple[str, str]
Work = Callable[[Key], Awaitable[float | None]]
"""Does what there is to do for a key and says after how many seconds it wants to come back; None: only when told."""
IsNews = Callable[[], bool]

logger = logging.getLogger(__name__)


def key_of(text: str) -> Key:
    """namespace/name."""
    namespace, _, name = text.partition("/")
    return namespace, name


@dataclass(frozen=True, kw_only=True)
class Backoff:
    first: float = 0.5
    most: float = 300.0
    jitter: float = 0.2

    def delay(self, failures: int, chance: float) -> float:
        """After so many failures in a row. `chance`: 0 to 1, so that a herd does not come back together."""
        plain = min(self.most, self.first * 2.0 ** min(failures - 1, 32))
        return plain * (1 + self.jitter * (2 * chance - 1))


class WorkQueue:
    def __init__(
        self,
        work: Work,
        workers: int = 4,
        backoff: Backoff | None = None,
        chance: Callable[[], float] = random.random,
        failed: Callable[[Key], None] = lambda _: None,
        took: Callable[[float], None] = lambda _: None,
        glance: Work | None = None,
    ) -> None:
        """`glance`: instead of `work` for a key that nobody told us of since it was last worked on."""
        self._work, self._workers, self._chance = work, workers, chance
        self._glance = glance or work
        self._backoff = backoff or Backoff()
        self._failed, self._took = failed, took
        self._waiting: asyncio.Queue[Key] = asyncio.Queue()
        self._queued: set[Key] = set()
        self._active: set[Key] = set()
        self._again: set[Key] = set()
        self._told: set[Key] = set()
        self._failures: dict[Key, int] = {}
        self._timers: dict[Key, asyncio.TimerHandle] = {}
        self._hints: dict[Key, list[IsNews]] = {}
        self._tellers: dict[Key, asyncio.TimerHandle] = {}

    @property
    def depth(self) -> int:
        """Keys that wait for a worker now; not those that wait for their time."""
        return len(self._queued) + len(self._again)

    def add(self, key: Key) -> None:
        """Soon, once. While it is worked on: once more afterwards, for what it did not see."""
        self._told.add(key)
        self._enqueue(key)

    def add_soon(self, key: Key, delay: float, is_news: IsNews = lambda: True) -> None:
        """The same after a moment in which more is told of it. Not at all if by then nothing of it `is_news` any more."""
        self._hints.setdefault(key, []).append(is_news)
        _call_at_the_earliest(self._tellers, key, delay, self._tell)

    def _tell(self, key: Key) -> None:
        self._tellers.pop(key, None)
        if any(is_news() for is_news in self._hints.pop(key, ())):
            self.add(key)

    def _enqueue(self, key: Key) -> None:
        if timer := self._timers.pop(key, None):
            timer.cancel()
        if key in self._active:
            self._again.add(key)
        elif key not in self._queued:
            self._queued.add(key)
            self._waiting.put_nowait(key)

    def add_after(self, key: Key, delay: float) -> None:
        """At the earliest of the times asked for. Nobody told it anything."""
        _call_at_the_earliest(self._timers, key, delay, self._enqueue)

    async def run(self) -> None:
        """Works until cancelled."""
        async with asyncio.TaskGroup() as group:
            for number in range(self._workers):
                group.create_task(self._worker(), name=f"worker {number}")

    async def _worker(self) -> None:
        while True:
            key = await self._waiting.get()
            self._queued.discard(key)
            self._active.add(key)
            work = self._work if key in self._told else self._glance
            self._told.discard(key)
            try:
                await self._attempt(key, work)
            finally:
                self._active.discard(key)
                if key in self._again:
                    self._again.discard(key)
                    self._enqueue(key)

    async def _attempt(self, key: Key, work: Work) -> None:
        started = time.monotonic()
        try:
            requeue_after = await work(key)
        except Exception:
            self._failures[key] = self._failures.get(key, 0) + 1
            delay = self._backoff.delay(self._failures[key], self._chance())
            logger.exception("%s/%s failed and is tried again in %.1f s", *key, delay)
            self._failed(key)
            self.add_after(key, delay)
        else:
            self._failures.pop(key, None)
            if requeue_after is not None:
                self.add_after(key, requeue_after)
        finally:
            self._took(time.monotonic() - started)


def _call_at_the_earliest(
    timers: dict[Key, asyncio.TimerHandle], key: Key, delay: float, call: Callable[[Key], None]
) -> None:
    """One timer for each key: of two times the earlier."""
    loop = asyncio.get_running_loop()
    timer = timers.get(key)
    if timer and timer.when() <= loop.time() + delay:
        return
    if timer:
        timer.cancel()
    timers[key] = loop.call_later(delay, call, key)


async def resync(
    queue: WorkQueue, keys: Callable[[], Awaitable[list[Key]]], every: float, chance: Callable[[], float]
) -> None:
    """Adds keys now and then: those of which an event should have told and did not. Spread out, not all at once."""
    while True:
        await asyncio.sleep(every * (0.9 + 0.2 * chance()))
        try:
            for key in await keys():
                queue.add_soon(key, 0.1 * every * chance())
        except Exception:
            logger.exception("the resources could not be listed; tried again in %.0f s", every)
