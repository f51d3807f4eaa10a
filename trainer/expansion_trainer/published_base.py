"""Reads a published version that is to be grown: only what is needed, and nothing that its manifest does not vouch for."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from expansion_contract import layout
from expansion_contract.report import Category, File
from expansion_contract.run import PublishedBase
from expansion_contract.version import VersionManifest
from expansion_storage import ObjectMissing, Prefix
from expansion_storage.folder import file_sha256
from expansion_trainer.errors import BaseMissing, PackRefused
from expansion_trainer.packs import files
from expansion_trainer.packs.pack import Pack

VARIABLES = "variables/"
_PACK_DOCUMENT = f"{layout.PACK}/{layout.PACK_DOCUMENT}"
_WHAT_NOW = (
    "With spec.base.expansionRef the operator takes up the version that is published now; with spec.base.model, give a version"
    " that exists (spec.output.keepVersions of the expansion that owns it says how many are kept)."
)


@dataclass(frozen=True, kw_only=True)
class PublishedVersion:
    place: Prefix
    files: dict[str, File]  # path -> what the manifest says of it

    @classmethod
    def opened(cls, base: PublishedBase, place: Prefix) -> "PublishedVersion":
        """Raises BaseMissing if it is gone, or is not the one the run was made for."""
        address = place.address(layout.MANIFEST)
        try:
            content = place.read(layout.MANIFEST)
        except ObjectMissing:
            raise BaseMissing(
                f"The base {place.uri} is no published version any more: {address} does not exist. {_WHAT_NOW}"
            ) from None
        found = hashlib.sha256(content).hexdigest()
        if found != base.manifest_sha256:
            raise BaseMissing(
                f"{address} has the SHA-256 {found}, this run was made for {base.manifest_sha256}: the version was replaced or damaged."
                f" {_WHAT_NOW}"
            )
        return cls(place=place, files={file.path: file for file in _manifest(content, address).files})

    def pack(self) -> Pack:
        """Raises PackRefused for a version of a release that wrote none."""
        document = self.files.get(_PACK_DOCUMENT)
        if document is None:
            raise PackRefused(
                f"{self.place.uri} carries no pack, so nothing says how its categories look: a release before packs published it. Let"
                " the expansion that owns it retrain with this release (raise its spec.retrain.revision), and grow the version it then"
                " publishes."
            )
        try:
            return files.read(self.place.below(layout.PACK), document.sha256)
        except PackRefused:
            self._must_exist()
            raise

    def downloaded_variables(self, folder: Path) -> Path:
        """The network's weights as the SavedModel keeps them. Raises BaseMissing if a file is gone or is another one."""
        for file in self.files.values():
            if file.path.startswith(VARIABLES):
                self._download(file, folder / file.path)
        return folder

    def _download(self, file: File, target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        address = self.place.address(file.path)
        try:
            self.place.download(file.path, target)
        except ObjectMissing:
            raise BaseMissing(
                f"{address} is gone: the version is being removed while this run starts. {_WHAT_NOW}"
            ) from None
        if file_sha256(target) != file.sha256:
            raise BaseMissing(
                f"{address} is not the file that was published: it is damaged or was replaced. {_WHAT_NOW}"
            )

    def _must_exist(self) -> None:
        """A version is removed manifest first: a file that is missing after that is no damage."""
        if self.place.find(layout.MANIFEST) is None:
            raise BaseMissing(f"The base {self.place.uri} was removed while this run read it. {_WHAT_NOW}")


def categories(place: Prefix) -> tuple[Category, ...]:
    """Of a version, in index order. Raises BaseMissing."""
    try:
        return tuple(Category.model_validate(one) for one in json.loads(place.read(layout.CATEGORIES)))
    except (ObjectMissing, ValueError):
        raise BaseMissing(
            f"{place.address(layout.CATEGORIES)} is missing or damaged: nothing says which index belongs to whom."
        ) from None


def _manifest(content: bytes, address: str) -> VersionManifest:
    try:
        return VersionManifest.model_validate_json(content)
    except ValidationError:
        raise BaseMissing(f"{address} is not the manifest of a published version. {_WHAT_NOW}") from None
