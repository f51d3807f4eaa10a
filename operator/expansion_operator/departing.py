"""Takes leave of a deleted resource whose storage goes with it: ends what writes there, removes what it published, lets it go.

Bounded: what cannot be removed within ten minutes is left where it is, and an Event says so. Whoever wants the resource gone at
once sets spec.output.deletionPolicy to Retain.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from pydantic import ValidationError

from expansion_contract.problems import sentences
from expansion_contract.resource import FINALIZER, ClassifierExpansion, DeletionPolicy, parsed
from expansion_contract.run import Owner
from expansion_operator.cluster import ApiError, Cluster, Refused
from expansion_operator.conditions import clipped, moment
from expansion_operator.manifests.pod import serving_name
from expansion_operator.neighbours import Neighbours, claim
from expansion_operator.observed import Announce
from expansion_operator.storage import Storage, StorageTrouble
from expansion_storage import StorageError

Body = dict[str, Any]
PATIENCE = timedelta(minutes=10)
AT_ONCE = 200
"""Objects removed in one step: other resources want their turn."""
SOON, LATER = 3.0, 15.0
_WHY = 700
"""Characters of a reason in an Event."""


@dataclass(frozen=True, kw_only=True)
class Departures:
    cluster: Cluster
    storage: Callable[[ClassifierExpansion], Storage]
    neighbours: Neighbours
    now: Callable[[], datetime]

    def step(self, body: Body) -> float | None:
        """One step further; seconds until the next one. Safe to be done again anywhere."""
        if FINALIZER not in body["metadata"].get("finalizers", ()):
            return None
        try:
            expansion = parsed(body)
        except ValidationError as error:
            self._let_go(body, _kept(body, " ".join(sentences(error))))
            return None
        if expansion.spec.output.deletion_policy is DeletionPolicy.RETAIN:
            self._let_go(body)
            return None
        try:
            return self._step(body, expansion)
        except (Refused, StorageError, StorageTrouble) as error:
            return self._wait(body, str(error), LATER)

    def _step(self, body: Body, expansion: ClassifierExpansion) -> float | None:
        if waits_for := self._still_there(body, expansion):
            return self._wait(body, f"{waits_for}.", SOON)
        storage, metadata = self.storage(expansion), expansion.metadata
        owner = storage.owner()
        if owner not in (None, Owner(namespace=metadata.namespace, name=metadata.name)):
            self._let_go(body, _kept(body, f"They belong to ClassifierExpansion {owner}."))
            return None
        if not storage.clear(AT_ONCE):
            return 0.0
        message = f"Runs and versions below {expansion.spec.output.models} were removed."
        self._let_go(body, Announce(kind="Normal", reason="StorageRemoved", message=message))
        return None

    def _still_there(self, body: Body, expansion: ClassifierExpansion) -> str | None:
        """What writes to this storage or reads from it; ours is asked to end."""
        namespace, name = expansion.metadata.namespace, serving_name(expansion.metadata.name)
        jobs = [job for job in self.cluster.jobs(expansion) if job.ours]
        for job in jobs:
            self.cluster.delete("Job", namespace, job.name, job.uid)
        deployment = self.cluster.serving(expansion, name).deployment
        if deployment is not None and deployment.ours:
            self.cluster.delete("Deployment", namespace, name)
            return f"Deployment {name} is being deleted"
        if jobs:
            return f"Job {jobs[0].name} is being deleted"
        held = self.neighbours.held_versions(claim(body))
        return f"A run of another resource grows version {min(held)}" if held else None

    def _wait(self, body: Body, why: str, delay: float) -> float | None:
        since = moment(body["metadata"]["deletionTimestamp"]) or self.now()
        if self.now() - since > PATIENCE:
            self._let_go(body, _kept(body, why))
            return None
        message = f"The deletion waits until spec.output.models can be removed. {clipped(why, _WHY)}"
        self._announce(body, Announce(kind="Normal", reason="Deleting", message=message))
        return delay

    def _let_go(self, body: Body, event: Announce | None = None) -> None:
        if event is not None:
            self._announce(body, event)
        metadata = body["metadata"]
        self.cluster.set_finalizer(metadata["namespace"], metadata["name"], FINALIZER, wanted=False)

    def _announce(self, body: Body, event: Announce) -> None:
        """An Event that cannot be made stops nothing."""
        with suppress(ApiError, Refused):
            self.cluster.announce(body, event)


def _kept(body: Body, why: str) -> Announce:
    where = body.get("spec", {}).get("output", {}).get("models", "spec.output.models")
    message = f"Runs and versions below {where} were left. {clipped(why, _WHY)} Remove them yourself if they should go."
    return Announce(kind="Warning", reason="StorageKept", message=message)
