"""The joint bound: every row, the base's too, fitted anew on real images of all categories. What these bottlenecks allow at most.

Only where there are enough images of every category and little enough of it all; else it says why not.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import logsumexp

from expansion_trainer.head import softmax
from expansion_trainer.head.evidence import Evidence
from expansion_trainer.head.material import Labelled, Scale
from expansion_trainer.head.softmax import Problem, Rows

FEWEST = 5
"""Real images of a base category without which its row would be guesswork, and the bound none."""
MOST_WORK = 5e8
"""Images times categories times numbers of a bottleneck: about a minute on one core."""
L2_GRID = (1e-3, 1e-4, 1e-5)


@dataclass(frozen=True, kw_only=True, eq=False)
class Joint:
    rows: Rows | None  # F columns, as the fitted head's
    why_not: str = ""


def joint(
    base_count: int,
    training: Labelled,
    validation: Labelled,
    evidence: Sequence[Evidence],
    calibration: Sequence[Evidence],
) -> Joint:
    """`training` and `validation`: labelled by fitted column, or by new category where there is no base."""
    fitted = _together(training, evidence)
    chosen_on = _together(validation, calibration)
    categories = int(training.labels.max(initial=-1)) + 1
    why_not = _refusal(fitted, base_count, categories)
    if why_not:
        return Joint(rows=None, why_not=why_not)
    scale = Scale.of(fitted.bottlenecks)
    problem = _problem(fitted, scale, categories)
    found: list[tuple[float, Rows]] = []
    start: Rows | None = None
    for l2 in L2_GRID if len(chosen_on) else L2_GRID[1:2]:
        start = softmax.fit(problem, l2, start)
        rows = scale.undo(start)
        found.append((_loss(rows, chosen_on), rows))
    return Joint(rows=min(found, key=lambda one: one[0])[1])


def _together(new: Labelled, evidence: Sequence[Evidence]) -> Labelled:
    real = [e for e in evidence if e.labels is not None]
    return Labelled(
        bottlenecks=np.concatenate([new.bottlenecks, *(e.bottlenecks for e in real)]),
        labels=np.concatenate([new.labels, *(e.labels for e in real if e.labels is not None)]),
    )


def _refusal(fitted: Labelled, base_count: int, categories: int) -> str:
    counts = np.bincount(fitted.labels, minlength=categories)[:base_count]
    few = int((counts < FEWEST).sum())
    if few:
        return (
            f"{few} of {base_count} base categories have fewer than {FEWEST} images to fit on; spec.replay with {FEWEST} of each"
            " would allow it."
        )
    work = float(len(fitted)) * categories * fitted.bottlenecks.shape[1]
    if work > MOST_WORK:
        return (
            f"Fitting {categories} rows on {len(fitted)} images of {fitted.bottlenecks.shape[1]} numbers would take about"
            f" {work / MOST_WORK:.0f} minutes and change nothing in the model."
        )
    return ""


def _problem(fitted: Labelled, scale: Scale, categories: int) -> Problem:
    counts = np.bincount(fitted.labels, minlength=categories)
    return Problem(
        bottlenecks=scale.apply(fitted.bottlenecks),
        rivals=np.full(len(fitted), -np.inf),
        targets=fitted.labels,
        masses=1 / (categories * counts[fitted.labels].astype(np.float64)),
        categories=categories,
    )


def _loss(rows: Rows, images: Labelled) -> float:
    """Balanced, of images that were not fitted on."""
    if len(images) == 0:
        return 0.0
    z = rows.logits(images.bottlenecks).astype(np.float64)
    counts = np.bincount(images.labels)
    losses = logsumexp(z, axis=1) - z[np.arange(len(z)), images.labels]
    return float(np.average(losses, weights=1 / counts[images.labels]))
