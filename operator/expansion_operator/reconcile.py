"""One reconciliation: observe what is, ask the planner, do what it says, write the status. Blocking; runs in a thread.

It decides nothing about a resource. Doing any of it twice, or being killed anywhere in it, changes nothing. Until an event comes
it glances: at the images alone where only other ones can take a resource further, at storage and the model servers where a run or
a rollout is waited for. It looks at everything now and then all the same.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any, Protocol

from pydantic import ValidationError

from expansion_contract import run
from expansion_contract.problems import sentences
from expansion_contract.resource import FINALIZER, ClassifierExpansion, ServingMode, parsed
from expansion_operator import schedule, starts
from expansion_operator import storage as stores
from expansion_operator.bases import Bases
from expansion_operator.cluster import ApiError, Cluster, Live, Refused
from expansion_operator.departing import Departures
from expansion_operator.manifests.job import other_limits
from expansion_operator.manifests.pod import job_name, serving_name
from expansion_operator.memory import AGAIN_SOON, Keys, Memories, Memory, Rest, Wait, base_of
from expansion_operator.neighbours import Neighbours, claim
from expansion_operator.observed import (
    Action,
    Announce,
    Apply,
    Delete,
    HoldDeletion,
    JobSeen,
    Limit,
    Observed,
    Plan,
    Prune,
    Publish,
    Settings,
    Trouble,
    WriteRun,
    WriteServing,
)
from expansion_operator.queueing import GROUP
from expansion_operator.serving_status import Ask
from expansion_operator.storage import Access, Listed, Listings, Storage, StorageTrouble
from expansion_storage import ObjectChanged, StorageError

Body = dict[str, Any]
Planner = Callable[[Observed, Settings, datetime], Plan]
STEPS_AT_ONCE = 2
"""Steps that follow in the same look from what was written to storage: a version is published, announced, and served."""
KEYS_KEPT = 60.0
"""Seconds for which a Secret's keys are used while they work; a run makes many looks in a row."""
FULL_LOOK = 3600.0
"""Seconds after which everything is looked at, whatever events say: they get lost, and some things send none."""

logger = logging.getLogger(__name__)


class NotLeading(Exception):
    """Another operator may act by now; this one is about to end."""

    def __init__(self) -> None:
        super().__init__("This operator does not hold the Lease any more and has stopped in the middle.")


class Audience(Protocol):
    """Who wants to know what every resource's status has become."""

    def seen(self, expansion: ClassifierExpansion, status: Body) -> None: ...
    def gone(self, key: str) -> None: ...


@dataclass(frozen=True, kw_only=True)
class Clock:
    now: Callable[[], datetime]
    monotonic: Callable[[], float]


@dataclass(kw_only=True)
class Reconciler:
    cluster: Cluster
    planner: Planner
    settings: Settings
    ask: Ask
    clock: Clock
    audience: Audience
    leads: Callable[[], bool] = lambda: True
    """May this operator still act? Asked before every step: it may have slept through its Lease."""
    term: Callable[[], int] = lambda: 0
    """Of its Lease: what it tells the model servers carries it."""
    full_look_after: Callable[[], float] = lambda: FULL_LOOK
    neighbours: Neighbours = field(default_factory=Neighbours)
    listings: Listings = field(default_factory=Listings)
    bases: Bases = field(default_factory=Bases)
    memories: Memories = field(default_factory=Memories)

    def glance(self, namespace: str, name: str) -> float | None:
        """For a resource whose time has come without an event: as long as nothing follows from it, only storage is looked at."""
        memory, now = self.memories.get(f"{namespace}/{name}"), self.clock.monotonic()
        if memory is None:
            return self.reconcile(namespace, name)
        if now >= memory.full_look_at:
            return self._look(namespace, name, memory)
        try:
            after = self._glanced(memory, now)
        finally:
            memory.storage = None
        return self.reconcile(namespace, name) if after is None else min(after, memory.full_look_at - now)

    def _glanced(self, memory: Memory, now: float) -> float | None:
        """Seconds until the next glance; None if there is something to look at."""
        if memory.rest is not None and self._finds_the_same(memory.rest, now):
            return self._poll_after(memory.rest.expansion, now)
        return None if memory.wait is None else self._still_waits(memory.wait, memory)

    def knows(self, body: Body) -> bool:
        """Of a resource, from an event: was this very state looked at, or made by us? From now on nothing older is believed."""
        self.cluster.told(body)
        return self.memories.knows(body)

    def knows_child(self, body: Body) -> bool:
        """The same of a Job or a Deployment."""
        self.cluster.told(body)
        return self.memories.knows_child(body)

    def reconcile(self, namespace: str, name: str) -> float | None:
        """Brings one resource a step further; seconds after which to come back, None if an event will say."""
        memory = self.memories.of(f"{namespace}/{name}")
        memory.patience = 0.0
        return self._look(namespace, name, memory)

    def _look(self, namespace: str, name: str, memory: Memory) -> float | None:
        memory.begin()
        body = self.cluster.expansion(namespace, name)
        if body is None:
            self._forget(f"{namespace}/{name}")
            return None
        self.neighbours.remember(body)
        if "deletionTimestamp" in body["metadata"]:
            self._must_lead()
            return self._departures.step(body)
        try:
            expansion = parsed(body)
        except ValidationError as error:
            return self._invalid(body, error)
        try:
            return self._bring_further(body, expansion, memory)
        finally:
            memory.end()

    @property
    def _departures(self) -> Departures:
        return Departures(
            cluster=self.cluster, storage=self._storage, neighbours=self.neighbours, now=self.clock.now
        )

    def _bring_further(self, body: Body, expansion: ClassifierExpansion, memory: Memory) -> float:
        observed = self._observe(body, expansion, memory)
        plan = self._plan(observed)
        refusals, wrote = self._act(plan.actions, observed)
        for _ in range(STEPS_AT_ONCE):
            if not _is_to_be_looked_at_again(refusals, wrote):
                break
            observed = self._stored_again(observed, memory)
            plan = self._plan(observed)
            refusals, wrote = self._act(plan.actions, observed)
        if not refusals and (claim := _claim(plan.actions, observed)):
            observed = _claimed(claim, observed, memory)
            plan = self._plan(observed)
        if refusals != observed.refusals:
            memory.refusals = refusals
            plan = self._plan(replace(observed, refusals=refusals))
        self._must_lead()
        version = self.cluster.write_status(body, plan.status)
        if version is None:
            return AGAIN_SOON
        memory.version, memory.list_again = version, plan.relist
        self._announce(body, plan.actions)
        self.audience.seen(expansion, plan.status)
        # What was refused last time and is not any more may have held something back.
        goes_on = not refusals and (wrote or observed.refusals)
        if goes_on:
            return AGAIN_SOON
        if plan.heard and version and not refusals and expansion.spec.base.expansion_ref is None:
            wait = Wait.of(observed, plan, body, version)
            return memory.waits(wait, self.clock.monotonic(), self.full_look_after())
        return self._rest(observed, plan, memory)

    def _still_waits(self, wait: Wait, memory: Memory) -> float | None:
        """Seconds until the next glance, after telling what is only progress; None if more than that is to be done."""
        observed = self._stored_again(replace(wait.observed, agents=self.ask(memory.agents)), memory)
        plan = self._plan(observed)
        is_told = observed.agents != wait.observed.agents
        if is_told or not plan.heard or plan.actions != wait.plan.actions:
            return None
        if plan.status != wait.plan.status:
            self._must_lead()
            version = self.cluster.write_status(wait.body, plan.status)
            if not version:
                return None
            memory.version, memory.wait = version, Wait.of(observed, plan, wait.body, version)
            self.audience.seen(observed.expansion, plan.status)
        return plan.requeue_after

    def _rest(self, observed: Observed, plan: Plan, memory: Memory) -> float:
        """Seconds until everything is looked at again, or the images are due."""
        now = self.clock.monotonic()
        after = memory.rests(observed, plan, now, self.full_look_after())
        return after if memory.rest is None else min(after, self._poll_after(observed.expansion, now))

    def _poll_after(self, expansion: ClassifierExpansion, now: float) -> float:
        return max(AGAIN_SOON, self.listings.due(expansion, now))

    def _finds_the_same(self, rest: Rest, now: float) -> bool:
        """Without asking the API server: what is found in storage today is what was found at the last look."""
        expansion = rest.expansion
        try:
            storage = Storage(expansion, rest.access)
            listed = self.listings.get(storage, expansion, now, float("-inf"))
            is_told = storage.serving().tag == rest.told
            if expansion.spec.base.expansion_ref is None:
                is_same_base = (
                    base_of(self.bases.seen(Observed(expansion=expansion), storage, None)) == rest.base
                )
            else:
                is_same_base = True  # an event tells of it
        except StorageError:
            return False
        return is_told and is_same_base and listed.listing.digest == rest.digest

    def _stored_again(self, observed: Observed, memory: Memory) -> Observed:
        """The same after our own writing to storage."""
        jobs = tuple(job for job in (observed.job, *observed.old_jobs) if job is not None)
        try:
            return self._seen_in_storage(observed, jobs, memory, memory.keys)
        except (Refused, StorageTrouble, StorageError) as error:
            return _unreadable(observed, error, memory)

    def _plan(self, observed: Observed) -> Plan:
        return self.planner(observed, self.settings, self.clock.now())

    def _forget(self, key: str) -> None:
        self.memories.forget(key)
        self.listings.forget(key)
        self.bases.forget(key)
        self.neighbours.forget(key)
        self.audience.gone(key)

    # Observing

    def _observe(self, body: Body, expansion: ClassifierExpansion, memory: Memory) -> Observed:
        """What can be read. What stops us is part of it, never an exception."""
        seen = Observed(expansion=expansion, refusals=memory.refusals)
        try:
            seen = self._seen_of_neighbours(seen, body)
            seen, jobs = self._seen_in_cluster(seen, memory)
            if seen.output_owner or seen.circle:
                return seen
            return self._seen_in_storage(seen, jobs, memory)
        except (Refused, StorageTrouble, StorageError) as error:
            return _unreadable(seen, error, memory)

    def _seen_of_neighbours(self, seen: Observed, body: Body) -> Observed:
        return replace(
            seen,
            output_owner=self._output_owner(body),
            circle=self._circle(body),
            held_versions=self.neighbours.held_versions(claim(body)),
        )

    def _output_owner(self, body: Body) -> str | None:
        """The first with this prefix, confirmed by a live read: a missed delete must not block it for ever."""
        mine = claim(body)
        for other in self.neighbours.older(mine):
            live = self.cluster.expansion(*other.key.split("/", 1))
            if live is None:
                self._forget(other.key)
            elif claim(live).overlaps(mine) and claim(live).order < mine.order:
                return other.key
        return None

    def _circle(self, body: Body) -> tuple[str, ...]:
        """Names, as far as live reads confirm every step: a reference that was just mended must not be held against anybody."""
        way = self.neighbours.circle(claim(body))
        for key, base in pairwise(way):
            live = self.cluster.expansion(*key.split("/", 1))
            if live is None or claim(live).base != base:
                return ()
        return tuple(key.rpartition("/")[2] for key in way)

    def _seen_in_cluster(self, seen: Observed, memory: Memory) -> tuple[Observed, tuple[JobSeen, ...]]:
        expansion = seen.expansion
        jobs = self.cluster.jobs(expansion)
        name = serving_name(expansion.metadata.name)
        serving = self.cluster.serving(expansion, name)
        memory.deployment, memory.agents = serving.live, serving.addresses
        memory.saw_children(jobs, serving.live)
        last_run = expansion.status.run.id if expansion.status.run else None
        seen = replace(
            seen,
            # Until storage says otherwise the run is the one we know of.
            job=next((job for job in jobs if job.run_id == last_run), None),
            queue_trouble=self._queue_trouble(expansion),
            deployment=serving.deployment,
            service_exists=expansion.spec.serving.mode is ServingMode.NONE
            and self.cluster.has_service(expansion, name),
            agents=self.ask(serving.addresses),
        )
        return seen, jobs

    def _queue_trouble(self, expansion: ClassifierExpansion) -> Trouble | None:
        queue = expansion.spec.compute.queue_name
        if not queue or self.cluster.kueue() is not None:
            return None
        message = (
            f"spec.compute.queueName is {queue}, but this cluster has no Kueue (it does not serve {GROUP}): the run would start without"
            " any quota. Install Kueue, or remove the field."
        )
        return Trouble(reason="KueueMissing", message=message, permanent=True)

    def _seen_in_storage(
        self, seen: Observed, jobs: tuple[JobSeen, ...], memory: Memory, keys: Keys | None = None
    ) -> Observed:
        way = keys.access if keys else self._known_access(seen.expansion, memory)
        storage = memory.storage = Storage(seen.expansion, way)
        now = self.clock.monotonic()
        newer_than = now if memory.list_again else now - self._since_due(seen.expansion)
        seen = self.bases.seen(seen, storage, self._referred(seen.expansion))
        if seen.base_trouble is None:
            listed = self.listings.get(storage, seen.expansion, now, newer_than, seen.base)
            seen, memory.list_again = self._with_listing(seen, listed), False
        versions, remains = storage.versions()
        seen = replace(seen, versions=versions, remains=remains, term=self.term())
        serving = storage.serving()
        seen = replace(seen, serving_document=serving.document, serving_tag=serving.tag)
        wanted = starts.on_schedule(starts.identified(seen), jobs, self.clock.now())
        current = starts.with_earlier_run(wanted, jobs)
        behind = self._seen_of_run(current, storage, jobs)
        self._must_be_writable(storage, behind, memory)
        return behind

    def _since_due(self, expansion: ClassifierExpansion) -> float:
        """Seconds since a time of the schedule that has come: a run that it asks for takes the images as they are then."""
        due = schedule.due(expansion, self.clock.now())
        return (self.clock.now() - due).total_seconds() if due else float("inf")

    def _with_listing(self, seen: Observed, listed: Listed) -> Observed:
        age = timedelta(seconds=self.clock.monotonic() - listed.at)
        newest = None if listed.newest is None else datetime.fromtimestamp(listed.newest, UTC)
        return replace(seen, listing=listed.listing, listed_at=self.clock.now() - age, newest_image=newest)

    def _referred(self, expansion: ClassifierExpansion) -> Body | None:
        """The resource that spec.base.expansionRef names, as it is now."""
        reference = expansion.spec.base.expansion_ref
        return self.cluster.expansion(expansion.metadata.namespace, reference.name) if reference else None

    def _storage(self, expansion: ClassifierExpansion) -> Storage:
        return Storage(expansion, self._access(expansion))

    def _known_access(self, expansion: ClassifierExpansion, memory: Memory) -> Access:
        """Read anew after a minute, after an edit, and as soon as anything about storage fails."""
        asked, now = (expansion.metadata.uid, expansion.spec.storage), self.clock.monotonic()
        known = memory.keys
        if known is None or known.asked != asked or now - known.at >= KEYS_KEPT:
            known = memory.keys = Keys(asked=asked, at=now, access=self._access(expansion))
        return known.access

    def _access(self, expansion: ClassifierExpansion) -> Access:
        namespace, spec = expansion.metadata.namespace, expansion.spec.storage
        secret = self.cluster.secret(namespace, spec.secret_name) if spec.secret_name else None
        ca = self.cluster.secret(namespace, spec.ca_secret_name) if spec.ca_secret_name else None
        return stores.access(expansion, secret, ca)

    def _seen_of_run(self, seen: Observed, storage: Storage, jobs: tuple[JobSeen, ...]) -> Observed:
        run_id = seen.run_id
        if run_id is None:
            return seen
        report = storage.report(run_id)
        seen = replace(
            seen,
            job=next((job for job in jobs if job.run_id == run_id), None),
            report=report,
            progress=None if report and report.report else storage.progress(run_id),
            old_jobs=tuple(job for job in jobs if job.run_id != run_id),
        )
        if seen.job or seen.report:
            return seen
        # A Job of that name without our labels is somebody else's: it stands in the way, and must be seen.
        name = job_name(seen.expansion.metadata.name, run_id)
        return replace(seen, job=self.cluster.job(seen.expansion, name))

    def _must_be_writable(self, storage: Storage, seen: Observed, memory: Memory) -> None:
        """Once for each generation, and only where a Job is about to be created."""
        metadata = seen.expansion.metadata
        generation = (metadata.uid, metadata.generation)
        about_to_train = seen.run_id and seen.listing and not (seen.listing.errors or seen.job or seen.report)
        if not about_to_train or memory.writable_generation == generation:
            return
        storage.must_be_writable()
        memory.writable_generation = generation

    # Acting

    def _must_lead(self) -> None:
        if not self.leads():
            raise NotLeading

    def _act(self, actions: tuple[Action, ...], observed: Observed) -> tuple[tuple[Trouble, ...], bool]:
        """In order, up to the first refusal: what follows relies on what came before. And: was storage written to?"""
        wrote = False
        for action in actions:
            self._must_lead()
            try:
                self._perform(action, observed)
            except Refused as refused:
                return (refused.trouble,), wrote
            except (StorageError, StorageTrouble) as error:
                return (_trouble_of(error, self.memories.of(observed.expansion.key)),), wrote
            is_news = isinstance(action, Publish | WriteServing | Prune)
            wrote |= is_news and not _is_claim(action, observed)
        return (), wrote

    def _perform(self, action: Action, observed: Observed) -> None:
        metadata, is_news = observed.expansion.metadata, True
        match action:
            case Apply(manifest=manifest, once=True):
                is_news = self.cluster.create_once(manifest, metadata.uid)
            case Apply(manifest=manifest):
                is_news = self.cluster.apply(manifest, metadata.uid, self._seen_of(manifest, observed))
            case Delete(kind=kind, name=name, uid=uid, version=version):
                is_news = self.cluster.delete(kind, metadata.namespace, name, uid, version)
            case Limit(name=name, uid=uid, version=version, limits=limits):
                seen, changes = (uid, version), other_limits(limits)
                is_news = self.cluster.patch("Job", metadata.namespace, name, seen, changes)
            case HoldDeletion(wanted=wanted):
                self.cluster.set_finalizer(metadata.namespace, metadata.name, FINALIZER, wanted)
            case Announce():
                return
            case _:
                self._write(action, observed)
        if is_news:
            logger.info("%s: %s", observed.expansion.key, _said(action))

    def _seen_of(self, manifest: Body, observed: Observed) -> Live | None:
        """What this look has read of it; once, for then we have changed it."""
        if manifest["kind"] != "Deployment":
            return None
        memory = self.memories.of(observed.expansion.key)
        seen, memory.deployment = memory.deployment, None
        return seen

    def _write(self, action: WriteRun | Publish | WriteServing | Prune, observed: Observed) -> None:
        known = self.memories.of(observed.expansion.key).storage
        storage = known or self._storage(observed.expansion)
        match action:
            case WriteRun():
                assert observed.listing is not None, "a run is planned from a listing"
                digest = observed.listing.digest
                storage.write_run(run.training_run(observed.expansion, digest, observed.start))
            case Publish(run_id=run_id, version=version):
                storage.publish(run_id, version, _rfc3339(self.clock.now()))
            case WriteServing(document=document):
                storage.write_serving(document, observed.serving_tag)
            case Prune(version=version):
                storage.prune(version)

    def _announce(self, body: Body, actions: tuple[Action, ...]) -> None:
        """After the status, which decides what is news. An event that cannot be made stops nothing."""
        for action in actions:
            if isinstance(action, Announce):
                try:
                    self.cluster.announce(body, action)
                except (ApiError, Refused) as error:
                    logger.warning("event %s was not made: %s", action.reason, error)

    def _invalid(self, body: Body, error: ValidationError) -> float | None:
        """Only a resource stored under an older definition gets here: today's refuses it when it is applied."""
        status = invalid_status(body, " ".join(sentences(error)), _rfc3339(self.clock.now()))
        return AGAIN_SOON if self.cluster.write_status(body, status) is None else None


def _is_claim(action: Action, observed: Observed) -> bool:
    """The same as was told before, in our own name: nothing but the tag of serving.json is another one then."""
    told = observed.serving_document
    if not isinstance(action, WriteServing) or told is None:
        return False
    return told.model_copy(update={"term": action.document.term}) == action.document


def _claim(actions: tuple[Action, ...], observed: Observed) -> WriteServing | None:
    claims = (
        action for action in actions if isinstance(action, WriteServing) and _is_claim(action, observed)
    )
    return next(claims, None)


def _claimed(claim: WriteServing, observed: Observed, memory: Memory) -> Observed:
    """With the tag that it was written under; where the store tells none, and where it is another's by now, the next poll finds that."""
    assert memory.storage is not None, "it was written there"
    return replace(observed, serving_document=claim.document, serving_tag=memory.storage.told)


def _is_to_be_looked_at_again(refusals: tuple[Trouble, ...], wrote: bool) -> bool:
    """After our own writing to storage, and after somebody else's: then what was planned is of yesterday, and nobody's trouble."""
    overtaken = any(refusal.reason == ObjectChanged.reason for refusal in refusals)
    return overtaken or (wrote and not refusals)


def _unreadable(seen: Observed, error: Exception, memory: Memory) -> Observed:
    return replace(seen, trouble=_trouble_of(error, memory))


def _trouble_of(error: Exception, memory: Memory) -> Trouble:
    """The keys may be other ones by now."""
    memory.keys = None
    if isinstance(error, Refused | StorageTrouble):
        return error.trouble
    assert isinstance(error, StorageError)
    return stores.trouble(error)


def invalid_status(body: Body, message: str, at: str) -> Body:
    """The old status with Stalled=True: what is served stays known."""
    old: Body = body.get("status", {})
    generation = body["metadata"].get("generation", 1)
    before = {condition["type"]: condition for condition in old.get("conditions", ())}

    def condition(kind: str, status: str) -> Body:
        same = before.get(kind, {}).get("status") == status
        return {
            "type": kind,
            "status": status,
            "reason": "InvalidSpec",
            "message": message,
            "lastTransitionTime": before[kind]["lastTransitionTime"] if same else at,
            "observedGeneration": generation,
        }

    kept = [c for kind, c in before.items() if kind not in {"Ready", "Stalled", "Reconciling"}]
    conditions = [*kept, condition("Ready", "False"), condition("Stalled", "True")]
    return old | {"observedGeneration": generation, "phase": "Failed", "conditions": conditions}


def _said(action: Action) -> str:
    match action:
        case Apply(manifest=manifest, once=once):
            return f"{'created' if once else 'applied'} {manifest['kind']} {manifest['metadata']['name']}"
        case Delete(kind=kind, name=name):
            return f"deleted {kind} {name}"
        case Limit(name=name, limits=limits):
            return f"changed the limits of Job {name}: {', '.join(f'{key} {value}' for key, value in limits.items())}"
        case WriteRun(run_id=run_id):
            return f"wrote run {run_id}"
        case Publish(run_id=run_id, version=version):
            return f"published run {run_id} as version {version}"
        case WriteServing(document=document):
            return f"asked the model servers for version {document.version}"
        case Prune(version=version):
            return f"removed version {version}"
        case HoldDeletion(wanted=wanted):
            return f"{'set' if wanted else 'removed'} the finalizer"
        case Announce(reason=reason):
            return f"announced {reason}"


def _rfc3339(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")
