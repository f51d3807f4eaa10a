"""What is remembered of a resource from one look to the next, so that it may rest, or wait, without being asked about.

All of it may be forgotten at any time: it only saves work, or repeats what the API server said.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from expansion_contract import environment
from expansion_contract.resource import ClassifierExpansion, parsed
from expansion_operator.cluster import Live
from expansion_operator.observed import Announce, JobSeen, Observed, Plan, Trouble
from expansion_operator.storage import Access, Storage

Body = dict[str, Any]
AGAIN_SOON = 0.2
"""Seconds until we look at what we have just changed in storage, which sends no events."""
LONGEST_WAIT = 300.0
"""Seconds between two looks at everything for a resource on its way, of whose end something tells."""


@dataclass(frozen=True, kw_only=True)
class Rest:
    """A resource that only other images take further, as it was when that was seen."""

    document: bytes
    """What was asked for, as JSON: a thousand parsed resources, with who wrote which of their fields, would fill our memory."""
    access: Access
    digest: str
    base: tuple[object, ...]
    told: str | None
    """The tag of serving.json."""

    @classmethod
    def of(cls, seen: Observed, digest: str, access: Access) -> "Rest":
        document, base = _asked(seen.expansion), base_of(seen)
        return cls(document=document, access=access, digest=digest, base=base, told=seen.serving_tag)

    @property
    def expansion(self) -> ClassifierExpansion:
        """Without what it said of itself, which nobody reads of a resource at rest."""
        return ClassifierExpansion.model_validate_json(self.document)


@dataclass(frozen=True, kw_only=True)
class Wait:
    """A resource on its way, with our own answer in it. Events, storage and its model servers tell what is new."""

    body: Body
    observed: Observed
    plan: Plan

    @classmethod
    def of(cls, observed: Observed, plan: Plan, body: Body, version: str) -> "Wait":
        """`body` as it was read, `version` as it is once the plan's status is written."""
        actions = tuple(action for action in plan.actions if not isinstance(action, Announce))
        metadata = {**body["metadata"], "resourceVersion": version}
        answered = {**body, "metadata": metadata, "status": plan.status}
        return cls(
            body=answered,
            observed=replace(observed, expansion=parsed(answered), refusals=()),
            plan=replace(plan, actions=actions),
        )


@dataclass(frozen=True, kw_only=True)
class Keys:
    """What a Secret held, and for which question."""

    asked: object
    at: float
    access: Access


@dataclass
class Memory:
    """Of one resource."""

    refusals: tuple[Trouble, ...] = ()
    writable_generation: tuple[str, int] | None = None
    list_again: bool = False
    version: str = ""
    """The resourceVersion that was looked at, with our own answer to it."""
    children: frozenset[tuple[str, str]] = frozenset()
    """Uid and resourceVersion of the Jobs and the Deployment that were looked at."""
    full_look_at: float = 0.0
    patience: float = 0.0
    """Seconds from one look at everything to the next while nothing tells us anything."""
    rest: Rest | None = None
    wait: Wait | None = None
    agents: tuple[str, ...] = ()
    """Addresses of the model servers."""
    storage: Storage | None = None
    deployment: Live | None = None
    """Both of the look that is under way."""
    keys: Keys | None = None

    def begin(self) -> None:
        """A look at everything: what was known may no longer be so."""
        self.version, self.rest, self.wait, self.children = "", None, None, frozenset()

    def end(self) -> None:
        self.storage, self.deployment = None, None

    def saw_children(self, jobs: Iterable[JobSeen], deployment: Live) -> None:
        seen = {(job.uid, job.resource_version) for job in jobs}
        self.children = frozenset(
            seen | ({_identity(deployment.body["metadata"])} if deployment.body else set())
        )

    def waits(self, wait: Wait, now: float, longest: float) -> float:
        """Seconds until the next glance. Kubernetes is asked less and less often, for what no event tells."""
        self.wait = wait
        soon = wait.plan.requeue_after or AGAIN_SOON
        self.patience = min(longest, LONGEST_WAIT, max(soon, 2 * self.patience))
        self.full_look_at = now + self.patience
        return min(soon, self.patience)

    def rests(self, observed: Observed, plan: Plan, now: float, longest: float) -> float:
        """Seconds until everything is looked at again; until then it rests if only other images take it further."""
        after = longest if plan.requeue_after is None else min(longest, plan.requeue_after)
        self.full_look_at = now + after
        if plan.poll_after is None:
            return after
        if self.keys is None or observed.listing is None:
            return min(after, plan.poll_after)
        self.rest = Rest.of(observed, observed.listing.digest, self.keys.access)
        return after


@dataclass
class Memories:
    """Of all resources."""

    _kept: dict[str, Memory] = field(default_factory=dict)

    def get(self, key: str) -> Memory | None:
        return self._kept.get(key)

    def of(self, key: str) -> Memory:
        return self._kept.setdefault(key, Memory())

    def forget(self, key: str) -> None:
        self._kept.pop(key, None)

    def knows(self, body: Body) -> bool:
        """Was this very state looked at, or made by us?"""
        memory = self._kept.get(f"{body['metadata']['namespace']}/{body['metadata']['name']}")
        return memory is not None and memory.version == body["metadata"]["resourceVersion"]

    def knows_child(self, body: Body) -> bool:
        """The same for a Job or a Deployment: the last of several events about it often tells of what was seen already."""
        metadata = body["metadata"]
        memory = self._kept.get(f"{metadata['namespace']}/{metadata['labels'][environment.NAME_LABEL]}")
        return memory is not None and _identity(metadata) in memory.children


def base_of(seen: Observed) -> tuple[object, ...]:
    """What a run would start from, or why it cannot."""
    return seen.base, seen.pack, seen.base_trouble


def _asked(expansion: ClassifierExpansion) -> bytes:
    metadata = expansion.metadata.model_dump(mode="json", by_alias=True, include={"name", "namespace", "uid"})
    spec = expansion.spec.model_dump(mode="json", by_alias=True, exclude_unset=True)
    return json.dumps({"metadata": metadata, "spec": spec}).encode()


def _identity(metadata: Body) -> tuple[str, str]:
    return metadata["uid"], metadata["resourceVersion"]
