"""Gives every image its label and its side of the hold-out, both by content: renaming or moving a file changes neither.

An image's side is a pure function of its SHA-256, so copies stay together and a growing data set moves nobody. Pictures that are
nearly the same follow the one with the smallest SHA-256 of them; a nearer twin that comes later may move them, nothing else does.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from expansion_contract.dataset import Role, listed
from expansion_contract.labels import normalised, vocabulary
from expansion_contract.report import Category, Finding
from expansion_contract.resource import Split
from expansion_trainer.dataset.findings import few
from expansion_trainer.dataset.scan import SourceImage
from expansion_trainer.errors import BadDataset

Rows = NDArray[np.int64]
Label = tuple[Role, int]
UNIFORM = 0.5
"""A group of near pictures that is more of its category is not held together on one side."""
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
    leaders: Mapping[int, int] = field(default_factory=dict)  # nearly equal pictures that are held together

    def counts(self, side: Side) -> tuple[int, ...]:
        """Images of each new category on this side."""
        return tuple(np.bincount(self.new[side].labels, minlength=len(self.categories)).tolist())


def divide(
    images: Sequence[SourceImage],
    digests: Sequence[str],
    ok: NDArray[np.bool_],
    base: Sequence[Category],
    split: Split,
    near: Mapping[int, int] | None = None,
) -> Divided:
    """`digests` and `ok` (could it be decoded?) are Extracted's; `near`: near_duplicates.leaders of the same images.

    Raises BadDataset if no replay folder is a base category.
    """
    categories = tuple(sorted({image.folder for image in images if image.is_new}))
    replay = BaseFolders.of((image.folder for image in images if image.role is Role.REPLAY), base)
    labels = _labels(images, categories, replay)
    usable = [index for index, label in enumerate(labels) if label is not None and ok[index]]
    chosen = _unique(usable, labels, digests)
    alike = Alike.of(chosen.kept, labels, near or {}).without_emptied(chosen.kept, labels, digests, split)
    kept = [index for index in chosen.kept if index not in alike.copies]
    deciding = [digests[alike.leaders.get(index, index)] for index in range(len(digests))]
    sides = {side: _parts(kept, labels, deciding, split, side) for side in Side}
    return Divided(
        categories=categories,
        new={side: parts[Role.NEW] for side, parts in sides.items()},
        replay={side: parts[Role.REPLAY] for side, parts in sides.items()},
        unlabelled={side: parts[Role.UNLABELLED] for side, parts in sides.items()},
        duplicates=len(usable) - len(kept),
        leaders=alike.leaders,
        findings=(
            *replay.findings(),
            *_contradictions(chosen.contradicting, images),
            *_copies(chosen),
            *alike.findings(images, categories),
        ),
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
    ambiguous: tuple[
        tuple[str, tuple[str, ...]], ...
    ]  # a folder and the WordNet ids of those that share its name

    @classmethod
    def of(cls, folders: Iterator[str], base: Sequence[Category]) -> "BaseFolders":
        """By WordNet id, else by a name that only one base category has: its own before other words for it."""
        base = list(base)
        by_id = {category.uid: category.index for category in base if category.uid}
        exact: dict[str, list[int]] = defaultdict(list)
        for place, category in enumerate(base):
            exact[normalised(category.name)].append(place)
        other = vocabulary((category.uid, category.name) for category in base)
        indices, unknown, ambiguous = {}, [], []
        for folder in sorted(set(folders)):
            named = [base[place] for place in exact.get(normalised(folder), ()) or other.same(folder)]
            if folder in by_id:
                indices[folder] = by_id[folder]
            elif len(named) == 1:
                indices[folder] = named[0].index
            elif named:
                ambiguous.append((folder, tuple(category.uid for category in named if category.uid)))
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
            remedy = (
                f"Name the folder {' or '.join(ids)}." if ids else "No name of a folder can tell them apart."
            )
            yield Finding(
                severity="warning",
                reason="ReplayFolderAmbiguous",
                message=f"The replay folder {folder!r} is not used: several categories of the base have that name. {remedy}",
            )


@dataclass(frozen=True, kw_only=True)
class Alike:
    """What follows from pictures that are nearly the same."""

    leaders: Mapping[int, int]  # picture -> the one whose content decides the side
    copies: frozenset[int]  # unlabelled ones of labelled pictures: no evidence against them
    contradicting: tuple[tuple[int, int], ...]  # two of one group under two labels
    uniform: tuple[int, ...]  # new categories most of whose pictures are one group: not held together

    @classmethod
    def of(cls, kept: Sequence[int], labels: Sequence[Label | None], near: Mapping[int, int]) -> "Alike":
        groups: dict[int, list[int]] = defaultdict(list)
        for index in kept:
            if index in near:
                groups[near[index]].append(index)
        sizes = Counter(labels[index] for index in kept)
        leaders: dict[int, int] = {}
        copies: list[int] = []
        contradicting, uniform = [], set()
        for leader, group in groups.items():
            labelled = [index for index in group if labels[index] != _UNLABELLED]
            most = _mostly(labelled, labels, sizes)
            uniform.update(most)
            if not most:
                leaders.update(dict.fromkeys(group, leader))
            if labelled:
                copies += sorted(set(group) - set(labelled))
                other = next((i for i in labelled if labels[i] != labels[labelled[0]]), None)
                contradicting += [] if other is None else [(labelled[0], other)]
        return cls(
            leaders=leaders,
            copies=frozenset(copies),
            contradicting=tuple(contradicting),
            uniform=tuple(sorted(uniform)),
        )

    def without_emptied(
        self, kept: Sequence[int], labels: Sequence[Label | None], digests: Sequence[str], split: Split
    ) -> "Alike":
        """A few large groups may all fall on one side: a category of which another side would be empty is not held together."""
        alone: set[tuple[Label | None, Side]] = set()
        together: set[tuple[Label | None, Side]] = set()
        for index in kept:
            alone.add((labels[index], side_of(digests[index], split)))
            together.add((labels[index], side_of(digests[self.leaders.get(index, index)], split)))
        emptied = {label[1] for label, _ in alone - together if label and label[0] is Role.NEW}
        if not emptied:
            return self
        loose = {(Role.NEW, index) for index in emptied}
        leaders = {index: leader for index, leader in self.leaders.items() if labels[index] not in loose}
        return replace(self, leaders=leaders, uniform=tuple(sorted({*self.uniform, *emptied})))

    def findings(self, images: Sequence[SourceImage], categories: Sequence[str]) -> Iterator[Finding]:
        yield from _near_contradictions(self.contradicting, images)
        if groups := len(set(self.leaders.values())):
            yield Finding(
                severity="note",
                reason="NearDuplicates",
                message=f"{len(self.leaders)} pictures are nearly the same as another one, in {groups} groups (another size, quality or"
                " crop). Each group is on one side of the hold-out.",
            )
        if self.copies:
            yield Finding(
                severity="note",
                reason="UnlabelledCopies",
                message=f"{len(self.copies)} unlabelled pictures are nearly the same as a labelled one and are left out.",
            )
        yield from few([_uniform(categories[index]) for index in self.uniform], _UNIFORM.format)


_UNIFORM = (
    "Most pictures of {} are nearly the same as others of it. They are on every side of the hold-out, so the test accuracy says little about"
    " other pictures. Add different ones."
)


def _uniform(category: str) -> Finding:
    return Finding(
        severity="warning",
        reason="UniformCategory",
        category=category,
        message=_UNIFORM.format(repr(category)),
    )


def _mostly(
    labelled: Sequence[int], labels: Sequence[Label | None], sizes: Mapping[Label | None, int]
) -> list[int]:
    """New categories of which this group is more than half: holding it together would empty the other sides."""
    counts = Counter(labels[index] for index in labelled)
    return [
        label[1]
        for label, count in counts.items()
        if label and label[0] is Role.NEW and count > UNIFORM * sizes[label]
    ]


def _contradictions(pairs: Sequence[tuple[int, int]], images: Sequence[SourceImage]) -> Iterator[Finding]:
    """One finding for each pair of folders, with one example."""
    for (one, two), found in _by_folders(pairs, images):
        yield Finding(
            severity="warning",
            reason="ContradictingLabels",
            message=f"{len(found)} pictures stand both in {one!r} and in {two!r}, for example {_example(found, images)}: they are left"
            " out everywhere. Delete the wrong copy.",
            category=one,
        )


def _near_contradictions(
    pairs: Sequence[tuple[int, int]], images: Sequence[SourceImage]
) -> Iterator[Finding]:
    for (one, two), found in _by_folders(pairs, images):
        yield Finding(
            severity="warning",
            reason="ContradictingLabels",
            message=f"{len(found)} pictures of {one!r} are nearly the same as one of {two!r}, for example {_example(found, images)}."
            " They are kept. If one is wrong, delete it.",
            category=one,
        )


def _by_folders(
    pairs: Sequence[tuple[int, int]], images: Sequence[SourceImage]
) -> list[tuple[tuple[str, str], list[tuple[int, int]]]]:
    found: dict[tuple[str, str], list[tuple[int, int]]] = defaultdict(list)
    for first, other in pairs:
        found[images[first].folder, images[other].folder].append((first, other))
    return sorted(found.items())


def _example(pairs: Sequence[tuple[int, int]], images: Sequence[SourceImage]) -> str:
    return " and ".join(images[index].address for index in pairs[0])


def _copies(chosen: _Unique) -> Iterator[Finding]:
    if chosen.copies:
        yield Finding(
            severity="note",
            reason="Duplicates",
            message=f"{chosen.copies} files have the same content as another one of their category and count once.",
        )
