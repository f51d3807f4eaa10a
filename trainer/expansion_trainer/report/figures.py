"""The figures of a run in words: what was measured, how sure it is, and on how many images. For the page and the terminal."""

from collections.abc import Sequence
from dataclasses import dataclass

from expansion_contract.report import BaseDrop, CategoryScore, Estimate, Metrics, Proportion

SOURCES = {
    "unlabelled": "photographs without labels",
    "procedural": "pictures drawn by a program",
    "pack": "real bottlenecks of the pack, which have helped to set the boundary",
}


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One headline number: what, the value, and how sure."""

    label: str
    value: str
    detail: str
    is_main: bool = False


def percent(ratio: float, digits: int = 1) -> str:
    """94.7 %, with a space that does not break."""
    return f"{100 * ratio:.{digits}f}\u00a0%"


def seconds(value: float) -> str:
    minutes, rest = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}\u00a0h {minutes:02}\u00a0min"
    return f"{minutes}\u00a0min {rest:02}\u00a0s" if minutes else f"{value:.1f}\u00a0s"


def interval(value: Proportion | Estimate) -> str:
    return f"{percent(value.low)} to {percent(value.high)}, n\u00a0=\u00a0{value.n}"


def figures(metrics: Metrics) -> tuple[Figure, ...]:
    """What was measured, most important first."""
    found = (
        _measured("New categories", metrics.new, "correct among all categories", is_main=True),
        _base(metrics),
        _drop(metrics.base_drop),
        _overall(metrics),
        _measured("New among themselves", metrics.new_closed, "the most that the new ones can reach"),
        _joint(metrics),
        _measured("New in the best five", metrics.new_top5, "the category is among five answers"),
        _macro(metrics),
        _calibration(metrics),
        _unknown(metrics),
    )
    return tuple(figure for figure in found if figure is not None)


def _measured(label: str, value: Proportion | None, meaning: str, is_main: bool = False) -> Figure | None:
    if value is None or not value.n:
        return None
    return Figure(
        label=label, value=percent(value.value), detail=f"{meaning}; {interval(value)}", is_main=is_main
    )


def _overall(metrics: Metrics) -> Figure | None:
    """Without test images of base categories it is the figure of the new ones again."""
    if metrics.base_after is None:
        return None
    return _measured("All test images", metrics.overall, "correct, base and new")


def _base(metrics: Metrics) -> Figure | None:
    before, after = metrics.base_before, metrics.base_after
    if before is None or after is None or not after.n:
        return None
    top5 = ""
    if metrics.base_top5_before and metrics.base_top5_after:
        was, now = (percent(share.value) for share in (metrics.base_top5_before, metrics.base_top5_after))
        top5 = f"; in the best five {was} → {now}"
    return Figure(
        label="Base categories, before and after",
        value=f"{percent(before.value)} → {percent(after.value)}",
        detail=f"held-out images of base categories; {interval(after)}{top5}",
        is_main=True,
    )


def _drop(drop: BaseDrop | None) -> Figure | None:
    if drop is None or not drop.n:
        return None
    range_ = f"{percent(drop.low, 2)} to {percent(drop.high, 2)}"
    if drop.measured:
        label, detail = "Base accuracy lost", f"{drop.lost} of {drop.n} held-out base images; {range_}"
    elif drop.paired:
        label = "Base accuracy lost, estimated"
        detail = f"{drop.lost} of {drop.n} {SOURCES.get(drop.source, drop.source)}; {range_}"
    else:
        label = "Base accuracy lost, estimated"
        what = SOURCES.get(drop.source, drop.source)
        detail = f"{drop.lost} of {drop.n} {what} are now answered with a new category; {range_}"
    return Figure(label=label, value=percent(drop.value, 2), detail=detail, is_main=not drop.measured)


def _joint(metrics: Metrics) -> Figure | None:
    joint = metrics.joint
    if joint is None or joint.new is None:
        return None
    base = f", base {percent(joint.base.value)}" if joint.base else ""
    return Figure(
        label="All rows fitted together",
        value=percent(joint.new.value),
        detail=f"new{base}: what these bottlenecks allow with every image at hand; {interval(joint.new)}",
    )


def _macro(metrics: Metrics) -> Figure | None:
    recall = metrics.macro_recall
    if recall is None:
        return None
    return Figure(
        label="Mean recall",
        value=percent(recall.value),
        detail=f"every tested category counts alike; {interval(recall)}",
    )


def _calibration(metrics: Metrics) -> Figure | None:
    if metrics.calibration is not None:
        error = metrics.calibration.overall
        return Figure(
            label="Calibration error",
            value=percent(error.value),
            detail=f"perfect scores would show {percent(error.floor)} on n\u00a0=\u00a0{error.n}",
        )
    if metrics.calibration_error is None:
        return None
    return Figure(
        label="Calibration error",
        value=percent(metrics.calibration_error),
        detail="how far a score is from the share of right answers, on average",
    )


def _unknown(metrics: Metrics) -> Figure | None:
    if metrics.unknown is None or metrics.unknown.auroc is None:
        return None
    auroc = metrics.unknown.auroc
    return Figure(
        label="Unknown pictures told",
        value=percent(auroc.value),
        detail=f"of pairs, guessing gets half; {interval(auroc)} {metrics.unknown.auroc_of}",
    )


def worst_first(categories: Sequence[CategoryScore]) -> list[CategoryScore]:
    """Those that were not measured stand at the end."""
    return sorted(
        categories,
        key=lambda score: (
            score.recall is None or not score.recall.n,
            score.recall.value if score.recall else 1.0,
            score.name,
        ),
    )
