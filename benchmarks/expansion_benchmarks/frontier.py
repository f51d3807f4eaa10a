"""Draws what can be had at what price: new accuracy against lost base accuracy, for every evidence, beside what others do.

Our curves come from accuracy.json, so `make bench-accuracy` runs first. Every curve moves one offset on all new categories; the
dot is where a run puts it without having seen these test images.
"""

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from expansion_benchmarks import pictures, retrain, sets, svg
from expansion_benchmarks.accuracy import NETWORKS, SETS
from expansion_benchmarks.cases import EVIDENCE, OPTIONS, Given, Grown, Old, given, solved
from expansion_benchmarks.features import Features
from expansion_benchmarks.figures import Measured, frontier
from expansion_contract.resource import Solver
from expansion_trainer.dataset.split import Side
from expansion_trainer.head.fit import FittedHead

SHOWN = "EfficientNetLite0"
"""Whose plots go into docs/; the other network's lie beside accuracy.json."""
NAMES = {
    "replay": "1 image per old category",
    "unlabelled": "300 photographs",
    "near": "the same, near images",
    "pack": "pack (1 image each)",
    "none": "nothing",
    "everything": "all images there are",
    "alone": "new rows on new images only",
    "retrain": "retrain.py's head, put beside",
}
TITLES = {"flowers5": "5 flowers", "digits": "10 digits", "caltech": "Caltech-101, what ImageNet has not"}
SOFTMAX = replace(OPTIONS, solver=Solver.SOFTMAX)
PICTURED = "caltech"
"""The set that shows what a steal and a temperature are."""
DROP = 0.03
"""Where the plots end."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Others:
    """Rows fitted on new images alone; retrain.py's; and ours given every old image that does not measure."""

    heads: dict[str, FittedHead]
    given: Given

    @classmethod
    def of(cls, new: sets.NewSet, old: Old) -> "Others":
        everything = _everything(new, old)
        bare = replace(everything, fitted=(), calibration=())
        alone = solved(new, bare, old, SOFTMAX).head
        ours = solved(new, everything, old, SOFTMAX).head
        return cls(
            heads={"everything": ours, "alone": alone, "retrain": _retrained(new, old, alone)},
            given=everything,
        )

    def frontiers(self, new: sets.NewSet, old: Old) -> dict[str, dict[str, list[float]]]:
        grown = {name: Grown(head=head, given=self.given, seconds=0.0) for name, head in self.heads.items()}
        return {name: frontier(Measured(grown=one, new=new, old=old)) for name, one in grown.items()}


def _everything(new: sets.NewSet, old: Old) -> Given:
    photographs, replay = given("unlabelled", new, old), given("replay", new, old)
    return replace(
        photographs,
        fitted=(*replay.fitted[:1], *photographs.fitted),
        calibration=(*replay.calibration[:1], *photographs.calibration),
    )


def _retrained(new: sets.NewSet, old: Old, like: FittedHead) -> FittedHead:
    """Its rows stand beside the base's as they are."""
    rows = retrain.head(new.sides[Side.TRAINING].labelled, len(new.categories))
    base = old.features.base.rows
    return replace(
        like,
        weights=np.hstack([base.weights, rows.weights]),
        bias=np.concatenate([base.bias, rows.bias]),
        temperature=1.0,
        scale=1.0,
    )


def plot(
    network: str, new_set: str, rows: dict[str, dict[str, Any]], beside: dict[str, dict[str, list[float]]]
) -> svg.Plot:
    lines = list(_lines(rows, beside))
    shown = [y for line in lines for x, y in zip(line.xs, line.ys, strict=True) if 0 <= x <= 100 * DROP]
    lowest, highest = min(shown), max(shown)
    return svg.Plot(
        title=f"{TITLES.get(new_set, new_set)}, {network}",
        x="base accuracy lost, points",
        y="new categories answered rightly, per cent",
        lines=lines,
        span_x=(0, 100 * DROP),
        span_y=(max(0, 5 * np.floor(lowest / 5 - 1)), 5 * np.ceil(highest / 5 + 0.2)),
    )


def _lines(rows: dict[str, dict[str, Any]], beside: dict[str, dict[str, list[float]]]) -> Iterator[svg.Line]:
    for number, evidence in enumerate(name for name in EVIDENCE if name in rows):
        row = rows[evidence]
        yield _curve(NAMES[evidence], row["frontier"], number)
        yield svg.Line(
            name="",
            xs=[100 * row["base_drop"]["value"]],
            ys=[100 * row["new"]["value"]],
            dots_only=True,
            colour=number,
        )
    for number, (name, found) in enumerate(beside.items(), start=len(EVIDENCE)):
        yield replace(_curve(NAMES[name], found, number), dashed=True)
    yield svg.Line(name="dots: as a run chooses", xs=[-1], ys=[0], dots_only=True, colour=6)
    closed = 100 * float(np.mean([row["new_closed"]["value"] for row in rows.values()]))
    yield svg.Line(
        name="new among themselves", xs=[0, 100 * DROP], ys=[closed, closed], dashed=True, colour=8
    )


def _curve(name: str, frontier: dict[str, list[float]], colour: int) -> svg.Line:
    xs, ys = ([100 * value for value in frontier[axis]] for axis in ("drop", "new"))
    return svg.Line(name=name, xs=xs, ys=ys, colour=colour)


def draw(
    network: str, name: str, rows: dict[str, dict[str, Any]], new: sets.NewSet, old: Old, folder: Path
) -> None:
    beside = Others.of(new, old)
    path = folder / f"frontier-{name}.svg"
    svg.write(plot(network, name, rows, beside.frontiers(new, old)), path)
    print(f"wrote {path}", flush=True)
    if name == PICTURED:
        title, base = f"{TITLES[name]}, {network}", beside.given.base_test
        ours = beside.heads["everything"]
        pictures.steals(beside.heads["alone"], ours, new, base, title, folder / "steals.svg")
        pictures.temperature(ours, new, base, title, folder / "temperature.svg")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--docs", type=Path, default=Path("docs"))
    parser.add_argument("--backbone", action="append", choices=NETWORKS, help="others than the one in docs/")
    asked = parser.parse_args()
    measured = json.loads((asked.out / "accuracy.json").read_text())
    with TemporaryDirectory() as scratch:
        for network in asked.backbone or [SHOWN]:
            place = asked.out / "cache"
            features = Features(network=network, data=asked.data, place=place, scratch=Path(scratch))
            old = Old(features=features, data=asked.data)
            for name in SETS:
                rows = {row["evidence"]: row for row in measured if _is_of(row, network, name)}
                if rows:
                    new = sets.new_set(sets.known_source(name, asked.data, place, 1), features)
                    draw(network, name, rows, new, old, asked.docs if network == SHOWN else asked.out)


def _is_of(row: dict[str, Any], network: str, name: str) -> bool:
    return bool((row["backbone"], row["new_set"]) == (network, name))


if __name__ == "__main__":
    main()
