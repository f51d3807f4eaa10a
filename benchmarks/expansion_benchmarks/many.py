"""Accuracy as the number of new categories grows, ours beside retrain.py's 4000 steps at 0.01; `make bench-many` draws it.

The new categories are Caltech-101's, the flowers, and base categories learned again: the base loses every column that names one of
them, so that they are new to it.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from expansion_benchmarks import retrain, svg
from expansion_benchmarks.accuracy import NETWORKS
from expansion_benchmarks.cases import OPTIONS, Given, Old, given
from expansion_benchmarks.features import Features, Labels, Pool
from expansion_benchmarks.overlap import by_hand
from expansion_benchmarks.sets import (
    CALTECH_DEAL,
    Deal,
    NewSet,
    covers,
    dealt,
    known_source,
    some_categories,
    whole,
)
from expansion_benchmarks.tables import table
from expansion_contract.report import Proportion
from expansion_trainer.dataset.split import Side
from expansion_trainer.evaluation.metrics import measured_drop, proportion
from expansion_trainer.head.evidence import Evidence
from expansion_trainer.head.fit import BaseHead
from expansion_trainer.head.solve import solve

SIZES = (5, 20, 50, 100, 150)
AGAIN_DEAL = Deal(training=9, validation=0, test=1)
"""Of base categories learned again, of which there are three to six images."""


@dataclass(frozen=True, kw_only=True, eq=False)
class World:
    """A base that lacks some of its categories, and 150 new ones."""

    base: BaseHead
    what: Given  # labels: the columns that are left
    new: NewSet  # in a drawn order


def world(features: Features, data: Path, place: Path) -> World:
    old = Old(features=features, data=data)
    parts, gone = [], set()
    for name in ("caltech", "flowers5"):
        source = known_source(name, data, place, 1)
        pool = whole(source, features)
        gone |= set(covers(pool, features).values()) | _named(features) if name == "caltech" else set()
        parts.append(dealt(pool, CALTECH_DEAL))
    gone.add(features.base.names.index("daisy"))
    images = _beside(old.one_each, old.held_out)
    again = _richest(images, gone, SIZES[-1] - sum(int(part[Side.TEST].labels.max()) + 1 for part in parts))
    parts.append(dealt(_only(images, again), AGAIN_DEAL))
    left = np.setdiff1d(np.arange(len(features.base.names)), [*gone, *again])
    rows = features.base.rows
    new = NewSet(categories=tuple(map(str, range(SIZES[-1]))), left_out=(), sides=_stacked(parts))
    what = given("replay", new, old)
    return World(
        base=BaseHead(weights=np.ascontiguousarray(rows.weights[:, left]), bias=rows.bias[left]),
        what=replace(
            what,
            fitted=tuple(_without(evidence, left) for evidence in what.fitted),
            calibration=tuple(_without(evidence, left) for evidence in what.calibration),
            base_test=_only(what.base_test, left),
        ),
        new=some_categories(new, np.random.default_rng(0).permutation(SIZES[-1])),
    )


def _named(features: Features) -> set[int]:
    labels = {label for known in by_hand().values() for label in known.labels}
    return {features.base.names.index(label) for label in labels}


def _beside(first: Pool, second: Pool) -> Pool:
    """Both, by category."""
    labels = np.concatenate([first.labels, second.labels])
    order = np.argsort(labels, kind="stable")
    return Pool(
        bottlenecks=np.concatenate([first.bottlenecks, second.bottlenecks])[order],
        labels=labels[order],
        digests=np.concatenate([first.digests, second.digests])[order],
    )


def _richest(pool: Pool, gone: set[int], count: int) -> Labels:
    images = np.bincount(pool.labels)
    images[list(gone)] = 0
    return np.sort(np.argsort(-images, kind="stable")[:count])


def _only(pool: Pool, kept: Labels) -> Pool:
    """Of these categories, numbered in this order."""
    own = pool.some(np.isin(pool.labels, kept))
    return replace(own, labels=np.searchsorted(kept, own.labels).astype(np.int64))


def _without(evidence: Evidence, left: Labels) -> Evidence:
    if evidence.labels is None:
        return evidence
    own = np.isin(evidence.labels, left)
    labels = np.searchsorted(left, evidence.labels[own]).astype(np.int64)
    return replace(evidence, bottlenecks=evidence.bottlenecks[own], labels=labels)


def _stacked(parts: Sequence[dict[Side, Pool]]) -> dict[Side, Pool]:
    counts = np.cumsum([0, *(int(part[Side.TEST].labels.max()) + 1 for part in parts)])
    moved = {
        side: [
            replace(part[side], labels=part[side].labels + start)
            for part, start in zip(parts, counts, strict=False)
        ]
        for side in Side
    }
    return {
        side: Pool(
            bottlenecks=np.concatenate([pool.bottlenecks for pool in pools]),
            labels=np.concatenate([pool.labels for pool in pools]),
            digests=np.concatenate([pool.digests for pool in pools]),
        )
        for side, pools in moved.items()
    }


def measured(world: World, size: int) -> dict[str, Any]:
    new = some_categories(world.new, np.arange(size))
    training, validation, test = (new.sides[side] for side in (Side.TRAINING, Side.VALIDATION, Side.TEST))
    what = world.what
    head = solve(world.base, training.labelled, validation.labelled, what.fitted, what.calibration, OPTIONS)
    theirs = retrain.head(training.labelled, size)
    logits = head.logits(test.bottlenecks)
    before, after = (
        rows.logits(what.base_test.bottlenecks).argmax(axis=1) == what.base_test.labels
        for rows in (world.base, head)
    )
    return {
        "categories": size,
        "solver": head.solver,
        "ours": _share(logits.argmax(axis=1) == test.labels + head.base_count),
        "ours_closed": _share(logits[:, head.base_count :].argmax(axis=1) == test.labels),
        "retrain_closed": _share(theirs.logits(test.bottlenecks).argmax(axis=1) == test.labels),
        "base_drop": measured_drop(before, after).model_dump(),
        "base_columns": head.base_count,
    }


def _share(right: Any) -> dict[str, Any]:
    found: Proportion = proportion(right)
    return found.model_dump()


def plot(rows: Sequence[dict[str, Any]], network: str) -> svg.Plot:
    names = {
        "ours_closed": "ours, new among themselves",
        "ours": "ours, among all categories",
        "retrain_closed": "retrain.py, new only",
    }
    xs = [row["categories"] for row in rows]
    return svg.Plot(
        title=f"More and more new categories, {network}",
        x="new categories",
        y="answered rightly, per cent",
        lines=[
            svg.Line(
                name=name, xs=xs, ys=[100 * row[key]["value"] for row in rows], dashed=key == "retrain_closed"
            )
            for key, name in names.items()
        ],
        span_x=(xs[0], xs[-1]),
        span_y=(0, 100),
        log_x=True,
    )


def shown(rows: Sequence[dict[str, Any]]) -> str:
    head = [
        "new categories",
        "n",
        "ours, among all",
        "ours, among themselves",
        "retrain.py, among themselves",
        "base lost",
    ]
    return table([*head, "solver"], [_shown(row) for row in rows])


def _shown(row: dict[str, Any]) -> list[str]:
    figures = [row[name] for name in ("ours", "ours_closed", "retrain_closed", "base_drop")]
    cells = [f"{100 * f['value']:.1f} ({100 * f['low']:.1f} to {100 * f['high']:.1f})" for f in figures]
    return [str(row["categories"]), str(row["ours"]["n"]), *cells, row["solver"]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--docs", type=Path, default=Path("docs"))
    parser.add_argument("--backbone", choices=NETWORKS, default="EfficientNetLite0")
    asked = parser.parse_args()
    rows = []
    with TemporaryDirectory() as scratch:
        place = asked.out / "cache"
        features = Features(network=asked.backbone, data=asked.data, place=place, scratch=Path(scratch))
        there = world(features, asked.data, place)
        for size in SIZES:
            rows.append(measured(there, size))
            print(shown(rows[-1:]).splitlines()[-1], flush=True)
    (asked.out / "many.json").write_text(json.dumps(rows, indent=1) + "\n")
    svg.write(plot(rows, asked.backbone), asked.docs / "many-categories.svg")
    print(shown(rows))


if __name__ == "__main__":
    main()
