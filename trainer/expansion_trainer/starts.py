"""What a run on this machine starts from; in a cluster the operator finds it. Reads a few small documents, changes nothing."""

import hashlib
import json

from expansion_contract import dataset, layout, lineage
from expansion_contract.dataset import Listing
from expansion_contract.labels import vocabulary
from expansion_contract.report import Category
from expansion_contract.resource import ClassifierExpansion
from expansion_contract.run import PackBase, PublishedBase, Start, storage_access
from expansion_contract.version import ServingDocument
from expansion_storage import ObjectMissing, Prefix, open_prefix
from expansion_storage.publication import published
from expansion_trainer.resource_file import Refused


def start_of(
    expansion: ClassifierExpansion, listing: Listing, output: Prefix, document: ServingDocument | None
) -> Start:
    """`document`: the output's serving.json. Raises Refused if what spec.base names is not there."""
    manifests = [manifest for manifest, _ in published(output)]
    continued = lineage.continued(manifests)
    return Start(
        model=_model(expansion),
        pack=_pack(expansion),
        given=lineage.given(document, manifests),
        categories=tuple(sorted(listing.counts)),
        previous=output.address(layout.version(continued.version)) if continued else None,
    )


def judged(expansion: ClassifierExpansion, listing: Listing) -> Listing:
    """With the names that a published base has; those of a pretrained network are known without asking."""
    model = expansion.spec.base.model
    if model is None:
        return listing
    place = _open(expansion, model.uri)
    try:
        listed = [Category.model_validate(one) for one in json.loads(place.read(layout.CATEGORIES))]
    except (ObjectMissing, ValueError):
        raise Refused(_no_version(place, layout.CATEGORIES)) from None
    names = vocabulary((category.uid, category.name) for category in listed if category.state == "active")
    return dataset.judged(listing, expansion.spec.categories, expansion.spec.mode, names)


def _model(expansion: ClassifierExpansion) -> PublishedBase | None:
    model = expansion.spec.base.model
    if model is None:
        return None
    place = _open(expansion, model.uri)
    digest = _digest(place, layout.MANIFEST, _no_version(place, layout.MANIFEST))
    return PublishedBase(uri=place.uri.rstrip("/"), manifest_sha256=digest)


def _pack(expansion: ClassifierExpansion) -> PackBase | None:
    pack = expansion.spec.base.pack
    if pack is None:
        return None
    place = _open(expansion, pack.uri)
    missing = (
        f"spec.base.pack.uri {place.uri} is no pack: {place.address(layout.PACK_DOCUMENT)} does not exist. Make one with"
        " expansion pack build, or correct the address."
    )
    return PackBase(uri=place.uri.rstrip("/"), digest=_digest(place, layout.PACK_DOCUMENT, missing))


def _digest(place: Prefix, key: str, missing: str) -> str:
    try:
        return hashlib.sha256(place.read(key)).hexdigest()
    except ObjectMissing:
        raise Refused(missing) from None


def _no_version(place: Prefix, key: str) -> str:
    return (
        f"spec.base.model.uri {place.uri} is no published version: {place.address(key)} does not exist. Name the folder of one,"
        " for example models/flowers/versions/1."
    )


def _open(expansion: ClassifierExpansion, address: str) -> Prefix:
    return open_prefix(address, storage_access(expansion))
