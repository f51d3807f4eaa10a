"""Writes measured tables into the documents, between <!-- measured: name --> and <!-- end -->; `make bench-documents`.

A block whose measurement is not there keeps what it says.
"""

import argparse
import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from expansion_benchmarks import many, operating, overlap, sequence, tables, telling, timing
from expansion_benchmarks.frontier import NAMES, SHOWN, TITLES
from expansion_benchmarks.tables import table
from expansion_benchmarks.targets import CALIBRATED, beyond_chance

DOCUMENTS = ("README.md", "benchmarks/README.md", "docs/how-it-works.md")
BLOCK = re.compile(r"(<!-- measured: ([a-z-]+) -->\n).*?(<!-- end -->)", re.DOTALL)
FOR_NEWCOMERS = ("replay", "unlabelled", "none")

Rows = Sequence[Mapping[str, Any]]


def summary(rows: Rows) -> str:
    """What each evidence bought, for the networks whose base was measured on images that its head had not seen."""
    fair = [row for row in rows if not row["head_has_seen_base_images"] and row["new_set"] in TITLES]
    networks = list(dict.fromkeys(row["backbone"] for row in fair))
    head = [
        "given about the old categories",
        *(TITLES[name] for name in dict.fromkeys(r["new_set"] for r in fair)),
    ]
    lines = []
    for evidence in dict.fromkeys(row["evidence"] for row in fair):
        cells = [
            _summed([r for r in fair if (r["evidence"], r["new_set"]) == (evidence, name)])
            for name in _sets(fair)
        ]
        lines.append([NAMES[evidence], *cells])
    note = f"Each cell: points of base accuracy lost; share of what the new categories reach among themselves. {' / '.join(networks)}."
    return f"{table(head, lines)}\n\n{note}"


def _sets(rows: Rows) -> list[str]:
    return list(dict.fromkeys(row["new_set"] for row in rows))


def _summed(rows: Rows) -> str:
    lost = " / ".join(f"{100 * row['base_drop']['value']:.1f}" for row in rows)
    share = " / ".join(f"{row['share']['value']:.2f}" for row in rows)
    return f"{lost}; {share}"


def verdicts(rows: Rows) -> str:
    met = sum(row["verdict"]["met"] for row in rows)
    missed = [
        f"{row['backbone']} {row['new_set']} {row['evidence']} ({row['verdict']['why']})"
        for row in rows
        if not row["verdict"]["met"]
    ]
    return f"{met} of {len(rows)} rows reach their target." + (
        f" Not: {'; '.join(missed)}." if missed else ""
    )


def calibration_verdicts(rows: Rows) -> str:
    met = sum(row["calibrated"]["met"] for row in rows)
    found = [beyond_chance(row) for row in rows]
    beyond = ", ".join(f"{group} {sum(group in one for one in found)}" for group, _ in CALIBRATED)
    return (
        f"{met} of {len(rows)} rows reach the target or the mean of what perfect scores show in all three figures; in"
        f" {sum(not one for one in found)} no figure is above the target and above what 95 % of perfect heads show. Rows above both: {beyond}."
    )


def lost(rows: Rows) -> str:
    """What a newcomer asks first: what it costs the old categories, and what the new ones reach beside them."""
    head = [
        "new categories",
        "given about the old ones",
        "base accuracy before → after",
        "lost, points (95 %)",
        "new, against all",
        "new among themselves",
    ]
    shown = [row for row in rows if row["backbone"] == SHOWN and row["evidence"] in FOR_NEWCOMERS]
    return table(head, [_lost(row) for row in shown if row["new_set"] in TITLES])


def _lost(row: Mapping[str, Any]) -> list[str]:
    before, after = (100 * row[name]["value"] for name in ("base_before", "base_after"))
    return [
        TITLES[row["new_set"]],
        NAMES[row["evidence"]],
        f"{before:.1f} → {after:.1f} (n={row['base_before']['n']})",
        tables.cell(row["base_drop"], 2),
        f"{tables.cell(row['new'])} (n={row['new']['n']})",
        f"{100 * row['new_closed']['value']:.1f}",
    ]


def calibration_shown(rows: Rows) -> str:
    return tables.calibration([row for row in rows if row["backbone"] == SHOWN])


BLOCKS: dict[str, tuple[str, Callable[[Any], str]]] = {
    "accuracy": ("accuracy.json", tables.accuracy),
    "verdicts": ("accuracy.json", verdicts),
    "summary": ("accuracy.json", summary),
    "lost": ("accuracy.json", lost),
    "calibration": ("accuracy.json", tables.calibration),
    "calibration-verdicts": ("accuracy.json", calibration_verdicts),
    "calibration-shown": ("accuracy.json", calibration_shown),
    "unknown": ("accuracy.json", tables.strangers),
    "unknown-methods": ("unknown.json", telling.shown),
    "overlap": ("overlap.json", overlap.shown),
    "sequence": ("sequence.json", sequence.shown),
    "many": ("many.json", many.shown),
    "exported": ("exported.json", tables.exported),
    "solve": ("solve.json", timing.shown),
    "operator": ("operator.json", operating.shown),
}


PICTURES: dict[str, tuple[tuple[str, str], ...]] = {
    "picture-steals": (
        ("steals.svg", "How far the best new logit is above the best old one, with and without evidence"),
    ),
    "picture-frontiers": tuple(
        (f"frontier-{name}.svg", f"New accuracy against lost base accuracy: {title}")
        for name, title in TITLES.items()
    ),
    "picture-temperature": (
        ("temperature.svg", "Scores against the share of right answers, before and after the temperature"),
    ),
    "picture-many": (("many.svg", "Accuracy over the number of new categories, beside gradient descent"),),
}
"""Plots below docs/ that the other parts draw."""


def filled(text: str, out: Path, docs: Path = Path("docs")) -> str:
    def block(match: re.Match[str]) -> str:
        if match[2] in PICTURES:
            return _pictures(match, docs)
        file, shown = BLOCKS[match[2]]
        path = out / file
        if not path.exists():
            return match[0]
        return f"{match[1]}{shown(json.loads(path.read_text()))}\n{match[3]}"

    return BLOCK.sub(block, text)


def _pictures(match: re.Match[str], docs: Path) -> str:
    shown = [f"![{words}]({name})" for name, words in PICTURES[match[2]] if (docs / name).exists()]
    return "\n".join([match[1].rstrip("\n"), *shown, match[3]]) if shown else match[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--data", type=Path, help="not read")
    asked = parser.parse_args()
    for name in DOCUMENTS:
        path = Path(name)
        text = path.read_text(encoding="utf-8")
        if (written := filled(text, asked.out)) != text:
            path.write_text(written, encoding="utf-8")
            print(f"wrote {name}")


if __name__ == "__main__":
    main()
