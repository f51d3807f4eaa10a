"""Pictures for docs/how-it-works.md: what a steal is, and what temperature and scale do, on real images."""

from pathlib import Path

import numpy as np

from expansion_benchmarks import svg
from expansion_benchmarks.features import Array, Labels, Pool
from expansion_benchmarks.figures import gaps
from expansion_benchmarks.sets import NewSet
from expansion_trainer.dataset.split import Side
from expansion_trainer.evaluation.metrics import binned
from expansion_trainer.head.answering import Answering
from expansion_trainer.head.fit import FittedHead

STRIPS = 80
SELDOM = 0.5
"""Per cent of the images of a curve that may lie outside of the picture, on each side."""
Gaps = dict[str, Array]


def steals(bare: FittedHead, ours: FittedHead, new: NewSet, base: Pool, title: str, path: Path) -> None:
    """How far new categories are ahead of old ones, for images of both, with rows that saw old images and rows that did not."""
    tests = new.sides[Side.TEST]
    found = {
        "old images, no evidence": _gaps(bare, base),
        "new images, no evidence": _gaps(bare, tests),
        "old images, with evidence": _gaps(ours, base),
        "new images, with evidence": _gaps(ours, tests),
    }
    span = _span(found)
    curves = [
        _density(name, gap, span, colour=4 if name.startswith("old") else 0, dashed="no evidence" in name)
        for name, gap in found.items()
    ]
    highest = max(max(line.ys) for line in curves)
    plot = svg.Plot(
        title=title,
        x="best new logit less best old logit",
        y="share of the images, per cent",
        lines=[
            svg.Line(name="new wins from here on", xs=[0, 0], ys=[0, 100], colour=6, dashed=True),
            *curves,
        ],
        span_x=span,
        span_y=(0, 2 * np.ceil(highest / 2 + 0.2)),
    )
    svg.write(plot, path)


def _gaps(head: FittedHead, pool: Pool) -> Array:
    return gaps(head.logits(pool.bottlenecks), head.base_count)


def _span(found: Gaps) -> tuple[float, float]:
    low = min(np.percentile(gap, SELDOM) for gap in found.values())
    high = max(np.percentile(gap, 100 - SELDOM) for gap in found.values())
    return float(np.floor(low)), float(np.ceil(high))


def _density(name: str, gap: Array, span: tuple[float, float], colour: int, dashed: bool) -> svg.Line:
    edges = np.linspace(*span, STRIPS + 1)
    counts = np.histogram(gap, edges)[0]
    smooth = np.convolve(counts, [0.25, 0.5, 0.25], mode="same")
    middles = (edges[1:] + edges[:-1]) / 2
    return svg.Line(
        name=name, xs=middles.tolist(), ys=(100 * smooth / len(gap)).tolist(), colour=colour, dashed=dashed
    )


def temperature(head: FittedHead, new: NewSet, base: Pool, title: str, path: Path) -> None:
    """Score against the share of right answers, in bins of equally many images, before and after temperature and scale."""
    images = np.concatenate([new.sides[Side.TEST].bottlenecks, base.bottlenecks])
    truth = np.concatenate([new.sides[Side.TEST].labels + head.base_count, base.labels])
    before, after = Answering.of(head, 1.0), Answering.of_head(head)
    lines = [
        svg.Line(name="as sure as right", xs=[0, 100], ys=[0, 100], dashed=True, colour=6),
        _reliability("before: temperature 1", before.probabilities(images), truth),
        _reliability(
            f"after: {head.temperature:.2f}, scale {head.scale:.2f}",
            after.probabilities(images),
            truth,
        ),
    ]
    plot = svg.Plot(
        title=title,
        x="score of the answer, per cent",
        y="answers that are right, per cent",
        lines=lines,
        span_x=(0, 100),
        span_y=(0, 100),
    )
    svg.write(plot, path)


def _reliability(name: str, scores: Array, truth: Labels) -> svg.Line:
    right = scores.argmax(axis=1) == truth
    highest = scores.max(axis=1)
    bins = binned(highest)
    return svg.Line(
        name=name,
        xs=[100 * float(highest[members].mean()) for members in bins],
        ys=[100 * float(right[members].mean()) for members in bins],
    )
