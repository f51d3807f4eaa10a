"""Labelled images of a pretrained network's own categories, listed folder by folder: a million of them need the memory of their folders."""

import hashlib
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from expansion_contract.dataset import Role, is_image, listed
from expansion_contract.report import Category
from expansion_storage import Entry, Prefix
from expansion_trainer.dataset.scan import SourceImage
from expansion_trainer.dataset.split import BaseFolders
from expansion_trainer.errors import BadDataset


@dataclass(frozen=True, kw_only=True)
class Source:
    place: Prefix
    digest: str  # of the listing
    images: int  # below folders that name a category
    counts: Mapping[int, int]  # category -> images
    folders: Mapping[int, Sequence[str]]  # category -> its folders, as they are spelled in storage
    unused: tuple[str, ...]  # folders that name no category, or more than one

    def without_image(self, categories: Sequence[Category]) -> list[Category]:
        return [category for category in categories if category.index not in self.counts]

    def images_of(self, category: int) -> Iterator[SourceImage]:
        for folder in self.folders[category]:
            for entry in self.place.list(f"{folder}/"):
                if is_image(entry.key):
                    yield _image(self.place, entry)


def source(place: Prefix, categories: Sequence[Category]) -> Source:
    """Lists everything once. Raises BadDataset if no folder names a category; the store's errors pass."""
    digest, counts = hashlib.sha256(), Counter[str]()
    for entry in place.list():
        folder, slash, _ = entry.key.partition("/")
        if slash and is_image(entry.key):
            digest.update(f"{entry.key}\0{entry.size}\0{entry.etag}\n".encode("utf-8", "surrogateescape"))
            counts[folder] += 1
    found = _resolved(place, counts, categories)
    folders, images = defaultdict(list), Counter[int]()
    for folder in sorted(counts):
        if (index := found.indices.get(_composed(folder))) is not None:
            folders[index].append(folder)
            images[index] += counts[folder]
    return Source(
        place=place,
        digest=f"sha256:{digest.hexdigest()}",
        images=images.total(),
        counts=images,
        folders=folders,
        unused=tuple(sorted({*found.unknown, *(name for name, _ in found.ambiguous)})),
    )


def _resolved(place: Prefix, counts: Mapping[str, int], categories: Sequence[Category]) -> BaseFolders:
    """As replay folders are: by WordNet id, else by a name that only one category has."""
    names = [_composed(folder) for folder in counts]
    try:
        found = BaseFolders.of(iter(names), categories)
    except BadDataset:
        found = None
    if found is None or not found.indices:
        have = f"the folders {listed(sorted(names))}" if names else "no folder with images"
        raise BadDataset(
            f"{place.uri} has {have}, and none that names a category of the network. Put the images of each category into a folder"
            " named by its WordNet id (n02123394) or by its name (Persian cat)."
        )
    return found


@dataclass(frozen=True, kw_only=True, eq=False)
class Block:
    """Whole categories, or one by itself that has more images than are extracted at once."""

    images: list[SourceImage]
    labels: list[int]
    last: int  # the place of its last category among all that have images

    def pieces(self, most: int) -> Iterator[tuple[list[SourceImage], list[int]]]:
        for start in range(0, len(self.images), most):
            yield self.images[start : start + most], self.labels[start : start + most]


def blocks(source: Source, most: int, first: int = 0) -> Iterator[Block]:
    """In the order of the categories' indices, `most` images together if their categories have no more. `first`: categories
    that are skipped."""
    images: list[SourceImage] = []
    labels: list[int] = []
    for place, category in list(enumerate(sorted(source.counts)))[first:]:
        if images and len(images) + source.counts[category] > most:
            yield Block(images=images, labels=labels, last=place - 1)
            images, labels = [], []
        images += source.images_of(category)
        labels += [category] * (len(images) - len(labels))
    if images:
        yield Block(images=images, labels=labels, last=len(source.counts) - 1)


def _image(place: Prefix, entry: Entry) -> SourceImage:
    folder = _composed(entry.key.partition("/")[0])
    return SourceImage(
        role=Role.REPLAY, place=place, key=entry.key, size=entry.size, etag=entry.etag, folder=folder
    )


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)
