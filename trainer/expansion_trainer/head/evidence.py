"""What stands for the old categories when new rows are fitted, and pictures drawn by a program that need no data at all.

A procedural image is colour noise whose amplitude falls as 1/f^a, as in photographs (a near 1), with a few shapes on it.
Its bottleneck is certainly none of the new categories, and it teaches their rows where the old ones must keep the answer:
outlier exposure (Hendrycks 2019) with the images of "learning to see by looking at noise" (Baradad 2021).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

Array = NDArray[np.float32]
Picture = NDArray[np.uint8]  # (size, size, 3), RGB

FALL_OFF = (0.6, 2.2)  # a: 0 is white noise, 2 is clouds
MOST_SHAPES = 14
PROCEDURAL_IMAGES = 500
"""As many as a run draws; measured in benchmarks/README.md."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Evidence:
    """Bottlenecks of images that belong to no new category. Replay images come from the user, a pack's with the base model."""

    kind: Literal["replay", "pack", "unlabelled", "procedural"]
    bottlenecks: Array  # (n, D)
    labels: NDArray[np.int64] | None = None  # (n,), base categories; only of replay and pack known
    copies: Array | None = None  # (n, k, D), distorted copies of each; they teach and judge nothing


def procedural_images(count: int, size: int, seed: int) -> Iterator[Picture]:
    """The first `count` pictures of this seed."""
    return (procedural_image(index, size, seed) for index in range(count))


def procedural_image(index: int, size: int, seed: int) -> Picture:
    """One picture, the same whichever others are drawn, so that workers can share them out."""
    random = np.random.default_rng((seed, index))
    picture = Image.fromarray(_colour_noise(size, random))
    draw = ImageDraw.Draw(picture)
    for _ in range(random.integers(0, MOST_SHAPES + 1)):
        _SHAPES[random.integers(len(_SHAPES))](draw, size, random)
    return np.asarray(picture)


def _colour_noise(size: int, random: np.random.Generator) -> Picture:
    noise = _noise(size, random) @ random.normal(size=(3, 3))  # mixed channels: colours go together
    noise /= noise.std() + 1e-9
    contrast, mean = random.uniform(15, 90), random.uniform(50, 205)
    return np.clip(noise * contrast + mean, 0, 255).astype(np.uint8)


def _noise(size: int, random: np.random.Generator) -> NDArray[np.float64]:
    """(size, size, 3): white noise whose amplitude at frequency f is multiplied by f^-a."""
    down, across = np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None, :]
    frequency = np.maximum(np.hypot(down, across), 1 / size)
    spectrum = np.fft.rfft2(random.normal(size=(size, size, 3)), axes=(0, 1))
    spectrum *= frequency[:, :, None] ** -random.uniform(*FALL_OFF)
    noise = np.fft.irfft2(spectrum, s=(size, size), axes=(0, 1))
    centred: NDArray[np.float64] = noise - noise.mean(axis=(0, 1))
    return centred


def _box(size: int, random: np.random.Generator) -> tuple[float, float, float, float]:
    """Left, top, right, bottom; it may lie partly outside."""
    x, y = random.uniform(-0.1, 1.0, size=2) * size
    width, height = random.uniform(0.04, 0.5, size=2) * size
    return x, y, x + width, y + height


def _colour(random: np.random.Generator) -> tuple[int, int, int]:
    red, green, blue = random.integers(0, 256, size=3).tolist()
    return red, green, blue


def _ellipse(draw: ImageDraw.ImageDraw, size: int, random: np.random.Generator) -> None:
    draw.ellipse(_box(size, random), fill=_colour(random))


def _rectangle(draw: ImageDraw.ImageDraw, size: int, random: np.random.Generator) -> None:
    draw.rectangle(_box(size, random), fill=_colour(random))


def _line(draw: ImageDraw.ImageDraw, size: int, random: np.random.Generator) -> None:
    ends = random.uniform(0, size, size=4).tolist()
    draw.line(ends, fill=_colour(random), width=int(random.integers(1, 1 + max(1, size // 20))))


_SHAPES: tuple[Callable[[ImageDraw.ImageDraw, int, np.random.Generator], None], ...] = (
    _ellipse,
    _rectangle,
    _line,
)
