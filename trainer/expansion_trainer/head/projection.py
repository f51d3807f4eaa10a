"""A random projection beside the bottleneck, for new categories that the bottleneck alone does not separate (RanPAC, McDonnell 2023).

New rows see x and max(x R, 0) with R drawn from a seed; the base's rows see x alone, with zeros on the projected part, so that they
stay bit-identical. An exported model needs one more product, one maximum and one more product.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from expansion_trainer.head.evidence import Evidence
from expansion_trainer.head.material import Labelled, Scale
from expansion_trainer.head.softmax import Array, Rows


@dataclass(frozen=True, kw_only=True, eq=False)
class Projection:
    matrix: Array  # (D, P), R

    @property
    def dimensions(self) -> int:
        return int(self.matrix.shape[1])

    def features(self, bottlenecks: Array) -> Array:
        """(n, D) -> (n, P)."""
        features: Array = np.maximum(bottlenecks @ self.matrix, 0)
        return features

    def beside(self, bottlenecks: Array) -> Array:
        """(n, D) -> (n, D + P)."""
        return np.hstack([bottlenecks, self.features(bottlenecks)])

    def images(self, images: Labelled) -> Labelled:
        return replace(images, bottlenecks=self.beside(images.bottlenecks))

    def evidence(self, evidence: Sequence[Evidence]) -> tuple[Evidence, ...]:
        return tuple(
            replace(e, bottlenecks=self.beside(e.bottlenecks), copies=self._copies(e.copies))
            for e in evidence
        )

    def _copies(self, copies: Array | None) -> Array | None:
        """(n, k, D) -> (n, k, D + P)."""
        if copies is None:
            return None
        rows, each, size = copies.shape
        return self.beside(copies.reshape(-1, size)).reshape(rows, each, size + self.dimensions)


@dataclass(frozen=True, kw_only=True, eq=False)
class Projected:
    """What a projection adds to every logit."""

    projection: Projection
    weights: Array  # (P, C), zeros for the base's columns

    def logits(self, bottlenecks: Array) -> Array:  # (n, D) -> (n, C)
        return self.projection.features(bottlenecks) @ self.weights


@dataclass(frozen=True, kw_only=True, eq=False)
class ProjectedRows(Rows):
    """Linear part and projected part apart."""

    projected: Projected

    def logits(self, bottlenecks: Array) -> Array:
        return super().logits(bottlenecks) + self.projected.logits(bottlenecks)


def projection(bottlenecks: Array, dimensions: int, seed: int) -> Projection:
    """Scaled so that the projected part varies as much as these bottlenecks do: one L2 then suits both."""
    size = bottlenecks.shape[1]
    matrix = np.random.default_rng(seed).normal(size=(size, dimensions)).astype(np.float32)
    drawn = Projection(matrix=matrix)
    some = bottlenecks[:: max(1, len(bottlenecks) // 1000)]
    factor = Scale.of(some).length / Scale.of(drawn.features(some)).length
    return Projection(matrix=matrix * np.float32(factor))


def widened(rows: Rows, dimensions: int) -> Rows:
    """The same logits from the bottleneck and `dimensions` numbers beside it."""
    nothing = np.zeros((dimensions, rows.weights.shape[1]), np.float32)
    return Rows(weights=np.vstack([rows.weights, nothing]), bias=rows.bias)


def narrowed(rows: Rows, drawn: Projection) -> ProjectedRows:
    """What gives the same logits from the bottleneck alone, of rows that were fitted with a projection beside it."""
    size = len(drawn.matrix)
    projected = Projected(projection=drawn, weights=rows.weights[size:])
    return ProjectedRows(weights=rows.weights[:size], bias=rows.bias, projected=projected)


def beside(rows: Rows, projected: Projected | None) -> Rows:
    """Rows together with what a projection adds to them, if anything."""
    if projected is None:
        return rows
    return ProjectedRows(weights=rows.weights, bias=rows.bias, projected=projected)
