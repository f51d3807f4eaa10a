"""Every pretrained network by name, in one shape: images to bottlenecks, and the head that turns those into categories."""

from dataclasses import dataclass
from functools import cache

import keras
import numpy as np
from numpy.typing import NDArray

from expansion_contract import labels
from expansion_contract.report import Category


@dataclass(frozen=True, kw_only=True, eq=False)
class Backbone:
    name: str
    digest: str  # SHA-256 of the weights, hexadecimal
    input_size: int  # pixels, square
    preprocessing: str  # an id: networks of one id want their pixels alike
    bottleneck_size: int  # D
    head_weights: NDArray[np.float32]  # (D, C0)
    head_bias: NDArray[np.float32]  # (C0,)
    categories: tuple[Category, ...]  # C0 of them, in the order of the head's columns
    model: keras.Model  # float32 (n, input_size, input_size, 3), RGB 0..255, to (n, D)


@cache
def imagenet_categories() -> tuple[Category, ...]:
    return tuple(
        Category(index=index, name=name, uid=uid, group="base")
        for index, (uid, name) in enumerate(labels.imagenet())
    )
