"""Everything that is read from and written to the Kubernetes API, and the only room that has a client for it.

A no of the API server (quota, webhook, permission, invalid object) leaves as `Refused`, in its own words; whatever
may pass by itself leaves as `ApiError` and is tried again by the queue.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any
from urllib.parse import quote

from kubernetes import client, config
from urllib3.exceptions import HTTPError

from expansion_contract import environment
from expansion_contract.resource import GROUP, PLURAL, VERSION, ClassifierExpansion
from expansion_operator import queueing, workloads
from expansion_operator.freshness import Freshness
from expansion_operator.observed import Announce, DeploymentSeen, JobSeen, Trouble

Body = dict[str, Any]
FIELD_MANAGER = "classifier-expansion"
HANDOVER_MANAGER = f"{FIELD_MANAGER}-handover"
CONNECT_SECONDS, READ_SECONDS = 5, 30
_EVENT_MESSAGE = 1024
_PAGE = "100"
"""Resources in one answer."""
_GROUPS = {
    "Job": ("/apis/batch/v1", "jobs"),
    "Deployment": ("/apis/apps/v1", "deployments"),
    "Service": ("/api/v1", "services"),
    "Pod": ("/api/v1", "pods"),
    "Secret": ("/api/v1", "secrets"),
    "Event": ("/api/v1", "events"),
    "Lease": ("/apis/coordination.k8s.io/v1", "leases"),
    "ClassifierExpansion": (f"/apis/{GROUP}/{VERSION}", PLURAL),
}


class ApiError(Exception):
    """The API server did not do it, and may the next time."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}" if status else message)
        self.status, self.message = status, message


class Refused(Exception):
    """The API server said no, and says so again until somebody changes something."""

    def __init__(self, trouble: Trouble) -> None:
        super().__init__(trouble.message)
        self.trouble = trouble


@dataclass(frozen=True, kw_only=True)
class _Request:
    method: str
    path: str
    body: Body | None = None
    query: dict[str, str] = field(default_factory=dict)
    content_type: str = "application/json"


@dataclass(frozen=True)
class Live:
    """An object as it was read a moment ago; None if there was none."""

    body: Body | None


@dataclass(frozen=True, kw_only=True)
class Serving:
    """The model servers of one resource."""

    deployment: DeploymentSeen | None
    addresses: tuple[str, ...]
    live: Live


def connect(connections: int) -> client.ApiClient:
    """By the pod's service account, else by KUBECONFIG or ~/.kube/config."""
    try:
        config.load_incluster_config()  # type: ignore[no-untyped-call]
    except config.ConfigException:
        config.load_kube_config()  # type: ignore[no-untyped-call]
    settings = client.Configuration.get_default_copy()
    settings.connection_pool_maxsize = connections
    return client.ApiClient(settings)


class Cluster:
    def __init__(
        self,
        api: client.ApiClient,
        namespaces: tuple[str, ...] = (),
        seconds: float = READ_SECONDS,
        renew: Callable[[], client.ApiClient] | None = None,
    ) -> None:
        """`namespaces`: where our resources are looked for; empty: everywhere. `seconds`: for one answer.

        `renew`: a client with today's credentials, for when the API server no longer knows those of `api`.
        """
        self._api, self._namespaces, self._renew = api, namespaces, renew
        self._timeout = (min(CONNECT_SECONDS, seconds), seconds)
        self._applied: dict[str, tuple[str, str]] = {}
        """By its address: the uid of what was applied, and the digest of its manifest. It only saves writing again."""
        self._freshness = Freshness()

    # Reading

    def told(self, body: Body) -> None:
        """Of a resource, a Job or a Deployment, by an event or the answer to our own write: whatever is read from now on is not older."""
        if body.get("kind") in {"ClassifierExpansion", "Job", "Deployment"}:
            self._freshness.told(_counted_with(body["kind"], _namespace(body), _name(body)), _version(body))

    def expansion(self, namespace: str, name: str) -> Body | None:
        body = self._get_fresh("ClassifierExpansion", namespace, name)
        if body is None:
            self._freshness.gone(_counted_with("ClassifierExpansion", namespace, name))
        return body

    def _get_fresh(self, kind: str, namespace: str, name: str) -> Body | None:
        of = _counted_with(kind, namespace, name)
        newest = self._freshness.newest(of)
        body = self._get(kind, namespace, name)
        if body is not None:
            self._must_not_be_older(of, body, newest)
        return body

    def expansions(self) -> Iterator[Body]:
        """A page at a time: thousands at once would not fit into our memory."""
        for where in self._namespaces or (None,):
            yield from self._pages("ClassifierExpansion", where)

    def secret(self, namespace: str, name: str) -> dict[str, str] | None:
        """The values in base64, as the API has them; None if there is no such Secret."""
        try:
            body = self._get("Secret", namespace, name)
        except Refused as refused:
            raise Refused(_with_remedy(refused.trouble)) from refused
        return None if body is None else body.get("data") or {}

    def jobs(self, expansion: ClassifierExpansion) -> tuple[JobSeen, ...]:
        namespace, name = expansion.metadata.namespace, expansion.metadata.name
        selector = f"{environment.NAME_LABEL}={name},{environment.MANAGED_BY_LABEL}={environment.MANAGED_BY}"
        of = _counted_with("Job", namespace, "")
        newest = self._freshness.newest(of)
        answer = self._listing("Job", namespace, labelSelector=selector)
        self._must_not_be_older(of, answer, newest)
        return tuple(self._job(job, expansion.metadata.uid) for job in answer.get("items") or ())

    def _must_not_be_older(self, of: str, answer: Body, newest: int) -> None:
        version = _version(answer)
        if self._freshness.is_older(of, version, newest):
            message = f"The API server shows {of} as of version {version}, and has told of version {newest}."
            raise ApiError(0, f"{message} It is asked again.")
        self._freshness.told(of, version)

    def job(self, expansion: ClassifierExpansion, name: str) -> JobSeen | None:
        job = self._get("Job", expansion.metadata.namespace, name)
        return None if job is None else self._job(job, expansion.metadata.uid)

    def serving(self, expansion: ClassifierExpansion, name: str) -> Serving:
        deployment = self._get_fresh("Deployment", expansion.metadata.namespace, name)
        if deployment is None:
            return Serving(deployment=None, addresses=(), live=Live(None))
        labels = deployment["spec"]["selector"].get("matchLabels", {})
        selector = ",".join(f"{key}={value}" for key, value in sorted(labels.items()))
        pods = self._list("Pod", expansion.metadata.namespace, labelSelector=selector)
        seen = workloads.deployment_seen(deployment, pods, expansion.metadata.uid)
        addresses = workloads.addresses(pods) if seen.ours else ()
        return Serving(deployment=seen, addresses=addresses, live=Live(deployment))

    def has_service(self, expansion: ClassifierExpansion, name: str) -> bool:
        service = self._get("Service", expansion.metadata.namespace, name)
        return service is not None and workloads.is_controlled_by(service, expansion.metadata.uid)

    def _job(self, job: Body, owner_uid: str) -> JobSeen:
        namespace, name = job["metadata"]["namespace"], job["metadata"]["name"]
        ended = {c["type"] for c in job.get("status", {}).get("conditions", ()) if c["status"] == "True"} & {
            "Complete",
            "Failed",
        }
        mine = f"batch.kubernetes.io/job-name={name}"
        pods = self._list("Pod", namespace, labelSelector=mine) if ended != {"Complete"} else []
        active = not ended
        about = f"involvedObject.uid={job['metadata']['uid']}"
        events = self._list("Event", namespace, fieldSelector=about) if active and not pods else []
        return workloads.job_seen(job, pods, events, owner_uid, self._workload(job) if active else None)

    def _workload(self, job: Body) -> Body | None:
        """What Kueue keeps of a Job that it holds back; None where it has not looked yet, or is gone."""
        if not (queueing.is_suspended(job) and queueing.QUEUE_LABEL in job["metadata"].get("labels", {})):
            return None
        version = self.kueue()
        if version is None:
            return None
        mine = f"{queueing.JOB_UID_LABEL}={job['metadata']['uid']}"
        path = f"/apis/{queueing.GROUP}/{version}/namespaces/{quote(_namespace(job))}/workloads"
        request = _Request(method="GET", path=path, query={"labelSelector": mine})
        found = self._ask(f"to list Workloads in namespace {_namespace(job)}", request).get("items") or [None]
        workload: Body | None = found[0]
        return workload

    def kueue(self) -> str | None:
        """The version of Kueue's API that this cluster prefers; None if Kueue is not installed."""
        request = _Request(method="GET", path=f"/apis/{queueing.GROUP}")
        try:
            return str(self._ask("to look for Kueue", request)["preferredVersion"]["version"])
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    # Writing

    def apply(self, manifest: Body, owner_uid: str, seen: Live | None = None) -> bool:
        """Server-side apply with our field manager, never to an object of somebody else's. Did it change anything?

        What we read must be what we replace: a write that comes late, from an operator that has lost its Lease, is rejected (409).
        What we have applied before and is still so is not written again. `seen`: what was read of it in this very look.
        """
        existing = seen.body if seen else None
        if existing is None:
            existing = self._get(manifest["kind"], _namespace(manifest), _name(manifest))
            if seen and existing is not None and workloads.is_controlled_by(existing, owner_uid):
                message = f"{_title(manifest)} was not there when it was looked for, and is: all is looked at again."
                raise ApiError(0, message)
        self._must_be_ours(manifest, existing, owner_uid)
        path = _path(manifest["kind"], _namespace(manifest), _name(manifest))
        digest = sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()
        if existing is not None and self._is_still_so(path, existing, manifest, digest):
            return False
        if existing is not None and workloads.is_letting_go_of_replicas(existing, manifest, FIELD_MANAGER):
            existing = self._hand_over_replicas(existing, manifest)
        applied = self._applied_by(FIELD_MANAGER, manifest, existing)
        self.told(applied)
        self._applied[path] = (_uid(applied), digest)
        return existing is None or _version(existing) != _version(applied)

    def _hand_over_replicas(self, existing: Body, manifest: Body) -> Body:
        """A field that its only owner no longer applies falls back to its default: for a moment one pod would have to serve alone.

        So another manager of ours, which never applies again, holds today's value until somebody scales.
        https://kubernetes.io/docs/reference/using-api/server-side-apply/#transferring-ownership
        """
        names = ("name", "namespace")
        minimal = {
            **{key: manifest[key] for key in ("apiVersion", "kind")},
            "metadata": {key: manifest["metadata"][key] for key in names},
            "spec": {"replicas": existing["spec"]["replicas"]},
        }
        return self._applied_by(HANDOVER_MANAGER, minimal, existing)

    def _applied_by(self, manager: str, manifest: Body, existing: Body | None) -> Body:
        """Only what is known to be ours may lose a field to us: what somebody has made since we looked is a conflict (409)."""
        request = _Request(
            method="PATCH",
            path=_path(manifest["kind"], _namespace(manifest), _name(manifest)),
            body=manifest if existing is None else _replacing(manifest, existing),
            query={"fieldManager": manager, "force": str(existing is not None).lower()},
            content_type="application/apply-patch+yaml",
        )
        return self._ask(f"to apply {_title(manifest)}", request)

    def _is_still_so(self, path: str, existing: Body, manifest: Body, digest: str) -> bool:
        is_ours_of_today = self._applied.get(path) == (_uid(existing), digest)
        return is_ours_of_today and workloads.holds(existing, manifest)

    def create_once(self, manifest: Body, owner_uid: str) -> bool:
        """Creates it if it is not there; what is there and ours is left as it is. Was it created?"""
        try:
            self.told(self._ask(f"to create {_title(manifest)}", _creation(manifest)))
        except ApiError as error:
            if error.status != 409:
                raise
            existing = self._get(manifest["kind"], _namespace(manifest), _name(manifest))
            self._must_be_ours(manifest, existing, owner_uid)
            return False
        return True

    def delete(self, kind: str, namespace: str, name: str, uid: str = "", version: str = "") -> bool:
        """In the foreground: the object is seen as terminating until its pods are gone. Is it deleted now?

        With the uid and resourceVersion that were seen, a deletion that comes late, from an operator that has lost its Lease, is
        rejected: by then a Job of the same name may be another attempt of its run.
        """
        seen = {key: value for key, value in (("uid", uid), ("resourceVersion", version)) if value}
        body = {"propagationPolicy": "Foreground", **({"preconditions": seen} if seen else {})}
        request = _Request(method="DELETE", path=_path(kind, namespace, name), body=body)
        try:
            self._ask(f"to delete {kind} {namespace}/{name}", request)
        except ApiError as error:
            if error.status not in {404, 409}:
                raise
            return False
        return True

    def patch(self, kind: str, namespace: str, name: str, seen: tuple[str, str], changes: Body) -> bool:
        """A merge patch of the object whose uid and resourceVersion were `seen`; a late one is rejected. Is it patched now?"""
        uid, version = seen
        metadata = {**changes.get("metadata", {}), "uid": uid, "resourceVersion": version}
        request = _Request(
            method="PATCH",
            path=_path(kind, namespace, name),
            body={**changes, "metadata": metadata},
            query={"fieldManager": FIELD_MANAGER},
            content_type="application/merge-patch+json",
        )
        try:
            self.told(self._ask(f"to change {kind} {namespace}/{name}", request))
        except ApiError as error:
            if error.status not in {404, 409}:
                raise
            return False
        return True

    def write_status(self, body: Body, status: Body) -> str | None:
        """One patch with conditions and observedGeneration together, if anything differs. None: somebody was faster.

        The resourceVersion of the resource with this status; empty if there is no resource any more.
        """
        changes = merge_patch(body.get("status", {}), status)
        if not changes:
            return _version(body)
        metadata = body["metadata"]
        request = _Request(
            method="PATCH",
            path=f"{_path('ClassifierExpansion', metadata['namespace'], metadata['name'])}/status",
            body={"metadata": {"resourceVersion": metadata["resourceVersion"]}, "status": changes},
            query={"fieldManager": FIELD_MANAGER},
            content_type="application/merge-patch+json",
        )
        try:
            written = self._ask(f"to write the status of {_title(body)}", request)
        except ApiError as error:
            if error.status not in {404, 409}:
                raise
            return "" if error.status == 404 else None
        self.told(written)
        return _version(written)

    def set_finalizer(self, namespace: str, name: str, finalizer: str, wanted: bool) -> None:
        """The only thing we ever write to the metadata of a user's object."""
        body = self._get("ClassifierExpansion", namespace, name)
        if body is None:
            return
        others = [other for other in body["metadata"].get("finalizers", ()) if other != finalizer]
        held = {"finalizers": [*others, finalizer] if wanted else others}
        request = _Request(
            method="PATCH",
            path=_path("ClassifierExpansion", namespace, name),
            body={"metadata": {"resourceVersion": _version(body), **held}},
            query={"fieldManager": FIELD_MANAGER},
            content_type="application/merge-patch+json",
        )
        self.told(self._ask(f"to {'set' if wanted else 'remove'} the finalizer of {_title(body)}", request))

    def announce(self, body: Body, event: Announce) -> None:
        """A Kubernetes Event on the resource; the same words again only raise its count."""
        manifest = event_manifest(body, event, datetime.now(UTC))
        try:
            self._ask("to create an Event", _creation(manifest))
        except ApiError as error:
            if error.status != 409:
                raise
            self._count_again(manifest)

    def _count_again(self, manifest: Body) -> None:
        existing = self._get("Event", _namespace(manifest), _name(manifest)) or {}
        request = _Request(
            method="PATCH",
            path=_path("Event", _namespace(manifest), _name(manifest)),
            body={"count": existing.get("count", 1) + 1, "lastTimestamp": manifest["lastTimestamp"]},
            content_type="application/merge-patch+json",
        )
        self._ask("to count an Event", request)

    def _must_be_ours(self, manifest: Body, existing: Body | None, owner_uid: str) -> None:
        if existing is None or workloads.is_controlled_by(existing, owner_uid):
            return
        raise Refused(
            Trouble(
                reason="NameConflict",
                message=f"{_title(manifest)} already exists and does not belong to this ClassifierExpansion. Delete or rename it, or give"
                " the ClassifierExpansion another name.",
                permanent=True,
            )
        )

    # The Lease: what this room knows of it is how to read and replace it

    def lease(self, namespace: str, name: str) -> Body | None:
        return self._get("Lease", namespace, name)

    def write_lease(self, namespace: str, name: str, lease: Body) -> bool:
        """Creates it, or replaces the very resourceVersion that it carries. False: somebody was faster."""
        metadata = {**lease["metadata"], "namespace": namespace, "name": name}
        manifest = {**lease, "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata}
        replacement = _Request(method="PUT", path=_path("Lease", namespace, name), body=manifest)
        try:
            is_new = "resourceVersion" not in metadata
            self._ask(f"to hold {_title(manifest)}", _creation(manifest) if is_new else replacement)
        except ApiError as error:
            if error.status not in {404, 409}:
                raise
            return False
        return True

    # Speaking

    def _get(self, kind: str, namespace: str, name: str) -> Body | None:
        request = _Request(method="GET", path=_path(kind, namespace, name))
        try:
            return self._ask(f"to read {kind} {namespace}/{name}", request)
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    def _pages(self, kind: str, namespace: str | None) -> Iterator[Body]:
        query = {"limit": _PAGE}
        where = f"in namespace {namespace}" if namespace else "in all namespaces"
        while query:
            request = _Request(method="GET", path=_path(kind, namespace), query=query)
            page = self._ask(f"to list each {kind} {where}", request)
            yield from page.get("items") or ()
            more = page.get("metadata", {}).get("continue")
            query = {"limit": _PAGE, "continue": more} if more else {}

    def _list(self, kind: str, namespace: str, **query: str) -> list[Body]:
        return self._listing(kind, namespace, **query).get("items") or []

    def _listing(self, kind: str, namespace: str, **query: str) -> Body:
        request = _Request(method="GET", path=_path(kind, namespace), query=query)
        return self._ask(f"to list each {kind} in namespace {namespace}", request)

    def _ask(self, what: str, request: _Request) -> Body:
        try:
            return self._call(request)
        except ApiError as error:
            if trouble := refusal(error, what):
                raise Refused(trouble) from error
            raise

    def _call(self, request: _Request) -> Body:
        try:
            return self._sent(self._api, request)
        except ApiError as error:
            if error.status != 401 or self._renew is None:
                raise
        self._api = self._renew()
        return self._sent(self._api, request)

    def _sent(self, api: client.ApiClient, request: _Request) -> Body:
        method, url, headers, *_ = api.param_serialize(
            request.method,
            request.path,
            query_params=list(request.query.items()),
            header_params={"Accept": "application/json", "Content-Type": request.content_type},
            auth_settings=["BearerToken"],
        )
        try:
            response = api.call_api(method, url, headers, request.body, _request_timeout=self._timeout)
            content = bytes(response.read())  # type: ignore[no-untyped-call]
        except (HTTPError, client.ApiException) as error:
            raise ApiError(0, f"The API server cannot be reached: {error}") from error
        return _answer(response.status, content)


def _counted_with(kind: str, namespace: str, name: str) -> str:
    """Whose versions may be compared: those of one resource; of Jobs those of all, because a list has one for all of them."""
    return "Jobs" if kind == "Job" else f"{kind} {namespace}/{name}"


def _answer(status: int, content: bytes) -> Body:
    try:
        body: Body = json.loads(content or b"{}")
    except ValueError:
        body = {"message": content.decode(errors="replace")[:500]}
    if status >= 300:
        raise ApiError(status, body.get("message", ""))
    return body


def refusal(error: ApiError, what: str) -> Trouble | None:
    """What only somebody else can change, in the API server's own words; None for what may pass by itself."""
    message = f"The API server refused {what}: {error.message}"
    if "exceeded quota" in error.message:
        return Trouble(reason="QuotaExceeded", message=message, permanent=False)
    if "being terminated" in error.message:
        return Trouble(reason="NamespaceTerminating", message=message, permanent=False)
    if "failed calling webhook" in error.message:
        return Trouble(reason="WebhookUnavailable", message=message, permanent=False)
    if "denied the request" in error.message or "denied request" in error.message:
        return Trouble(reason="AdmissionDenied", message=message, permanent=True)
    if error.status in {401, 403}:
        return Trouble(reason="Forbidden", message=message, permanent=True)
    if error.status in {400, 422}:
        return Trouble(reason="Invalid", message=message, permanent=True)
    return None


def _with_remedy(trouble: Trouble) -> Trouble:
    """An operator of the whole cluster reads Secrets only where it is let."""
    if trouble.reason != "Forbidden":
        return trouble
    remedy = (
        "Whoever may read the Secrets of this namespace can let the operator do so: name the namespace in the chart's value"
        " rbac.secretNamespaces, or bind the chart's ClusterRole for Secrets in it (docs/install.md)."
    )
    return replace(trouble, message=f"{trouble.message} {remedy}")


def merge_patch(old: Body, new: Body) -> Body:
    """RFC 7396: what turns `old` into `new`; empty if nothing does."""
    changes: Body = {key: None for key in old if key not in new}
    for key, value in new.items():
        before = old.get(key)
        if isinstance(value, dict) and isinstance(before, dict):
            if inner := merge_patch(before, value):
                changes[key] = inner
        elif before != value or key not in old:
            changes[key] = value
    return changes


def event_manifest(body: Body, event: Announce, now: datetime) -> Body:
    """Its name is a digest of what it says, so that saying it twice is one event that happened twice."""
    metadata, at = body["metadata"], now.strftime("%Y-%m-%dT%H:%M:%SZ")
    said = "\0".join((metadata["uid"], event.kind, event.reason, event.message))
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {
            "name": f"{metadata['name']}.{sha256(said.encode()).hexdigest()[:16]}",
            "namespace": metadata["namespace"],
        },
        "involvedObject": {
            "apiVersion": body["apiVersion"],
            "kind": body["kind"],
            "namespace": metadata["namespace"],
            "name": metadata["name"],
            "uid": metadata["uid"],
        },
        "type": event.kind,
        "reason": event.reason,
        "message": event.message[:_EVENT_MESSAGE],
        "source": {"component": FIELD_MANAGER},
        "firstTimestamp": at,
        "lastTimestamp": at,
        "count": 1,
    }


def _replacing(manifest: Body, existing: Body) -> Body:
    metadata = {**manifest["metadata"], "resourceVersion": _version(existing)}
    return {**manifest, "metadata": metadata}


def _creation(manifest: Body) -> _Request:
    return _Request(
        method="POST",
        path=_path(manifest["kind"], _namespace(manifest)),
        body=manifest,
        query={"fieldManager": FIELD_MANAGER},
    )


def _path(kind: str, namespace: str | None, name: str = "") -> str:
    """`namespace` None: in all namespaces."""
    group, plural = _GROUPS[kind]
    where = f"{group}/namespaces/{quote(namespace)}" if namespace else group
    return f"{where}/{plural}/{quote(name)}".rstrip("/")


def _namespace(manifest: Body) -> str:
    return str(manifest["metadata"]["namespace"])


def _name(manifest: Body) -> str:
    return str(manifest["metadata"]["name"])


def _title(manifest: Body) -> str:
    return f"{manifest['kind']} {_namespace(manifest)}/{_name(manifest)}"


def _uid(body: Body) -> str:
    return str(body["metadata"]["uid"])


def _version(body: Body) -> str:
    return str(body["metadata"]["resourceVersion"])
