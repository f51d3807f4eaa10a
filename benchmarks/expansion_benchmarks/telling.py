"""How well every known way of telling pictures of nothing that is known does on left-out categories; `make bench-unknown` runs it.

The product's four methods are in head/unknown.py. Here is what else the literature has that needs nothing but a bottleneck, the head
and the images that it was fitted on, each as a number that is higher the more a picture looks like what is known:

    MaxLogit      the highest logit (Vaze and others 2022)
    Margin        the highest logit less the next
    Neighbour     minus the distance to the K-th nearest image that was fitted on, at length 1 (Sun and others 2022)
    Mahalanobis   minus the squared distance to the nearest mean, whitened within categories (Lee and others 2018)
    ReAct         Energy of bottlenecks whose highest tenth of numbers is cut (Sun, Guo and Li 2021)
    ViM           Energy less the part of the bottleneck outside of the main directions, as wide as it (Wang and others 2022)
    A + B, all    the mean rank among held-out images that are known
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.special import logsumexp

from expansion_benchmarks import cases, sets, tables
from expansion_benchmarks.accuracy import NETWORKS, SETS, STRANGERS
from expansion_benchmarks.cases import OPTIONS, Given, Old
from expansion_benchmarks.features import Array, Features, kept_head
from expansion_benchmarks.sets import NewSet
from expansion_trainer.dataset.split import Side
from expansion_trainer.evaluation.resampled import mean_auroc
from expansion_trainer.head import refits, statistics, unknown
from expansion_trainer.head.answering import Answering
from expansion_trainer.head.fit import FittedHead
from expansion_trainer.head.material import Labelled
from expansion_trainer.head.refits import Fitting, Without
from expansion_trainer.head.softmax import Doubles, Labels
from expansion_trainer.head.unknown import METHODS, Space, auroc, familiarity

NEAREST = (1, 5, 20)
MAIN = 256
"""Directions of ViM, as its authors take for bottlenecks of less than 1500 numbers, but no more than there are images for."""
CUT = 0.9
"""Share of a bottleneck's numbers, over the images fitted on, that ReAct leaves as they are."""

Numbers = dict[str, Doubles]
"""By method, (n,)."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Seen:
    """A head that has not seen some of the new categories, and what it was fitted on."""

    answering: Answering
    space: Space | None
    bottlenecks: Array  # (m, D), at length 1
    plain: Array  # (m, D)
    labels: Labels  # (m,) columns


@dataclass(frozen=True, kw_only=True, eq=False)
class Parts:
    """Images that neither the head nor a level was made with."""

    held_out: Labelled  # of kept categories and of the base
    strange: Labelled  # of left-out categories, for choosing
    known_test: Array
    strange_test: Array


def rows(network: str, new_set: str, evidence: str, data: Path, out: Path, scratch: Path) -> dict[str, Any]:
    features = Features(network=network, data=data, place=out / "cache", scratch=scratch)
    old = Old(features=features, data=data)
    new = sets.new_set(sets.known_source(new_set, data, out / "cache", 1), features)
    what = cases.given(evidence, new, old)
    head = kept_head(out / "heads" / f"{network}-{new_set}-{evidence}.npz")
    fitting = Fitting(
        head=head,
        base=features.base.rows,
        training=new.sides[Side.TRAINING].labelled,
        evidence=what.fitted,
        seed=OPTIONS.seed,
    )
    found = [_turn(fitting, without, new, what) for without in refits.turns(fitting)]
    return {
        "backbone": network,
        "new_set": new_set,
        "evidence": evidence,
        "methods": {name: _measured([turn[name] for turn in found]) for name in found[0]},
    }


@dataclass(frozen=True, kw_only=True, eq=False)
class Told:
    """One method's numbers in one turn."""

    held_out: Doubles
    strange: Doubles
    known_test: Doubles
    strange_test: Doubles


def _measured(turns: Sequence[Told]) -> dict[str, Any]:
    area = mean_auroc([(turn.known_test, turn.strange_test) for turn in turns])
    assert area is not None
    weights = [len(turn.strange) for turn in turns]
    chosen_by = np.average([auroc(turn.held_out, turn.strange) for turn in turns], weights=weights)
    return {"area": area.model_dump(), "by_held_out": float(chosen_by)}


def _turn(fitting: Fitting, without: Without, new: NewSet, what: Given) -> dict[str, Told]:
    seen, parts = _seen(fitting, without, what), _parts(fitting.head, without, new, what)
    images = (parts.held_out.bottlenecks, parts.strange.bottlenecks, parts.known_test, parts.strange_test)
    measured = [numbers(seen, part) for part in images]
    plain = {name: [part[name] for part in measured] for name in measured[0]}
    ranked = {name: [_ranks(numbers[0], part) for part in numbers] for name, numbers in plain.items()}
    for first, second in combinations(plain, 2):
        plain[f"{first} + {second}"] = [a + b for a, b in zip(ranked[first], ranked[second], strict=True)]
    plain["all"] = [np.sum(part, axis=0) for part in zip(*ranked.values(), strict=True)]
    return {
        name: Told(held_out=a, strange=b, known_test=c, strange_test=d)
        for name, (a, b, c, d) in plain.items()
    }


def _ranks(held_out: Doubles, numbers: Doubles) -> Doubles:
    """Share of known images that look as strange or stranger."""
    ranks: Doubles = np.searchsorted(np.sort(held_out), numbers, side="right") / max(len(held_out), 1)
    return ranks


def _seen(fitting: Fitting, without: Without, what: Given) -> Seen:
    base_count = fitting.head.base_count
    training = fitting.training
    rows = np.isin(training.labels, without.kept)
    labelled = [e for e in what.fitted if e.labels is not None]
    bottlenecks = np.concatenate([training.bottlenecks[rows], *(e.bottlenecks for e in labelled)])
    labels = np.concatenate(
        [training.labels[rows] + base_count, *(e.labels for e in labelled if e.labels is not None)]
    )
    return Seen(
        answering=replace(Answering.of_head(fitting.head), rows=without.rows),
        space=unknown.space(statistics.of(bottlenecks, labels, len(fitting.head.bias))),
        bottlenecks=unknown.unit(bottlenecks),
        plain=bottlenecks,
        labels=labels,
    )


def _parts(head: FittedHead, without: Without, new: NewSet, what: Given) -> Parts:
    validation, test = (new.sides[side].labelled for side in (Side.VALIDATION, Side.TEST))
    kept = np.isin(validation.labels, without.kept)
    base = [e for e in what.calibration if e.labels is not None]
    kept_test = np.isin(test.labels, without.kept)
    return Parts(
        held_out=Labelled(
            bottlenecks=np.concatenate([validation.bottlenecks[kept], *(e.bottlenecks for e in base)]),
            labels=np.concatenate(
                [validation.labels[kept] + head.base_count, *(e.labels for e in base if e.labels is not None)]
            ),
        ),
        strange=Labelled(bottlenecks=validation.bottlenecks[~kept], labels=validation.labels[~kept]),
        known_test=np.concatenate([test.bottlenecks[kept_test], what.base_test.bottlenecks]),
        strange_test=test.bottlenecks[~kept_test],
    )


def numbers(seen: Seen, images: Array) -> Numbers:
    """(n, D): what every method says of them."""
    logits = seen.answering.logits(images)
    z = logits.astype(np.float64)
    own: Numbers = {
        name: familiarity(name, images, logits, seen.answering.answers_as, seen.space) for name in METHODS
    }
    best = np.sort(z, axis=1)
    near = np.sort(_distances(unknown.unit(images), seen.bottlenecks), axis=1)
    return {
        **own,
        "MaxLogit": best[:, -1],
        "Margin": best[:, -1] - best[:, -2],
        **{f"Neighbour {k}": -near[:, k - 1] for k in NEAREST},
        "Mahalanobis": _mahalanobis(seen, images),
        "ReAct": _react(seen, images),
        "ViM": _vim(seen, images, logsumexp(z, axis=1)),
    }


def _distances(one: Array, other: Array) -> Doubles:
    """(n, m), of bottlenecks of length 1."""
    return np.sqrt(np.maximum(2 - 2 * (one @ other.T).astype(np.float64), 0))


def _mahalanobis(seen: Seen, images: Array) -> Doubles:
    known = statistics.of(seen.bottlenecks, seen.labels, len(seen.answering.rows.bias))
    within = unknown.shrunk(known.within)
    factor = cho_factor(within)
    means = known.means[known.seen]
    x = unknown.unit(images).astype(np.float64)
    weights = cho_solve(factor, means.T)
    to_means = np.einsum("ij,ji->i", means, weights) - 2 * x @ weights
    own = np.einsum("ij,ji->i", x, cho_solve(factor, x.T))
    nearest: Doubles = -(to_means.min(axis=1) + own)
    return nearest


def _react(seen: Seen, images: Array) -> Doubles:
    cut = np.minimum(images, np.float32(np.quantile(seen.plain, CUT)))
    energy: Doubles = logsumexp(seen.answering.logits(cut).astype(np.float64), axis=1)
    return energy


def _vim(seen: Seen, images: Array, energy: Doubles) -> Doubles:
    """The origin is where the head's rows see nothing; there are many rows, so the images' mean stands for it."""
    centre = seen.plain.mean(axis=0)
    _, _, axes = np.linalg.svd(seen.plain - centre, full_matrices=False)
    main = axes[: min(MAIN, len(axes) // 2)]

    def outside(x: Array) -> Doubles:
        away = x - centre
        left: Doubles = np.linalg.norm(away - away @ main.T @ main, axis=1).astype(np.float64)
        return left

    highest = seen.answering.logits(seen.plain).max(axis=1)
    as_wide = float(highest.mean()) / float(outside(seen.plain).mean())
    return energy - as_wide * outside(images)


SHOWN = 3
"""Combinations of two that the table names for each case: the best of all pairs on the test images, which flatters them."""


def shown(found: list[dict[str, Any]]) -> str:
    """Every single method, all together, and the best pairs."""
    head = ["network", "given", "method", "area under the curve", "pictures", "the same by held-out images"]
    lines = []
    for row in found:
        methods: Mapping[str, Any] = row["methods"]
        singles = [name for name in methods if " + " not in name]
        pairs = sorted(set(methods) - set(singles), key=lambda name: -methods[name]["area"]["value"])[:SHOWN]
        ordered = sorted([*singles, *pairs], key=lambda name: -methods[name]["area"]["value"])
        lines += [_line(row, name, methods[name]) for name in ordered]
    return tables.table(head, lines)


def _line(row: Mapping[str, Any], name: str, method: Mapping[str, Any]) -> list[str]:
    area = method["area"]
    told = f"{area['value']:.3f} ({area['low']:.3f} to {area['high']:.3f})"
    return [row["backbone"], row["evidence"], name, told, str(area["n"]), f"{method['by_held_out']:.3f}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with images/ and weights/")
    parser.add_argument("--out", type=Path, required=True, help="where bench-accuracy left its heads")
    parser.add_argument("--set", default="flowers5", choices=SETS, help="of the new categories")
    asked = parser.parse_args()
    with TemporaryDirectory() as scratch:
        found = [
            rows(network, asked.set, evidence, asked.data, asked.out, Path(scratch))
            for network in NETWORKS
            for evidence in STRANGERS
        ]
    (asked.out / "unknown.json").write_text(json.dumps(found, indent=1))
    print(shown(found))


if __name__ == "__main__":
    main()
