"""Does growing in five steps, each from what the last one left behind, end where growing in one step ends? `make bench-sequence`.

A step has no image of an earlier one: earlier categories are known by their pack (sums and a few real bottlenecks) and by their rows.
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
from expansion_trainer.head.fit import BaseHead, FittedHead, Labelled
from expansion_trainer.head.softmax import Rows
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
    core: Core  # labels: among the added categories
    statistics: Statistics  # of the base's columns and the added ones


def chain(steps: Sequence[NewSet], what: Given, old: Old, solver: Solver) -> list[FittedHead]:
    left: Left | None = None
    heads = []
    for new in steps:
        left = _step(left, new, what, old, solver)
        heads.append(left.head)
    return heads


def _step(left: Left | None, new: NewSet, what: Given, old: Old, solver: Solver) -> Left:
    earlier = 0 if left is None else len(left.head.bias) - left.head.base_count
    training, validation = (_moved(new.sides[side], earlier) for side in (Side.TRAINING, Side.VALIDATION))
    base = old.features.base.rows
    known = _known(left, training, base, what)
    fitted, chosen_on = (pool.labelled for pool in (training, validation))
    if left is not None:
        fitted = _joined(left.core, False, fitted)
        chosen_on = _joined(left.core, True, chosen_on)
    head = solve(
        base,
        fitted,
        chosen_on,
        what.fitted,
        what.calibration,
        replace(OPTIONS, solver=solver),
        known,
        None if left is None else _added(left.head),
    )
    fresh = cores.of_sides(
        *(cores.chosen(p.bottlenecks, p.labels, p.digests.tolist()) for p in (training, validation))
    )
    core = fresh if left is None else cores.joined([left.core, fresh])
    return Left(head=head, core=core, statistics=known)


def _moved(pool: Pool, by: int) -> Pool:
    return Pool(bottlenecks=pool.bottlenecks, labels=pool.labels + by, digests=pool.digests)


def _known(left: Left | None, training: Pool, base: BaseHead, what: Given) -> Statistics:
    """Sums of the base's categories, as far as there is evidence of them, of the earlier ones, and of today's."""
    columns = len(base.bias) + int(training.labels.max()) + 1
    today = sums.of(training.bottlenecks, training.labels + len(base.bias), columns)
    if left is not None:
        return sums.merged(left.statistics, today)
    replay = next(evidence for evidence in what.fitted if evidence.labels is not None)
    assert replay.labels is not None
    return sums.merged(sums.of(replay.bottlenecks, replay.labels, len(base.bias)), today)


def _joined(core: Core, calibrates: bool, today: Labelled) -> Labelled:
    part = core.where(core.calibrates == calibrates)
    return Labelled(
        bottlenecks=np.concatenate([part.bottlenecks, today.bottlenecks]),
        labels=np.concatenate([part.labels, today.labels]),
    )


def _added(head: FittedHead) -> Rows:
    return Rows(weights=head.weights[:, head.base_count :], bias=head.bias[head.base_count :])


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
