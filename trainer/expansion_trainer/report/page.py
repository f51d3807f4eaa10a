"""Draws a run's report as one page for people: facts first, then what to mend; no verdict, because thresholds change later."""

import base64
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from PIL import Image

from expansion_contract.report import (
    Confusion,
    Finding,
    HeadReport,
    Metrics,
    Misclassified,
    RunReport,
)
from expansion_contract.resource import Mode
from expansion_contract.run import TrainingRun
from expansion_trainer.report import charts, evidence
from expansion_trainer.report.figures import figures, percent, seconds, worst_first

__all__ = ["page", "percent", "seconds", "summary", "thumbnail", "worst_first"]

THUMBNAILS = 24
"""Misclassified images that are shown; the report names them all."""
_THUMBNAIL_SIDE = 144
_LARGEST_THUMBNAIL = 24_000  # bytes; the page stays below a megabyte
ROWS = 200
"""Categories in the table, the worst first."""
PAIRS = 20
NEAR = 40
"""Base categories near new ones."""
FINDINGS = 8
"""Shown at once; the rest unfolds."""
_SEVERITIES = ("error", "warning", "note")

_ACTIONS = {
    "Refuse": "refused",
    "KeepBoth": "both are kept: two names for one thing, each takes images of the other",
    "Merge": "merged: counts for the old name",
    "Replace": "replaced: the old one answers never again",
}
_MEANINGS = {
    "Steals": "Images of no new category that are answered with one.",
    "Misses": "Images of a new category that are answered with an old one.",
}
_LEVEL_SOURCES = {
    "own": "held-out images of its own",
    "pooled": "held-out images of all groups: its own are too few",
    "drawn": "pictures drawn by a program: none of its images is held out",
}


@dataclass(frozen=True, kw_only=True)
class Picture:
    source: str  # a data URI
    miss: Misclassified


@dataclass(frozen=True, kw_only=True)
class Changed:
    """A category that does not simply answer with its own name."""

    index: int
    name: str
    what: str


def page(report: RunReport, run: TrainingRun, thumbnails: Mapping[str, str]) -> str:
    """`thumbnails`: data URIs by the key of the misclassified image."""
    return _template().render(
        report=report,
        run=run,
        title=_title(report, run),
        findings=sorted((f for f in report.findings if f.message not in report.advice), key=_severity),
        shown_findings=FINDINGS,
        pairs=_pairs(report.confusions),
        most_confused=max((pair.count for pair in report.confusions), default=1),
        pictures=_pictures(report.misclassified, thumbnails),
        evidence=_evidence(report),
        near=report.near_base[:NEAR],
        actions=_ACTIONS,
        changed=list(_changed(report)),
        slowest=max(report.seconds.values(), default=1.0) or 1.0,
        total_seconds=sum(report.seconds.values()),
        **_measured(report.metrics),
        **_fitted(report.head),
    )


def _measured(metrics: Metrics | None) -> dict[str, Any]:
    worth = metrics.calibration if metrics else None
    unknown = metrics.unknown if metrics else None
    return {
        "figures": figures(metrics) if metrics else (),
        "bars": charts.bars(metrics) if metrics else (),
        "joint_why_not": metrics.joint.why_not if metrics and metrics.joint else "",
        "categories": worst_first(metrics.categories)[:ROWS] if metrics else (),
        "steals": metrics.steal_pairs[:PAIRS] if metrics else (),
        "misses": metrics.miss_pairs[:PAIRS] if metrics else (),
        "meanings": _MEANINGS,
        "reliability": charts.reliability(worth.bins) if worth else (),
        "calibration": _calibration(metrics) if metrics else (),
        "calibration_notes": _calibration_notes(metrics) if metrics else (),
        "unknown": unknown,
        "outcomes": list(charts.stacks(unknown.outcomes)) if unknown else (),
        "sources": _LEVEL_SOURCES,
    }


def _fitted(head: HeadReport | None) -> dict[str, Any]:
    return {
        "curve": charts.curve(head.curve) if head else None,
        "tried": head.tried if head and len(head.tried) > 1 else (),
        "steal_budget": _steal_budget(head) if head else "",
    }


def _calibration(metrics: Metrics) -> list[tuple[str, Any]]:
    worth = metrics.calibration
    if worth is None:
        return []
    groups = (("All", worth.overall), ("Base", worth.base), ("New", worth.new))
    return [(name, error) for name, error in groups if error is not None]


def _calibration_notes(metrics: Metrics) -> list[str]:
    if metrics.calibration and metrics.calibration.base is None and metrics.base_drop is not None:
        return ["Scores of base categories were not verified: there is no labelled test image of one."]
    return []


def _steal_budget(head: HeadReport) -> str:
    if head.steal_rate_validation is None:
        return ""
    asked = f"; at most {percent(head.steal_budget)} was asked for" if head.steal_budget is not None else ""
    few = " So few pictures do not tell the true rate." if head.steal_images < _MANY_PICTURES else ""
    return (
        f"Where the boundary was set, {percent(head.steal_rate_validation)} of {head.steal_images} pictures of no new category are"
        f" answered with one{asked}.{few}"
    )


_MANY_PICTURES = 2000
"""From here on a budget of half a per cent is ten pictures."""


def _evidence(report: RunReport) -> list[dict[str, object]]:
    """A report of an earlier release only named the kinds."""
    if report.evidence:
        return evidence.named(report.evidence)
    kinds = report.head.evidence if report.head else ()
    return [
        {**one, "training": "", "calibration": "", "test": ""}
        for one in evidence.named(evidence.evidence_reports(dict.fromkeys(kinds, 0), {}, {}))
    ]


def _changed(report: RunReport) -> Iterator[Changed]:
    """What was retired, merged or replaced, ever."""
    for category in report.new_categories:
        what = {"retired": "retired: answers never again", "replaced": "replaced by a new category"}.get(
            category.state
        )
        if category.alias_of is not None:
            what = f"merged with index {category.alias_of}: counts for its name"
        if what:
            yield Changed(index=category.index, name=category.name, what=what)
    for overlap in report.overlaps:
        if overlap.action == "Replace":
            yield Changed(
                index=overlap.known_index, name=overlap.known, what=f"replaced by {overlap.category}"
            )


def _template() -> Template:
    environment = Environment(
        loader=PackageLoader(__package__, ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(percent=percent, seconds=seconds, wide=_wide)
    return environment.get_template("page.html.j2")


def _wide(share: float) -> str:
    """Of a CSS width."""
    return f"{100 * min(max(share, 0.0), 1.0):.1f}%"


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
