"""What a build has gathered so far: sums and chosen bottlenecks, that can be put aside and taken up again."""

import io
import json
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from expansion_contract.pack import Extractor
from expansion_storage import ObjectMissing, Prefix
from expansion_trainer.head import statistics as sums
from expansion_trainer.head.statistics import Statistics
from expansion_trainer.packs import core as cores
from expansion_trainer.packs.core import SALT, Core

UNFINISHED = "unfinished.npz"
"""Beside the files of the pack it becomes; gone when that is complete."""
_EXAMPLES = 3


@dataclass(frozen=True, kw_only=True, eq=False)
class Gathered:
    statistics: Statistics
    core: Core
    categories: int = 0  # done, in the order of their indices
    listed: int = 0  # images of these
    unreadable: int = 0
    examples: tuple[str, ...] = ()  # some of those, and why

    def with_more(
        self, statistics: Statistics, core: Core, categories: int, listed: int, unreadable: tuple[str, ...]
    ) -> "Gathered":
        """Of other categories, so nothing is approximated."""
        return replace(
            self,
            statistics=sums.merged(self.statistics, statistics),
            core=cores.joined([self.core, core]),
            categories=categories,
            listed=self.listed + listed,
            unreadable=self.unreadable + len(unreadable),
            examples=(*self.examples, *unreadable)[:_EXAMPLES],
        )


def nothing(categories: int, size: int) -> Gathered:
    return Gathered(statistics=sums.empty(categories, size), core=cores.empty(size))


def put_aside(place: Prefix, gathered: Gathered, extractor: Extractor, images: str) -> None:
    """`images`: the listing's digest."""
    known, core = gathered.statistics, gathered.core
    document = {
        "of": _identity(extractor, images),
        "categories": gathered.categories,
        "listed": gathered.listed,
        "unreadable": gathered.unreadable,
        "examples": gathered.examples,
    }
    out = io.BytesIO()
    np.savez(
        out,
        document=np.frombuffer(json.dumps(document).encode(), np.uint8),
        **{f"known-{name}": array for name, array in vars(known).items()},
        **{f"core-{name}": array for name, array in vars(core).items()},
    )
    place.write(UNFINISHED, out.getvalue())


def taken_up(place: Prefix, extractor: Extractor, images: str) -> Gathered | None:
    """None if nothing was put aside, or if it is of other images or of another network."""
    try:
        stored = np.load(io.BytesIO(place.read(UNFINISHED)), allow_pickle=False)
    except ObjectMissing:
        return None
    with stored:
        document = json.loads(stored["document"].tobytes())
        if document["of"] != _identity(extractor, images):
            return None
        return Gathered(
            statistics=Statistics(**_part(stored, "known-")),
            core=Core(**_part(stored, "core-")),
            categories=document["categories"],
            listed=document["listed"],
            unreadable=document["unreadable"],
            examples=tuple(document["examples"]),
        )


def _identity(extractor: Extractor, images: str) -> dict[str, Any]:
    return {"format": 1, "salt": SALT, "images": images, "extractor": extractor.to_wire()}


def _part(stored: Any, prefix: str) -> dict[str, Any]:
    return {name.removeprefix(prefix): stored[name] for name in stored.files if name.startswith(prefix)}
