"""Proves that the exported model is the fitted one, before anyone sees it: loads it back and asks both about the same images."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from expansion_contract.report import Category
from expansion_trainer.backbones.catalogue import Backbone
from expansion_trainer.export.loaded_model import Answer, LoadedModel, stored_categories, stored_head
from expansion_trainer.head.fit import FittedHead

TOLERANCE = 0.01
"""Of a probability. Batches of another size round otherwise; a wrong resize or a wrong row is far outside."""

Array = NDArray[np.float32]


class ExportMismatch(Exception):
    """The exported model does not answer as the fitted one: a defect of ours, never of the images."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Sample:
    image: bytes  # the file as it lies in storage
    bottleneck: Array  # (D,), the one the head was measured on


def check(
    folder: Path,
    model: LoadedModel,
    head: FittedHead,
    categories: Sequence[Category],
    samples: Sequence[Sample],
) -> None:
    """Raises ExportMismatch if the head, the names or the answers differ."""
    weights, bias = stored_head(folder)
    if not (np.array_equal(weights, head.weights) and np.array_equal(bias, head.bias)):
        raise ExportMismatch("The exported head is not the fitted one.")
    if stored_categories(folder) != list(categories):
        raise ExportMismatch("The exported categories are not the run's.")
    if samples:
        _compare(model, head, [category.name for category in categories], samples)


def base_rows_identical(folder: Path, backbone: Backbone) -> bool:
    """Are the base's rows on the disk the pretrained ones, bit by bit?"""
    weights, bias = stored_head(folder)
    count = len(backbone.head_bias)
    return bool(
        weights[:, :count].tobytes() == backbone.head_weights.tobytes()
        and bias[:count].tobytes() == backbone.head_bias.tobytes()
    )


def _compare(model: LoadedModel, head: FittedHead, names: Sequence[str], samples: Sequence[Sample]) -> None:
    images = [sample.image for sample in samples]
    expected = probabilities(head, np.stack([sample.bottleneck for sample in samples]))
    difference = float(np.abs(model.probabilities(images) - expected).max())
    if difference > TOLERANCE:
        raise ExportMismatch(
            f"A probability of the exported model differs by {difference:.4f} from the fitted one's."
        )
    for answer, row in zip(model.answers(images), expected, strict=True):
        _compare_answer(answer, row, names)


def _compare_answer(answer: Answer, row: Array, names: Sequence[str]) -> None:
    """Names may change places only where their scores are as good as equal; two categories may share a name."""
    for place, (name, score) in enumerate(zip(answer.names, answer.scores, strict=True)):
        nearest = min(abs(float(row[index]) - score) for index, known in enumerate(names) if known == name)
        if nearest > TOLERANCE or abs(float(np.sort(row)[-1 - place]) - score) > TOLERANCE:
            raise ExportMismatch(
                f"The exported model answers {name!r} with {score:.4f}, which the fitted one does not."
            )


def probabilities(head: FittedHead, bottlenecks: Array) -> Array:
    """(n, D) to (n, C), as the exported model computes them."""
    logits = head.logits(bottlenecks) / np.float32(head.temperature)
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    result: Array = powers / powers.sum(axis=1, keepdims=True)
    return result
