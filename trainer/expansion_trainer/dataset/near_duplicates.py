"""Finds pictures that are nearly the same, by their bottlenecks: copies at another size or quality, small crops, retouched ones.

Exact, and in bounded memory. Two bottlenecks of length 1 with cosine c are sqrt(2 - 2c) apart, and never farther apart in a
projection. So a few dimensions in which the pictures differ most rule out nearly all pairs, block by block; the rest is compared
in all dimensions. NumPy only.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Indices = NDArray[np.int64]

COSINE = 0.97
"""Measured on MobileNetV2 and EfficientNet-Lite0: of slightly changed copies of photographs (quality 75, 2 to 5 % cropped, 10 %
brighter, a mark in the corner) 60 to 85 % are nearer than this, of different photographs of one category 0 to 0.5 %. Pictures that
all look alike, such as digits, have 7 % such pairs; none of them are of two categories."""
BLOCK = 2048
"""Pictures compared with as many others at a time: 16 MiB."""
DIRECTIONS = 64
SEEN = 512
"""Pictures in which the directions are looked for."""
ROUNDING = 1e-4
PAIRS = 4096
"""Pairs compared in all dimensions at a time."""


def leaders(
    bottlenecks: Array, digests: Sequence[str], usable: Sequence[int], cosine: float = COSINE
) -> dict[int, int]:
    """For each usable picture that has near ones: the member of its group with the smallest digest.

    `bottlenecks`: (n, D); `digests`: n of them, of the contents; `usable`: which of the n to compare.
    """
    rows = np.array(sorted(usable, key=lambda index: digests[index]), np.int64)
    if len(rows) < 2:
        return {}
    groups = _Groups(len(rows))
    for one, other in _near_pairs(bottlenecks, rows, cosine, groups):
        groups.join(one, other)
    roots = [groups.root(place) for place in range(len(rows))]
    sizes = np.bincount(roots, minlength=len(rows))
    return {int(rows[place]): int(rows[root]) for place, root in enumerate(roots) if sizes[root] > 1}


def members(leaders: dict[int, int]) -> dict[int, list[int]]:
    """Leader -> its group, itself among them."""
    groups: dict[int, list[int]] = defaultdict(list)
    for index, leader in sorted(leaders.items()):
        groups[leader].append(index)
    return dict(groups)


@dataclass(frozen=True, eq=False)
class _Groups:
    """Union-find; the root of a group is its first member."""

    parents: list[int]

    def __init__(self, count: int) -> None:
        object.__setattr__(self, "parents", list(range(count)))

    def root(self, place: int) -> int:
        while self.parents[place] != place:
            self.parents[place] = self.parents[self.parents[place]]
            place = self.parents[place]
        return place

    def join(self, one: int, other: int) -> None:
        first, second = sorted((self.root(one), self.root(other)))
        self.parents[second] = first

    def apart(self, ones: Indices, others: Indices) -> NDArray[np.bool_]:
        """Which pairs are not of one group yet."""
        roots = {place: self.root(place) for place in {*ones.tolist(), *others.tolist()}}
        return np.array(
            [roots[i] != roots[j] for i, j in zip(ones.tolist(), others.tolist(), strict=True)], bool
        )


def _near_pairs(
    bottlenecks: Array, rows: Indices, cosine: float, groups: _Groups
) -> Iterator[tuple[int, int]]:
    """Places in `rows` of pairs that are near enough, but for pairs of one group."""
    lengths = _lengths(bottlenecks, rows)
    low = _projected(bottlenecks, rows, lengths)
    for ones, others in _candidates(low, 1 - cosine + ROUNDING):
        for start in range(0, len(ones), PAIRS):
            i, j = ones[start : start + PAIRS], others[start : start + PAIRS]
            fresh = groups.apart(i, j)
            i, j = i[fresh], j[fresh]
            products: Array = np.einsum("nd,nd->n", bottlenecks[rows[i]], bottlenecks[rows[j]])
            near = products >= cosine * lengths[i] * lengths[j]
            yield from zip(i[near].tolist(), j[near].tolist(), strict=True)


def _lengths(bottlenecks: Array, rows: Indices) -> Array:
    lengths = np.empty(len(rows), np.float32)
    for start in range(0, len(rows), BLOCK):
        part = bottlenecks[rows[start : start + BLOCK]]
        lengths[start : start + BLOCK] = np.sqrt(np.einsum("nd,nd->n", part, part))
    return np.maximum(lengths, np.float32(1e-12))


def _projected(bottlenecks: Array, rows: Indices, lengths: Array) -> Array:
    """(len(rows), k): bottlenecks of length 1 along the directions in which a sample of them differs most."""
    sample = rows[:SEEN]
    seen = bottlenecks[sample] / lengths[: len(sample), None]
    _, _, directions = np.linalg.svd(seen - seen.mean(axis=0), full_matrices=False)
    chosen = directions[:DIRECTIONS].T
    low = np.empty((len(rows), chosen.shape[1]), np.float32)
    for start in range(0, len(rows), BLOCK):
        part = slice(start, start + BLOCK)
        low[part] = (bottlenecks[rows[part]] @ chosen) / lengths[part, None]
    return low


def _candidates(low: Array, reach: float) -> Iterator[tuple[Indices, Indices]]:
    """Pairs whose halved squared distance in the projection is at most `reach`, each pair once, block by block."""
    half = (np.square(low).sum(axis=1, keepdims=True) / 2).astype(np.float32)
    one = np.ones_like(half)
    left, right = np.hstack([low, -half, one]), np.hstack([low, one, -half])
    for start in range(0, len(low), BLOCK):
        for other in range(start, len(low), BLOCK):
            close = left[start : start + BLOCK] @ right[other : other + BLOCK].T >= -reach
            i, j = np.nonzero(close)
            i, j = i + start, j + other
            yield i[i < j], j[i < j]
