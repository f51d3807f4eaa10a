"""Proves that the exported model is the fitted one, before anyone sees it: loads it back and asks both about the same images."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from expansion_contract.dataset import UNKNOWN
from expansion_trainer.backbones.catalogue import Backbone
from expansion_trainer.export.loaded_model import (
    Answer,
    LoadedModel,
    stored_categories,
    stored_head,
    stored_projection,
)
from expansion_trainer.export.saved_model import Exported
from expansion_trainer.head.answering import folded
from expansion_trainer.head.unknown import OUTCOMES, Detector

TOLERANCE = 0.01
"""Of a probability. Batches of another size round otherwise; a wrong resize or a wrong row is far outside."""
KNOWN_TOLERANCE = 0.1
"""Of a known score, a share of held-out images: where these lie close together, a small difference passes many of them."""

Array = NDArray[np.float32]


class ExportMismatch(Exception):
    """The exported model does not answer as the fitted one: a defect of ours, never of the images."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Sample:
    image: bytes  # the file as it lies in storage
    bottleneck: Array  # (D,), the one the head was measured on


def check(folder: Path, model: LoadedModel, exported: Exported, samples: Sequence[Sample]) -> None:
    """Raises ExportMismatch if the head, the names or the answers differ."""
    weights, bias = stored_head(folder)
    if not (np.array_equal(weights, exported.weights) and np.array_equal(bias, exported.bias)):
        raise ExportMismatch("The exported head is not the fitted one.")
    if not _same_projection(stored_projection(folder), exported):
        raise ExportMismatch("The exported projection is not the fitted one.")
    if stored_categories(folder) != list(exported.categories):
        raise ExportMismatch("The exported categories are not the run's.")
    if not base_rows_identical(folder, exported):
        raise ExportMismatch("The base's rows of the exported model are not the pretrained ones.")
    if samples:
        _compare(model, exported, samples)


def _same_projection(stored: tuple[Array, Array] | None, exported: Exported) -> bool:
    if stored is None or exported.projected is None:
        return stored is None and exported.projected is None
    matrix, weights = stored
    fitted = exported.placed(exported.projected.weights)
    return np.array_equal(matrix, exported.projected.projection.matrix) and np.array_equal(weights, fitted)


def base_rows_identical(folder: Path, exported: Exported) -> bool:
    """Are the pretrained network's own rows on the disk, bit by bit, wherever their indices are? True without a base."""
    weights, bias = stored_head(folder)
    beside = stored_projection(folder)
    frozen = _frozen(exported.backbone, exported)
    return bool(
        weights[:, frozen].tobytes() == exported.backbone.head_weights[:, : len(frozen)].tobytes()
        and bias[frozen].tobytes() == exported.backbone.head_bias[: len(frozen)].tobytes()
        and (beside is None or not beside[1][:, frozen].any())
    )


def _frozen(backbone: Backbone, exported: Exported) -> NDArray[np.int64]:
    """The index of each of the pretrained network's columns; none in mode Replace."""
    count = len(backbone.head_bias) if exported.head.base_count else 0
    return np.arange(count) if exported.columns is None else exported.columns.base[:count]


def _compare(model: LoadedModel, exported: Exported, samples: Sequence[Sample]) -> None:
    images = [sample.image for sample in samples]
    bottlenecks = np.stack([sample.bottleneck for sample in samples])
    expected = exported.answering.probabilities(bottlenecks)
    difference = float(np.abs(model.probabilities(images) - expected).max())
    if difference > TOLERANCE:
        raise ExportMismatch(
            f"A probability of the exported model differs by {difference:.4f} from the fitted one's."
        )
    names = [category.name for category in exported.categories]
    answers = model.answers(images)
    for answer, row in zip(answers, expected, strict=True):
        _compare_answer(answer, row, names, exported.unknown_in_answers)
    if exported.detector is not None:
        _compare_outcomes(answers, exported.detector, bottlenecks, exported.answering.logits(bottlenecks))


def _compare_answer(answer: Answer, row: Array, names: Sequence[str], unknown_in_answers: bool) -> None:
    """Names may change places only where their scores are as good as equal; two categories may share a name."""
    for place, (name, score) in enumerate(zip(answer.names, answer.scores, strict=True)):
        if place == 0 and unknown_in_answers and answer.outcome == name == UNKNOWN:
            continue
        nearest = min(abs(float(row[index]) - score) for index, known in enumerate(names) if known == name)
        if nearest > TOLERANCE or abs(float(np.sort(row)[-1 - place]) - score) > TOLERANCE:
            raise ExportMismatch(
                f"The exported model answers {name!r} with {score:.4f}, which the fitted one does not."
            )


def _compare_outcomes(
    answers: Sequence[Answer], detector: Detector, bottlenecks: Array, logits: Array
) -> None:
    """An outcome may differ where its score lies at a threshold; the score only where two groups answer as good as equally."""
    scores, outcomes = detector.scores(bottlenecks, logits), detector.outcomes(bottlenecks, logits)
    certain = _of_certain_group(detector, folded(logits, detector.answers_as))
    for place in np.flatnonzero(certain).tolist():
        answer, score, outcome = answers[place], float(scores[place]), OUTCOMES[int(outcomes[place])]
        if abs(answer.known_score - score) > KNOWN_TOLERANCE:
            raise ExportMismatch(
                f"The exported model's known score is {answer.known_score:.4f}, the fitted one's {score:.4f}."
            )
        is_near = abs(score - (1 - detector.coverage)) <= KNOWN_TOLERANCE
        if (answer.outcome == UNKNOWN) != (outcome == UNKNOWN) and not is_near:
            raise ExportMismatch(
                f"The exported model says {answer.outcome} with {score:.4f}, the fitted one {outcome}."
            )


def _of_certain_group(detector: Detector, probabilities: Array) -> NDArray[np.bool_]:
    """(n,) where no category of another group is about as probable as the answer."""
    answer = probabilities.argmax(axis=1)
    elsewhere = detector.groups[None, :] != detector.groups[answer][:, None]
    rival = np.where(elsewhere, probabilities, 0).max(axis=1)
    certain: NDArray[np.bool_] = probabilities.max(axis=1) - rival > 2 * TOLERANCE
    return certain
