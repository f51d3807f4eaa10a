"""Pictures for docs/how-it-works.md: what a steal is, and what a temperature does, on real images."""

from pathlib import Path

import numpy as np
from scipy.special import softmax

from expansion_benchmarks import svg
from expansion_benchmarks.features import Array, Labels, Pool
from expansion_benchmarks.figures import gaps
from expansion_benchmarks.sets import NewSet
from expansion_trainer.dataset.split import Side
from expansion_trainer.evaluation.metrics import binned
from expansion_trainer.head.fit import FittedHead

WIDE = 12.0
"""Logits to each side that are drawn."""
STRIPS = 48


def steals(bare: FittedHead, ours: FittedHead, new: NewSet, base: Pool, title: str, path: Path) -> None:
    """How far new categories are ahead of old ones, for images of both, with rows that saw old images and rows that did not."""
    lines = [
        svg.Line(name="new wins from here on", xs=[0, 0], ys=[0, 100], colour=6, dashed=True),
        _density("old images, no evidence", bare, base, 4, dashed=True),
        _density("new images, no evidence", bare, new.sides[Side.TEST], 0, dashed=True),
        _density("old images, with evidence", ours, base, 4),
        _density("new images, with evidence", ours, new.sides[Side.TEST], 0),
    ]
    highest = max(max(line.ys) for line in lines[1:])
    plot = svg.Plot(
        title=title,
        x="best new logit less best old logit",
        y="share of the images, per cent",
        lines=lines,
        span_x=(-WIDE, WIDE),
        span_y=(0, 2 * np.ceil(highest / 2 + 0.2)),
    )
    svg.write(plot, path)


def _density(name: str, head: FittedHead, pool: Pool, colour: int, dashed: bool = False) -> svg.Line:
    edges = np.linspace(-WIDE, WIDE, STRIPS + 1)
    found = np.clip(gaps(head.logits(pool.bottlenecks), head.base_count), -WIDE, WIDE)
    counts = np.histogram(found, edges)[0]
    smooth = np.convolve(counts, [0.25, 0.5, 0.25], mode="same")
    middles = (edges[1:] + edges[:-1]) / 2
    return svg.Line(
        name=name, xs=middles.tolist(), ys=(100 * smooth / len(found)).tolist(), colour=colour, dashed=dashed
    )


def temperature(head: FittedHead, new: NewSet, base: Pool, title: str, path: Path) -> None:
    """Score against the share of right answers, in bins of equally many images, before and after the temperature."""
    images = np.concatenate([new.sides[Side.TEST].bottlenecks, base.bottlenecks])
    truth = np.concatenate([new.sides[Side.TEST].labels + head.base_count, base.labels])
    logits = head.logits(images)
    lines = [
        svg.Line(name="as sure as right", xs=[0, 100], ys=[0, 100], dashed=True, colour=6),
        _reliability("before: temperature 1", logits, truth, 1.0),
        _reliability(f"after: temperature {head.temperature:.2f}", logits, truth, head.temperature),
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


def _reliability(name: str, logits: Array, truth: Labels, temperature: float) -> svg.Line:
    scores = softmax(logits.astype(np.float64) / temperature, axis=1)
    right = scores.argmax(axis=1) == truth
    highest = scores.max(axis=1)
    bins = binned(highest)
    return svg.Line(
        name=name,
        xs=[100 * float(highest[members].mean()) for members in bins],
        ys=[100 * float(right[members].mean()) for members in bins],
    )
