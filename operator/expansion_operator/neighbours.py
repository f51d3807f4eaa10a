"""Knows what resources have to do with each other: who uses which output, who grows whose model. Pure but for its memory."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from expansion_contract import layout


@dataclass(frozen=True, kw_only=True)
class Claim:
    """What one resource uses. Of two that use one output the older wins; `order` is the same for every observer."""

    key: str
    output: str
    endpoint: str
    created: str
    uid: str
    base: str = ""  # the key of the resource that it grows
    growing: str = ""  # the folder of the version that its run grows, while that run has not ended
    place: str = field(init=False)  # the output as one text that begins as those do around it

    def __post_init__(self) -> None:
        object.__setattr__(self, "place", f"{self.endpoint} {self.output.rstrip('/')}/")

    @property
    def order(self) -> tuple[str, str]:
        return self.created, self.uid

    def overlaps(self, other: "Claim") -> bool:
        """Asked of every other one at every look: of a thousand resources a million times."""
        return self.place.startswith(other.place) or other.place.startswith(self.place)


def claim(body: dict[str, Any]) -> Claim:
    metadata, spec = body["metadata"], body.get("spec", {})
    reference = (spec.get("base", {}).get("expansionRef") or {}).get("name", "")
    run = body.get("status", {}).get("run") or {}
    return Claim(
        key=f"{metadata['namespace']}/{metadata['name']}",
        output=spec.get("output", {}).get("models", ""),
        endpoint=spec.get("storage", {}).get("endpointUrl", "").rstrip("/"),
        created=metadata.get("creationTimestamp", ""),
        uid=metadata.get("uid", ""),
        base=f"{metadata['namespace']}/{reference}" if reference else "",
        growing="" if run.get("outcome") else (run.get("base") or {}).get("uri", ""),
    )


class Neighbours:
    """Filled from listings and events. May hold what is gone, so its answers are confirmed by a live read."""

    def __init__(self) -> None:
        self._claims: dict[str, Claim] = {}
        self._told: dict[str, Any] = {}

    def remember(self, body: dict[str, Any]) -> None:
        mine = claim(body)
        self._claims[mine.key] = mine

    def forget(self, key: str) -> None:
        self._claims.pop(key, None)
        self._told.pop(key, None)

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

    def woken_by(self, body: dict[str, Any]) -> tuple[str, ...]:
        """The keys of those that grow this one, if an event of it says what they do not know: another spec, another model."""
        mine, news = claim(body), _news(body)
        if self._told.get(mine.key) == news:
            return ()
        self._told[mine.key] = news
        return self.growers(mine.key)

    def growers(self, key: str) -> tuple[str, ...]:
        return tuple(other.key for other in list(self._claims.values()) if other.base == key)

    def circle(self, mine: Claim) -> tuple[str, ...]:
        """The keys on the way from this resource over its bases back to itself; empty if the way ends elsewhere."""
        way, key = [mine.key], mine.base
        while key and key not in way:
            way.append(key)
            known = self._claims.get(key)
            key = known.base if known else ""
        return (*way, key) if key == mine.key else ()

    def held_versions(self, mine: Claim) -> frozenset[int]:
        """Versions of this output that runs of others are growing."""
        start = f"{mine.output.rstrip('/')}/versions/"
        folders = (one.growing for one in list(self._claims.values()) if one.growing.startswith(start))
        names = (folder.removeprefix(start).rstrip("/") for folder in folders)
        numbers = (layout.version_of(f"versions/{name}/{layout.MANIFEST}") for name in names)
        return frozenset(number for number in numbers if number is not None)


def _news(body: dict[str, Any]) -> Any:
    metadata, status = body["metadata"], body.get("status", {})
    model = status.get("model") or {}
    gone = "deletionTimestamp" in metadata
    return metadata.get("uid"), metadata.get("generation"), gone, model.get("announced"), model.get("runId")
