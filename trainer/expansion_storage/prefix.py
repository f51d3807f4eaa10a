"""The interface of a place in storage: a prefix of a bucket or a folder, and the objects below it."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One object. `key` is relative to the prefix that listed it; `etag` is opaque and changes with the content."""

    key: str
    size: int
    etag: str
    modified: float = 0.0  # seconds since 1970, by the store's clock


@dataclass(frozen=True, kw_only=True, slots=True)
class Tagged:
    """What an object holds; `tag` is opaque and stands for exactly this content."""

    content: bytes
    tag: str


class Prefix(Protocol):
    """Keys are relative, with '/'. Every method raises a StorageError that names the full address."""

    @property
    def uri(self) -> str:
        """The address, with a final '/'."""
        ...

    def below(self, name: str) -> Self:
        """The place `name` inside this one."""
        ...

    def address(self, key: str) -> str:
        """The full address of one object, for messages."""
        ...

    def list(self, under: str = "") -> Iterator[Entry]:
        """Objects below, sorted by key, in one pass. An empty or absent prefix lists nothing; an absent bucket is an error."""
        ...

    def read(self, key: str) -> bytes:
        """Raises ObjectMissing if there is no such object."""
        ...

    def read_tagged(self, key: str) -> Tagged:
        """The same, with what `replace` must be told. Raises ObjectMissing."""
        ...

    def find(self, key: str) -> Entry | None:
        """The object's size and etag; None if there is no such object."""
        ...

    def write(self, key: str, content: bytes, content_type: str = "application/octet-stream") -> None:
        """Whole or not at all: no reader sees half an object."""
        ...

    def replace(
        self, key: str, content: bytes, tag: str | None, content_type: str = "application/octet-stream"
    ) -> str | None:
        """A `write` only in place of what was read under this tag; None: only where nothing is. Raises ObjectChanged.

        What is there already is not written again and is no error: an answer may have been lost. A store that knows no
        conditions is written to without, and the log says so. Returns the tag of what was written, None where it is not told.
        """
        ...

    def upload(self, key: str, source: Path) -> None:
        """A file of any size, streamed."""
        ...

    def download(self, key: str, target: Path) -> None:
        """A file of any size, streamed to a new file. Raises ObjectMissing if there is no such object."""
        ...

    def copy(self, source: str, target: str) -> None:
        """Inside this prefix, by the server, without the bytes passing here. Raises ObjectMissing."""
        ...

    def delete(self, key: str) -> None:
        """Nothing happens if there is no such object."""
        ...
