"""Asks the agent beside each model server what it can prove to serve; who does not answer in time is left out."""

import urllib.request
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from pydantic import ValidationError

from expansion_contract.environment import AGENT_PORT
from expansion_contract.version import AgentStatus

Ask = Callable[[Sequence[str]], tuple[AgentStatus, ...]]
TIMEOUT_SECONDS = 2.0
_AT_ONCE = 32
_ANSWER_BYTES = 64 * 1024
# Pods are asked directly: a proxy of the environment cannot reach them.
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def ask(addresses: Sequence[str]) -> tuple[AgentStatus, ...]:
    """The answers of those that answered, in the order of `addresses`."""
    if not addresses:
        return ()
    with ThreadPoolExecutor(max_workers=min(_AT_ONCE, len(addresses))) as pool:
        return tuple(answer for answer in pool.map(_status, addresses) if answer)


def _status(address: str) -> AgentStatus | None:
    host = f"[{address}]" if ":" in address else address
    try:
        with _opener.open(f"http://{host}:{AGENT_PORT}/status", timeout=TIMEOUT_SECONDS) as answer:
            return AgentStatus.model_validate_json(answer.read(_ANSWER_BYTES))
    except (OSError, ValidationError, ValueError):
        return None
