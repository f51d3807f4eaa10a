"""Small worlds of bottlenecks for tests of the head: Gaussian clusters, half of them known to a base head."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from expansion_trainer.head.fit import BaseHead, Evidence, Labelled

Array = NDArray[np.float32]
Labels = NDArray[np.int64]

SIZE, OLD, NEW = 24, 6, 3


@dataclass(frozen=True, kw_only=True, eq=False)
class World:
    """Clusters around random means; the base head is the best linear one for the first OLD of them."""

    means: NDArray[np.float64]  # (OLD + NEW, SIZE)
    spread: float = 1.0

    def draw(self, categories: Labels, seed: int) -> Array:
        noise = np.random.default_rng(seed).normal(size=(len(categories), SIZE))
        return np.asarray(self.means[categories] + self.spread * noise, np.float32)

    def new(self, each: int, seed: int) -> Labelled:
        labels = np.repeat(np.arange(NEW), each)
        return Labelled(bottlenecks=self.draw(labels + OLD, seed), labels=labels)

    def old(self, each: int, seed: int) -> Labelled:
        labels = np.repeat(np.arange(OLD), each)
        return Labelled(bottlenecks=self.draw(labels, seed), labels=labels)

    def replay(self, each: int, seed: int) -> Evidence:
        images = self.old(each, seed)
        return Evidence(kind="replay", bottlenecks=images.bottlenecks, labels=images.labels)

    def unlabelled(self, each: int, seed: int) -> Evidence:
        return Evidence(kind="unlabelled", bottlenecks=self.old(each, seed).bottlenecks)

    @property
    def base(self) -> BaseHead:
        means = self.means[:OLD] / self.spread**2
        bias = -0.5 * np.sum(self.means[:OLD] * means, axis=1)
        return BaseHead(weights=means.T.astype(np.float32), bias=bias.astype(np.float32))


def world(distance: float = 1.2, seed: int = 0) -> World:
    means = distance * np.random.default_rng(seed).normal(size=(OLD + NEW, SIZE))
    return World(means=means)


def nothing() -> Labelled:
    return Labelled(bottlenecks=np.zeros((0, SIZE), np.float32), labels=np.zeros(0, np.int64))
