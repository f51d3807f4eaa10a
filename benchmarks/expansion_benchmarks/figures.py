"""What is measured of one grown head, on images that nothing was fitted on or chosen with; and of several deals of one set together."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from expansion_benchmarks.cases import Grown, Old
from expansion_benchmarks.features import Array, Pool
from expansion_benchmarks.sets import NewSet
from expansion_contract.report import Proportion
from expansion_trainer.dataset.split import Side
from expansion_trainer.evaluation.metrics import (
    Answers,
    answers,
    calibration_error,
    joined,
    measured_drop,
    proportion,
)
from expansion_trainer.head.answering import Answering

SIMULATIONS = 200
DROPS = np.arange(0, 41)
"""Base images lost, at which the frontier is read off."""

Flags = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A share with its 95 % interval; `n` different images."""

    value: float
    low: float
    high: float
    n: int


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Mean distance of score and accuracy; `floor`: what a perfectly calibrated head shows on as many images, on average.

    `most`: what it stays below in 95 % of draws. For several deals all are means, so that `most` is then a little high.
    """

    error: float
    floor: float
    most: float
    over: float
    """Mean score less accuracy: above 0 where the head is too sure."""
    n: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Measured:
    """A head before its test images."""

    grown: Grown
    new: NewSet
    old: Old

    @cached_property
    def truth(self) -> NDArray[np.int64]:
        return self.new.sides[Side.TEST].labels + self.grown.head.base_count

    @cached_property
    def of_new(self) -> Answers:
        return self._answers(self.new.sides[Side.TEST])

    @cached_property
    def of_base(self) -> Answers:
        return self._answers(self.grown.given.base_test)

    def _answers(self, pool: Pool) -> Answers:
        head = self.grown.head
        return answers(Answering.of_head(head), pool.bottlenecks, head.base_count)

    @cached_property
    def closed(self) -> Flags:
        """Right among the new categories alone; whatever is right among all is right here."""
        return np.asarray(self.of_new.among_new == self.truth)

    @cached_property
    def asked_before(self) -> Answers:
        """The base alone."""
        before = Answering.of(self.old.features.base.rows, 1.0)
        return answers(before, self.grown.given.base_test.bottlenecks, 0)

    @cached_property
    def before(self) -> Flags:
        return self.asked_before.right(self.grown.given.base_test.labels)

    @cached_property
    def after(self) -> Flags:
        return self.of_base.right(self.grown.given.base_test.labels)


def figures(measured: Measured, elsewhere: Pool | None) -> dict[str, Any]:
    head, given = measured.grown.head, measured.grown.given
    right = measured.of_new.right(measured.truth)
    drop = measured_drop(measured.before, measured.after)
    rows = measured.old.features.base.rows
    others = np.zeros((0, len(rows.weights)), np.float32) if elsewhere is None else elsewhere.bottlenecks
    stolen = head.logits(others).argmax(axis=1) >= head.base_count
    same = head.weights[:, : head.base_count].tobytes() == rows.weights.tobytes()
    return {
        "base_before": _figure(proportion(measured.before)),
        "base_after": _figure(proportion(measured.after)),
        "base_drop": Figure(value=drop.value, low=drop.low, high=drop.high, n=drop.n),
        "new": _figure(proportion(right)),
        "new_closed": _figure(proportion(measured.closed)),
        "share": _figure(proportion(right[measured.closed])),
        "steals": _figure(proportion(measured.of_base.answer >= head.base_count)),
        "steals_elsewhere": _figure(proportion(stolen)),
        "calibration": calibrations(measured),
        "frontier": frontier(measured),
        "identical": bool(same and head.bias[: head.base_count].tobytes() == rows.bias.tobytes()),
        "solver": head.solver,
        "l2": head.l2,
        "offset": head.offset,
        "temperature": head.temperature,
        "scale": head.scale,
        "near": len(given.near),
        "evidence_images": {e.kind: len(e.bottlenecks) for e in given.fitted},
        "seconds": measured.grown.seconds,
    }


def _figure(share: Proportion) -> Figure:
    return Figure(value=share.value, low=share.low, high=share.high, n=share.n)


def calibrations(measured: Measured) -> dict[str, Calibration]:
    new, base = measured.of_new, measured.of_base
    right_new, right_base = new.right(measured.truth), measured.after
    both = joined(new, base)
    return {
        "base before": calibration(measured.asked_before.score, measured.before),
        "overall": calibration(both.score, np.concatenate([right_new, right_base])),
        "base": calibration(base.score, right_base),
        "new": calibration(new.score, right_new),
    }


def calibration(score: NDArray[np.float64], right: Flags) -> Calibration:
    found = calibration_error(score, right) or 0.0
    random = np.random.default_rng(0)
    drawn = [calibration_error(score, random.random(len(score)) < score) or 0.0 for _ in range(SIMULATIONS)]
    over = float(score.mean() - right.mean())
    floor, most = float(np.mean(drawn)), float(np.quantile(drawn, 0.95))
    return Calibration(error=found, floor=floor, most=most, over=over, n=len(score))


def frontier(measured: Measured) -> dict[str, list[float]]:
    """New accuracy, and its share of what the new categories reach among themselves, if the offset were moved until so many
    base images are lost: what the rows could do if somebody told them the right boundary."""
    head = measured.grown.head
    new = measured.new.sides[Side.TEST].bottlenecks
    given = measured.grown.given.base_test
    lost = np.sort(gaps(head.logits(given.bottlenecks), head.base_count)[measured.before])[::-1]
    won = gaps(head.logits(new), head.base_count)[measured.closed]
    n = len(measured.before)
    at = [_at(lost, won, int(k)) for k in DROPS if k < len(lost)]
    return {
        "drop": [k / n for k in range(len(at))],
        "new": [hits / len(new) for hits in at],
        "share": [hits / max(1, len(won)) for hits in at],
    }


def gaps(logits: Array, base_count: int) -> NDArray[np.float32]:
    found: NDArray[np.float32] = logits[:, base_count:].max(axis=1) - logits[:, :base_count].max(axis=1)
    return found


def _at(lost: NDArray[np.float32], won: NDArray[np.float32], allowed: int) -> int:
    """Rightly answered new images when the offset is as high as `allowed` lost base images let it be."""
    return int(np.sum(won > lost[allowed]))


def together(parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Several deals of one set: new images are different ones and add up; base images are the same ones, so their figures are means."""
    if len(parts) == 1:
        return parts[0]
    merged: dict[str, Any] = {}
    for name, first in parts[0].items():
        values = [part[name] for part in parts]
        if name in ("new", "new_closed", "share"):
            merged[name] = _summed(values)
        elif isinstance(first, Figure):
            merged[name] = _averaged(values)
        elif name == "calibration":
            merged[name] = {group: _calibrated([v[group] for v in values]) for group in first}
        elif name == "frontier":
            merged[name] = {axis: _mean_curve([v[axis] for v in values]) for axis in first}
        elif isinstance(first, bool):
            merged[name] = all(values)
        else:
            merged[name] = float(np.mean(values)) if isinstance(first, int | float) else first
    return merged


def _summed(parts: Sequence[Figure]) -> Figure:
    hits = sum(round(part.value * part.n) for part in parts)
    return _figure(Proportion.of(hits, sum(part.n for part in parts)))


def _averaged(parts: Sequence[Figure]) -> Figure:
    value, low, high = (
        float(np.mean([getattr(p, name) for p in parts])) for name in ("value", "low", "high")
    )
    return Figure(value=value, low=low, high=high, n=parts[0].n)


def _calibrated(parts: Sequence[Calibration]) -> Calibration:
    error, floor, most, over = (
        float(np.mean([getattr(p, name) for p in parts])) for name in ("error", "floor", "most", "over")
    )
    return Calibration(error=error, floor=floor, most=most, over=over, n=parts[0].n)


def _mean_curve(curves: Sequence[Sequence[float]]) -> list[float]:
    shortest = min(len(curve) for curve in curves)
    return [float(value) for value in np.mean([curve[:shortest] for curve in curves], axis=0)]
