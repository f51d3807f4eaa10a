"""Which new categories the base already knows: by its answers to a sample of each, and by name. NumPy only.

By its answers: one base category takes half or more of the sample, and the base is on average at least half sure of it; a base
category that is merely the nearest thing it has to several new ones (a switch, to handwritten digits) knows none of them. By
name: the names are the same, or one is part of the other ('panda', 'giant panda') and the base's answers say so, too.
"""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from expansion_contract.dataset import UNKNOWN, action_for, listed
from expansion_contract.labels import Vocabulary, names_of
from expansion_contract.report import Category, Finding, Overlap, Proportion
from expansion_contract.resource import Categories, OnOverlap
from expansion_trainer.dataset.findings import few
from expansion_trainer.dataset.scan import SourceImage
from expansion_trainer.errors import BadDataset

Array = NDArray[np.float32]
Indices = NDArray[np.int64]

SAMPLE = 32
"""Images of each new category that the base is shown before all images are extracted."""
SHARE = 0.5
"""Of the sample, for the base to know a category; of the base's confidence in those answers, for it not to be a guess."""
BY_NAME = 1 / 3
"""Of the sample, for base categories whose names are only part of the new one's, or the other way round."""
AGREEING = 3
"""Images that must agree: one of two is half of them, too."""
NEAREST = 3
"""A base category that so many new ones are answered with is only the nearest thing."""
TOLD = 100
"""Overlaps named in a refusal; the report has all of them."""
CLAIMED = 0.25
"""Of a new category's images, for a base category to count as its nearest."""


class CategoryOverlap(BadDataset):
    """The base already knows new categories, and the resource does not say what to do about it."""

    reason = "CategoryOverlap"


def sample(images: Sequence[SourceImage], most: int = SAMPLE) -> list[int]:
    """Up to `most` images of each new category, ascending. Size and ETag draw them: names have no say, copies count once.

    `unknown` is one of them; it overlaps with a category of that name, and never by what its pictures show.
    """
    folders: dict[str, dict[bytes, int]] = defaultdict(dict)
    for index, image in enumerate(images):
        if image.is_new:
            drawn = hashlib.sha256(f"{image.size} {image.etag}".encode()).digest()
            folders[image.folder].setdefault(drawn, index)
    return sorted(index for drawn in folders.values() for _, index in sorted(drawn.items())[:most])


@dataclass(frozen=True, kw_only=True, eq=False)
class Answers:
    """What the base says of some images."""

    best: Indices  # (n,) the base category answered with
    confidence: NDArray[np.float64]  # (n,)


def answered(
    logits: Callable[[Array], Array],
    bottlenecks: Array,
    base: Sequence[Category],
    at_once: int = 4096,
) -> Answers:
    """`logits`: (n, D) -> (n, B), the base's; those of `at_once` images are held at a time. What never answers does not; an alias answers for its target."""
    best, confidence = [np.zeros(0, np.int64)], [np.zeros(0)]
    silent = [category.index for category in base if category.state != "active"]
    for start in range(0, len(bottlenecks), at_once):
        scaled = logits(bottlenecks[start : start + at_once]).astype(np.float64)
        scaled[:, silent] = -np.inf
        powers = np.exp(scaled - scaled.max(axis=1, keepdims=True))
        for category in base:
            if category.alias_of is not None and category.state == "active":
                powers[:, category.alias_of] += powers[:, category.index]
                powers[:, category.index] = 0
        best.append(powers.argmax(axis=1))
        confidence.append(powers.max(axis=1) / powers.sum(axis=1))
    return Answers(best=np.concatenate(best), confidence=np.concatenate(confidence))


@dataclass(frozen=True, kw_only=True)
class _Seen:
    """The base's answers to the sample of one new category."""

    name: str
    images: int
    counts: Mapping[int, int]  # base category -> images answered with it, most first
    confidence: Mapping[int, float]  # of those answers, on average
    same: tuple[int, ...]  # base categories of the same name
    related: tuple[int, ...]  # of which one's name is part of the other's

    def share(self, known: Iterable[int]) -> float:
        return sum(self.counts.get(index, 0) for index in known) / max(self.images, 1)


def overlaps(
    answers: Answers,
    labels: Indices,
    names: Sequence[str],
    base: Sequence[Category],
    categories: Categories,
) -> tuple[Overlap, ...]:
    """Every new category that the base knows, the most telling base category first: Merge and Replace mean that one.

    `labels`: (n,) into `names`, of the images that were answered. A further base category of one new one is kept beside it.
    """
    seen = _looked_at(answers, labels, names, base)
    nearest = _nearest(seen)
    return tuple(
        _overlap(one, known, base[known], _action(action_for(one.name, categories), rank))
        for one in seen
        for rank, known in enumerate(_known(one, nearest))
    )


def refuse(found: Sequence[Overlap]) -> None:
    """Raises CategoryOverlap with all that nobody decided about, BadDataset for decisions that contradict each other."""
    targets = {o.known_index: o for o in found if o.action == "Replace"}
    for one in found:
        if one.action == "Merge" and one.known_index in targets:
            raise BadDataset(
                f"spec.categories merges {one.category!r} into {one.known!r} of the base, which {targets[one.known_index].category!r}"
                " replaces. Merge or replace both."
            )
    undecided = [one for one in found if one.action == "Refuse"]
    if undecided:
        raise CategoryOverlap(
            f"The base already knows {_told(undecided)}. For each say in spec.categories.overlaps (or for all in"
            " spec.categories.onOverlap): Merge, if both are the same thing and its images should count for the base's category;"
            " Replace, to retire the base's; KeepBoth, if they are different things. Or leave the folder out with"
            " spec.categories.include."
        )


def findings(
    answers: Answers,
    labels: Indices,
    names: Sequence[str],
    base: Sequence[Category],
    categories: Categories,
) -> tuple[Finding, ...]:
    """What was decided, and what is no overlap and still worth knowing: near things, related names, decisions without an object."""
    found = overlaps(answers, labels, names, base, categories)
    seen = _looked_at(answers, labels, names, base)
    return (
        *_decided(found),
        *_nearest_things(seen, found, base),
        *few(
            list(_related_names(seen, found, base)),
            "The names of {} are parts of names that the base has, or the other way round.".format,
        ),
        *few(
            list(_pointless(found, names, categories)),
            "spec.categories.overlaps names {} that the base knows nothing like, or that are not there. Nothing follows.".format,
        ),
    )


def _looked_at(
    answers: Answers, labels: Indices, names: Sequence[str], base: Sequence[Category]
) -> list[_Seen]:
    known = Vocabulary.of(_names(category) for category in base)
    order = np.argsort(labels, kind="stable")
    bounds = np.searchsorted(labels[order], np.arange(len(names) + 1))
    return [
        _seen(name, answers, order[bounds[index] : bounds[index + 1]], known)
        for index, name in enumerate(names)
    ]


def _names(category: Category) -> tuple[str, ...]:
    """None of a category that gives no answers of its own."""
    answers = category.state == "active" and category.alias_of is None
    return names_of(category.name, category.uid) if answers else ()


def _seen(name: str, answers: Answers, rows: Indices, names: Vocabulary) -> _Seen:
    known, inverse, counts = np.unique(answers.best[rows], return_inverse=True, return_counts=True)
    sure = np.bincount(inverse, weights=answers.confidence[rows], minlength=len(known)) / counts
    first = np.argsort(-counts, kind="stable")
    return _Seen(
        name=name,
        images=len(rows),
        counts={int(known[i]): int(counts[i]) for i in first} if name != UNKNOWN else {},
        confidence={int(known[i]): float(sure[i]) for i in first},
        same=names.same(name),
        related=names.related(name) if name != UNKNOWN else (),
    )


def _nearest(seen: Sequence[_Seen]) -> frozenset[int]:
    """Base categories that several new ones of other names are mostly answered with."""
    claims: dict[int, int] = defaultdict(int)
    for one in seen:
        top = next(iter(one.counts), None)
        if (
            top is not None
            and one.counts[top] >= CLAIMED * one.images
            and top not in (*one.same, *one.related)
        ):
            claims[top] += 1
    return frozenset(index for index, count in claims.items() if count >= NEAREST)


def _known(one: _Seen, nearest: frozenset[int]) -> list[int]:
    """The base categories it overlaps with, the one that is meant first."""
    named = (*one.same, *(index for index in one.related if index in one.counts))
    agreeing = sum(one.counts.get(index, 0) for index in named)
    if one.share(named) < BY_NAME or agreeing < AGREEING:
        named = one.same
    by_name = sorted(named, key=lambda index: (-one.counts.get(index, 0), index not in one.same, index))
    usual = [
        index
        for index, count in one.counts.items()
        if index not in named and index not in nearest and _is_usual(one, index, count)
    ]
    if by_name and not one.counts.get(by_name[0]):  # another thing of the same name: a mouse
        return [*usual, *by_name]
    return [*by_name, *usual]


def _is_usual(one: _Seen, index: int, count: int) -> bool:
    many = count >= max(SHARE * one.images, AGREEING)
    return many and (one.confidence[index] >= SHARE or index in one.related)


def _action(wanted: OnOverlap, rank: int) -> OnOverlap:
    return OnOverlap.KEEP_BOTH if rank and wanted is not OnOverlap.REFUSE else wanted


def _overlap(one: _Seen, index: int, known: Category, action: OnOverlap) -> Overlap:
    return Overlap(
        category=one.name,
        known=known.name,
        known_index=index,
        share=Proportion.of(one.counts.get(index, 0), one.images),
        same_name=index in one.same or index in one.related,
        action=action.value,
    )


def _told(found: Sequence[Overlap]) -> str:
    """'panda' -> 'giant_panda' (67% of 24 images), 'rose' -> 'rose' (the same name)"""
    shown = [f"{one.category!r} -> {one.known!r} ({_evidence(one)})" for one in found[:TOLD]]
    more = f" and {len(found) - TOLD} more" if len(found) > TOLD else ""
    return f"{', '.join(shown)}{more}"


def _evidence(one: Overlap) -> str:
    if not one.share.hits:
        return "the same name"
    return f"{one.share.value:.0%} of {one.share.n} images{', and by name' if one.same_name else ''}"


def _decided(found: Sequence[Overlap]) -> Iterator[Finding]:
    said = {"Merge": "counts for", "Replace": "replaces", "KeepBoth": "is kept beside"}
    for action, words in said.items():
        notes = [
            Finding(
                severity="note",
                reason="CategoryOverlap",
                category=one.category,
                message=f"{one.category!r} {words} {one.known!r} of the base ({_evidence(one)}).",
            )
            for one in found
            if one.action == action
        ]
        yield from few(notes, f"The base knows {{}}: {action}, as spec.categories says.".format)


def _nearest_things(
    seen: Sequence[_Seen], found: Sequence[Overlap], base: Sequence[Category]
) -> Iterator[Finding]:
    """One note for each base category: some of its own pictures may be answered with a new category."""
    overlapping = {(one.category, one.known_index) for one in found}
    near: dict[int, list[str]] = defaultdict(list)
    for one in seen:
        for index, count in one.counts.items():
            if count >= max(SHARE * one.images, AGREEING) and (one.name, index) not in overlapping:
                near[index].append(one.name)
    for index, names in sorted(near.items()):
        yield Finding(
            severity="note",
            reason="NearestInBase",
            message=f"To most images of {listed(names)} the base answers {base[index].name!r}: the nearest it has. Some"
            f" {base[index].name!r} may be answered with {'it' if len(names) == 1 else 'one of them'}.",
        )


def _related_names(
    seen: Sequence[_Seen], found: Sequence[Overlap], base: Sequence[Category]
) -> Iterator[Finding]:
    overlapping = {(one.category, one.known_index) for one in found}
    for one in seen:
        others = [base[index].name for index in one.related if (one.name, index) not in overlapping]
        if others:
            yield Finding(
                severity="note",
                reason="RelatedNames",
                category=one.name,
                message=f"The name {one.name!r} is like {listed(others)} of the base, but of {one.images} images it answers few or none"
                " so.",
            )


def _pointless(found: Sequence[Overlap], names: Sequence[str], categories: Categories) -> Iterator[Finding]:
    overlapping = {one.category for one in found}
    for entry in categories.overlaps:
        if entry.category not in overlapping and entry.on_overlap is not OnOverlap.REFUSE:
            what = "the base knows nothing like it" if entry.category in names else "there is no such folder"
            yield Finding(
                severity="note",
                reason="OverlapUnused",
                category=entry.category,
                message=f"spec.categories.overlaps says {entry.on_overlap.value} of {entry.category!r}, but {what}. Nothing follows.",
            )
