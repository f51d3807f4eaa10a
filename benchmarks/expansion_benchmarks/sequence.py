"""Does growing in five steps, each from what the last one left behind, end where growing in one step ends? `make bench-sequence`.

A step has no image of an earlier one: earlier categories are known by their pack, sums and a few real bottlenecks.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from expansion_benchmarks.accuracy import NETWORKS
from expansion_benchmarks.cases import OPTIONS, Given, Old, given
from expansion_benchmarks.features import Array, Features, Labels, Pool
from expansion_benchmarks.sets import NewSet, known_source, new_set, some_categories
from expansion_benchmarks.tables import table
from expansion_contract.resource import Solver
from expansion_trainer.dataset.split import Side
from expansion_trainer.evaluation.metrics import measured_drop
from expansion_trainer.head import statistics as sums
from expansion_trainer.head.chain import Earlier, added_material
from expansion_trainer.head.fit import FittedHead, Labelled
from expansion_trainer.head.solve import solve
from expansion_trainer.head.statistics import Statistics
from expansion_trainer.packs import core as cores
from expansion_trainer.packs.core import Core

STEPS = 5
ORDERS = 3
SOLVERS = (Solver.DISCRIMINANT, Solver.SOFTMAX)
EVIDENCE = "replay"


@dataclass(frozen=True, kw_only=True, eq=False)
class Left:
    """What a step leaves to the next one: of the added categories, in the order they came."""

    head: FittedHead
    core: Core
    statistics: Statistics

    @property
    def earlier(self) -> Earlier:
        return Earlier(
            fitted=_labelled(self.core, calibrates=False),
            calibrating=_labelled(self.core, calibrates=True),
            statistics=self.statistics,
            columns=np.arange(len(self.statistics)),
        )


def _labelled(core: Core, calibrates: bool) -> Labelled:
    part = core.where(core.calibrates == calibrates)
    return Labelled(bottlenecks=part.bottlenecks, labels=part.labels)


def chain(steps: Sequence[NewSet], what: Given, old: Old, solver: Solver) -> list[FittedHead]:
    left: Left | None = None
    heads = []
    for new in steps:
        left = _step(left, new, what, old, solver)
        heads.append(left.head)
    return heads


def _step(left: Left | None, new: NewSet, what: Given, old: Old, solver: Solver) -> Left:
    """As a run does it: the earlier categories from what a pack holds of them, today's from their images."""
    training, validation = (new.sides[side] for side in (Side.TRAINING, Side.VALIDATION))
    known = _known(left, training)
    core = _core(left, training, validation)
    options = replace(OPTIONS, solver=solver)
    earlier = left.earlier if left else None
    fitted, chosen_on = added_material(earlier, training.labelled, validation.labelled, options.seed)
    aside = _labelled(core, calibrates=True)
    head = solve(
        old.features.base.rows, fitted, chosen_on, what.fitted, what.calibration, options, known, core=aside
    )
    return Left(head=head, core=core, statistics=known)


def _known(left: Left | None, training: Pool) -> Statistics:
    first = len(left.statistics) if left else 0
    labels = training.labels + first
    today = sums.of(training.bottlenecks, labels, int(labels.max()) + 1)
    return sums.merged(left.statistics, today) if left else today


def _core(left: Left | None, training: Pool, validation: Pool) -> Core:
    first = len(left.statistics) if left else 0
    parts = [
        cores.chosen(pool.bottlenecks, pool.labels + first, pool.digests.tolist())
        for pool in (training, validation)
    ]
    fresh = cores.of_sides(*parts)
    return cores.joined([left.core, fresh]) if left else fresh


def ordered(new: NewSet, seed: int) -> Labels:
    return np.random.default_rng(seed).permutation(len(new.categories))


def measured(
    new: NewSet, old: Old, what: Given, once: FittedHead, solver: Solver, seed: int
) -> dict[str, Any]:
    """`once`: all categories in one step."""
    order = ordered(new, seed)
    steps = np.array_split(order, STEPS)
    heads = chain([some_categories(new, step) for step in steps], what, old, solver)
    test, base = new.sides[Side.TEST], what.base_test
    images = np.concatenate([test.bottlenecks, base.bottlenecks])
    truth = np.concatenate([test.labels + once.base_count, base.labels])
    one, five = answers(once, images, np.arange(len(order))), answers(heads[-1], images, order)
    first = np.concatenate([np.isin(test.labels, steps[0]), np.zeros(len(base), bool)])
    drop = measured_drop(one == truth, five == truth)
    return {
        "backbone": old.features.network,
        "solver": once.solver,
        "order": seed,
        "n": len(truth),
        "changed": int((one != five).sum()),
        "lost": drop.value,
        "low": drop.low,
        "high": drop.high,
        "first_n": int(first.sum()),
        "first_once": float((one == truth)[first].mean()),
        "first_after": float((five == truth)[first].mean()),
        "first_at_first": float((answers(heads[0], images, order) == truth)[first].mean()),
    }


def answers(head: FittedHead, images: Array, order: Labels) -> Labels:
    """`order`: which category each added column is."""
    found: Labels = head.logits(images).argmax(axis=1).astype(np.int64)
    added = found >= head.base_count
    found[added] = order[found[added] - head.base_count] + head.base_count
    return found


def shown(rows: Sequence[dict[str, Any]]) -> str:
    head = [
        "network",
        "solver",
        "order",
        "changed answers",
        "lost by five steps, points",
        "first step's categories, in one step",
    ]
    return table([*head, "after five steps", "after their own step"], [_shown(row) for row in rows])


def _shown(row: dict[str, Any]) -> list[str]:
    return [
        row["backbone"],
        row["solver"],
        str(row["order"]),
        f"{row['changed']} of {row['n']}",
        f"{100 * row['lost']:.2f} ({100 * row['low']:.2f} to {100 * row['high']:.2f})",
        *(f"{100 * row[name]:.1f}" for name in ("first_once", "first_after", "first_at_first")),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--backbone", choices=NETWORKS, default="EfficientNetLite0")
    parser.add_argument("--solver", type=Solver, action="append", choices=SOLVERS)
    parser.add_argument("--orders", type=int, default=ORDERS)
    asked = parser.parse_args()
    rows = []
    with TemporaryDirectory() as scratch:
        place = asked.out / "cache"
        features = Features(network=asked.backbone, data=asked.data, place=place, scratch=Path(scratch))
        old = Old(features=features, data=asked.data)
        new = new_set(known_source("caltech", asked.data, place, 1), features)
        what = given(EVIDENCE, new, old)
        for solver in asked.solver or SOLVERS:
            once = chain([new], what, old, solver)[0]
            for order in range(asked.orders):
                rows.append(measured(new, old, what, once, solver, order))
                print(shown(rows[-1:]).splitlines()[-1], flush=True)
    (asked.out / "sequence.json").write_text(json.dumps(rows, indent=1) + "\n")
    print(shown(rows))


if __name__ == "__main__":
    main()
