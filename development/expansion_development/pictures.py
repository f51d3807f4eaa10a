"""The demo's real pictures: handwritten digits that scikit-learn carries, and photographs that come with it and with scikit-image."""

import io
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np
from PIL import Image

NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
MARGIN = 3
"""Pixels of white paper around a scan of 8 x 8, which is stored as it is, black on white. Chosen on half of these very scans
(cross-validated: 0.95; enlarged smoothly to 64 with a margin 0.92, without a margin 0.91, enlarged without smoothing 0.81)."""
_PHOTOGRAPHS = (
    ("skimage.data", "chelsea.png"),
    ("skimage.data", "coffee.png"),
    ("skimage.data", "rocket.jpg"),
    ("sklearn.datasets.images", "china.jpg"),
)


@dataclass(frozen=True, kw_only=True)
class Picture:
    name: str
    content: bytes


def digits() -> tuple[list[Picture], Picture, str]:
    """PNG files named <category>/<number>.png; one more that nobody trains on, and its category."""
    from sklearn.datasets import load_digits  # takes a second

    scans = load_digits()
    pictures = [
        Picture(name=f"{NAMES[label]}/{number:04}.png", content=_png(scan))
        for number, (scan, label) in enumerate(zip(scans.images, scans.target, strict=True))
    ]
    held_out = pictures.pop()
    truth = held_out.name.partition("/")[0]
    return pictures, Picture(name=f"held-out-{truth}.png", content=held_out.content), truth


def _png(scan: "np.ndarray[tuple[int, int], np.dtype[np.float64]]") -> bytes:
    """Ink is 0 to 16 in the scans."""
    paper = np.pad(255 - (scan * (255 / 16)).round(), MARGIN, constant_values=255)
    file = io.BytesIO()
    Image.fromarray(paper.astype(np.uint8)).save(file, "PNG")
    return file.getvalue()


def photographs() -> list[Picture]:
    return [
        Picture(name=name, content=files(package).joinpath(name).read_bytes())
        for package, name in _PHOTOGRAPHS
    ]


def save(shown: list[Picture], folder: Path) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    for picture in shown:
        (folder / picture.name).write_bytes(picture.content)
    return [folder / picture.name for picture in shown]
