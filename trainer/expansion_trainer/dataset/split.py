"""Gives every image its label and its side of the hold-out, both by content: renaming or moving a file changes neither.

An image's side is a pure function of its SHA-256, so copies stay together and a growing data set moves nobody.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from expansion_contract.dataset import Role, listed
from expansion_contract.labels import normalised
from expansion_contract.report import Category, Finding
from expansion_contract.resource import Split
from expansion_trainer.dataset.scan import SourceImage
from expansion_trainer.errors import BadDataset

Rows = NDArray[np.int64]
Label = tuple[Role, int]
_UNLABELLED: Label = (Role.UNLABELLED, -1)


class Side(StrEnum):
    TRAINING = "training"
    VALIDATION = "validation"
    TEST = "test"


def side_of(content_digest: str, split: Split) -> Side:
    """`content_digest`: the image's SHA-256 in hexadecimal. A larger percentage adds to its side and swaps nobody."""
    share = int(content_digest[:16], 16) / 2**64 * 100
    if share < split.test_percent:
        return Side.TEST
    if share >= 100 - split.validation_percent:
        return Side.VALIDATION
    return Side.TRAINING


@dataclass(frozen=True, kw_only=True, eq=False)
class Part:
    """Some of the scanned images."""

    rows: Rows  # (m,) ascending: rows of the bottleneck matrix and indices into Scanned.images alike
    labels: Rows  # (m,) of new images the index into Divided.categories, of replay images the base's, else -1

    def __len__(self) -> int:
        return len(self.rows)


Sides = Mapping[Side, Part]


@dataclass(frozen=True, kw_only=True, eq=False)
class Divided:
    """Every usable content once. All three sides are always there, possibly empty."""

    categories: tuple[
        str, ...
    ]  # the new ones, sorted; add the base's count to a label for the whole model's index
    new: Sides
    replay: Sides
    unlabelled: Sides
    duplicates: int  # files left out because their content stands elsewhere or under contradicting labels
    findings: tuple[Finding, ...]

    def counts(self, side: Side) -> tuple[int, ...]:
        """Images of each new category on this side."""
        return tuple(np.bincount(self.new[side].labels, minlength=len(self.categories)).tolist())


def divide(
    images: Sequence[SourceImage],
    digests: Sequence[str],
    ok: NDArray[np.bool_],
    base: Sequence[Category],
    split: Split,
) -> Divided:
    """`digests` and `ok` (could it be decoded?) are Extracted's. Raises BadDataset if no replay folder is a base category."""
    categories = tuple(sorted({image.folder for image in images if image.is_new}))
    replay = BaseFolders.of((image.folder for image in images if image.role is Role.REPLAY), base)
    labels = _labels(images, categories, replay)
    usable = [index for index, label in enumerate(labels) if label is not None and ok[index]]
    chosen = _unique(usable, labels, digests)
    sides = {side: _parts(chosen.kept, labels, digests, split, side) for side in Side}
    return Divided(
        categories=categories,
        new={side: parts[Role.NEW] for side, parts in sides.items()},
        replay={side: parts[Role.REPLAY] for side, parts in sides.items()},
        unlabelled={side: parts[Role.UNLABELLED] for side, parts in sides.items()},
        duplicates=len(usable) - len(chosen.kept),
        findings=(*replay.findings(), *_contradictions(chosen.contradicting, images), *_copies(chosen)),
    )


def _labels(
    images: Sequence[SourceImage], categories: Sequence[str], replay: "BaseFolders"
) -> list[Label | None]:
    new = {name: index for index, name in enumerate(categories)}
    labels: list[Label | None] = []
    for image in images:
        if image.is_new:
            labels.append((Role.NEW, new[image.folder]))
        elif image.role is Role.REPLAY:
            index = replay.indices.get(image.folder)
            labels.append(None if index is None else (Role.REPLAY, index))
        else:
            labels.append(_UNLABELLED)
    return labels


@dataclass(frozen=True, kw_only=True)
class _Unique:
    kept: list[int]
    contradicting: list[tuple[int, int]]  # an image and its copy under another label
    copies: int


def _unique(usable: Sequence[int], labels: Sequence[Label | None], digests: Sequence[str]) -> _Unique:
    """One image for each content. A labelled copy wins over an unlabelled one; under two labels, none is kept."""
    groups: dict[str, list[int]] = defaultdict(list)
    for index in usable:
        groups[digests[index]].append(index)
    kept, contradicting, copies = [], [], 0
    for group in groups.values():
        labelled = [index for index in group if labels[index] != _UNLABELLED] or group
        other = next((index for index in labelled if labels[index] != labels[labelled[0]]), None)
        if other is not None:
            contradicting.append((labelled[0], other))
            continue
        kept.append(labelled[0])
        copies += len(group) - 1
    return _Unique(kept=sorted(kept), contradicting=contradicting, copies=copies)


def _parts(
    kept: Sequence[int], labels: Sequence[Label | None], digests: Sequence[str], split: Split, side: Side
) -> dict[Role, Part]:
    here = [index for index in kept if side_of(digests[index], split) is side]
    parts = {}
    for role in Role:
        members = [(index, label[1]) for index in here if (label := labels[index]) and label[0] is role]
        table = np.array(members, np.int64).reshape(-1, 2)
        parts[role] = Part(rows=table[:, 0], labels=table[:, 1])
    return parts


@dataclass(frozen=True, kw_only=True)
class BaseFolders:
    """Which base category each replay folder means."""

    indices: Mapping[str, int]
    unknown: tuple[str, ...]
    ambiguous: tuple[tuple[str, tuple[str, ...]], ...]  # a folder and the WordNet ids that share its name

    @classmethod
    def of(cls, folders: Iterator[str], base: Sequence[Category]) -> "BaseFolders":
        """By WordNet id, else by a name only one base category has."""
        by_id = {category.uid: category.index for category in base if category.uid}
        by_name: dict[str, list[Category]] = defaultdict(list)
        for category in base:
            by_name[normalised(category.name)].append(category)
        indices, unknown, ambiguous = {}, [], []
        for folder in sorted(set(folders)):
            named = by_name.get(normalised(folder), [])
            if folder in by_id:
                indices[folder] = by_id[folder]
            elif len(named) == 1:
                indices[folder] = named[0].index
            elif named:
                ambiguous.append((folder, tuple(category.uid for category in named)))
            else:
                unknown.append(folder)
        found = cls(indices=indices, unknown=tuple(unknown), ambiguous=tuple(ambiguous))
        found._refuse_if_useless()
        return found

    def _refuse_if_useless(self) -> None:
        strange = [*self.unknown, *(folder for folder, _ in self.ambiguous)]
        if strange and not self.indices:
            raise BadDataset(
                f"No folder of spec.replay.images names a category of the base: {listed(strange)}. Name them by WordNet id"
                " (n02123394) or by the category's name (Persian cat), or give such pictures as spec.unlabelled.images."
            )

    def findings(self) -> Iterator[Finding]:
        if self.unknown:
            yield Finding(
                severity="warning",
                reason="ReplayFolderUnknown",
                message=f"Folders of spec.replay.images that name no category of the base are not used: {listed(list(self.unknown))}."
                " Name them by WordNet id (n02123394) or by the category's name (Persian cat).",
            )
        for folder, ids in self.ambiguous:
            yield Finding(
                severity="warning",
                reason="ReplayFolderAmbiguous",
                message=f"The replay folder {folder!r} is not used: the base has {len(ids)} categories of that name. Name the folder"
                f" {' or '.join(ids)}.",
            )


def _contradictions(pairs: Sequence[tuple[int, int]], images: Sequence[SourceImage]) -> Iterator[Finding]:
    """One finding for each pair of folders, with one example."""
    by_folders: dict[tuple[str, str], list[tuple[int, int]]] = defaultdict(list)
    for first, other in pairs:
        by_folders[images[first].folder, images[other].folder].append((first, other))
    for (one, two), found in sorted(by_folders.items()):
        example = " and ".join(images[index].address for index in found[0])
        yield Finding(
            severity="warning",
            reason="ContradictingLabels",
            message=f"{len(found)} pictures stand both in {one!r} and in {two!r}, for example {example}: they are left out"
            " everywhere. Delete the wrong copy.",
            category=one,
        )


def _copies(chosen: _Unique) -> Iterator[Finding]:
    if chosen.copies:
        yield Finding(
            severity="note",
            reason="Duplicates",
            message=f"{chosen.copies} files have the same content as another one of their category and count once.",
        )
