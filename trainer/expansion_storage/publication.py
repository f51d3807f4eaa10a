"""Makes versions out of candidates and removes old ones: the manifest is written last and removed first, so half is nothing.

The operator and the command line publish by the same lines. Everything here may be killed anywhere and done again.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

from pydantic import ValidationError

from expansion_contract import layout
from expansion_contract.report import File, RunReport
from expansion_contract.run import Owner, PublishedBase
from expansion_contract.schema import Lenient
from expansion_contract.version import VersionManifest
from expansion_storage.errors import ObjectMissing, StorageRefused, StorageUnavailable
from expansion_storage.prefix import Prefix


class _Told(Lenient):
    """Of a run's document, whatever release wrote it."""

    model: PublishedBase | None = None


@dataclass(frozen=True, kw_only=True)
class Shelf:
    """Every committed version, as `published` gives them, and the numbers of those that hold files and can never be committed."""

    versions: list[tuple[VersionManifest, str]]
    remains: frozenset[int]


def publish(output: Prefix, report: RunReport, owner: Owner, version: int, at: str) -> VersionManifest:
    """Copies the run's candidate to versions/<version>/ inside the store, then commits it. `at`: RFC 3339.

    What is already committed for this run is returned as it is; a number that another run has is refused. Raises ObjectChanged
    if somebody else commits this number meanwhile.
    """
    if committed := _committed(output, version):
        return _same_run(committed[0], report.run_id, output)
    files, given = _publishable(report), _continued(output, report)
    for file in files:
        _copied(output, report.run_id, version, file)
    _sweep(output, version, keep=frozenset(file.path for file in files))
    manifest = VersionManifest(
        version=version,
        run_id=report.run_id,
        owner=owner,
        published_at=at,
        categories=report.categories,
        given=given,
        base=_grown_from(output, report.run_id),
        files=files,
    )
    key = layout.version(version, layout.MANIFEST)
    output.replace(key, manifest.to_json(), None, "application/json")
    return manifest


def published(output: Prefix) -> list[tuple[VersionManifest, str]]:
    """Every committed version with the SHA-256 of its manifest's bytes, ascending."""
    return shelf(output).versions


def shelf(output: Prefix) -> Shelf:
    """What lies below versions/, in one listing."""
    numbers = set(_numbers(output))
    versions = [seen for number in sorted(numbers) if (seen := _committed(output, number))]
    committed = {manifest.version for manifest, _ in versions}
    newest = max(committed, default=0)
    return Shelf(
        versions=versions, remains=frozenset(number for number in numbers - committed if number < newest)
    )


def prune(output: Prefix, version: int) -> None:
    """Removes a version, and what killed publications left under smaller numbers: those are never given again."""
    output.delete(layout.version(version, layout.MANIFEST))
    for number in sorted({version, *shelf(output).remains}):
        if number <= version:
            _sweep(output, number, keep=frozenset())


def _committed(output: Prefix, version: int) -> tuple[VersionManifest, str] | None:
    key = layout.version(version, layout.MANIFEST)
    try:
        content = output.read(key)
    except ObjectMissing:
        return None
    try:
        manifest = VersionManifest.model_validate_json(content)
    except ValidationError:
        raise StorageRefused(
            f"{output.address(key)} is not the manifest of a version; restore it, or delete the folder it lies in.",
            "ManifestUnreadable",
        ) from None
    return manifest, hashlib.sha256(content).hexdigest()


def _same_run(manifest: VersionManifest, run_id: str, output: Prefix) -> VersionManifest:
    if manifest.run_id == run_id:
        return manifest
    raise StorageRefused(
        f"{output.address(layout.version(manifest.version))} was published from run {manifest.run_id}, not from {run_id};"
        " the number of a version is never used again.",
        "VersionTaken",
    )


def _publishable(report: RunReport) -> list[File]:
    if report.outcome != "Succeeded" or not report.files:
        raise StorageRefused(f"Run {report.run_id} has no candidate to publish.", "NoCandidate")
    strange = [file.path for file in report.files if not _is_inside_a_version(file.path)]
    if strange:
        raise StorageRefused(
            f"The report of run {report.run_id} names {strange[0]!r}, which is no file of a model.",
            "NoCandidate",
        )
    return report.files


def _continued(output: Prefix, report: RunReport) -> list[str]:
    """The run's indices, if no version gave one of them to another category: whoever asks by index must never be surprised."""
    for manifest, _ in published(output):
        both = zip(manifest.given, report.given, strict=False)
        if differing := [(index, old, new) for index, (old, new) in enumerate(both) if old != new]:
            index, old, new = differing[0]
            raise StorageRefused(
                f"Run {report.run_id} gives new category number {index} to {new!r}, which version {manifest.version} gave to {old!r}."
                " An index is never given again; raise spec.retrain.revision to train again.",
                "IndexTaken",
            )
    return report.given


def _grown_from(output: Prefix, run_id: str) -> PublishedBase | None:
    """As the run was told; a run that somebody removed says nothing."""
    try:
        return _Told.model_validate_json(output.read(layout.run(run_id, layout.RUN))).model
    except (ObjectMissing, ValidationError):
        return None


def _is_inside_a_version(path: str) -> bool:
    parts = PurePosixPath(path).parts
    return bool(parts) and not path.startswith("/") and ".." not in parts and path != layout.MANIFEST


def _copied(output: Prefix, run_id: str, version: int, file: File) -> None:
    target = layout.version(version, file.path)
    output.copy(layout.candidate(run_id, file.path), target)
    copy = output.find(target)
    if copy is None or copy.size != file.size:
        size = "nothing" if copy is None else f"{copy.size} bytes"
        raise StorageUnavailable(
            f"{output.address(target)} has {size} after copying, the candidate's file has {file.size};"
            " it is copied again.",
            "CopyIncomplete",
        )


def _sweep(output: Prefix, version: int, keep: frozenset[str]) -> None:
    folder = output.below(layout.version(version))
    for key in [entry.key for entry in folder.list() if entry.key not in keep]:
        folder.delete(key)


def _numbers(output: Prefix) -> Iterator[int]:
    """Of every folder below versions/, committed or not."""
    for entry in output.list("versions/"):
        parts = entry.key.split("/")
        if len(parts) > 2 and parts[1].isdecimal():
            yield int(parts[1])
