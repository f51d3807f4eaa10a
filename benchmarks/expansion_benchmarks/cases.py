"""One case of the table: what is given about the old categories becomes exactly what a run would hand to the fit."""

import hashlib
import time
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np

from expansion_benchmarks.features import Array, Features, Labels, Pool
from expansion_benchmarks.sets import NewSet
from expansion_contract.resource import Solver, Split
from expansion_trainer.dataset.split import Side, side_of
from expansion_trainer.evaluation.nearest import LISTED, nearest
from expansion_trainer.head import statistics as sums
from expansion_trainer.head.answering import Answering
from expansion_trainer.head.evidence import Evidence
from expansion_trainer.head.fit import FittedHead
from expansion_trainer.head.softmax import Rows
from expansion_trainer.head.solve import Options, solve
from expansion_trainer.head.statistics import Statistics
from expansion_trainer.packs import core as cores
from expansion_trainer.sides import picture_rows

Kind = Literal["replay", "unlabelled"]
EVIDENCE = ("replay", "unlabelled", "near", "pack", "none")
REPLAY, BASE_TEST = "imagenet-one-per-category", "imagenet-val"
UNLABELLED = 300
EVIDENCE_SPLIT = Split(validation_percent=10, test_percent=10)
OPTIONS = Options(solver=Solver.AUTO, steal_budget=0.005, seed=0)


@dataclass(frozen=True, kw_only=True)
class Old:
    """Images of old categories, for one network."""

    features: Features
    data: Path

    @cached_property
    def one_each(self) -> Pool:
        return self._pool(REPLAY)

    @cached_property
    def held_out(self) -> Pool:
        return self._pool(BASE_TEST)

    def _pool(self, folder: str) -> Pool:
        return self.features.pool(self.data / "images" / folder, self.features.base.uids)


@dataclass(frozen=True, kw_only=True, eq=False)
class Given:
    """Divided as the product divides it; its own test side is not used, the base is measured on other images."""

    fitted: tuple[Evidence, ...]
    calibration: tuple[Evidence, ...]
    base_test: Pool
    statistics: Statistics | None = None
    near: Labels = field(default_factory=lambda: np.zeros(0, np.int64))
    """Old categories whose image was asked for."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Grown:
    head: FittedHead
    given: Given
    seconds: float  # of this process on one core, whatever else the machine does


def grown(evidence: str, new: NewSet, old: Old, options: Options = OPTIONS) -> Grown:
    return solved(new, given(evidence, new, old), old, options)


def solved(new: NewSet, what: Given, old: Old, options: Options = OPTIONS) -> Grown:
    started = time.process_time()
    head = solve(
        old.features.base.rows,
        new.sides[Side.TRAINING].labelled,
        new.sides[Side.VALIDATION].labelled,
        what.fitted,
        what.calibration,
        options,
        what.statistics,
        None,
    )
    return Grown(head=head, given=what, seconds=time.process_time() - started)


def given(evidence: str, new: NewSet, old: Old) -> Given:
    nothing = Given(
        fitted=(drawn(old.features.pictures, Side.TRAINING),),
        calibration=(drawn(old.features.pictures, Side.VALIDATION),),
        base_test=old.held_out,
    )
    if evidence == "none":
        return nothing
    if evidence == "replay":
        return _with(nothing, "replay", old.one_each)
    if evidence == "pack":
        return _packed(nothing, old.one_each, len(old.features.base.names))
    first, rest = photographs(old.held_out)
    half = replace(_with(nothing, "unlabelled", first), base_test=rest)
    if evidence == "unlabelled":
        return half
    near = near_categories(old.features.base.rows, new)
    return replace(_with(half, "replay", old.one_each.some(np.isin(old.one_each.labels, near))), near=near)


def photographs(pool: Pool) -> tuple[Pool, Pool]:
    """UNLABELLED of them, to be given without their labels, and the rest. By content, but not by the digest that deals out sides:
    those with the lowest would all be test images."""
    drawn = np.argsort(
        [hashlib.sha256(f"unlabelled {digest}".encode()).hexdigest() for digest in pool.digests]
    )
    return pool.some(drawn[:UNLABELLED]), pool.some(drawn[UNLABELLED:])


def _with(given: Given, kind: Kind, pool: Pool) -> Given:
    parts = divided(pool)
    return replace(
        given,
        fitted=(_evidence(kind, parts[Side.TRAINING]), *given.fitted),
        calibration=(_evidence(kind, parts[Side.VALIDATION]), *given.calibration),
    )


def divided(pool: Pool) -> dict[Side, Pool]:
    sides = np.array([side_of(digest, EVIDENCE_SPLIT) for digest in pool.digests.tolist()])
    return {side: pool.some(sides == side) for side in Side}


def _packed(given: Given, pool: Pool, categories: int) -> Given:
    """What a pack built from these images holds: the core's bottlenecks, and sums."""
    core = cores.chosen(pool.bottlenecks, pool.labels, pool.digests.tolist())
    sides = [core.where(flags) for flags in (~core.calibrates, core.calibrates)]
    fitted, calibrating = (
        Evidence(kind="pack", bottlenecks=side.bottlenecks, labels=side.labels) for side in sides
    )
    return replace(
        given,
        fitted=(fitted, *given.fitted),
        calibration=(calibrating, *given.calibration),
        statistics=sums.of(pool.bottlenecks, pool.labels, categories),
    )


def _evidence(kind: Kind, pool: Pool) -> Evidence:
    labels = None if kind == "unlabelled" else pool.labels
    return Evidence(kind=kind, bottlenecks=pool.bottlenecks, labels=labels)


def drawn(pictures: Array, side: Side) -> Evidence:
    return Evidence(kind="procedural", bottlenecks=pictures[picture_rows(len(pictures), side)])


def near_categories(base: Rows, new: NewSet) -> Labels:
    """Old categories of which a report would ask for pictures."""
    training = new.sides[Side.TRAINING].labelled
    return np.array(list(nearest(Answering.of(base, 1.0), training, new.categories))[:LISTED], np.int64)
