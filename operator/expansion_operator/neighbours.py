"""Knows who uses which output prefix, so that two resources never number versions in one place. Pure but for its memory."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from expansion_contract.layout import is_inside


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One resource's output. The older claim wins; `order` is the same for every observer."""

    key: str
    output: str
    endpoint: str
    created: str
    uid: str

    @property
    def order(self) -> tuple[str, str]:
        return self.created, self.uid

    def overlaps(self, other: "Claim") -> bool:
        same_place = is_inside(self.output, other.output) or is_inside(other.output, self.output)
        return self.endpoint == other.endpoint and same_place


def claim(body: dict[str, Any]) -> Claim:
    metadata, spec = body["metadata"], body.get("spec", {})
    return Claim(
        key=f"{metadata['namespace']}/{metadata['name']}",
        output=spec.get("output", {}).get("models", ""),
        endpoint=spec.get("storage", {}).get("endpointUrl", "").rstrip("/"),
        created=metadata.get("creationTimestamp", ""),
        uid=metadata.get("uid", ""),
    )


class Neighbours:
    """Filled from listings and events. May hold what is gone, so its answers are confirmed by a live read."""

    def __init__(self) -> None:
        self._claims: dict[str, Claim] = {}

    def remember(self, body: dict[str, Any]) -> None:
        mine = claim(body)
        self._claims[mine.key] = mine

    def forget(self, key: str) -> None:
        self._claims.pop(key, None)

    def replace(self, bodies: Iterable[dict[str, Any]]) -> frozenset[str]:
        """The keys of what is not there any more: a delete that nobody told us of."""
        known = frozenset(self._claims)
        self._claims = {one.key: one for one in map(claim, bodies)}
        return known - self._claims.keys()

    def older(self, mine: Claim) -> Iterator[Claim]:
        """Who has this prefix, or one inside or around it, and had it first; the oldest first."""
        first = [other for other in self._others(mine) if other.order < mine.order]
        yield from sorted(first, key=lambda other: other.order)

    def younger(self, mine: Claim) -> Iterator[Claim]:
        """Who waits for this prefix."""
        return (other for other in self._others(mine) if other.order > mine.order)

    def _others(self, mine: Claim) -> Iterator[Claim]:
        claims = list(self._claims.values())
        return (other for other in claims if other.uid != mine.uid and other.overlaps(mine))
