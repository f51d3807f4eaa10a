"""Real pictures that libraries carry: handwritten digits in ten folders, and a photograph of a cat."""

import io
from importlib.resources import files
from typing import Any

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

PER_CATEGORY = 40
SIZE = 96
WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def put_digits(s3: Any, bucket: str, prefix: str) -> None:
    """The first PER_CATEGORY scans of each digit."""
    s3.create_bucket(Bucket=bucket)
    for digit, word in enumerate(WORDS):
        for number, content in enumerate(_scans(digit)[:PER_CATEGORY]):
            s3.put_object(Bucket=bucket, Key=f"{prefix}{word}/{number:03}.png", Body=content)


def unseen(word: str, format: str) -> bytes:
    """A scan that was not put into any bucket."""
    return _scans(WORDS.index(word), format)[PER_CATEGORY]


def cat() -> bytes:
    return (files("skimage") / "data" / "chelsea.png").read_bytes()


def _scans(digit: int, format: str = "PNG") -> list[bytes]:
    data = load_digits()
    return [_encoded(scan, format) for scan in data.images[data.target == digit]]


def _encoded(scan: np.ndarray[Any, Any], format: str) -> bytes:
    """8 by 8 scans of 17 shades, ink on paper."""
    image = Image.fromarray((255 - scan * 15).astype(np.uint8)).resize((SIZE, SIZE), Image.Resampling.BICUBIC)
    content = io.BytesIO()
    image.convert("RGB").save(content, format)
    return content.getvalue()
