"""Finds what spec.base names: the published version that is grown, or the pack of a pretrained network.

Asks storage for what may have changed, one small object, and reads the rest again only if it did.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import ValidationError

from expansion_contract import layout
from expansion_contract.labels import vocabulary
from expansion_contract.report import Category
from expansion_contract.run import PackBase, PublishedBase
from expansion_contract.version import ServingDocument, VersionManifest
from expansion_operator.conditions import clipped
from expansion_operator.neighbours import claim
from expansion_operator.observed import BaseSeen, Observed, Trouble
from expansion_operator.storage import Storage
from expansion_storage import ObjectMissing, Prefix, StorageRefused

Body = dict[str, Any]
_SAID = 500
"""Characters of what a base says of itself."""


class NoBase(Exception):
    """There is nothing to start from."""

    def __init__(self, reason: str, message: str, *, permanent: bool) -> None:
        super().__init__(message)
        self.trouble = Trouble(reason=reason, message=message, permanent=permanent)


@dataclass(frozen=True, kw_only=True)
class _Kept:
    """What was read for one resource the last time, and the etag or digest under which it stays true."""

    identity: tuple[str, str]
    found: BaseSeen | PackBase


@dataclass
class Bases:
    """May be forgotten at any time: it only saves reading."""

    _kept: dict[str, _Kept] = field(default_factory=dict)

    def forget(self, key: str) -> None:
        self._kept.pop(key, None)

    def seen(self, seen: Observed, storage: Storage, referred: Body | None) -> Observed:
        """With the base or the pack, or with why there is none. `referred`: the resource that expansionRef names, if it is there."""
        base, key = seen.expansion.spec.base, seen.expansion.key
        try:
            if base.expansion_ref is not None:
                place, digest = _announced(seen, storage, base.expansion_ref.name, referred)
                return replace(seen, base=self._version(key, place, digest))
            if base.model is not None:
                return replace(seen, base=self._version(key, storage.open(base.model.uri), None))
            if base.pack is not None:
                return replace(seen, pack=self._pack(key, storage.open(base.pack.uri)))
        except NoBase as error:
            return replace(seen, base_trouble=error.trouble)
        except StorageRefused as error:
            message = f"The base cannot be read with this resource's spec.storage: {error}"
            return replace(
                seen, base_trouble=Trouble(reason="BaseUnreadable", message=message, permanent=True)
            )
        return seen

    def _version(self, key: str, place: Prefix, digest: str | None) -> BaseSeen:
        """`digest`: of its manifest, where serving.json says it."""
        entry = place.find(layout.MANIFEST)
        if entry is None:
            raise NoBase(
                "BaseVersionMissing",
                f"There is no published version at {place.uri}: {place.address(layout.MANIFEST)} does not exist. Was the version"
                " removed? Name another one, or restore it.",
                permanent=True,
            )
        identity, kept = (place.uri, f"{entry.etag} {digest}"), self._kept.get(key)
        if kept is None or kept.identity != identity:
            kept = self._kept[key] = _Kept(identity=identity, found=_read_version(place, digest))
        assert isinstance(kept.found, BaseSeen)
        return kept.found

    def _pack(self, key: str, place: Prefix) -> PackBase:
        entry = place.find(layout.PACK_DOCUMENT)
        if entry is None:
            raise NoBase(
                "PackMissing",
                f"spec.base.pack.uri {place.uri} is no pack: {place.address(layout.PACK_DOCUMENT)} does not exist. Make one with"
                " expansion pack build, or correct the address.",
                permanent=True,
            )
        identity, kept = (place.uri, entry.etag), self._kept.get(key)
        if kept is None or kept.identity != identity:
            digest = hashlib.sha256(place.read(layout.PACK_DOCUMENT)).hexdigest()
            found = PackBase(uri=place.uri.rstrip("/"), digest=digest)
            kept = self._kept[key] = _Kept(identity=identity, found=found)
        assert isinstance(kept.found, PackBase)
        return kept.found


def _announced(seen: Observed, storage: Storage, name: str, referred: Body | None) -> tuple[Prefix, str]:
    """The folder of the version that the referred resource's model servers are told to serve, and its manifest's digest."""
    if referred is None or "deletionTimestamp" in referred["metadata"]:
        state = "does not exist" if referred is None else "is being deleted"
        raise NoBase(
            "BaseMissing",
            f"spec.base.expansionRef names ClassifierExpansion {seen.expansion.metadata.namespace}/{name}, which {state}. Create it,"
            " or name another one; a version that it published can be grown with spec.base.model.",
            permanent=False,
        )
    _must_be_in_one_store(seen, name, referred)
    models = storage.open(claim(referred).output)
    try:
        document = ServingDocument.model_validate_json(models.read(layout.SERVING))
    except ObjectMissing:
        raise _not_published(name, referred) from None
    except ValidationError:
        raise NoBase(
            "BaseUnreadable",
            f"{models.address(layout.SERVING)} of ClassifierExpansion {name} cannot be read; restore it, or delete it: it is then"
            " written again.",
            permanent=True,
        ) from None
    return models.below(layout.version(document.version)), document.manifest_sha256


def _must_be_in_one_store(seen: Observed, name: str, referred: Body) -> None:
    mine, theirs = seen.expansion.spec.storage.endpoint_url.rstrip("/"), claim(referred).endpoint
    if mine != theirs:
        raise NoBase(
            "BaseElsewhere",
            f"ClassifierExpansion {name} keeps its models at {theirs or 'Amazon S3'}, and spec.storage.endpointUrl of this one is"
            f" {mine or 'empty (Amazon S3)'}: a run reads one store. Copy the version there and name it in spec.base.model.",
            permanent=True,
        )


def _not_published(name: str, referred: Body) -> NoBase:
    conditions = referred.get("status", {}).get("conditions", ())
    ready: Body = next((condition for condition in conditions if condition["type"] == "Ready"), {})
    said = f" It says {ready['reason']}: {clipped(ready.get('message', ''), _SAID)}" if ready else ""
    message = f"ClassifierExpansion {name} has not published a version yet; this one waits for it.{said}"
    return NoBase("BaseNotPublished", message, permanent=False)


def _read_version(place: Prefix, digest: str | None) -> BaseSeen:
    content = place.read(layout.MANIFEST)
    found = hashlib.sha256(content).hexdigest()
    if digest not in (None, found):
        raise _damaged(place, f"{layout.MANIFEST} is not the one that serving.json names")
    try:
        manifest = VersionManifest.model_validate_json(content)
    except ValidationError:
        raise _damaged(place, f"{layout.MANIFEST} is not the manifest of a version") from None
    names = vocabulary((category.uid, category.name) for category in _categories(place))
    model = PublishedBase(uri=place.uri.rstrip("/"), manifest_sha256=found)
    return BaseSeen(model=model, version=manifest.version, names=names)


def _categories(place: Prefix) -> Iterator[Category]:
    """Those that the version answers with."""
    try:
        listed = [Category.model_validate(one) for one in json.loads(place.read(layout.CATEGORIES))]
    except (ObjectMissing, ValueError):
        raise _damaged(place, f"{layout.CATEGORIES} is missing or unreadable") from None
    return (category for category in listed if category.state == "active")


def _damaged(place: Prefix, what: str) -> NoBase:
    message = f"{place.uri} cannot be grown: {what}. Restore it, or grow another version."
    return NoBase("BaseDamaged", message, permanent=True)
