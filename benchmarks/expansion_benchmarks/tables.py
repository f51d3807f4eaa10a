"""Rows of the benchmarks as Markdown: per cent, with 95 % intervals and n."""

from collections.abc import Mapping, Sequence
from typing import Any

from expansion_benchmarks.targets import beyond_chance

UNKNOWN_AREA = 0.80
"""Of left-out new categories, at least."""
STAR = " \\*"
"""The base's own head was fitted on the images that measure it."""


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def cell(figure: Mapping[str, Any], places: int = 1) -> str:
    value, low, high = (100 * figure[name] for name in ("value", "low", "high"))
    return f"{value:.{places}f} ({low:.1f} to {high:.1f})"


def line(row: Mapping[str, Any]) -> str:
    """One row while the benchmark runs."""
    met = "met" if row["verdict"].met else f"NOT MET: {row['verdict'].why}"
    errors = " ".join(
        f"{group} {100 * c.error:.1f}/{100 * c.floor:.1f}" for group, c in row["calibration"].items()
    )
    return (
        f"{row['backbone']} {row['new_set']} {row['evidence']} ({row['solver']}): drop {100 * row['base_drop'].value:.2f},"
        f" new {100 * row['new'].value:.1f} of {100 * row['new_closed'].value:.1f} (alone {100 * row['alone']:.1f}),"
        f" share {row['share'].value:.3f}, steals {100 * row['steals'].value:.2f},"
        f" elsewhere {100 * row['steals_elsewhere'].value:.1f}, calibration/floor {errors}, {row['seconds']:.0f} s: {met}"
    )


ACCURACY = (
    "network",
    "new set",
    "given",
    "base before",
    "lost",
    "new",
    "closed",
    "alone",
    "share",
    "steals",
    "elsewhere",
    "solver",
    "s, 1 core",
    "target",
    "met",
)


def accuracy(rows: Sequence[Mapping[str, Any]]) -> str:
    return table(ACCURACY, [_accuracy(row) for row in rows])


def _accuracy(row: Mapping[str, Any]) -> list[str]:
    star = STAR if row["head_has_seen_base_images"] else ""
    verdict = row["verdict"]
    return [
        row["backbone"] + star,
        f"{row['new_set']} ({row['categories']})",
        row["evidence"],
        f"{100 * row['base_before']['value']:.1f} (n={row['base_before']['n']})",
        cell(row["base_drop"], 2),
        f"{cell(row['new'])} (n={row['new']['n']})",
        f"{100 * row['new_closed']['value']:.1f}",
        f"{100 * row['alone']:.1f}",
        f"{row['share']['value']:.3f} ({row['share']['low']:.3f} to {row['share']['high']:.3f})",
        cell(row["steals"]),
        cell(row["steals_elsewhere"]) if row["steals_elsewhere"]["n"] else "",
        row["solver"],
        f"{row['seconds']:.0f}",
        verdict["target"],
        "yes" if verdict["met"] else f"no: {verdict['why']}",
    ]


def calibration(rows: Sequence[Mapping[str, Any]]) -> str:
    head = [
        "network",
        "new set",
        "given",
        "overall",
        "base",
        "new",
        "base too sure by",
        "new too sure by",
        "met",
        "more than chance",
    ]
    return table(head, [_calibration(row) for row in rows])


def _calibration(row: Mapping[str, Any]) -> list[str]:
    groups = row["calibration"]
    errors = [
        f"{100 * groups[g]['error']:.1f} ({100 * groups[g]['floor']:.1f})" for g in ("overall", "base", "new")
    ]
    over = [f"{100 * groups[g]['over']:+.1f}" for g in ("base", "new")]
    verdict = row["calibrated"]
    met = "yes" if verdict["met"] else f"no: {verdict['why']}"
    more = ", ".join(beyond_chance(row)) or "none"
    return [row["backbone"], row["new_set"], row["evidence"], *errors, *over, met, more]


def strangers(rows: Sequence[Mapping[str, Any]]) -> str:
    rows = [row for row in rows if not row["head_has_seen_base_images"]]
    head = ["network", "new set", "given", "method", "area under the curve", "pictures", "at least", "met"]
    return table(head, [_strangers(row) for row in rows if row["unknown"] and row["unknown"]["auroc"]])


def _strangers(row: Mapping[str, Any]) -> list[str]:
    found = row["unknown"]
    area = found["auroc"]
    shown = f"{area['value']:.3f} ({area['low']:.3f} to {area['high']:.3f})"
    met = "yes" if area["value"] >= UNKNOWN_AREA else "no"
    place = [row["backbone"], row["new_set"], row["evidence"]]
    return [*place, found["method"], shown, str(area["n"]), f"{UNKNOWN_AREA:.2f}", met]


def exported(found: Sequence[Mapping[str, Any]]) -> str:
    same = sum(one["identical"] for one in found)
    asked, agreeing = (sum(one[name] for one in found) for name in ("asked", "agreeing"))
    return (
        f"{same} of {len(found)} rows of the table, exported as SavedModels, carry the pretrained network's rows bit by bit;"
        f" {agreeing} of {asked} files sent to the loaded models were answered as the fitted head answers."
    )
