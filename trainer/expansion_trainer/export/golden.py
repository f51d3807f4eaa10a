"""Chooses a few small images and writes down what the model answers to them, so that whoever loads it can ask the same."""

import base64
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from expansion_contract import layout
from expansion_contract.version import Golden, GoldenImage
from expansion_trainer.export.loaded_model import Answer, LoadedModel

IMAGES = 8
LARGEST = 64 * 1024
"""Bytes of one image: the file is read whole by every model server."""
TOLERANCE = 0.01
"""Of a score. Another processor rounds otherwise (below 0.0001 seen, a GPU's TF32 up to 0.003); a broken model is far outside."""
NEAR = 0.02
"""Of a known score to its threshold."""
_SIDES = (320, 224, 128, 64)

Picture = NDArray[np.uint8]  # (height, width, 3), RGB


def write(folder: Path, model: LoadedModel, images: Sequence[bytes]) -> Golden:
    """`images`: as `chosen` gave them. The answers are the loaded model's own."""
    golden = Golden(
        tolerance=TOLERANCE,
        images=[
            GoldenImage(
                image=base64.b64encode(image).decode(), names=list(answer.names), scores=list(answer.scores)
            )
            for image, answer in zip(images, model.answers(images), strict=True)
        ],
    )
    target = folder / layout.GOLDEN
    target.parent.mkdir(exist_ok=True)
    target.write_bytes(golden.to_json())
    return golden


def chosen(
    model: LoadedModel, test_images: Iterable[bytes], drawn: Picture, threshold: float | None = None
) -> list[bytes]:
    """The test images with the clearest answers, made small, and one picture drawn by a program as a PNG file.

    A clear answer keeps its place when another processor rounds otherwise. `threshold`: of the known score, where an answer gets
    another name; what lies at it is no clear answer.
    """
    small = [image for image in map(small_jpeg, test_images) if image is not None]
    png = _small(Image.fromarray(drawn), "PNG")
    answers = model.answers([*small, png])
    clear = [not _is_near(answer.known_score, threshold) for answer in answers]
    order = sorted(range(len(small)), key=lambda index: -_margin(answers[index]))
    best = [small[index] for index in order if clear[index]][: IMAGES - 1]
    return [*best, png] if clear[-1] or not best else best


def _is_near(known_score: float, threshold: float | None) -> bool:
    return threshold is not None and abs(known_score - threshold) <= NEAR


def small_jpeg(image: bytes) -> bytes | None:
    """None for what Pillow cannot read; TensorFlow could, so it is no reason to stop."""
    try:
        return _small(Image.open(io.BytesIO(image)).convert("RGB"), "JPEG")
    except (OSError, ValueError, Image.DecompressionBombError):
        return None


def _small(picture: Image.Image, kind: str) -> bytes:
    """As large as it may be. The smallest side fits whatever is on the picture: 64 x 64 x 3 bytes are 12 KiB."""
    return next(file for side in _SIDES if len(file := _encoded(picture, kind, side)) <= LARGEST)


def _encoded(picture: Image.Image, kind: str, side: int) -> bytes:
    small, out = picture.copy(), io.BytesIO()
    small.thumbnail((side, side))
    small.save(out, kind, quality=90)
    return out.getvalue()


def _margin(answer: Answer) -> float:
    return answer.scores[0] - (answer.scores[1] if len(answer.scores) > 1 else 0.0)
