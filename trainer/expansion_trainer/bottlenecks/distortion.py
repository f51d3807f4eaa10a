"""What distorted copies of an image look like: retrain.py's crops, scales, brightness and mirroring, drawn from seed and content."""

from dataclasses import dataclass

import numpy as np

from expansion_contract.resource import Distortions

DIGITS = 4
"""Of each number, so that its text says all of it."""


@dataclass(frozen=True, kw_only=True)
class Distortion:
    """Of the middle square: a smaller square of it, as shares of its side, mirrored or not, every value times the brightness."""

    left: float = 0.0
    top: float = 0.0
    side: float = 1.0
    brightness: float = 1.0
    mirrored: bool = False

    def key(self, digest: str) -> str:
        """Under which its bottleneck is kept; an untouched copy is the image itself."""
        if self == Distortion():
            return digest
        numbers = (self.left, self.top, self.side, self.brightness)
        return " ".join([digest, *(f"{number:.{DIGITS}f}" for number in numbers), str(int(self.mirrored))])


def distortion(asked: Distortions, seed: int, digest: str, number: int) -> Distortion:
    """The `number`-th copy of one content: the same whichever other images there are.

    As in retrain.py the image is made `random_crop_percent` larger than the crop, and by up to `random_scale_percent` more. Every
    second copy, beginning with the first, is mirrored where that is asked for.
    """
    random = np.random.default_rng((seed, int(digest[:16], 16), number))
    larger, right, down, light = random.random(4).tolist()
    side = 1.0 / ((1 + asked.random_crop_percent / 100) * (1 + larger * asked.random_scale_percent / 100))
    return Distortion(
        left=round(right * (1 - side), DIGITS),
        top=round(down * (1 - side), DIGITS),
        side=round(side, DIGITS),
        brightness=round(1 + (2 * light - 1) * asked.random_brightness_percent / 100, DIGITS),
        mirrored=asked.flip_left_right and number % 2 == 0,
    )
