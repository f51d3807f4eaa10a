"""Brings one version to the disk: everything its manifest names, nothing else, each file with the right bytes, then all at once."""

import hashlib
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from threading import Event
from typing import Literal

from pydantic import ValidationError

from expansion_contract import layout
from expansion_contract.report import File
from expansion_contract.version import ServingDocument, VersionManifest
from expansion_storage import ObjectMissing, Prefix
from model_sync.disk import Disk

Phase = Literal["Downloading", "Verifying"]
_PARALLEL = 4
_SPARE_BYTES = 16 * 2**20


class DownloadError(Exception):
    """The version cannot be had as it was published; it stays invisible."""


class Superseded(Exception):
    """Another version is wanted meanwhile."""


def fetch(
    output: Prefix, document: ServingDocument, disk: Disk, progress: Callable[[Phase, str], None], stop: Event
) -> None:
    """Makes `document.version` appear on the disk, whole. May be killed anywhere and done again.

    `progress` gets the phase and a line for people. Raises DownloadError, StorageError, Superseded.
    """
    manifest, content = _manifest(output, document)
    partial = disk.partial(manifest.version)
    partial.mkdir(exist_ok=True)
    progress("Verifying", f"Looking what of version {manifest.version} is already here.")
    missing = [file for file in manifest.files if not _is_whole(partial / file.path, file)]
    _require_space(disk.folder, missing)
    megabytes = sum(file.size for file in missing) / 1e6
    progress("Downloading", f"{len(missing)} files of version {manifest.version}, {megabytes:.1f} MB.")
    _fetch_all(output.below(layout.version(manifest.version)), partial, missing, stop)
    _remove_strangers(partial, manifest)
    (partial / layout.MANIFEST).write_bytes(content)
    disk.commit(manifest.version)


def _manifest(output: Prefix, document: ServingDocument) -> tuple[VersionManifest, bytes]:
    key = layout.version(document.version, layout.MANIFEST)
    try:
        content = output.read(key)
    except ObjectMissing:
        raise DownloadError(
            f"{output.address(key)} does not exist, so version {document.version} is not published, or was removed. Serve another"
            " version, or publish it again."
        ) from None
    address = output.address(key)
    if hashlib.sha256(content).hexdigest() != document.manifest_sha256:
        raise DownloadError(
            f"{address} is not the manifest that serving.json names (its SHA-256 differs): it was changed after publishing. Serve"
            " another version, or publish this model as a new one."
        )
    try:
        manifest = VersionManifest.model_validate_json(content)
    except ValidationError as error:
        raise DownloadError(
            f"{address} cannot be read: {error.errors()[0]['msg']}. Publish the model again."
        ) from None
    _require_plausible(manifest, document, address)
    return manifest, content


def _require_plausible(manifest: VersionManifest, document: ServingDocument, address: str) -> None:
    if manifest.version != document.version:
        raise DownloadError(f"{address} says it is version {manifest.version}. Publish the model again.")
    strange = [file.path for file in manifest.files if not _is_inside(file.path)]
    if strange:
        raise DownloadError(
            f"{address} names the file {strange[0]!r}, which would lie outside its version. Publish the model again."
        )
    if layout.GOLDEN not in {file.path for file in manifest.files}:
        raise DownloadError(
            f"{address} names no {layout.GOLDEN}, without which nobody can tell whether the loaded model answers as it did when it"
            " was trained. Publish a model of this release's trainer."
        )


def _is_inside(path: str) -> bool:
    parts = PurePosixPath(path).parts
    return bool(parts) and not path.startswith("/") and ".." not in parts and path != layout.MANIFEST


def _is_whole(path: Path, file: File) -> bool:
    if not path.is_file() or path.stat().st_size != file.size:
        return False
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest() == file.sha256


def _require_space(folder: Path, files: Sequence[File]) -> None:
    needed = sum(file.size for file in files) + _SPARE_BYTES
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise DownloadError(
            f"{folder} has {free / 1e6:.0f} MB left, the version needs {needed / 1e6:.0f} MB. Give the pod's models volume more room."
        )


def _fetch_all(version: Prefix, partial: Path, files: Sequence[File], stop: Event) -> None:
    def fetch_one(file: File) -> None:
        if stop.is_set():
            raise Superseded
        try:
            _fetch_one(version, partial, file)
        except Exception:
            stop.set()  # the others need not go on
            raise

    with ThreadPoolExecutor(_PARALLEL) as pool:
        tasks = [pool.submit(fetch_one, file) for file in files]
    errors = [error for task in tasks if (error := task.exception())]
    for error in sorted(errors, key=lambda error: isinstance(error, Superseded)):
        raise error


def _fetch_one(version: Prefix, partial: Path, file: File) -> None:
    target = partial / file.path
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        version.download(file.path, target)
    except ObjectMissing:
        raise DownloadError(
            f"{version.address(file.path)} does not exist although the manifest names it: it was removed after publishing. Serve"
            " another version, or publish this model as a new one."
        ) from None
    if not _is_whole(target, file):
        size = target.stat().st_size
        target.unlink()
        raise DownloadError(
            f"{version.address(file.path)} is corrupted: {size} bytes came, not the {file.size} bytes with the SHA-256 that the"
            " manifest names. Serve another version, or publish this model as a new one."
        )


def _remove_strangers(partial: Path, manifest: VersionManifest) -> None:
    """What another attempt was writing when it was killed."""
    named = {partial / file.path for file in manifest.files}
    for path in sorted(partial.rglob("*"), reverse=True):
        if path.is_dir():
            if not any(path.iterdir()):
                path.rmdir()
        elif path not in named:
            path.unlink()
