"""Starts the operator: introduces its rooms to each other, and ends in order on SIGTERM."""

import asyncio
import logging
import os
import random
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

from prometheus_client import start_http_server

from expansion_operator import handlers, health
from expansion_operator.cluster import ApiError, Cluster, Refused, connect
from expansion_operator.lease import Elector
from expansion_operator.metrics import OperatorMetrics
from expansion_operator.options import Options, log_to_stderr, options
from expansion_operator.plan import plan
from expansion_operator.reconcile import Clock, Reconciler
from expansion_operator.serving_status import ask
from expansion_operator.work_queue import Key, WorkQueue, key_of, resync

EXIT_SECONDS = 20.0
RETRY_SECONDS = 3.0
LEASE_SECONDS = 3.0
"""For each request about the Lease: three of them fit into the time after which its holder gives up."""
SILENCE_SECONDS = 30.0
"""How long the API server may say nothing until whoever waits for the Lease is no longer ready to take over."""

logger = logging.getLogger("expansion_operator")


async def run(given: Options) -> None:
    """Until SIGTERM. What a killed worker leaves half done, the next operator finds and finishes."""
    stop = _stop_on_signals()
    clients = partial(connect, connections=given.workers * 2)
    cluster = Cluster(clients(), given.namespaces, renew=clients)
    metrics, watchers = OperatorMetrics(), handlers.Watchers(given.namespaces)
    elector = _elector(given)
    reconciler = _reconciler(cluster, metrics, given, elector)
    pool = ThreadPoolExecutor(max_workers=given.workers, thread_name_prefix="reconcile")
    queue = _queue(pool, reconciler, metrics, given)
    metrics.depth, metrics.watchers = lambda: queue.depth, watchers.up
    host, port = given.metrics_address
    start_http_server(port, host, metrics.registry)
    ready = _ready(watchers, elector)
    health.serve(*given.health_address, alive=watchers.problem, ready=ready, remark=watchers.remark)

    async def keys() -> list[Key]:
        return await asyncio.to_thread(untold, cluster, reconciler)

    tasks = [asyncio.create_task(watchers.look(), name="watcher probe")]
    if elector:
        metrics.leads = elector.is_leading
        if not await asyncio.to_thread(elector.acquire, stop.is_set):
            return
        elector.keep(lost=_end_at_once)
    await _once_it_works(keys, stop)
    watchers.expect()
    tasks += [
        asyncio.create_task(queue.run(), name="queue"),
        asyncio.create_task(resync(queue, keys, given.resync, random.random), name="resync"),
    ]
    await asyncio.sleep(0)
    logger.info("watching %s", ", ".join(given.namespaces) or "all namespaces")
    await handlers.watch(
        queue,
        reconciler.neighbours,
        reconciler.knows,
        given.namespaces,
        stop,
        watchers.backoffs,
        reconciler.knows_child,
    )
    logger.info("ending; what is under way may take %.0f s", EXIT_SECONDS)
    for task in tasks:
        task.cancel()
    await asyncio.wait_for(asyncio.to_thread(pool.shutdown, cancel_futures=True), EXIT_SECONDS)
    if elector:
        await asyncio.to_thread(elector.give_back)


def untold(cluster: Cluster, reconciler: Reconciler) -> list[Key]:
    """Of all that is not as we know it, and all that is gone. Also teaches us who uses which output, before the first Job is created."""
    untold = []

    def noted() -> Iterator[dict[str, Any]]:
        for body in cluster.expansions():
            if not reconciler.memories.knows(body):
                untold.append((body["metadata"]["namespace"], body["metadata"]["name"]))
            yield body

    gone = reconciler.neighbours.replace(noted())
    return [*untold, *map(key_of, gone)]


@dataclass(frozen=True, kw_only=True)
class _Lease:
    """One Lease by a client of its own: a busy pool of connections must not cost us the lead."""

    cluster: Cluster
    namespace: str
    name: str

    def read(self) -> dict[str, Any] | None:
        return self.cluster.lease(self.namespace, self.name)

    def write(self, lease: dict[str, Any]) -> bool:
        return self.cluster.write_lease(self.namespace, self.name, lease)


def _elector(given: Options) -> Elector | None:
    if given.lease is None:
        return None
    namespace, name = given.lease
    clients = partial(connect, connections=1)
    own = Cluster(clients(), seconds=LEASE_SECONDS, renew=clients)
    return Elector(_Lease(cluster=own, namespace=namespace, name=name), given.identity)


def _ready(watchers: handlers.Watchers, elector: Elector | None) -> Callable[[], str | None]:
    """Who waits for the Lease is ready if it could take it: that is all it has to do."""

    def problem() -> str | None:
        if elector is None or elector.has_led():
            return watchers.not_ready()
        silence = elector.silence()
        return None if silence < SILENCE_SECONDS else f"the API server has not answered for {silence:.0f} s"

    return problem


def _end_at_once() -> None:
    """Another operator may act by now: nothing that is under way here may be finished."""
    logging.shutdown()
    os._exit(1)


def _reconciler(
    cluster: Cluster,
    metrics: OperatorMetrics,
    given: Options,
    elector: Elector | None,
    chance: Callable[[], float] = random.random,
) -> Reconciler:
    return Reconciler(
        cluster=cluster,
        planner=plan,
        settings=given.settings,
        ask=ask,
        clock=Clock(now=lambda: datetime.now(UTC), monotonic=time.monotonic),
        audience=metrics.expansions,
        leads=elector.is_leading if elector else lambda: True,
        term=elector.term if elector else lambda: 0,
        full_look_after=lambda: given.full_look_seconds * (0.9 + 0.2 * chance()),
    )


def _queue(
    pool: ThreadPoolExecutor, reconciler: Reconciler, metrics: OperatorMetrics, given: Options
) -> WorkQueue:
    loop = asyncio.get_running_loop()

    async def work(key: Key) -> float | None:
        return await loop.run_in_executor(pool, reconciler.reconcile, *key)

    async def glance(key: Key) -> float | None:
        return await loop.run_in_executor(pool, reconciler.glance, *key)

    return WorkQueue(work, given.workers, failed=lambda _: metrics.failed(), took=metrics.took, glance=glance)


def _stop_on_signals() -> asyncio.Event:
    """Before anything else: kopf listens for signals only once it runs."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


async def _once_it_works(keys: Callable[[], Awaitable[list[Key]]], stop: asyncio.Event) -> None:
    """Waits for an API server that knows our kind and lets us list it, and says what it waits for."""
    while not stop.is_set():
        try:
            await keys()
        except (ApiError, Refused) as error:
            missing = isinstance(error, ApiError) and error.status == 404
            remedy = " Install the CustomResourceDefinition from crds/." if missing else ""
            logger.warning(
                "the resources cannot be listed yet: %s%s Tried again in %.0f s.",
                error,
                remedy,
                RETRY_SECONDS,
            )
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), RETRY_SECONDS)
        else:
            return


def main() -> None:
    """Exits at once when all is said: a thread that still waits for storage would hold the process."""
    given = options(sys.argv[1:], os.environ)
    log_to_stderr(given.log_level)
    code = 0
    try:
        asyncio.run(run(given))
    except (KeyboardInterrupt, TimeoutError):
        logger.warning("ended in the middle of something; the next operator finishes it")
    except Exception:
        logger.exception("the operator cannot go on")
        code = 1
    logging.shutdown()
    os._exit(code)


if __name__ == "__main__":
    main()
