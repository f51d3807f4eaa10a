"""What is drawn on the page, as coordinates and shares; the template only places them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from expansion_contract.intervals import wilson
from expansion_contract.report import CurvePoint, Metrics, Outcomes, Proportion, ScoreBin
from expansion_trainer.report.figures import percent

ORIGIN, SIDE = (40, 260), 250
"""Of the reliability diagram: its lower left corner and its side, in pixels."""
CURVE = (40, 200, 590, 190)
"""Of the curve: left, bottom, width, height."""


Kind = Literal["", "before", "limit"]


@dataclass(frozen=True, kw_only=True)
class Bar:
    label: str
    value: float
    low: float
    high: float
    n: int
    kind: Kind = ""
    starts_group: bool = False


def bars(metrics: Metrics) -> tuple[Bar, ...]:
    """Base before and after beside each other, then the new ones and their bounds; nothing if there was no base."""
    if metrics.base_after is None:
        return ()
    joint = metrics.joint
    asked: tuple[tuple[str, Proportion | None, Kind, bool], ...] = (
        ("Base, before", metrics.base_before, "before", True),
        ("Base, now", metrics.base_after, "", False),
        ("Base, all rows together", joint.base if joint else None, "limit", False),
        ("Base in the best five, before", metrics.base_top5_before, "before", True),
        ("Base in the best five, now", metrics.base_top5_after, "", False),
        ("New, among all", metrics.new, "", True),
        ("New, among themselves", metrics.new_closed, "limit", False),
        ("New, all rows together", joint.new if joint else None, "limit", False),
        ("New in the best five", metrics.new_top5, "", False),
    )
    return tuple(_bar(*one) for one in asked if one[1] is not None and one[1].n)


def _bar(label: str, share: Proportion | None, kind: Kind, starts_group: bool) -> Bar:
    assert share is not None
    return Bar(
        label=label,
        value=share.value,
        low=share.low,
        high=share.high,
        n=share.n,
        kind=kind,
        starts_group=starts_group,
    )


@dataclass(frozen=True, kw_only=True)
class Point:
    """Of the reliability diagram, in pixels."""

    x: float
    y: float
    low: float
    high: float
    label: str


def reliability(bins: Sequence[ScoreBin]) -> tuple[Point, ...]:
    return tuple(_point(one) for one in bins)


def _point(one: ScoreBin) -> Point:
    low, high = wilson(round(one.right * one.n), one.n)
    return Point(
        x=round(ORIGIN[0] + SIDE * one.score, 1),
        y=_up(one.right),
        low=_up(low),
        high=_up(high),
        label=f"score {percent(one.score)}, right {percent(one.right)}, n = {one.n}",
    )


def _up(share: float) -> float:
    return round(ORIGIN[1] - SIDE * share, 1)


@dataclass(frozen=True, kw_only=True)
class Line:
    kind: Literal["", "second"]
    points: str


@dataclass(frozen=True, kw_only=True)
class Curve:
    first: int
    last: int
    lines: tuple[Line, ...]


def curve(points: Sequence[CurvePoint]) -> Curve | None:
    """Training accuracy and, if it was measured, validation accuracy over the steps."""
    if len(points) < 2:
        return None
    first, last = points[0].step, points[-1].step
    training = [(point.step, point.training_accuracy) for point in points]
    held_out = [(p.step, p.validation_accuracy) for p in points if p.validation_accuracy is not None]
    lines = [Line(kind="", points=_polyline(training, first, last))]
    if held_out:
        lines.append(Line(kind="second", points=_polyline(held_out, first, last)))
    return Curve(first=first, last=last, lines=tuple(lines))


def _polyline(values: Sequence[tuple[int, float]], first: int, last: int) -> str:
    left, bottom, width, height = CURVE
    span = max(last - first, 1)
    return " ".join(
        f"{left + width * (step - first) / span:.1f},{bottom - height * value:.1f}" for step, value in values
    )


@dataclass(frozen=True, kw_only=True)
class Stack:
    """What is said of one group of test images."""

    label: str
    shares: tuple[tuple[str, float], ...]
    n: int


_GROUPS = {
    "base": "Test images of base categories",
    "new": "Test images of new categories",
    "unlabelled": "Photographs without labels",
    "procedural": "Pictures drawn by a program",
    "pack": "Real bottlenecks of the pack",
}


def stacks(outcomes: Sequence[Outcomes]) -> Iterator[Stack]:
    for one in outcomes:
        n = one.known + one.unsure + one.unknown
        shares = (("known", one.known), ("unsure", one.unsure), ("unknown", one.unknown))
        yield Stack(
            label=_GROUPS.get(one.group, one.group),
            shares=tuple((name, count / max(n, 1)) for name, count in shares),
            n=n,
        )
