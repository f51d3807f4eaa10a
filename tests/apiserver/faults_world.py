"""What surrounds one resource and its operator: a person's edits, a Job's end, model servers, and what is left of it all.

It speaks to the real servers past the wire, at once and without faults. Jobs and Deployments have no controllers here but this one.
"""

import hashlib
import json
import re
import time
from dataclasses import dataclass, replace
from typing import Any

import instant_trainer
from apiserver_expansions import EXPANSIONS, Team

from expansion_contract import environment, layout
from expansion_contract.exit_codes import ExitCode
from expansion_contract.run import TrainingRun
from expansion_contract.version import AgentStatus, ServingDocument
from expansion_development.kubernetes_api import Api, Manifest
from expansion_development.object_store import ObjectStore
from expansion_storage import ObjectMissing, open_prefix
from expansion_storage.prefix import Entry, Prefix

NAME = "flowers"
KINDS = ("jobs", "deployments", "services")
GONE_SECONDS = 120
"""The garbage collector's patience with a busy machine, not ours."""
_TIMED = {layout.REPORT, layout.PROGRESS, layout.RUN}
"""Documents that hold times or addresses."""
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
_UID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@dataclass(frozen=True)
class Seen:
    """One look at the resource and what belongs to it."""

    resource: Manifest | None
    children: dict[str, list[Manifest]]

    def leaving(self) -> list[str]:
        """What garbage collection has still to do."""
        every = [one for found in self.children.values() for one in found]
        return [one["metadata"]["name"] for one in every if self.resource is None or _is_leaving(one)]

    def versions(self) -> list[str]:
        """Of the children that send events when they change."""
        return [one["metadata"]["resourceVersion"] for kind in KINDS for one in self.children[kind]]


class Hangs(Exception):
    """What should have come did not."""


@dataclass
class World:
    """`life` is the name of the namespace and of the bucket; `team` speaks to storage over the wire, as specs say."""

    api: Api
    life: str
    team: Team
    place: Prefix
    holds_jobs: bool = False
    holds_servers: bool = False
    accuracy: float | None = 0.95  # None: the run fails for good
    agents: tuple[AgentStatus, ...] = ()
    address: str = "10.0.0.1"
    """Where the model server can be asked."""
    poll: str = "10m"
    settle: str = "0s"
    """Above 0 where a poll may come while images are put there one by one."""

    @classmethod
    def made(cls, api: Api, life: str, store: ObjectStore, endpoint: str, **known: str) -> "World":
        """`endpoint`: the near end of the wire."""
        api.create("namespaces", "", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": life}})
        account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}}
        api.create("serviceaccounts", life, account)
        store.create_bucket(life)
        team = Team(api, life, replace(store, endpoint=endpoint), life)
        team.create_secret()
        place = open_prefix(f"s3://{life}/", store.access, store.credentials)
        world = cls(api, life, team, place, **known)
        world.put_images("tulip", "rose")
        return world

    def put_images(self, *categories: str) -> None:
        for category in categories:
            for number in range(20):
                self.place.write(f"photos/{category}/{number}.jpg", f"{category} {number}".encode())

    def apply(self, **spec: Any) -> None:
        self.team.apply(NAME, **spec)

    def edit(self, **spec: Any) -> None:
        self.team.patch(NAME, **spec)

    def delete(self) -> None:
        self.api.delete(EXPANSIONS, self.life, NAME)

    def resource(self) -> Manifest | None:
        return self.api.find(EXPANSIONS, self.life, NAME)

    # What the other controllers do

    def seen(self) -> Seen:
        """Once nothing is being deleted any more but the resource itself."""
        deadline = time.monotonic() + GONE_SECONDS
        while True:
            children = {kind: self.api.list(kind, self.life) for kind in KINDS}
            # A pod goes with its Deployment.
            children["pods"] = [] if children["deployments"] else self.api.list("pods", self.life)
            seen = Seen(self.resource(), children)
            leaving = seen.leaving()
            if not leaving:
                return seen
            if time.monotonic() > deadline:
                raise Hangs(f"{leaving} are not garbage collected")
            time.sleep(0.02)

    def step(self, seen: Seen) -> bool:
        """Everything that would happen by itself. Did anything?"""
        jobs = [job for job in seen.children["jobs"] if not job["status"].get("conditions")]
        for job in () if self.holds_jobs else jobs:
            self._end(job)
        return self._serve(seen.children["deployments"]) or (bool(jobs) and not self.holds_jobs)

    def _end(self, job: Manifest) -> None:
        run_id = job["metadata"]["labels"][environment.RUN_LABEL]
        document = self.place.read(f"models/{layout.run(run_id, layout.RUN)}")
        run = TrainingRun.model_validate_json(document)
        at = job["metadata"]["creationTimestamp"]
        status = {"startTime": at, "uncountedTerminatedPods": {}}
        if self.accuracy is not None:
            instant_trainer.succeed(self._open, run, self.accuracy)
            ends = {"completionTime": at, "succeeded": 1}
            conditions = [_true("SuccessCriteriaMet", at), _true("Complete", at)]
        else:
            instant_trainer.fail(self._open(run.output), run, ExitCode.BAD_DATASET)
            ends = {"failed": 1}
            conditions = [_true("FailureTarget", at), _true("Failed", at)]
        ended = {"status": {**status, **ends, "conditions": conditions}}
        self.api.patch("jobs", self.life, job["metadata"]["name"], ended, "status")

    @property
    def _open(self) -> Any:
        return lambda address: self.place.below(address.removeprefix(f"s3://{self.life}/"))

    def _serve(self, deployments: list[Manifest]) -> bool:
        """One pod of the Deployment comes up at once, and its agent follows serving.json."""
        if self.holds_servers:
            return False
        if not deployments:
            self.agents = ()
            return False
        (deployment,) = deployments
        before, self.agents = self.agents, self._live()
        generation = deployment["metadata"]["generation"]
        if deployment["status"].get("observedGeneration") == generation:
            return before != self.agents
        self._start_pod(deployment)
        counts = dict.fromkeys(("replicas", "updatedReplicas", "readyReplicas", "availableReplicas"), 1)
        status = {"status": {"observedGeneration": generation, **counts}}
        self.api.patch("deployments", self.life, deployment["metadata"]["name"], status, "status")
        return True

    def _start_pod(self, deployment: Manifest) -> None:
        owner = {key: deployment["metadata"][key] for key in ("name", "uid")}
        metadata = {
            "name": deployment["metadata"]["name"],
            "labels": deployment["spec"]["template"]["metadata"]["labels"],
            "ownerReferences": [
                {"apiVersion": "apps/v1", "kind": "Deployment", "blockOwnerDeletion": True, **owner}
            ],
        }
        container = {"name": "model-server", "image": "served:1"}
        spec = {"automountServiceAccountToken": False, "containers": [container]}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
        self.api.apply("pods", self.life, pod)
        running = {"status": {"phase": "Running", "podIP": self.address, "podIPs": [{"ip": self.address}]}}
        self.api.patch("pods", self.life, metadata["name"], running, "status")

    def _live(self) -> tuple[AgentStatus, ...]:
        document = self._document()
        if document is None:
            return ()
        version = document.version
        live = AgentStatus(model_name=NAME, live_version=version, desired_version=version, state="Live")
        return (live,)

    def _document(self) -> ServingDocument | None:
        try:
            return ServingDocument.model_validate_json(self.place.read(f"models/{layout.SERVING}"))
        except ObjectMissing:
            return None

    # What is left

    def state(self, seen: Seen) -> dict[str, Any]:
        """All that an operator can be judged by, without times and uids."""
        said = {
            "resource": seen.resource and _of_resource(seen.resource),
            "children": {
                kind: [_of_child(kind, one) for one in found] for kind, found in seen.children.items()
            },
            "storage": {entry.key: self._content(entry) for entry in self.place.list("models/")},
        }
        text = json.dumps(said, sort_keys=True).replace(self.life, "LIFE")
        state: dict[str, Any] = json.loads(_UID.sub("UID", _TIME.sub("TIME", text)))
        return state

    def _content(self, entry: Entry) -> Any:
        name = entry.key.rpartition("/")[2]
        if name in _TIMED:
            return "there"
        if name not in {layout.MANIFEST, layout.SERVING}:
            return entry.etag
        said = json.loads(self.place.read(entry.key))
        if name == layout.SERVING:
            manifest = self.place.read(f"models/{layout.version(said['version'], layout.MANIFEST)}")
            said["manifestSha256"] = said["manifestSha256"] == hashlib.sha256(manifest).hexdigest()
        return said


def _is_leaving(one: Manifest) -> bool:
    return "deletionTimestamp" in one["metadata"]


def _true(kind: str, at: str) -> Manifest:
    return {"type": kind, "status": "True", "lastTransitionTime": at, "lastProbeTime": at, "reason": "Ended"}


def _of_resource(resource: Manifest) -> Manifest:
    metadata = {key: resource["metadata"].get(key) for key in ("generation", "finalizers", "annotations")}
    # Jobs that are seen for the first time in one look stand in the order of their times, which two lives do not share.
    started = sorted(run["runId"] for run in resource["status"].get("startedRuns", ()))
    return {"metadata": metadata, "status": {**resource["status"], "startedRuns": started}}


def _of_child(kind: str, one: Manifest) -> Manifest:
    """A Service's address is the API server's choice, and much of a Job, too."""
    metadata = {key: one["metadata"].get(key) for key in ("name", "labels", "annotations")}
    return {"metadata": metadata, "spec": one["spec"] if kind == "deployments" else None}


def difference(expected: Any, seen: Any, path: str = "") -> list[str]:
    """Where two states differ, as lines."""
    if isinstance(expected, dict) and isinstance(seen, dict):
        keys = sorted({*expected, *seen})
        return [
            line for key in keys for line in difference(expected.get(key), seen.get(key), f"{path}/{key}")
        ]
    if isinstance(expected, list) and isinstance(seen, list) and len(expected) == len(seen):
        pairs = enumerate(zip(expected, seen, strict=True))
        return [line for number, pair in pairs for line in difference(*pair, f"{path}/{number}")]
    return [] if expected == seen else [f"{path}: {json.dumps(expected)} became {json.dumps(seen)}"]
