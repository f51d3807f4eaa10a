"""Turns images into bottlenecks, computing only what the cache does not have."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True, eq=False)
class Extracted:
    """One row, one digest for each image given, in the order given."""

    bottlenecks: NDArray[np.float32]  # (n, D); zeros where not ok
    ok: NDArray[np.bool_]  # (n,) could it be decoded?
    why: dict[int, str]  # what was wrong with those that could not
    digests: tuple[str, ...]  # SHA-256 of each image's content, hexadecimal
    computed: int  # images that went through the network; the others came from the cache or are copies
