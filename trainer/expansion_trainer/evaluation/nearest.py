"""Which old categories lie near new ones: their pictures say most about where the boundary may lie. NumPy only.

Near are those among the base's first answers to the mean of a new category. One picture of each of them helps more than one of every
old category does: an old picture that a new category could take shows something near it.
"""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from expansion_contract.report import Category, NearCategory
from expansion_trainer.head.answering import Answering, folded_logits
from expansion_trainer.head.material import Labelled
from expansion_trainer.head.softmax import Array, Labels

FIRST = 5
"""Answers to the mean of a new category."""
LISTED = 200
"""Old categories in a report, the nearest first."""
NEAR_TO = 5
"""New categories named with each of them."""


def nearest(base: Answering, training: Labelled, categories: Sequence[str]) -> dict[int, tuple[str, ...]]:
    """Index of an old category to the new ones it is near to; those that are the very first answer stand first.

    `training`: labelled by place in `categories`.
    """
    seen = np.unique(training.labels)
    means = np.stack([_mean(training, label) for label in seen.tolist()])
    first = _first(base, means)
    near: dict[int, list[str]] = defaultdict(list)
    for column in range(first.shape[1]):
        for label, index in zip(seen.tolist(), first[:, column].tolist(), strict=True):
            near[index].append(categories[label])
    return {index: tuple(names) for index, names in near.items()}


def _mean(images: Labelled, label: int) -> Array:
    mean: Array = images.bottlenecks[images.labels == label].mean(axis=0, dtype=np.float64).astype(np.float32)
    return mean


def _first(base: Answering, means: Array) -> Labels:
    """(U, FIRST) or fewer, the base's best answers by index."""
    logits = folded_logits(base.logits(means), base.answers_as)
    answering = int((base.answers_as == np.arange(len(base.answers_as))).sum())
    first: Labels = np.argsort(-logits, axis=1, kind="stable")[:, : min(FIRST, answering)]
    return first


def near_categories(
    near: dict[int, tuple[str, ...]], base: Sequence[Category], images: Labels
) -> list[NearCategory]:
    """`images`: (B,), how many pictures of each old category there are."""
    return [
        NearCategory(
            index=index,
            name=base[index].name,
            uid=base[index].uid,
            near=list(names[:NEAR_TO]),
            images=int(images[index]),
        )
        for index, names in list(near.items())[:LISTED]
    ]
