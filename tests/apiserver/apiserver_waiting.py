"""Waits for what a real API server says, and shows what it said when it waited in vain."""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import pytest

from expansion_development.kubernetes_api import Api, Manifest

SHELL = "shell:1"
"""An image of the session's process node that brings a shell and nothing else."""
Seen = TypeVar("Seen")


def wait_for(look: Callable[[], Seen], what: str, seconds: float = 60, every: float = 0.1) -> Seen:
    """What `look` gives as soon as it is true; fails with `what` and what was seen last."""
    deadline = time.monotonic() + seconds
    while not (seen := look()):
        if time.monotonic() > deadline:
            pytest.fail(f"Waited {seconds:.0f} s in vain for {what}; seen last: {seen!r}")
        time.sleep(every)
    return seen


def condition_of(resource: Mapping[str, Any] | None, kind: str) -> Mapping[str, Any]:
    """The condition, or an empty one."""
    conditions = ((resource or {}).get("status") or {}).get("conditions") or ()
    return next((one for one in conditions if one["type"] == kind), {})


def described(resource: Mapping[str, Any] | None) -> str:
    """The conditions as a person reads them."""
    if resource is None:
        return "there is no such resource"
    status = resource.get("status") or {}
    conditions = [
        f"  {one['type']:16} {one['status']:8} {one.get('reason', ''):24} {one.get('message', '')}"
        for one in status.get("conditions") or ()
    ]
    rest = {name: value for name, value in status.items() if name != "conditions"}
    return "\n".join([*conditions, f"  {json.dumps(rest)[:2000]}"])


@dataclass(frozen=True)
class Waiter:
    """Waits for what a resource says of itself."""

    api: Api
    namespace: str

    def __call__(
        self,
        name: str,
        kind: str,
        status: str = "True",
        reason: str | None = None,
        timeout: float = 90,
        plural: str = "classifierexpansions",
    ) -> Manifest:
        """The resource, once it has the condition; on a time-out its conditions are printed."""
        deadline = time.monotonic() + timeout
        while True:
            found = self.api.find(plural, self.namespace, name)
            condition = condition_of(found, kind)
            if condition.get("status") == status and reason in {None, condition.get("reason")}:
                assert found is not None
                return found
            if time.monotonic() > deadline:
                wanted = f"{kind}={status}{f' ({reason})' if reason else ''}"
                pytest.fail(
                    f"{plural}/{name} did not reach {wanted} within {timeout:.0f} s:\n{described(found)}"
                )
            time.sleep(0.2)
