"""Describes the files of a folder as reports and manifests name them: path, size, SHA-256."""

from pathlib import Path

from expansion_contract.report import File
from expansion_storage.folder import file_sha256


def described(folder: Path) -> list[File]:
    return [_described(path, folder) for path in files_below(folder)]


def files_below(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _described(path: Path, folder: Path) -> File:
    return File(path=path.relative_to(folder).as_posix(), size=path.stat().st_size, sha256=file_sha256(path))
