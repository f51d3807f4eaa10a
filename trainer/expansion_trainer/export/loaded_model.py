"""Reads an exported model as a stranger does: nothing of the trainer is asked, only the SavedModel and the files beside it."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from expansion_contract import layout
from expansion_contract.report import Category

SERVING = "serving_default"
PROBABILITIES = "probabilities"
INPUT = "image_bytes"
_VARIABLES = "variables/variables"
_VALUE = "/.ATTRIBUTES/VARIABLE_VALUE"

Array = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What the model says of one image, best first."""

    names: tuple[str, ...]
    scores: tuple[float, ...]
    outcome: str  # known, unsure or unknown
    known_score: float


class LoadedModel:
    def __init__(self, folder: Path) -> None:
        loaded = tf.saved_model.load(str(folder))
        self._loaded = loaded  # the signatures do not keep the variables alive
        self._serve = loaded.signatures[SERVING]
        self._probabilities = loaded.signatures[PROBABILITIES]

    def answers(self, images: Sequence[bytes]) -> list[Answer]:
        out = self._serve(**{INPUT: tf.constant(list(images), tf.string)})
        columns = (out[name].numpy() for name in ("names", "scores", "outcome", "known_score"))
        return [
            Answer(
                names=tuple(name.decode() for name in names),
                scores=tuple(map(float, scores)),
                outcome=outcome.decode(),
                known_score=float(known_score),
            )
            for names, scores, outcome, known_score in zip(*columns, strict=True)
        ]

    def probabilities(self, images: Sequence[bytes]) -> Array:
        """(n, C)"""
        out: Array = self._probabilities(**{INPUT: tf.constant(list(images), tf.string)})[
            PROBABILITIES
        ].numpy()
        return out


def stored_head(folder: Path) -> tuple[Array, Array]:
    """Weights (D, C) and bias (C,) as they lie on the disk."""
    checkpoint = tf.train.load_checkpoint(str(folder / _VARIABLES))
    weights: Array = checkpoint.get_tensor(f"head_weights{_VALUE}")
    bias: Array = checkpoint.get_tensor(f"head_bias{_VALUE}")
    return weights, bias


def stored_projection(folder: Path) -> tuple[Array, Array] | None:
    """The matrix (D, P) and the weights (P, C) that stand beside the head, where there is a random projection."""
    checkpoint = tf.train.load_checkpoint(str(folder / _VARIABLES))
    if not checkpoint.has_tensor(f"projection{_VALUE}"):
        return None
    return checkpoint.get_tensor(f"projection{_VALUE}"), checkpoint.get_tensor(f"projected_weights{_VALUE}")


def stored_categories(folder: Path) -> list[Category]:
    return [Category.model_validate(value) for value in json.loads((folder / layout.CATEGORIES).read_bytes())]
