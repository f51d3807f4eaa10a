"""Everything that is read from and written to object storage, and the only room of the operator that can.

What the store answers leaves as `StorageTrouble`: one word, a sentence for the resource's owner, and whether it may heal.
"""

import base64
import logging
import ssl
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from expansion_contract import dataset, layout, run
from expansion_contract.dataset import Listing, Role
from expansion_contract.problems import sentences
from expansion_contract.report import FORMAT_VERSION, Progress, RunReport
from expansion_contract.resource import ClassifierExpansion
from expansion_contract.run import TrainingRun
from expansion_contract.version import ServingDocument
from expansion_operator.derived import poll_seconds
from expansion_operator.observed import BaseSeen, ReportSeen, Trouble, VersionSeen
from expansion_storage import (
    Credentials,
    Entry,
    ObjectChanged,
    ObjectMissing,
    StorageError,
    StorageRefused,
    open_prefix,
)
from expansion_storage.prefix import Prefix
from expansion_storage.publication import prune, publish, shelf

SecretData = dict[str, str]
KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
CA_KEY = "ca.crt"
_JSON = "application/json"

logger = logging.getLogger(__name__)


class StorageTrouble(Exception):
    def __init__(self, trouble: Trouble) -> None:
        super().__init__(trouble.message)
        self.trouble = trouble


def trouble(error: StorageError) -> Trouble:
    """A refusal needs a person; everything else may pass."""
    return Trouble(reason=error.reason, message=str(error), permanent=isinstance(error, StorageRefused))


@dataclass(frozen=True, kw_only=True)
class Access:
    """How one resource's storage is reached. Secrets are read anew for every reconciliation."""

    credentials: Credentials | None = None
    ca_bundle: str | None = None


def access(expansion: ClassifierExpansion, secret: SecretData | None, ca: SecretData | None) -> Access:
    """`secret` and `ca`: the data of the Secrets that the spec names; None if it names none or there is none."""
    storage, namespace = expansion.spec.storage, expansion.metadata.namespace
    credentials = ca_bundle = None
    if storage.secret_name:
        credentials = _credentials(f"{namespace}/{storage.secret_name}", "spec.storage.secretName", secret)
    if storage.ca_secret_name:
        ca_bundle = _ca_bundle(f"{namespace}/{storage.ca_secret_name}", "spec.storage.caSecretName", ca)
    return Access(credentials=credentials, ca_bundle=ca_bundle)


def _credentials(name: str, path: str, secret: SecretData | None) -> Credentials:
    values = [_value(name, path, secret, key) for key in KEYS]
    for key, value in zip(KEYS, values, strict=True):
        if value != value.strip():
            raise _secret_trouble(
                "SecretInvalid",
                f"{key} in Secret {name} ({path}) begins or ends with a space or a line break. Create the Secret again, for"
                " example with kubectl create secret generic --from-literal.",
            )
    return Credentials(access_key_id=values[0], secret_access_key=values[1])


def _value(name: str, path: str, secret: SecretData | None, key: str) -> str:
    if secret is None:
        raise _secret_trouble(
            "SecretMissing",
            f"Secret {name}, named by {path}, does not exist. Create it; it is looked for again every 15 s.",
        )
    if not secret.get(key):
        raise _secret_trouble(
            "SecretIncomplete",
            f"Secret {name}, named by {path}, has no {key}. Add it; it is looked for again every 15 s.",
        )
    return base64.b64decode(secret[key]).decode(errors="replace")


def _secret_trouble(reason: str, message: str) -> StorageTrouble:
    return StorageTrouble(Trouble(reason=reason, message=message, permanent=False))


def _ca_bundle(name: str, path: str, secret: SecretData | None) -> str:
    """A file with the certificate; boto takes nothing else. Named by its content, so that its clients are shared."""
    certificate = _value(name, path, secret, CA_KEY)
    folder = Path(tempfile.gettempdir()) / "classifier-expansion-ca"
    folder.mkdir(mode=0o700, exist_ok=True)
    file = folder / f"{sha256(certificate.encode()).hexdigest()}.crt"
    if not file.exists():
        partial = file.with_suffix(".partial")
        partial.write_text(certificate, encoding="utf-8")
        _must_be_certificates(partial, name, path)
        partial.replace(file)
    return str(file)


def _must_be_certificates(file: Path, name: str, path: str) -> None:
    """Else the store's certificate would be said to be the one that is not trusted."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=file)
    except ssl.SSLError:
        raise _secret_trouble(
            "SecretInvalid",
            f"{CA_KEY} in Secret {name}, named by {path}, is no certificate in PEM form (-----BEGIN CERTIFICATE-----). Put the"
            " certificate of the authority there that signed the store's; it is looked for again every 15 s.",
        ) from None


@dataclass(frozen=True, kw_only=True)
class Listed:
    listing: Listing
    at: float  # monotonic seconds, when it was begun
    newest: float | None  # seconds since 1970 by the store's clock; None without images


@dataclass
class _Arrivals:
    newest: float | None = None

    def noted(self, entries: Iterable[tuple[Role, Entry]]) -> Iterator[tuple[Role, Entry]]:
        for role, entry in entries:
            if dataset.is_image(entry.key):
                self.newest = max(self.newest or 0.0, entry.modified)
            yield role, entry


@cache
def _say_unfenced(store: str) -> None:
    """Once."""
    logger.warning(
        "%s replaced an object although it was told to write only where none is: it ignores If-None-Match, so an operator that slept"
        " through its Lease may overwrite there what its successor wrote, until the successor's next look. Use a store that knows"
        " conditional writes.",
        store,
    )


@dataclass(frozen=True, kw_only=True)
class ServingSeen:
    """serving.json; without a tag there is none."""

    document: ServingDocument | None = None
    tag: str | None = None


class Storage:
    """The storage of one resource."""

    def __init__(self, expansion: ClassifierExpansion, way: Access) -> None:
        self._expansion, self._way = expansion, way
        self._output = self.open(expansion.spec.output.models)
        self.told: str | None = None
        """The tag of the serving.json that was written last, where the store has told it."""

    def listed(self, now: float) -> Listed:
        """Lists everything a run would read, in one pass; minutes for millions of images."""
        spec, arrivals = self._expansion.spec, _Arrivals()
        listing = dataset.read(arrivals.noted(self._entries()), spec.categories, spec.mode)
        return Listed(listing=listing, at=now, newest=arrivals.newest)

    def must_be_writable(self) -> None:
        """Raises if runs and versions could not be written: better before the Job than at its end."""
        probe = layout.run(f".probe-{self._expansion.metadata.uid}")
        self._output.write(probe, b"May this resource write here?\n", "text/plain")
        try:
            self._output.replace(probe, b"And only where nothing is?\n", None, "text/plain")
        except ObjectChanged:
            pass
        else:
            _say_unfenced(self._expansion.spec.storage.endpoint_url or self._output.uri)
        self._output.delete(probe)

    def report(self, run_id: str) -> ReportSeen | None:
        key = layout.run(run_id, layout.REPORT)
        content = self._read(key)
        return None if content is None else _report(content, run_id, self._output.address(key))

    def progress(self, run_id: str) -> Progress | None:
        """None, too, if it cannot be read: it is only for display."""
        content = self._read(layout.run(run_id, layout.PROGRESS))
        try:
            return None if content is None else Progress.model_validate_json(content)
        except ValidationError:
            return None

    def versions(self) -> tuple[tuple[VersionSeen, ...], frozenset[int]]:
        """Those that are committed, and the numbers of what is left of others."""
        found = shelf(self._output)
        seen = (VersionSeen(manifest=manifest, manifest_sha256=digest) for manifest, digest in found.versions)
        return tuple(seen), found.remains

    def serving(self) -> ServingSeen:
        try:
            seen = self._output.read_tagged(layout.SERVING)
        except ObjectMissing:
            return ServingSeen()
        try:
            return ServingSeen(document=ServingDocument.model_validate_json(seen.content), tag=seen.tag)
        except ValidationError as error:
            raise StorageRefused(
                f"{self._output.address(layout.SERVING)} cannot be read ({sentences(error)[0]}) Restore it, or delete it: it is"
                " then written again.",
                "ServingDocumentUnreadable",
            ) from None

    def write_run(self, training_run: TrainingRun) -> None:
        key = layout.run(training_run.run_id, layout.RUN)
        self._output.write(key, training_run.to_json(), _JSON)

    def publish(self, run_id: str, version: int, at: str) -> None:
        seen = self.report(run_id)
        if seen is None or seen.report is None:
            why = seen.problem if seen else f"Run {run_id} has no report."
            raise StorageRefused(f"{why} It cannot be published.", "NoCandidate")
        owner = run.Owner(namespace=self._expansion.metadata.namespace, name=self._expansion.metadata.name)
        publish(self._output, seen.report, owner, version, at)

    def write_serving(self, document: ServingDocument, tag: str | None) -> None:
        """In place of what was read under `tag`; raises ObjectChanged if it is there no more."""
        self.told = self._output.replace(layout.SERVING, document.to_json(), tag, _JSON)

    def prune(self, version: int) -> None:
        prune(self._output, version)

    def owner(self) -> run.Owner | None:
        """Whose versions lie here; None before anything was published."""
        document = self.serving().document
        return document.owner if document else None

    def clear(self, most: int) -> bool:
        """Removes up to so many objects that the operator and the trainer wrote here, manifests first; true if none is left."""
        keys = [entry.key for folder in layout.FOLDERS for entry in self._output.list(folder)]
        keys.sort(key=lambda key: layout.version_of(key) is None)
        for key in keys[:most]:
            self._output.delete(key)
        if len(keys) > most:
            return False
        self._output.delete(layout.SERVING)
        return True

    def _entries(self) -> Iterator[tuple[Role, Entry]]:
        """In the order of the roles: the digest depends on it."""
        spec = self._expansion.spec
        addresses = (
            (Role.NEW, spec.categories.images),
            (Role.REPLAY, spec.replay.images if spec.replay else None),
            (Role.UNLABELLED, spec.unlabelled.images if spec.unlabelled else None),
            (Role.UNKNOWN, spec.categories.unknown_images),
        )
        for role, address in addresses:
            if address is not None:
                for entry in self.open(address).list():
                    yield role, entry

    def open(self, address: str) -> Prefix:
        """Any place, with this resource's own way to storage: its trainer has no other."""
        return open_prefix(
            address, run.storage_access(self._expansion), self._way.credentials, self._way.ca_bundle
        )

    def _read(self, key: str) -> bytes | None:
        try:
            return self._output.read(key)
        except ObjectMissing:
            return None


def _report(content: bytes, run_id: str, address: str) -> ReportSeen:
    try:
        report = RunReport.model_validate_json(content)
    except ValidationError as error:
        return ReportSeen(report=None, problem=_unreadable(error, address))
    if report.run_id != run_id:
        return ReportSeen(report=None, problem=f"{address} is the report of another run, {report.run_id}.")
    return ReportSeen(report=report)


def _unreadable(error: ValidationError, address: str) -> str:
    version = next(
        (d["input"] for d in error.errors() if d["loc"] in {("formatVersion",), ("format_version",)}), None
    )
    if version is not None:
        return (
            f"{address} is of format version {version!r}, this operator reads version {FORMAT_VERSION}: operator and trainer are"
            " of different releases. Upgrade the older one."
        )
    return f"{address} cannot be read as a report: {sentences(error)[0]}"


@dataclass
class Listings:
    """The last listing of every resource, so that the bucket is listed when it may have changed, not at every event."""

    _kept: dict[str, "_Kept"] = field(default_factory=dict)

    def get(
        self,
        storage: Storage,
        expansion: ClassifierExpansion,
        now: float,
        newer_than: float,
        base: BaseSeen | None = None,
    ) -> Listed:
        """`now`, `newer_than`: monotonic seconds. A listing from before `newer_than` is not good enough."""
        inputs = _inputs(expansion)
        kept = self._kept.get(expansion.key)
        oldest = max(newer_than, now - poll_seconds(expansion))
        if kept is None or kept.inputs != inputs or kept.listed.at < oldest:
            kept = _Kept(inputs=inputs, listed=storage.listed(now))
            self._kept[expansion.key] = kept
        if base is None:
            return kept.listed
        spec = expansion.spec
        judged = dataset.judged(kept.listed.listing, spec.categories, spec.mode, base.names)
        return replace(kept.listed, listing=judged)

    def due(self, expansion: ClassifierExpansion, now: float) -> float:
        """Seconds until `get` lists again."""
        kept = self._kept.get(expansion.key)
        return kept.listed.at + poll_seconds(expansion) - now if kept else 0.0

    def forget(self, key: str) -> None:
        self._kept.pop(key, None)


@dataclass(frozen=True, kw_only=True)
class _Kept:
    inputs: Any
    listed: Listed


def _inputs(expansion: ClassifierExpansion) -> tuple[Any, ...]:
    """What a listing depends on, beside the bucket itself."""
    spec = expansion.spec
    return (
        expansion.metadata.uid,
        spec.mode,
        spec.categories.to_wire(),
        spec.replay,
        spec.unlabelled,
        spec.storage.to_wire(),
    )
