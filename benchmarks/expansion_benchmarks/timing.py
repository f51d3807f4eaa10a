"""How long rows take to solve, how much memory that needs, and whether the same seed gives the same labels; `make bench-solve` runs it.

The bottlenecks are made up around real ones: each new category lies between three old photographs, each of its images adds a
fresh mixture of what sets real photographs apart. Every size runs in a process of its own, so that its peak memory is its own.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from expansion_benchmarks.cases import OPTIONS, Old, given, solved
from expansion_benchmarks.features import Array, Features, Labels, Pool
from expansion_benchmarks.sets import NewSet
from expansion_benchmarks.tables import table
from expansion_contract.resource import Solver
from expansion_trainer.dataset.split import Side
from expansion_trainer.head.solve import Options

NETWORK = "InceptionV3"
"""The widest bottlenecks: 2048 numbers."""
GIB = 2**30
SHARES = {Side.TRAINING: 0.7, Side.VALIDATION: 0.1, Side.TEST: 0.2}


@dataclass(frozen=True, kw_only=True)
class Size:
    categories: int
    images: int  # of each
    seconds: float  # at most
    twice: bool  # solve again and compare


SIZES = (
    Size(categories=5, images=100, seconds=30, twice=True),
    Size(categories=100, images=100, seconds=5 * 60, twice=True),
    Size(categories=1000, images=50, seconds=15 * 60, twice=False),
)
MOST_MEMORY = 4 * GIB


def made_up(real: Array, size: Size, seed: int = 0) -> NewSet:
    random = np.random.default_rng(seed)
    apart = real - real.mean(axis=0)
    pools = {}
    means = real[random.integers(len(real), size=(size.categories, 3))].mean(axis=1)
    for side, share in SHARES.items():
        each = max(1, round(share * size.images))
        labels: Labels = np.repeat(np.arange(size.categories), each)
        drawn = random.integers(len(apart), size=(len(labels), 4))
        bottlenecks = means[labels].astype(np.float32)
        for column in drawn.T:
            bottlenecks += apart[column] / 4
        np.maximum(bottlenecks, 0, out=bottlenecks)
        pools[side] = Pool(
            bottlenecks=bottlenecks,
            labels=labels,
            digests=np.array([f"{i:064x}" for i in range(len(labels))]),
        )
    names = tuple(map(str, range(size.categories)))
    return NewSet(categories=names, left_out=(), sides=pools)


def timed(size: Size, features: Features, data: Path, options: Options) -> dict[str, Any]:
    old = Old(features=features, data=data)
    new = made_up(old.one_each.bottlenecks, size)
    what = given("replay", new, old)
    started = time.perf_counter()
    first = solved(new, what, old, options)
    wall = time.perf_counter() - started
    head = first.head
    again = solved(new, what, old, options).head if size.twice else None
    test = new.sides[Side.TEST]
    answers = head.logits(test.bottlenecks).argmax(axis=1)
    same = None if again is None else bool((again.logits(test.bottlenecks).argmax(axis=1) == answers).all())
    return {
        "categories": size.categories,
        "images": sum(len(pool) for pool in new.sides.values()),
        "seconds": wall,
        "cpu_seconds": first.seconds,
        "limit": size.seconds,
        "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "solver": head.solver,
        "new": float((answers == test.labels + head.base_count).mean()),
        "same_labels": same,
    }


def shown(rows: list[dict[str, Any]]) -> str:
    head = [
        "new categories",
        "images",
        "solver",
        "seconds",
        "at most",
        "seconds of the cores",
        "peak memory, GiB",
        "same labels again",
        "met",
    ]
    return table(head, [_shown(row) for row in rows])


def _shown(row: dict[str, Any]) -> list[str]:
    met = row["seconds"] <= row["limit"] and row["memory"] <= MOST_MEMORY and row["same_labels"] is not False
    return [
        f"+{row['categories']}",
        str(row["images"]),
        row["solver"],
        f"{row['seconds']:.0f}",
        f"{row['limit']:.0f}",
        f"{row['cpu_seconds']:.0f}",
        f"{row['memory'] / GIB:.1f}",
        {True: "yes", False: "no", None: "not tried"}[row["same_labels"]],
        "yes" if met else "no",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument(
        "--size", type=int, choices=[size.categories for size in SIZES], help="only this one, here"
    )
    parser.add_argument("--solver", type=Solver, default=Solver.AUTO, choices=list(Solver))
    asked = parser.parse_args()
    if asked.size is None:
        _each_alone()
        return
    size = next(size for size in SIZES if size.categories == asked.size)
    with TemporaryDirectory() as scratch:
        place = asked.out / "cache"
        features = Features(network=NETWORK, data=asked.data, place=place, scratch=Path(scratch))
        options = Options(solver=asked.solver, steal_budget=OPTIONS.steal_budget, seed=OPTIONS.seed)
        print(json.dumps(timed(size, features, asked.data, options)))


def _each_alone() -> None:
    rows = []
    out = Path(sys.argv[sys.argv.index("--out") + 1])
    for size in SIZES:
        print(f"+{size.categories} categories, {size.images} images each ...", flush=True)
        command = [sys.executable, "-m", __spec__.name, *sys.argv[1:], "--size", str(size.categories)]
        found = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
        rows.append(json.loads(found.stdout.splitlines()[-1]))
        (out / "solve.json").write_text(json.dumps(rows, indent=1) + "\n")
    print(shown(rows))


if __name__ == "__main__":
    main()
