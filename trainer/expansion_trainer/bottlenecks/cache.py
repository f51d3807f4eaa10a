"""Bottlenecks in storage, by content: any run, expansion or worker with the same network finds what another one computed.

    <cache>/bottlenecks/<fingerprint>/<sha256>.rows     float32 rows, one after the other
    <cache>/bottlenecks/<fingerprint>/<sha256>.json     which rows these are; written second, so its presence commits both

Both names are digests of the content: objects are never changed, two writers never meet, damage is noticed.
The JSON also remembers which listed object had which content, and what could not be decoded, so that neither is read again.
"""

import hashlib
import json
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from threading import Lock
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from expansion_contract.report import Finding
from expansion_storage.errors import ObjectMissing, StorageError
from expansion_storage.prefix import Prefix

Row = NDArray[np.float32]

FORMAT = 1
SEGMENT_ROWS = 2048
SEGMENT_SECONDS = 30.0
"""A killed worker loses at most this much work."""
_READERS = 16
_SEGMENTS_IN_MEMORY = 8


class Source(Protocol):
    """What the store says of an image without reading it."""

    @property
    def address(self) -> str: ...
    @property
    def etag(self) -> str: ...
    @property
    def size(self) -> int: ...


_Seen = tuple[str, str, int]


@dataclass(frozen=True, kw_only=True)
class Fingerprint:
    """Everything beside an image's content that its bottleneck depends on."""

    backbone: str  # digest of the weights
    layer: str
    input_size: int
    preprocessing: str
    decode: str
    precision: str

    def __str__(self) -> str:
        parts = json.dumps(vars(self), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(parts.encode()).hexdigest()[:32]


@dataclass(frozen=True, kw_only=True)
class Cache:
    """A place in storage. `clock`: seconds, monotonic."""

    place: Prefix
    clock: Callable[[], float] = time.monotonic
    segment_rows: int = SEGMENT_ROWS
    segment_seconds: float = SEGMENT_SECONDS

    def shelf(self, fingerprint: Fingerprint, size: int) -> "Shelf":
        """What is kept for one network. `size`: numbers in a bottleneck."""
        return Shelf(self, self.place.below(f"bottlenecks/{fingerprint}"), size)


@dataclass
class _Segment:
    """What is not written yet."""

    keys: list[str] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    seen: list[tuple[_Seen, str]] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.keys or self.failed or self.seen)


class Shelf:
    """Reads from any thread; writes from one. Leaving the context writes the rest, whatever happened inside."""

    def __init__(self, cache: Cache, place: Prefix, size: int) -> None:
        self._cache, self._place, self._size = cache, place, size
        self._where: dict[str, tuple[str, int]] = {}  # key -> rows object, row
        self._failed: dict[str, str] = {}
        self._seen: dict[_Seen, str] = {}
        self._loaded: OrderedDict[str, Row | None] = OrderedDict()
        self._lock = Lock()
        self._pending = _Segment()
        self._written_at = cache.clock()
        self._ignored: list[str] = []
        self._open()

    def digest_of(self, source: Source) -> str | None:
        """The content's digest, if this object was read before and its bottleneck (or why it has none) is still known."""
        digest = self._seen.get(_identity(source))
        return digest if digest in self._where or digest in self._failed else None

    def failure(self, key: str) -> str | None:
        return self._failed.get(key)

    def location(self, key: str) -> tuple[str, int]:
        """For reading in the order in which rows lie."""
        return self._where.get(key, ("", 0))

    def row(self, key: str) -> Row | None:
        """None if it is not kept, or was damaged."""
        if (found := self._where.get(key)) is None:
            return None
        rows = self._rows(found[0])
        return None if rows is None or found[1] >= len(rows) else rows[found[1]]

    def see(self, source: Source, digest: str) -> None:
        self._pending.seen.append((_identity(source), digest))

    def put(self, keys: Iterable[str], rows: Iterable[Row]) -> None:
        self._pending.keys.extend(keys)
        self._pending.rows.extend(rows)
        self._write_if_due()

    def fail(self, key: str, why: str) -> None:
        if key not in self._failed:
            self._failed[key] = self._pending.failed[key] = why

    def flush(self) -> None:
        """Rows first: a JSON document never names rows that are not there."""
        segment, self._pending = self._pending, _Segment()
        self._written_at = self._cache.clock()
        if not segment:
            return
        name = ""
        if segment.rows:
            rows = np.asarray(segment.rows, "<f4").tobytes()
            name = f"{_digest(rows)}.rows"
            self._place.write(name, rows)
        content = _document(segment, name, self._size)
        self._place.write(f"{_digest(content)}.json", content, "application/json")

    @property
    def findings(self) -> tuple[Finding, ...]:
        return tuple(
            Finding(
                severity="note",
                reason="CacheDamaged",
                message=f"{address} is damaged; what it held is computed again. It can be deleted.",
            )
            for address in self._ignored
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(*((StorageError,) if error else ())):
            self.flush()

    def _write_if_due(self) -> None:
        late = self._cache.clock() - self._written_at >= self._cache.segment_seconds
        if late or len(self._pending.keys) >= self._cache.segment_rows:
            self.flush()

    def _open(self) -> None:
        names = [entry.key for entry in self._place.list() if entry.key.endswith(".json")]
        with ThreadPoolExecutor(_READERS) as readers:
            for name, content in zip(names, readers.map(self._read, names), strict=True):
                if content is not None and not self._take(content):
                    self._ignored.append(self._place.address(name))

    def _read(self, name: str) -> bytes | None:
        """None if it is gone; b"" if it is not what its name says."""
        try:
            content = self._place.read(name)
        except ObjectMissing:
            return None
        return content if name.partition(".")[0] == _digest(content) else b""

    def _take(self, content: bytes) -> bool:
        if not content:
            return False
        document = json.loads(content)
        if document["format"] != FORMAT or document["size"] != self._size:
            return False
        self._where.update((key, (document["rows"], row)) for row, key in enumerate(document["keys"]))
        self._failed.update(document["failed"])
        self._seen.update(((address, etag, size), digest) for address, etag, size, digest in document["seen"])
        return True

    def _rows(self, name: str) -> Row | None:
        """(n, D) of one segment; the last few stay in memory."""
        with self._lock:
            if name not in self._loaded:
                self._loaded[name] = self._decoded(name)
                while len(self._loaded) > _SEGMENTS_IN_MEMORY:
                    self._loaded.popitem(last=False)
            self._loaded.move_to_end(name)
            return self._loaded[name]

    def _decoded(self, name: str) -> Row | None:
        content = self._read(name)
        if not content:
            self._ignored.append(self._place.address(name))
            self._where = {key: place for key, place in self._where.items() if place[0] != name}
            return None
        return np.frombuffer(content, "<f4").reshape(-1, self._size)


def _identity(source: Source) -> _Seen:
    return source.address, source.etag, source.size


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _document(segment: _Segment, rows: str, size: int) -> bytes:
    document: dict[str, Any] = {
        "format": FORMAT,
        "size": size,
        "rows": rows,
        "keys": segment.keys,
        "failed": segment.failed,
        "seen": [[*identity, digest] for identity, digest in segment.seen],
    }
    return json.dumps(document, separators=(",", ":")).encode()
