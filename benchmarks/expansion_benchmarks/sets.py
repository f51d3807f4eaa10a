"""The new categories that a network is grown by: which images are learned, which choose, which measure, and which stay unknown."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from expansion_benchmarks.features import Features, Labels, Pool, categories_below
from expansion_contract.resource import Split
from expansion_development.pictures import digits
from expansion_trainer.dataset.split import Side, side_of

COVERED = 0.5
"""Share of a category's images that one old category answers from which on the two are two names for one thing."""
ELSEWHERE = "caltech101"
ELSEWHERE_EACH = 6
FLOWERS_ELSEWHERE = {"sunflower", "lotus", "water_lilly"}
"""Categories of ELSEWHERE that a new category may rightly answer."""


@dataclass(frozen=True, kw_only=True)
class Deal:
    """How many images of each category, in the order of their contents' digests, go to which side."""

    training: int
    validation: int
    test: int


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where a new set lies and how it is dealt."""

    name: str
    folder: Path
    categories: tuple[str, ...]
    deal: Deal | Split
    uncovered_only: bool = False
    """Leave out categories that the base already answers."""
    turns: int = 1
    """How often it is dealt anew, each time with other test images."""


FLOWERS = ("daisy", "dandelion", "rose", "sunflower", "tulip")
FLOWER_DEAL = Deal(training=100, validation=50, test=400)
DIGITS_SPLIT = Split(validation_percent=10, test_percent=20)  # examples/digits
CALTECH_DEAL = Deal(training=16, validation=3, test=5)
SHARES = (0.7, 0.1)
"""Of a set that is only given by its folder: training, validation; the rest tests."""
MOST = 550
"""Images of each category, at most."""


@dataclass(frozen=True, kw_only=True, eq=False)
class NewSet:
    """One deal of one set. Labels count the categories that are learned."""

    categories: tuple[str, ...]
    left_out: tuple[str, ...]  # because the base answers them
    sides: Mapping[Side, Pool]

    def counts(self, side: Side) -> Sequence[int]:
        return [int(n) for n in np.bincount(self.sides[side].labels, minlength=len(self.categories))]


def known_source(name: str, data: Path, place: Path, turns: int) -> Source:
    """`place`: where the digits' pictures are written. `turns`: of sets with few images per category."""
    if name == "flowers5":
        return Source(name=name, folder=data / "images/flowers", categories=FLOWERS, deal=FLOWER_DEAL)
    if name == "digits":
        folder = _digits(place / "digits")
        return Source(name=name, folder=folder, categories=tuple(categories_below(folder)), deal=DIGITS_SPLIT)
    folder = data / "images" / ELSEWHERE
    return Source(
        name=name,
        folder=folder,
        categories=tuple(categories_below(folder)),
        deal=CALTECH_DEAL,
        uncovered_only=True,
        turns=turns,
    )


def given_source(name: str, folder: Path, turns: int) -> Source:
    """A folder that somebody named: categories with fewer than three images cannot be dealt and are an error."""
    categories = categories_below(folder)
    sizes = [sum(1 for _ in (folder / category).iterdir()) for category in categories]
    if not categories or min(sizes) < 3:
        few = [category for category, size in zip(categories, sizes, strict=True) if size < 3]
        raise SystemExit(
            f"--new-set {name}={folder}: every category is a folder with at least 3 images; found {len(categories)} folders"
            + (f", too few images in {', '.join(few)}." if few else ".")
        )
    size = min(MOST, int(np.median(sizes)))
    training, validation = (max(1, int(share * size)) for share in SHARES)
    deal = Deal(training=training, validation=validation, test=max(1, size - training - validation))
    return Source(
        name=name,
        folder=folder,
        categories=tuple(categories),
        deal=deal,
        uncovered_only=True,
        turns=turns if size < 60 else 1,
    )


def new_set(source: Source, features: Features, turn: int = 0) -> NewSet:
    pool = whole(source, features)
    covered = covers(pool, features) if source.uncovered_only else {}
    kept = [label for label in range(len(source.categories)) if label not in covered]
    return NewSet(
        categories=tuple(source.categories[label] for label in kept),
        left_out=tuple(source.categories[label] for label in covered),
        sides=dealt(_renumbered(pool, kept), source.deal, turn),
    )


def whole(source: Source, features: Features) -> Pool:
    most = None if isinstance(source.deal, Split) else MOST
    return features.pool(source.folder, source.categories, most)


def covers(pool: Pool, features: Features) -> dict[int, int]:
    """Label of a new category -> the old one that answers half of its images or more."""
    answers = features.base.rows.logits(pool.bottlenecks).argmax(axis=1)
    found = {}
    for label in np.unique(pool.labels).tolist():
        counts = np.bincount(answers[pool.labels == label])
        if counts.max() >= COVERED * counts.sum():
            found[label] = int(counts.argmax())
    return found


def dealt(pool: Pool, deal: Deal | Split, turn: int = 0) -> dict[Side, Pool]:
    """By content alone. Each turn starts where the last one's test images end, so that turns test other images."""
    if isinstance(deal, Split):
        sides = np.array([side_of(digest, deal) for digest in pool.digests.tolist()])
        return {side: pool.some(sides == side) for side in Side}
    rank = _ranks(pool.labels, turn * deal.test)
    first, second = deal.test, deal.test + deal.validation
    return {
        Side.TEST: pool.some(rank < first),
        Side.VALIDATION: pool.some((rank >= first) & (rank < second)),
        Side.TRAINING: pool.some((rank >= second) & (rank < second + deal.training)),
    }


def _ranks(labels: Labels, start: int) -> Labels:
    """Each image's place among those of its category, counted round from `start`."""
    ranks = np.zeros(len(labels), dtype=np.int64)
    for label in np.unique(labels):
        own = np.flatnonzero(labels == label)
        ranks[own] = (np.arange(len(own)) - start) % len(own)
    return ranks


def _renumbered(pool: Pool, kept: Sequence[int]) -> Pool:
    own = pool.some(np.isin(pool.labels, kept))
    labels = np.searchsorted(kept, own.labels).astype(np.int64)
    return Pool(bottlenecks=own.bottlenecks, labels=labels, digests=own.digests)


def some_categories(new: NewSet, chosen: Labels) -> NewSet:
    """In this order; labels count them."""
    place = np.full(len(new.categories), -1)
    place[chosen] = np.arange(len(chosen))
    sides = {}
    for side, pool in new.sides.items():
        own = pool.some(place[pool.labels] >= 0)
        sides[side] = Pool(bottlenecks=own.bottlenecks, labels=place[own.labels], digests=own.digests)
    return NewSet(categories=tuple(new.categories[i] for i in chosen.tolist()), left_out=(), sides=sides)


def _digits(folder: Path) -> Path:
    pictures, _, _ = digits()
    for picture in pictures:
        path = folder / picture.name
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(picture.content)
    return folder


def elsewhere(data: Path, features: Features) -> Pool:
    """Photographs that no network here was fitted on; their labels mean nothing."""
    folder = data / "images" / ELSEWHERE
    names = sorted(set(categories_below(folder)) - FLOWERS_ELSEWHERE)
    pool = features.pool(folder, names)
    return pool.some(_ranks(pool.labels, 0) < ELSEWHERE_EACH)
