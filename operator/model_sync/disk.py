"""The folder shared with the model server: whole versions under their numbers, everything else hidden from it."""

import hashlib
import os
import shutil
from pathlib import Path

from expansion_contract import layout

_PARTIAL = ".partial"
_REMOVED = ".removed"


class Disk:
    """The model server takes any folder named like an integer for a version and never asks whether it is complete."""

    def __init__(self, models: Path, model_name: str) -> None:
        self.folder = models / model_name
        self.folder.mkdir(parents=True, exist_ok=True)

    def version(self, number: int) -> Path:
        return self.folder / str(number)

    def partial(self, number: int) -> Path:
        """Where a version grows: on the same file system, with a name the model server skips."""
        return self.folder / f".{number}{_PARTIAL}"

    def versions(self) -> dict[int, str]:
        """The whole versions and the SHA-256 of their manifests, by which the same number is the same version."""
        manifests = {path: path / layout.MANIFEST for path in self.folder.iterdir() if path.name.isdecimal()}
        return {
            int(path.name): hashlib.sha256(manifest.read_bytes()).hexdigest()
            for path, manifest in manifests.items()
            if manifest.is_file()
        }

    def commit(self, number: int) -> None:
        """The version appears whole, also to somebody who looks after a power cut."""
        partial = self.partial(number)
        for path in sorted(partial.rglob("*")):
            _to_disk(path)
        _to_disk(partial)
        if self.version(number).exists():
            self.remove(number)
        partial.rename(self.version(number))
        _to_disk(self.folder)

    def remove(self, number: int) -> None:
        """Hidden first, so that nobody sees half of it."""
        hidden = self.folder / f".{number}{_REMOVED}"
        shutil.rmtree(hidden, ignore_errors=True)
        self.version(number).rename(hidden)
        shutil.rmtree(hidden, ignore_errors=True)

    def sweep(self, growing: int | None) -> None:
        """Removes what killed predecessors left, but for the version that grows: what of it is whole is not fetched again."""
        for path in self.folder.iterdir():
            leftover = path.name.startswith(".") and path.name.endswith((_PARTIAL, _REMOVED))
            if leftover and (growing is None or path != self.partial(growing)):
                shutil.rmtree(path, ignore_errors=True)


def _to_disk(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
