"""Turns images into bottlenecks, computing only what the cache does not have."""

import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from expansion_contract.report import Finding
from expansion_trainer.backbones.catalogue import Backbone
from expansion_trainer.bottlenecks import decode
from expansion_trainer.bottlenecks.cache import Cache, Fingerprint, Row, Shelf
from expansion_trainer.bottlenecks.distortion import Distortion
from expansion_trainer.bottlenecks.engine import Engine, Pixels, Undecodable, engine_of
from expansion_trainer.dataset.scan import SourceImage
from expansion_trainer.errors import DatasetChanged

Progress = Callable[[int, int], None]
"""Images done, images in all. Called often: the caller decides what to write down."""

_READERS = 16

Read = TypeVar("Read")


@dataclass(frozen=True, kw_only=True, eq=False)
class Extracted:
    """One row and one digest for each image given, in the order given."""

    bottlenecks: NDArray[np.float32]  # (n, D); zeros where not ok
    ok: NDArray[np.bool_]  # (n,) could it be decoded?
    why: dict[int, str]  # what was wrong with those that could not
    digests: tuple[str, ...]  # SHA-256 of each image's content, hexadecimal
    computed: int  # images that went through the network; the others were in the cache, are copies, or cannot be read
    precision: str
    findings: tuple[Finding, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Loaded:
    """An image after reading: its bottleneck was kept, or here are its pixels, or neither and why."""

    index: int
    digest: str
    row: Row | None = None
    pixels: NDArray[np.float32] | NDArray[np.uint8] | None = None
    why: str = ""


def extract(images: Sequence[SourceImage], backbone: Backbone, cache: Cache, progress: Progress) -> Extracted:
    """Storage errors pass; what was computed until then is kept. Memory: the result, and a few batches of pixels."""
    engine = engine_of(backbone)
    with cache.shelf(fingerprint(backbone, engine.precision), backbone.bottleneck_size) as shelf:
        work = _Work(len(images), backbone, engine, shelf, progress)
        unseen = work.take_seen(images)
        ahead = 2 * engine.batch_size
        for loaded in _in_order(lambda index: _load(index, images[index], engine, shelf), unseen, ahead):
            shelf.see(images[loaded.index], loaded.digest)
            work.take(loaded)
        return work.finished()


def extract_arrays(
    images: Iterable[NDArray[np.uint8]], count: int, backbone: Backbone, cache: Cache, progress: Progress
) -> NDArray[np.float32]:
    """(count, D) of pictures that exist only in memory, each (input_size, input_size, 3)."""
    engine = engine_of(backbone)
    with cache.shelf(fingerprint(backbone, engine.precision), backbone.bottleneck_size) as shelf:
        work = _Work(count, backbone, engine, shelf, progress)
        for index, pixels in enumerate(images):
            digest = hashlib.sha256(f"pixels {pixels.shape} ".encode() + pixels.tobytes()).hexdigest()
            row = shelf.row(digest)
            work.take(
                _Loaded(index=index, digest=digest, row=row, pixels=None if row is not None else pixels)
            )
        return work.finished().bottlenecks


def extract_copies(
    images: Sequence[SourceImage],
    digests: Sequence[str],
    drawn: Callable[[str], Sequence[Distortion]],
    backbone: Backbone,
    cache: Cache,
    progress: Progress,
) -> NDArray[np.float32]:
    """(n, k, D): of every image, whose content is known to be `digests`', the k copies that `drawn` says.

    An image is read only if one of its copies is not kept, and decoded once. Memory: the result, and a few batches of pixels.
    """
    each = len(drawn(digests[0])) if digests else 0
    engine = engine_of(backbone)
    with cache.shelf(fingerprint(backbone, engine.precision), backbone.bottleneck_size) as shelf:
        work = _Work(len(images) * each, backbone, engine, shelf, progress)

        def load(index: int) -> list[_Loaded]:
            return _load_copies(
                index * each, images[index], digests[index], drawn(digests[index]), shelf, engine
            )

        for loaded in _in_order(load, range(len(images)), max(1, 2 * engine.batch_size // max(each, 1))):
            for copy in loaded:
                work.take(copy)
        return work.finished().bottlenecks.reshape(len(images), each, -1)


def _load_copies(
    first: int, image: SourceImage, digest: str, drawn: Sequence[Distortion], shelf: Shelf, engine: Engine
) -> list[_Loaded]:
    keys = [one.key(digest) for one in drawn]
    rows = [shelf.row(key) for key in keys]
    missing = [place for place, row in enumerate(rows) if row is None]
    pixels = _distorted(image, digest, [drawn[place] for place in missing], engine) if missing else []
    found = dict(zip(missing, pixels, strict=True))
    return [
        _Loaded(index=first + place, digest=key, row=rows[place], pixels=found.get(place))
        for place, key in enumerate(keys)
    ]


def _distorted(
    image: SourceImage, digest: str, drawn: Sequence[Distortion], engine: Engine
) -> Sequence[Pixels]:
    content = image.read()
    if hashlib.sha256(content).hexdigest() != digest:
        raise DatasetChanged(
            f"{image.address} was changed during the run, which has seen another content. The next listing starts a new one."
        )
    return list(engine.distorted(content, drawn))


def fingerprint(backbone: Backbone, precision: str) -> Fingerprint:
    return Fingerprint(
        backbone=backbone.digest,
        layer=backbone.layer,
        input_size=backbone.input_size,
        preprocessing=backbone.preprocessing,
        decode=decode.VERSION,
        precision=precision,
    )


def _load(index: int, image: SourceImage, engine: Engine, shelf: Shelf) -> _Loaded:
    content = image.read()
    digest = hashlib.sha256(content).hexdigest()
    if why := shelf.failure(digest):
        return _Loaded(index=index, digest=digest, why=why)
    if (row := shelf.row(digest)) is not None:
        return _Loaded(index=index, digest=digest, row=row)
    try:
        return _Loaded(index=index, digest=digest, pixels=engine.decode(content))
    except Undecodable as error:
        return _Loaded(index=index, digest=digest, why=str(error))


def _in_order(load: Callable[[int], Read], indices: Sequence[int], most: int) -> Iterator[Read]:
    """Reads and decodes ahead in threads, never more than `most`: memory stays bounded, order deterministic."""
    ahead: deque[Future[Read]] = deque()
    with ThreadPoolExecutor(_READERS) as readers:
        try:
            for index in indices:
                ahead.append(readers.submit(load, index))
                if len(ahead) >= most:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            for future in ahead:
                future.cancel()


class _Work:
    """The result as it fills up."""

    def __init__(
        self, count: int, backbone: Backbone, engine: Engine, shelf: Shelf, progress: Progress
    ) -> None:
        self._rows = np.zeros((count, backbone.bottleneck_size), np.float32)
        self._ok = np.zeros(count, np.bool_)
        self._digests = [""] * count
        self._why: dict[int, str] = {}
        self._engine, self._shelf, self._progress = engine, shelf, progress
        self._batch: list[tuple[int, str, Pixels | NDArray[np.uint8]]] = []
        self._first: dict[str, int] = {}  # content -> the image that is or was computed
        self._copies: list[tuple[int, int]] = []
        self._done = 0

    def take_seen(self, images: Sequence[SourceImage]) -> list[int]:
        """Fills in what needs no reading; the others' indices."""
        seen = {i: digest for i, image in enumerate(images) if (digest := self._shelf.digest_of(image))}
        for index in sorted(seen, key=lambda i: self._shelf.location(seen[i])):
            digest = seen[index]
            row, why = self._shelf.row(digest), self._shelf.failure(digest) or ""
            if row is not None or why:
                self.take(_Loaded(index=index, digest=digest, row=row, why=why))
        return [index for index, digest in enumerate(self._digests) if not digest]

    def take(self, loaded: _Loaded) -> None:
        index, digest = loaded.index, loaded.digest
        self._digests[index] = digest
        if loaded.why:
            self._why[index] = loaded.why
            self._shelf.fail(digest, loaded.why)
        elif loaded.row is not None:
            self._rows[index], self._ok[index] = loaded.row, True
        elif digest in self._first:
            self._copies.append((index, self._first[digest]))
        elif loaded.pixels is not None:
            self._first[digest] = index
            self._batch.append((index, digest, loaded.pixels))
        self._advance()

    def finished(self) -> Extracted:
        self._compute()
        for index, original in self._copies:
            self._rows[index], self._ok[index] = self._rows[original], True
        self._progress(len(self._digests), len(self._digests))
        return Extracted(
            bottlenecks=self._rows,
            ok=self._ok,
            why=dict(sorted(self._why.items())),
            digests=tuple(self._digests),
            computed=len(self._first),
            precision=self._engine.precision,
            findings=self._shelf.findings,
        )

    def _advance(self) -> None:
        self._done += 1
        if len(self._batch) == self._engine.batch_size:
            self._compute()
        if self._done % self._engine.batch_size == 0:
            self._progress(self._done, len(self._digests))

    def _compute(self) -> None:
        if not self._batch:
            return
        indices, digests, pixels = zip(*self._batch, strict=True)
        self._batch = []
        rows = self._engine.bottlenecks(pixels)
        self._rows[list(indices)], self._ok[list(indices)] = rows, True
        self._shelf.put(digests, rows)
