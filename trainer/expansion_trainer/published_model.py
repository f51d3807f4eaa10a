"""Finds the model that somebody means by an address, and brings it here: a version, a candidate, or what an output serves."""

import hashlib
from pathlib import Path

from expansion_contract import layout
from expansion_contract.run import StorageAccess
from expansion_contract.version import ServingDocument, VersionManifest
from expansion_storage import Prefix, open_prefix
from expansion_storage.folder import FolderPrefix
from expansion_trainer.resource_file import Refused

_MODEL = "saved_model.pb"


def local_copy(address: str, access: StorageAccess, scratch: Path) -> Path:
    """A folder with the model at `address`; a local one is used where it lies."""
    place = _model_folder(open_prefix(address, access), address)
    if isinstance(place, FolderPrefix):
        return Path(place.uri)
    manifest = _manifest(place)
    for entry in place.list():
        target = scratch / entry.key
        target.parent.mkdir(parents=True, exist_ok=True)
        place.download(entry.key, target)
    if manifest:
        _verify(manifest, scratch, place)
    return scratch


def _model_folder(place: Prefix, address: str) -> Prefix:
    if place.find(_MODEL):
        return place
    if place.find(layout.SERVING):
        document = ServingDocument.model_validate_json(place.read(layout.SERVING))
        return place.below(layout.version(document.version))
    if place.find(f"{layout.CANDIDATE}/{_MODEL}"):
        return place.below(layout.CANDIDATE)
    raise Refused(
        f"There is no model at {address}: neither {_MODEL} nor {layout.SERVING} lies there. Give a version"
        " (…/versions/1), a run, or the address of spec.output.models."
    )


def _manifest(place: Prefix) -> VersionManifest | None:
    """None for a candidate, which has none."""
    if place.find(layout.MANIFEST) is None:
        return None
    return VersionManifest.model_validate_json(place.read(layout.MANIFEST))


def _verify(manifest: VersionManifest, folder: Path, place: Prefix) -> None:
    for file in manifest.files:
        path = folder / file.path
        if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != file.sha256:
            raise Refused(
                f"{place.address(file.path)} is not the file that was published: it is missing or damaged."
            )
