"""A local folder that behaves as a bucket does: for laptops and for tests. Writes appear whole."""

import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from expansion_storage.errors import ObjectChanged, ObjectMissing, StorageRefused
from expansion_storage.prefix import Entry, Tagged

_READABLE = 0o644
"""A temporary file is its writer's alone; an object is for whoever may read the folder."""


class FolderPrefix:
    """Hidden files whose name ends in `.partial` are writes under way and are never listed."""

    def __init__(self, root: Path, bucket: Path | None = None) -> None:
        self._root = root
        self._bucket = bucket or root

    @property
    def uri(self) -> str:
        return f"{self._root}/"

    def below(self, name: str) -> "FolderPrefix":
        return FolderPrefix(self._root / name.strip("/"), self._bucket)

    def address(self, key: str) -> str:
        return str(self._root / key)

    def list(self, under: str = "") -> Iterator[Entry]:
        start = self._root / under
        files = (path for path in start.rglob("*") if path.is_file() and not path.name.endswith(".partial"))
        keyed = sorted((path.relative_to(self._root).as_posix(), path) for path in files)
        for key, path in keyed:
            yield _entry(key, path)

    def read(self, key: str) -> bytes:
        try:
            return (self._root / key).read_bytes()
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            raise ObjectMissing(f"{self.address(key)} does not exist.") from None
        except PermissionError:
            raise StorageRefused(f"{self.address(key)} may not be read; check its permissions.") from None

    def read_tagged(self, key: str) -> Tagged:
        content = self.read(key)
        return Tagged(content=content, tag=hashlib.sha256(content).hexdigest())

    def find(self, key: str) -> Entry | None:
        path = self._root / key
        if not path.is_file():
            return None
        return _entry(key, path)

    def write(self, key: str, content: bytes, content_type: str = "application/octet-stream") -> None:
        target = self._prepared(key)
        with tempfile.NamedTemporaryFile(
            dir=target.parent, prefix=".", suffix=".partial", delete=False
        ) as partial:
            partial.write(content)
        Path(partial.name).chmod(_READABLE)
        Path(partial.name).replace(target)

    def replace(
        self, key: str, content: bytes, tag: str | None, content_type: str = "application/octet-stream"
    ) -> str | None:
        with _alone_in(self._prepared(key).parent):
            there = self._tagged(key)
            if there is not None and there.content == content:
                return there.tag
            if (there.tag if there else None) != tag:
                raise ObjectChanged.at(self.address(key))
            self.write(key, content, content_type)
            return self.read_tagged(key).tag

    def _tagged(self, key: str) -> Tagged | None:
        try:
            return self.read_tagged(key)
        except ObjectMissing:
            return None

    def upload(self, key: str, source: Path) -> None:
        target = self._prepared(key)
        partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
        shutil.copyfile(source, partial)
        partial.replace(target)

    def download(self, key: str, target: Path) -> None:
        try:
            shutil.copyfile(self._root / key, target)
        except FileNotFoundError:
            raise ObjectMissing(f"{self.address(key)} does not exist.") from None

    def copy(self, source: str, target: str) -> None:
        if not (self._root / source).is_file():
            raise ObjectMissing(f"{self.address(source)} does not exist.")
        self.upload(target, self._root / source)

    def delete(self, key: str) -> None:
        (self._root / key).unlink(missing_ok=True)

    def _prepared(self, key: str) -> Path:
        target = self._root / key
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
        except PermissionError:
            raise StorageRefused(f"{target.parent} cannot be created; check its permissions.") from None
        return target


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Among those who replace something there, in any process."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _entry(key: str, path: Path) -> Entry:
    seen = path.stat()
    etag = f"{seen.st_mtime_ns:x}-{seen.st_size:x}"
    return Entry(key=key, size=seen.st_size, etag=etag, modified=seen.st_mtime)


def file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
