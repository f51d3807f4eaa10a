"""Everything one reconciliation saw, as one frozen value: the planner decides from this and from nothing else."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from expansion_contract.dataset import Listing
from expansion_contract.labels import Vocabulary
from expansion_contract.report import Progress, RunReport
from expansion_contract.resource import ClassifierExpansion
from expansion_contract.run import PackBase, PublishedBase, Start
from expansion_contract.version import AgentStatus, ServingDocument, VersionManifest


@dataclass(frozen=True, kw_only=True)
class Trouble:
    """Something that stops us and is not ours to mend: one word for the condition, a sentence for its owner.

    `permanent` True: only an edit or a person helps, so the resource is Stalled. False: it may heal, so it is watched.
    """

    reason: str
    message: str
    permanent: bool


class JobPhase(StrEnum):
    QUEUED = "Queued"  # suspended, by Kueue or by a person: it has no pods and owes us none
    PENDING = "Pending"  # created, no pod runs yet
    RUNNING = "Running"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"


@dataclass(frozen=True, kw_only=True)
class JobSeen:
    """One training Job, with what its pods and events say."""

    name: str
    run_id: str
    uid: str
    ours: bool  # its controller reference is this resource
    phase: JobPhase
    created_at: str  # RFC 3339
    terminating: bool = False
    deleted_at: str = ""  # RFC 3339
    held_by: str = ""  # what a Job that was deleted still waits for
    failure_reason: str = (
        ""  # of the Job's Failed condition: PodFailurePolicy, BackoffLimitExceeded, DeadlineExceeded
    )
    failure_message: str = ""
    exit_code: int | None = None  # of the last pod that ended
    oom_killed: bool = False
    memory_limit: str = ""  # what the killed container had
    termination_message: str = ""
    waiting: Trouble | None = None  # why no pod runs: queue, image, quota, scheduler, in their own words
    managed_by: str = ""  # who else runs its pods, in another cluster
    attempts: int = 0  # pods that failed
    pending_since: str = (
        ""  # RFC 3339; when it was last started or its newest pod created. Empty: since created_at
    )
    resource_version: str = ""
    asked: str = ""  # what it was made from, see asked.py
    limits: str = ""  # what it was last asked to keep, see asked.py


@dataclass(frozen=True, kw_only=True)
class DeploymentSeen:
    name: str
    ours: bool
    generation_observed: bool  # its controller has seen its newest spec
    replicas: int
    ready_replicas: int  # of any template
    old_pods: int = (
        0  # of an earlier template, still there: they may go on answering while the new ones never start
    )
    waiting: Trouble | None = None  # why a pod does not start, in the kubelet's or the scheduler's words


@dataclass(frozen=True, kw_only=True)
class VersionSeen:
    """A committed version: its manifest is there."""

    manifest: VersionManifest
    manifest_sha256: str


@dataclass(frozen=True, kw_only=True)
class BaseSeen:
    """The published version that spec.base names today."""

    model: PublishedBase
    version: int
    names: Vocabulary  # of the categories that it answers with


@dataclass(frozen=True, kw_only=True)
class ReportSeen:
    """`report` is None if there is an object that cannot be read as a report; `problem` says why."""

    report: RunReport | None
    problem: str = ""


@dataclass(frozen=True, kw_only=True)
class Observed:
    """Fields of a later step are None or empty when an earlier step failed, see `trouble`.

    Jobs are read before the report: a Job that has ended then has written whatever it was going to write.
    """

    expansion: ClassifierExpansion
    trouble: Trouble | None = None  # storage, Secret or CA: nothing behind it could be read
    output_owner: str | None = None  # another resource, namespace/name, that has this output prefix first
    circle: tuple[str, ...] = ()  # names of this resource and its bases, if they lead back to it
    base: BaseSeen | None = None  # None for a pretrained network, too
    pack: PackBase | None = None  # that spec.base.pack names
    base_trouble: Trouble | None = None  # why there is no base, or no pack, to start from
    listing: Listing | None = None
    listed_at: datetime | None = None  # when that listing was made
    newest_image: datetime | None = None  # when the last of its objects arrived, by the store's clock
    start: Start = field(default_factory=Start)  # of the current run
    run_id: str | None = None  # of the current spec, listing and base
    waiting_run: str | None = None  # that one, while `run_id` is an earlier run that may end first
    report: ReportSeen | None = None  # of the current run
    progress: Progress | None = None  # of the current run, while it has no report
    job: JobSeen | None = None  # of the current run
    old_jobs: tuple[JobSeen, ...] = ()  # of earlier runs of this resource, still there
    versions: tuple[VersionSeen, ...] = ()  # ascending
    remains: frozenset[int] = (
        frozenset()
    )  # of versions that are half removed, or whose publication was killed
    serving_document: ServingDocument | None = None
    serving_tag: str | None = None  # of serving.json as it was read; None: there is none
    term: int = 0  # of the Lease, while we hold it
    held_versions: frozenset[int] = frozenset()  # that runs of other resources are growing
    deployment: DeploymentSeen | None = None
    service_exists: bool = False
    agents: tuple[AgentStatus, ...] = ()  # one for each model server that answered
    queue_trouble: Trouble | None = None  # why spec.compute.queueName cannot be used
    refusals: tuple[Trouble, ...] = ()  # what the API server said no to last time, in its own words


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the operator's own installation decides."""

    trainer_image: str
    model_sync_image: str
    image_pull_policy: str = "IfNotPresent"
    cluster_domain: str = "cluster.local"


# What a plan asks for. Each is safe to do again.


@dataclass(frozen=True, kw_only=True)
class WriteRun:
    """Put run.json where the trainer will look for it."""

    run_id: str


@dataclass(frozen=True, kw_only=True)
class Apply:
    """Server-side apply with our field manager; `once` only creates (Jobs are never re-applied)."""

    manifest: dict[str, Any]
    once: bool = False


@dataclass(frozen=True, kw_only=True)
class Delete:
    """`uid` and `version`: only the object that was seen, and as it was seen. Empty: whatever is there."""

    kind: str
    name: str
    uid: str = ""
    version: str = ""


@dataclass(frozen=True, kw_only=True)
class Limit:
    """Tell a Job that is there how long and how often it may try; only as it was seen."""

    name: str
    uid: str
    version: str
    limits: dict[str, int]


def deleted(job: JobSeen) -> Delete:
    return Delete(kind="Job", name=job.name, uid=job.uid, version=job.resource_version)


@dataclass(frozen=True, kw_only=True)
class Publish:
    """Copy the candidate of `run_id` to versions/<version>/ on the server, manifest.json last."""

    run_id: str
    version: int


@dataclass(frozen=True, kw_only=True)
class WriteServing:
    document: ServingDocument


@dataclass(frozen=True, kw_only=True)
class Prune:
    """Remove an old version, its manifest first."""

    version: int


@dataclass(frozen=True, kw_only=True)
class HoldDeletion:
    """Let a deletion of the resource wait for us, because its storage goes with it, or no longer."""

    wanted: bool


@dataclass(frozen=True, kw_only=True)
class Announce:
    """A Kubernetes Event on the resource; made only when a condition changes."""

    kind: str  # Normal or Warning
    reason: str
    message: str


Action = WriteRun | Apply | Limit | Delete | Publish | WriteServing | Prune | HoldDeletion | Announce


@dataclass(frozen=True, kw_only=True)
class Plan:
    """`status` is the whole new status, without keys that are not set; it is written only if it differs.

    `relist`: the trainer found other images than were listed; list again now, whatever the poll interval says.
    `heard`: of what is waited for, an event, storage or a model server tells.
    """

    status: dict[str, Any]
    actions: tuple[Action, ...] = ()
    requeue_after: float | None = (
        None  # seconds until we look at everything; None: only a change brings us back
    )
    poll_after: float | None = (
        None  # seconds until the images are listed again, if nothing else is waited for
    )
    relist: bool = False
    heard: bool = False
