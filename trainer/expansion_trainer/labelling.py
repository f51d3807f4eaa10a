"""Asks an exported model about image files: what they show, and whether it is anything that the model knows."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from expansion_contract.report import Category
from expansion_trainer.bottlenecks.decode import why_undecodable
from expansion_trainer.export.loaded_model import LoadedModel, stored_categories


def label(folder: Path, images: Sequence[tuple[Path, bytes]], top: int) -> list[dict[str, Any]]:
    """For each image its `top` best answers and whether it is known at all, or what is wrong with it: one bad file spoils nobody else's answer."""
    model = LoadedModel(folder)
    names = [_name(category) for category in stored_categories(folder)]
    return [{"image": str(path), **_answered(model, names, content, top)} for path, content in images]


def _name(category: Category) -> str | None:
    """None if it never answers: its probability is 0, or its target's."""
    return category.name if category.state == "active" and category.alias_of is None else None


def _answered(model: LoadedModel, names: Sequence[str | None], image: bytes, top: int) -> dict[str, Any]:
    try:
        scores = model.probabilities([image])[0]
        (answer,) = model.answers([image])
    except tf.errors.OpError:
        return {"error": f"{why_undecodable(image)}."}
    best = np.argsort(-scores, kind="stable")[: min(top, len(names))]
    return {
        "answers": [
            {"name": names[index], "score": round(float(scores[index]), 6)}
            for index in best
            if names[index] is not None
        ],
        "outcome": answer.outcome,
        "known_score": round(answer.known_score, 6),
    }
