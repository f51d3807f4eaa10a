"""Does the overlap check find the Caltech-101 categories that ImageNet has, and does Merge then lose nothing? `make bench-overlap`."""

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from scipy.special import softmax

from expansion_benchmarks.accuracy import NETWORKS, plain
from expansion_benchmarks.cases import Old, given, solved
from expansion_benchmarks.features import Array, Features, Labels, Pool
from expansion_benchmarks.sets import Source, known_source, new_set, whole
from expansion_benchmarks.tables import cell, table
from expansion_contract.report import Overlap, Proportion
from expansion_contract.resource import Categories, OnOverlap
from expansion_trainer.columns import Columns, answers_of, columns, in_index_order
from expansion_trainer.dataset.overlap import SAMPLE, answered, overlaps
from expansion_trainer.dataset.split import Side
from expansion_trainer.evaluation.metrics import measured_drop
from expansion_trainer.growth import shared_columns, without
from expansion_trainer.head.fit import FittedHead

LIST = Path(__file__).parents[1] / "caltech_overlap.txt"


@dataclass(frozen=True, kw_only=True)
class Known:
    """What a person says of one new category."""

    kind: str  # same, joint, near
    labels: frozenset[str]


def by_hand(path: Path = LIST) -> dict[str, Known]:
    lines = [line.split() for line in path.read_text().splitlines() if not line.startswith("#")]
    return {name: Known(kind=kind, labels=frozenset(labels)) for name, kind, *labels in lines}


def found(pool: Pool, source: Source, features: Features, action: OnOverlap) -> tuple[Overlap, ...]:
    """As a run asks: the base's answers to a sample of each category."""
    sample = _sampled(pool)
    base = features.categories
    said = answered(features.base.rows.logits, sample.bottlenecks, base)
    asked = Categories(images="s3://somewhere/", on_overlap=action)
    return overlaps(said, sample.labels, source.categories, base, asked)


def firsts(named: tuple[Overlap, ...]) -> dict[str, Overlap]:
    """Of each new category the most telling overlap, which comes first."""
    return {one.category: one for one in reversed(named)}


def _sampled(pool: Pool) -> Pool:
    """The first SAMPLE images of each category, by content."""
    rows = [np.flatnonzero(pool.labels == label)[:SAMPLE] for label in np.unique(pool.labels)]
    return pool.some(np.concatenate(rows))


def measured(features: Features, data: Path, source: Source) -> dict[str, Any]:
    pool, known = whole(source, features), by_hand()
    named = found(pool, source, features, OnOverlap.KEEP_BOTH)
    clearest = firsts(named)
    right = [_agrees(one, known) for one in clearest.values()]
    same = [name for name, one in known.items() if one.kind == "same"]
    return {
        "backbone": features.network,
        "named": len(clearest),
        "precision": Proportion.of(sum(right), len(clearest)).model_dump(),
        "recall": Proportion.of(sum(name in clearest for name in same), len(same)).model_dump(),
        "missed": [name for name in same if name not in clearest],
        "wrong": [f"{one.category} as {one.known}" for one in clearest.values() if not _agrees(one, known)],
        "merge": merge(features, data, source, named),
    }


def _agrees(one: Overlap, known: dict[str, Known]) -> bool:
    return one.category in known and one.known in known[one.category].labels


def merge(features: Features, data: Path, source: Source, named: tuple[Overlap, ...]) -> dict[str, Any]:
    """All named categories merged: their images train rows that answer with the old names, on which they are then tested."""
    merged = [one.model_copy(update={"action": "Merge"}) for one in firsts(named).values()]
    only = replace(source, categories=tuple(one.category for one in merged), uncovered_only=False)
    new, old = new_set(only, features), Old(features=features, data=data)
    places = columns(features.categories, new.categories, overlaps=merged)
    what, shared = given("replay", new, old), shared_columns(merged)
    base = features.base.rows
    fitted = tuple(without(evidence, base, shared) for evidence in what.fitted)
    calibration = tuple(without(evidence, base, shared) for evidence in what.calibration)
    head = solved(new, replace(what, fitted=fitted, calibration=calibration), old).head
    targets = places.fitted_answers_as[head.base_count :]
    test = new.sides[Side.TEST]
    return {
        "images": _change(features, head, places, test.bottlenecks, targets[test.labels]),
        "base": _change(features, head, places, old.held_out.bottlenecks, old.held_out.labels),
    }


def _change(
    features: Features, head: FittedHead, places: Columns, images: Array, truth: Labels
) -> dict[str, Any]:
    """Right answers before and after, an alias answering with its target's name."""
    before = features.base.rows.logits(images).argmax(axis=1) == truth
    logits = in_index_order(places, head.logits(images)).astype(np.float64)
    after = answers_of(places, softmax(logits / head.temperature, axis=1)).argmax(axis=1) == truth
    drop = measured_drop(before, after)
    return {"before": float(before.mean()), "after": float(after.mean()), **drop.model_dump()}


def shown(rows: list[dict[str, Any]]) -> str:
    head = [
        "network",
        "named",
        "precision",
        "recall of `same`",
        "missed",
        "named otherwise by hand",
        "merged: base lost",
        "merged images right, before",
        "after",
    ]
    return table(head, [list(_shown(row)) for row in rows])


def _shown(row: dict[str, Any]) -> Iterator[str]:
    yield row["backbone"]
    yield str(row["named"])
    for name in ("precision", "recall"):
        figure = row[name]
        yield f"{figure['value']:.2f} ({figure['low']:.2f} to {figure['high']:.2f}, n={figure['n']})"
    yield ", ".join(row["missed"]) or "none"
    yield ", ".join(row["wrong"]) or "none"
    yield f"{cell(row['merge']['base'], 2)} (n={row['merge']['base']['n']})"
    yield f"{100 * row['merge']['images']['before']:.1f}"
    yield f"{100 * row['merge']['images']['after']:.1f} (n={row['merge']['images']['n']})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    rows = []
    with TemporaryDirectory() as scratch:
        for network in NETWORKS:
            place = asked.out / "cache"
            features = Features(network=network, data=asked.data, place=place, scratch=Path(scratch))
            rows.append(measured(features, asked.data, known_source("caltech", asked.data, place, 1)))
    (asked.out / "overlap.json").write_text(json.dumps(rows, indent=1, default=plain) + "\n")
    print(shown(rows))


if __name__ == "__main__":
    main()
