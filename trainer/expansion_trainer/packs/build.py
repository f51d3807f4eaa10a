"""Makes the pack of a pretrained network from images of its own categories: one pass, bounded memory, taken up where it was stopped."""

import hashlib
import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import reduce
from pathlib import Path

import numpy as np

from expansion_contract import layout
from expansion_contract.pack import Extractor, PackDocument
from expansion_storage import Prefix, StorageError
from expansion_storage.folder import FolderPrefix, file_sha256
from expansion_trainer.backbones.catalogue import Backbone
from expansion_trainer.bottlenecks.cache import Cache
from expansion_trainer.bottlenecks.extract import Extracted, extract
from expansion_trainer.dataset.scan import SourceImage
from expansion_trainer.errors import BadDataset, PackRefused
from expansion_trainer.head import statistics as sums
from expansion_trainer.head.softmax import Labels
from expansion_trainer.head.statistics import Statistics
from expansion_trainer.packs import core as cores
from expansion_trainer.packs import files, gathered, probes
from expansion_trainer.packs.core import Core
from expansion_trainer.packs.gathered import Gathered
from expansion_trainer.packs.pack import Pack
from expansion_trainer.packs.source import Block, Source, blocks

CHUNK = 4096
"""Images whose bottlenecks are in memory at once: 32 MiB for 2048 numbers each."""
PUT_ASIDE_SECONDS = 120.0
"""A killed build loses at most this much work, and the block it was at."""

Tell = Callable[[int], None]
"""Images done. Called often."""


@dataclass(frozen=True, kw_only=True)
class Places:
    out: Prefix  # becomes the pack
    cache: Prefix | None  # of bottlenecks, shared with runs; None: nothing is kept
    scratch: Path
    clock: Callable[[], float] = time.monotonic
    chunk: int = CHUNK


@dataclass(frozen=True, kw_only=True)
class Built:
    digest: str  # of pack.json
    used: int  # images
    seen: int  # categories of which it holds a real bottleneck
    unreadable: int
    examples: tuple[str, ...]
    is_old: bool = False  # it was complete before


def build(backbone: Backbone, source: Source, places: Places, tell: Tell) -> Built:
    """Raises PackRefused if another pack lies there, BadDataset if no image can be read; the store's errors pass."""
    if old := _finished(backbone, source, places.out):
        return old
    found = _gathered(backbone, source, places, tell)
    if not len(found.core):
        raise BadDataset(
            f"Not one of the {found.listed} images below {source.place.uri} can be read: {'; '.join(found.examples)}."
        )
    pack = replace(probes.bare(backbone), statistics=found.statistics, core=found.core, images=source.digest)
    digest = _written(pack, places)
    places.out.delete(gathered.UNFINISHED)
    return Built(
        digest=digest,
        used=int(found.statistics.counts.sum()),
        seen=pack.seen,
        unreadable=found.unreadable,
        examples=found.examples,
    )


def _finished(backbone: Backbone, source: Source, out: Prefix) -> Built | None:
    """The same command again finds its pack; another one's is not written over, because runs know it by its digest."""
    document = files.find_document(out)
    if document is None:
        return None
    if document.images != source.digest or document.extractor != probes.extractor(backbone):
        raise PackRefused(
            f"There is a pack at {out.uri} already, of {document.extractor} and of other images than these. Give another --out, or"
            " delete it."
        )
    return _old(files.read(out), document, out)


def _old(pack: Pack, document: PackDocument, out: Prefix) -> Built:
    return Built(
        digest=hashlib.sha256(out.read(layout.PACK_DOCUMENT)).hexdigest(),
        used=int(pack.statistics.counts.sum()),
        seen=pack.seen,
        unreadable=0,
        examples=(),
        is_old=True,
    )


def _gathered(backbone: Backbone, source: Source, places: Places, tell: Tell) -> Gathered:
    aside = _Aside(places, probes.extractor(backbone), source.digest)
    found = aside.taken_up() or gathered.nothing(len(backbone.categories), backbone.bottleneck_size)
    try:
        for block in blocks(source, places.chunk, first=found.categories):
            aside.put_if_due(found)
            found = _Work(backbone, places, tell, found.listed).with_block(found, block)
    except BaseException:  # Ctrl-C, too: what is whole is kept
        with suppress(StorageError):
            aside.put(found)
        raise
    return found


class _Aside:
    """Where unfinished work is kept. Keeping it takes at most a twentieth of the time, however slow the store is."""

    def __init__(self, places: Places, extractor: Extractor, images: str) -> None:
        self._out, self._clock = places.out, places.clock
        self._extractor, self._images = extractor, images
        self._due = places.clock() + PUT_ASIDE_SECONDS
        self._kept = 0  # categories

    def taken_up(self) -> Gathered | None:
        found = gathered.taken_up(self._out, self._extractor, self._images)
        self._kept = found.categories if found else 0
        return found

    def put_if_due(self, found: Gathered) -> None:
        if self._clock() >= self._due and found.categories > self._kept:
            began = self._clock()
            self.put(found)
            ended = self._clock()
            self._due = ended + max(PUT_ASIDE_SECONDS, 20 * (ended - began))

    def put(self, found: Gathered) -> None:
        if found.categories > self._kept:
            gathered.put_aside(self._out, found, self._extractor, self._images)
            self._kept = found.categories


class _Work:
    """On one block. A content counts once in its category."""

    def __init__(self, backbone: Backbone, places: Places, tell: Tell, done: int) -> None:
        self._backbone, self._places, self._tell, self._done = backbone, places, tell, done
        self._seen: set[tuple[int, str]] = set()
        self._unreadable: list[str] = []

    def with_block(self, found: Gathered, block: Block) -> Gathered:
        categories = len(found.statistics)
        pieces = [
            self._piece(images, np.array(labels, np.int64), categories)
            for images, labels in block.pieces(self._places.chunk)
        ]
        known = reduce(sums.merged, (statistics for statistics, _ in pieces))
        if len(pieces) > 1:  # of one category: what merging approximates follows exactly from its scatter
            known = replace(known, balanced_scatter=known.scatter / max(int(known.counts.sum()), 1))
        core = cores.merged([candidates for _, candidates in pieces])
        return found.with_more(known, core, block.last + 1, len(block.images), tuple(self._unreadable))

    def _piece(
        self, images: Sequence[SourceImage], labels: Labels, categories: int
    ) -> tuple[Statistics, Core]:
        extracted = self._extracted(images)
        self._done += len(images)
        self._unreadable += [f"{images[index].address} ({why})" for index, why in extracted.why.items()]
        rows = [
            row
            for row in np.flatnonzero(extracted.ok).tolist()
            if self._is_first(labels[row], extracted.digests[row])
        ]
        bottlenecks, labels = extracted.bottlenecks[rows], labels[rows]
        digests = [extracted.digests[row] for row in rows]
        return sums.of(bottlenecks, labels, categories), cores.chosen(bottlenecks, labels, digests)

    def _is_first(self, label: int, digest: str) -> bool:
        before = len(self._seen)
        self._seen.add((label, digest))
        return len(self._seen) > before

    def _extracted(self, images: Sequence[SourceImage]) -> Extracted:
        """Without a cache, one that lasts for these images."""
        folder = self._places.scratch / "bottlenecks"
        cache = Cache(place=self._places.cache or FolderPrefix(folder))
        try:
            return extract(images, self._backbone, cache, lambda done, _: self._tell(self._done + done))
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _written(pack: Pack, places: Places) -> str:
    """The document last: whoever finds it finds the rest. Its digest comes back."""
    folder = places.scratch / layout.PACK
    files.write(folder, pack)
    for path in sorted(folder.iterdir(), key=lambda path: path.name == layout.PACK_DOCUMENT):
        places.out.upload(path.name, path)
    return file_sha256(folder / layout.PACK_DOCUMENT)
