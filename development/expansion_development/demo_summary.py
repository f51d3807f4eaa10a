"""What the demo measured: a table for people, summary.json for programs. Pure, but for writing that file."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from expansion_contract.report import RunReport
from expansion_development.demo_parts import Answer, Asked, Seconds


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What is known at the end, with or without a control plane."""

    control_plane: bool
    report: RunReport
    asked: Asked
    categories_before: int
    categories_after: int
    before: Sequence[Answer]
    after: Sequence[Answer]
    served_version: int | None
    ready: bool


def summary(outcome: Outcome, seconds: Seconds) -> dict[str, Any]:
    report = outcome.report
    assert report.metrics is not None
    assert report.head is not None
    new = report.metrics.new
    *photographs, digit = [
        {"name": picture.name, "before": before.name, "after": after.name}
        for picture, before, after in zip(outcome.asked.all, outcome.before, outcome.after, strict=True)
    ]
    return {
        "control_plane": outcome.control_plane,
        "ready": outcome.ready,
        "served_version": outcome.served_version,
        "categories_before": outcome.categories_before,
        "categories_after": outcome.categories_after,
        "new_accuracy": {"value": new.value, "low": new.low, "high": new.high, "n": new.n},
        "base_rows_identical": report.head.base_rows_identical,
        "photographs": photographs,
        "held_out_digit": {**digit, "truth": outcome.asked.truth},
        "seconds": {**seconds.parts, "total": seconds.total},
        "trainer_seconds": {stage: round(taken, 1) for stage, taken in report.seconds.items()},
    }


def table(outcome: Outcome) -> list[str]:
    rows = [("picture", "before", "after", "")]
    for picture, before, after in zip(outcome.asked.all, outcome.before, outcome.after, strict=True):
        rows.append(
            (picture.name, _scored(before), _scored(after), _remark(outcome, picture.name, before, after))
        )
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    return [
        "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, [*widths, 0], strict=True)).rstrip()
        for row in rows
    ]


def _scored(answer: Answer) -> str:
    return f"{answer.name} {answer.score:.2f}"


def _remark(outcome: Outcome, name: str, before: Answer, after: Answer) -> str:
    if name == outcome.asked.digit.name:
        return "learned" if after.name == outcome.asked.truth else f"wrong: it is {outcome.asked.truth}"
    return "as before" if after.name == before.name else "changed"


def write(content: dict[str, Any], file: Path) -> None:
    file.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")
