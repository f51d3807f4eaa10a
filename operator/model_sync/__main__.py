"""Starts the agent: `python -m model_sync`, told by its environment what to serve and where."""

import logging
import os
import signal
import sys
import time
from threading import Event, Thread

from expansion_contract.environment import AGENT_PORT
from expansion_storage import StorageError, open_prefix
from model_sync.doors import Doors
from model_sync.settings import Settings, SettingsError, settings
from model_sync.sync import Agent

_log = logging.getLogger("model_sync")
_TICK_SECONDS = 0.5
"""The server beside us is looked at so often; serving.json as often as the settings say."""


def main() -> int:
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s")
    try:
        told = settings(os.environ)
        agent = Agent(told, open_prefix(told.output, told.access), time.monotonic)
        doors = Doors(told.bind, AGENT_PORT, agent)
    except (SettingsError, StorageError, OSError) as error:
        _log.error(str(error))
        return 1
    stop = Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    Thread(target=doors.serve_forever, daemon=True).start()
    _run(agent, told, stop)
    doors.shutdown()
    logging.shutdown()
    # A download under way would hold up a normal exit; what it leaves behind is hidden, and resumed next time.
    os._exit(0)


def _run(agent: Agent, told: Settings, stop: Event) -> None:
    pause = min(_TICK_SECONDS, told.poll_seconds)
    while not stop.is_set():
        hurry = False
        try:
            hurry = agent.tick()
        except Exception:
            _log.exception("This step failed; the next starts from what is.")
            agent.numbers.errors += 1
        stop.wait(0 if hurry else pause)


if __name__ == "__main__":
    sys.exit(main())
