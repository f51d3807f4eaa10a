"""Reads a listing of objects as a data set: its digest, its categories, and what is wrong with it before a GPU is asked for.

Pure and streaming: a listing of a million images needs the memory of its categories' names.
"""

import hashlib
import unicodedata
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Protocol

from expansion_contract.labels import Vocabulary, imagenet_vocabulary, normalised, problem_with
from expansion_contract.resource import Categories, Mode, OnOverlap

Names = Vocabulary | frozenset[str]
"""Of a base's categories; without their WordNet ids only the names themselves are known."""
IMAGE_ENDINGS = (".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp")
FEW, MANY = 20, 100
"""Below 20 images a category is hardly learned; retrain.py asked for 100."""
UNKNOWN = "unknown"
"""The category of spec.categories.unknownImages."""
NAMED = 8
"""How many names a message lists before it counts the rest."""


class Role(StrEnum):
    """What images are for. Listings are read in this order: the digest depends on it."""

    NEW = "new"
    REPLAY = "replay"
    UNLABELLED = "unlabelled"
    UNKNOWN = "unknown"


class ListedObject(Protocol):
    """What every store says of an object. `key` is relative to the listed address."""

    @property
    def key(self) -> str: ...
    @property
    def size(self) -> int: ...
    @property
    def etag(self) -> str: ...


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Why a data set cannot be trained on (an error), or what its owner should know (not an error)."""

    reason: str
    message: str
    is_error: bool = True


@dataclass(frozen=True, kw_only=True)
class Listing:
    digest: str
    images: int
    counts: dict[str, int]  # category -> images, of new categories; `unknown` is one of them
    replay_images: int = 0
    unlabelled_images: int = 0
    unknown_images: int = 0
    ignored: int = 0  # objects that are no images or lie in no folder
    problems: tuple[Problem, ...] = ()

    @property
    def errors(self) -> tuple[Problem, ...]:
        return tuple(problem for problem in self.problems if problem.is_error)


def is_image(key: str) -> bool:
    """By name only, as the listing shows it; hidden files and folders are nobody's images."""
    return key.lower().endswith(IMAGE_ENDINGS) and not any(
        part.startswith(".") and part not in {".", ".."} for part in key.split("/")
    )


def category_of(key: str) -> str | None:
    """The first folder, in Unicode's composed form; None for an object that lies in no folder."""
    folder, slash, _ = key.partition("/")
    return unicodedata.normalize("NFC", folder) if slash else None


@dataclass
class Reading:
    """Accumulates one listing. Feed the roles in the order of `Role`, each sorted by key, so that the digest is defined."""

    include: frozenset[str] = frozenset()
    _digest: "hashlib._Hash" = field(default_factory=hashlib.sha256)
    _counts: Counter[str] = field(default_factory=Counter)
    _totals: Counter[Role] = field(default_factory=Counter)
    _ignored: int = 0

    def takes(self, role: Role, key: str) -> bool:
        """Is this object part of the data set? The trainer asks the same question of the same listing."""
        if not is_image(key):
            return False
        category = category_of(key)
        if role in {Role.UNLABELLED, Role.UNKNOWN}:
            return True
        return category is not None and (role is Role.REPLAY or not self.include or category in self.include)

    def add(self, role: Role, entry: ListedObject) -> None:
        if not self.takes(role, entry.key):
            self._ignored += not entry.key.endswith("/")
            return
        self._digest.update(
            f"{role}\0{entry.key}\0{entry.size}\0{entry.etag}\n".encode("utf-8", "surrogateescape")
        )
        self._totals[role] += 1
        if role is Role.NEW:
            self._counts[category_of(entry.key) or ""] += 1

    def finish(self, categories: Categories, mode: Mode, base: Names | None = None) -> Listing:
        """`base`: the names of the categories that the base has, ImageNet's if not given."""
        unknown = self._totals[Role.UNKNOWN]
        counts = self._counts + Counter({UNKNOWN: unknown})
        listing = Listing(
            digest=f"sha256:{self._digest.hexdigest()}",
            images=self._totals[Role.NEW] + unknown,
            counts=dict(sorted(counts.items())),
            replay_images=self._totals[Role.REPLAY],
            unlabelled_images=self._totals[Role.UNLABELLED],
            unknown_images=unknown,
            ignored=self._ignored,
        )
        return judged(listing, categories, mode, base)


def read(
    entries: Iterable[tuple[Role, ListedObject]],
    categories: Categories,
    mode: Mode,
    base: Names | None = None,
) -> Listing:
    """The listing of everything a run would read. `base`: the names that the base has, ImageNet's if not given."""
    reading = Reading(include=frozenset(unicodedata.normalize("NFC", name) for name in categories.include))
    for role, entry in entries:
        reading.add(role, entry)
    return reading.finish(categories, mode, base)


def judged(listing: Listing, categories: Categories, mode: Mode, base: Names | None = None) -> Listing:
    """The same listing beside another base."""
    names = imagenet_vocabulary() if base is None else base
    found = problems(listing.counts, categories, mode, names, listing.unknown_images)
    return replace(listing, problems=tuple(found))


def problems(
    counts: dict[str, int],
    categories: Categories,
    mode: Mode,
    base: Names,
    unknown_images: int | None = None,
) -> Iterable[Problem]:
    """`unknown_images`: how many of the category `unknown` are spec.categories.unknownImages; all of them if not given."""
    if unknown_images is None:
        unknown_images = counts.get(UNKNOWN, 0) if categories.unknown_images else 0
    folders = {name: n for name, n in counts.items() if name != UNKNOWN or n > unknown_images}
    yield from _unknown(folders, unknown_images, categories)
    yield from _folders(folders, unknown_images > 0, categories, mode)
    if mode is Mode.EXPAND:
        names = base if isinstance(base, Vocabulary) else Vocabulary.of([name] for name in base)
        yield from _known_to_base(counts, categories, names)


def _folders(counts: dict[str, int], unknown: bool, categories: Categories, mode: Mode) -> Iterable[Problem]:
    """`unknown`: there is that category beside them."""
    if not counts and categories.include:
        yield Problem(
            reason="CategoryMissing",
            message=f"spec.categories.include names {listed(sorted(categories.include))}, but {categories.images} has no such folder"
            " with images.",
        )
        return
    if not counts:
        yield Problem(
            reason="NoCategories",
            message=f"No category folders with images ({', '.join(IMAGE_ENDINGS)}) below {categories.images}."
            " Put the images of each category into a folder with the category's name, for example"
            f" {categories.images.rstrip('/')}/sunflower/1.jpg.",
        )
        return
    yield from _missing(counts, categories)
    yield from _bad_names(counts, categories.images)
    yield from _colliding(counts)
    if len(counts) == 1 and not unknown:
        yield _single(next(iter(counts)), mode)
    yield from _small(counts)


def _missing(counts: dict[str, int], categories: Categories) -> Iterable[Problem]:
    missing = sorted({unicodedata.normalize("NFC", name) for name in categories.include} - counts.keys())
    if missing:
        yield Problem(
            reason="CategoryMissing",
            message=f"spec.categories.include names {listed(missing)}, but {categories.images} has no such folder with images."
            f" It has {listed(sorted(counts))}.",
        )


def _bad_names(counts: dict[str, int], address: str) -> Iterable[Problem]:
    for name in counts:
        if trouble := problem_with(name):
            yield Problem(
                reason="InvalidCategoryName",
                message=f"The folder {name!r} below {address} cannot be a category: {trouble}. Rename it, or leave it out with"
                " spec.categories.include.",
            )


def _colliding(counts: dict[str, int]) -> Iterable[Problem]:
    seen: dict[str, str] = {}
    for name in counts:
        first = seen.setdefault(normalised(name), name)
        if first != name:
            yield Problem(
                reason="CategoryNamesCollide",
                message=f"The folders {first!r} and {name!r} are the same category but for case, spaces, '_' and '-'. Merge them"
                " or rename one.",
            )


def action_for(category: str, categories: Categories) -> OnOverlap:
    """What the resource wants done when the base already has this new category."""
    return next((o.on_overlap for o in categories.overlaps if o.category == category), categories.on_overlap)


def _unknown(counts: dict[str, int], unknown: int, categories: Categories) -> Iterable[Problem]:
    if categories.unknown_images is None:
        return
    if not unknown:
        yield Problem(
            reason="NoUnknownImages",
            message=f"spec.categories.unknownImages is {categories.unknown_images}, but no images ({', '.join(IMAGE_ENDINGS)}) lie"
            " there. Put some there, in any folders, or remove the field.",
        )
    for name in counts:
        if normalised(name) == UNKNOWN:
            yield Problem(
                reason="CategoryNamesCollide",
                message=f"The folder {name!r} below {categories.images} and spec.categories.unknownImages would both be the category"
                f" {UNKNOWN!r}. Move that folder's images there, or rename it.",
            )


def _known_to_base(names: Iterable[str], categories: Categories, base: Vocabulary) -> Iterable[Problem]:
    refused = [
        _known(name, base.names[same[0]])
        for name in names
        if action_for(name, categories) is OnOverlap.REFUSE and (same := base.same(name))
    ]
    if refused:
        yield Problem(
            reason="CategoryOverlap",
            message=f"The base already has {listed(refused)}. Leave such folders out with spec.categories.include, rename them, or"
            " set spec.categories.onOverlap (or an entry of spec.categories.overlaps) to Merge, Replace or KeepBoth.",
        )


def _known(name: str, known: str) -> str:
    return repr(name) if normalised(name) == normalised(known) else f"{name!r} (as {known!r})"


def _single(name: str, mode: Mode) -> Problem:
    if mode is Mode.REPLACE:
        return Problem(
            reason="OneCategory",
            message=f"Only one category, {name!r}: with mode Replace every answer would be it. Add a folder for what it is not.",
        )
    return Problem(
        reason="OneCategory",
        message=f"Only one category, {name!r}, is added; nothing beside it is learned.",
        is_error=False,
    )


def _small(counts: dict[str, int]) -> Iterable[Problem]:
    tiny = [f"{name} ({n})" for name, n in counts.items() if n < FEW]
    small = [f"{name} ({n})" for name, n in counts.items() if FEW <= n < MANY]
    if tiny:
        yield Problem(
            reason="FewImages",
            message=f"Fewer than {FEW} images: {listed(tiny)}. Too few to learn well and to measure; 100 each is a good aim.",
            is_error=False,
        )
    if small:
        yield Problem(
            reason="FewImages", message=f"Fewer than {MANY} images: {listed(small)}.", is_error=False
        )


def listed(names: list[str]) -> str:
    """'a', 'b' and 17 more. What is in quotes already, or counted in parentheses, stays as it is."""
    shown = ", ".join(
        name if "(" in name or name.startswith(("'", '"')) else repr(name) for name in names[:NAMED]
    )
    return shown if len(names) <= NAMED else f"{shown} and {len(names) - NAMED} more"
