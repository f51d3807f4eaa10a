"""Asks an exported model about image files."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from expansion_trainer.bottlenecks.decode import why_undecodable
from expansion_trainer.export.loaded_model import LoadedModel, stored_categories


def label(folder: Path, images: Sequence[tuple[Path, bytes]], top: int) -> list[dict[str, Any]]:
    """For each image its `top` best answers, or what is wrong with it: one bad file spoils nobody else's answer."""
    model = LoadedModel(folder)
    names = [category.name for category in stored_categories(folder)]
    return [{"image": str(path), **_answered(model, names, content, top)} for path, content in images]


def _answered(model: LoadedModel, names: Sequence[str], image: bytes, top: int) -> dict[str, Any]:
    try:
        scores = model.probabilities([image])[0]
    except tf.errors.OpError:
        return {"error": f"{why_undecodable(image)}."}
    best = np.argsort(-scores, kind="stable")[:top]
    return {"answers": [{"name": names[index], "score": round(float(scores[index]), 6)} for index in best]}
