"""Draws a run's report as one page for people: facts first, then what to mend; no verdict, because thresholds change later."""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files

from jinja2 import Environment, StrictUndefined, Template
from PIL import Image

from expansion_contract.report import (
    CategoryScore,
    Confusion,
    Finding,
    Metrics,
    Misclassified,
    Proportion,
    RunReport,
)
from expansion_contract.resource import Mode
from expansion_contract.run import TrainingRun

THUMBNAILS = 24
"""Misclassified images that are shown; the report names them all."""
_THUMBNAIL_SIDE = 144
_LARGEST_THUMBNAIL = 24_000  # bytes; the page stays below a megabyte
ROWS = 200
"""Categories in the table, the worst first."""
PAIRS = 20
FINDINGS = 8
"""Shown at once; the rest unfolds."""
_SEVERITIES = ("error", "warning", "note")

_EVIDENCE = {
    "replay": (
        "Images of base categories",
        "Real, labelled images of what the model knew before. Those held out tell directly how many base answers were lost.",
    ),
    "unlabelled": (
        "Photographs without labels",
        "They show whether a photograph that has nothing to do with the new categories is now answered with one of them. They cannot"
        " tell whether the answer before was right.",
    ),
    "procedural": (
        "Pictures drawn by a program",
        "They teach the new categories where to keep out, and need no data. They cannot tell how a base category that looks like a new"
        " one fares: give a few hundred photographs as spec.unlabelled, or images of base categories as spec.replay, to measure that.",
    ),
}


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One headline number: what, the value, and how sure."""

    label: str
    value: str
    detail: str
    is_main: bool = False


@dataclass(frozen=True, kw_only=True)
class Picture:
    source: str  # a data URI
    miss: Misclassified


def page(report: RunReport, run: TrainingRun, thumbnails: Mapping[str, str]) -> str:
    """`thumbnails`: data URIs by the key of the misclassified image."""
    return _template().render(
        report=report,
        run=run,
        title=_title(report, run),
        figures=figures(report.metrics) if report.metrics else (),
        findings=sorted(report.findings, key=_severity),
        shown_findings=FINDINGS,
        categories=worst_first(report.metrics.categories)[:ROWS] if report.metrics else (),
        pairs=_pairs(report.confusions),
        most_confused=max((pair.count for pair in report.confusions), default=1),
        pictures=_pictures(report.misclassified, thumbnails),
        evidence=[_EVIDENCE.get(kind, (kind, "")) for kind in (report.head.evidence if report.head else ())],
        slowest=max(report.seconds.values(), default=1.0) or 1.0,
        total_seconds=sum(report.seconds.values()),
    )


def _template() -> Template:
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(percent=percent, seconds=seconds)
    return environment.from_string(files(__package__).joinpath("page.html.j2").read_text(encoding="utf-8"))


def percent(ratio: float, digits: int = 1) -> str:
    """94.7 %, with a space that does not break."""
    return f"{100 * ratio:.{digits}f}\u00a0%"


def seconds(value: float) -> str:
    minutes, rest = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}\u00a0h {minutes:02}\u00a0min"
    return f"{minutes}\u00a0min {rest:02}\u00a0s" if minutes else f"{value:.1f}\u00a0s"


def figures(metrics: Metrics) -> tuple[Figure, ...]:
    """What was measured, most important first."""
    return tuple(
        figure
        for figure in (
            _measured("New categories", metrics.new, "correct among all categories", is_main=True),
            _base(metrics),
            _drop(metrics),
            _overall(metrics),
            _measured("New among themselves", metrics.new_closed, "the most that the new ones can reach"),
            _measured("New in the best five", metrics.new_top5, "the category is among five answers"),
            _calibration(metrics),
        )
        if figure is not None
    )


def _measured(label: str, value: Proportion, meaning: str, is_main: bool = False) -> Figure | None:
    if not value.n:
        return None
    return Figure(
        label=label, value=percent(value.value), detail=f"{meaning}; {interval(value)}", is_main=is_main
    )


def _overall(metrics: Metrics) -> Figure | None:
    """Without test images of base categories it is the figure of the new ones again."""
    if metrics.base_after is None:
        return None
    return _measured("All test images", metrics.overall, "correct, base and new")


def interval(value: Proportion) -> str:
    return f"{percent(value.low)} to {percent(value.high)}, n\u00a0=\u00a0{value.n}"


def _base(metrics: Metrics) -> Figure | None:
    before, after = metrics.base_before, metrics.base_after
    if before is None or after is None or not after.n:
        return None
    return Figure(
        label="Base categories, before and after",
        value=f"{percent(before.value)} → {percent(after.value)}",
        detail=f"held-out images of base categories; {interval(after)}",
        is_main=True,
    )


def _drop(metrics: Metrics) -> Figure | None:
    drop = metrics.base_drop
    if drop is None or not drop.n:
        return None
    range_ = f"{percent(drop.low, 2)} to {percent(drop.high, 2)}"
    if drop.measured:
        label, detail = "Base accuracy lost", f"{drop.lost} of {drop.n} held-out base images; {range_}"
    else:
        what = "photographs" if drop.source == "unlabelled" else "pictures drawn by a program"
        label = "Base accuracy lost, estimated"
        detail = f"{drop.lost} of {drop.n} {what} are now answered with a new category; {range_}"
    return Figure(label=label, value=percent(drop.value, 2), detail=detail, is_main=not drop.measured)


def _calibration(metrics: Metrics) -> Figure | None:
    if metrics.calibration_error is None:
        return None
    return Figure(
        label="Calibration error",
        value=percent(metrics.calibration_error),
        detail="how far a score is from the share of right answers, on average",
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


def _pairs(confusions: Sequence[Confusion]) -> list[Confusion]:
    return sorted(confusions, key=lambda pair: (-pair.count, pair.truth, pair.answer))[:PAIRS]


def _pictures(misclassified: Sequence[Misclassified], thumbnails: Mapping[str, str]) -> list[Picture]:
    shown = [
        Picture(source=thumbnails[miss.key], miss=miss) for miss in misclassified if miss.key in thumbnails
    ]
    return shown[:THUMBNAILS]


def _severity(finding: Finding) -> int:
    return _SEVERITIES.index(finding.severity)


def _title(report: RunReport, run: TrainingRun) -> str:
    new = len(report.new_categories) or (report.dataset.new_categories if report.dataset else 0)
    if report.outcome == "Failed":
        return f"{run.owner.name}: this run failed"
    if run.mode is Mode.REPLACE:
        return f"{run.owner.name}: {new} categories"
    return f"{run.owner.name}: {report.categories - new} categories became {report.categories}"


def thumbnail(image: bytes) -> str | None:
    """A small JPEG file as a data URI; None for what Pillow cannot read or make small."""
    try:
        picture = Image.open(io.BytesIO(image)).convert("RGB")
    except (OSError, ValueError, Image.DecompressionBombError):
        return None
    picture.thumbnail((_THUMBNAIL_SIDE, _THUMBNAIL_SIDE))
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=80)
    if out.tell() > _LARGEST_THUMBNAIL:
        return None
    return f"data:image/jpeg;base64,{base64.b64encode(out.getvalue()).decode()}"


def summary(report: RunReport) -> str:
    """A run in a few lines of plain text."""
    lines = [f"Run {report.run_id}: {report.outcome}"]
    if report.outcome == "Failed":
        lines.append(f"{report.reason}: {report.message}")
    if report.backbone:
        lines.append(
            f"Base: {report.backbone}; {report.categories} categories, {len(report.new_categories)} of them new"
        )
    if report.metrics:
        lines += [f"{figure.label}: {figure.value} ({figure.detail})" for figure in figures(report.metrics)]
        weakest = [
            score for score in worst_first(report.metrics.categories)[:3] if score.recall and score.recall.n
        ]
        lines += [
            f"Weakest: {s.name} {percent(s.recall.value)} (n = {s.recall.n})" for s in weakest if s.recall
        ]
    lines += [f"{f.severity}: {f.message}" for f in sorted(report.findings, key=_severity)]
    return "\n".join(line.replace("\u00a0", " ") for line in lines)
