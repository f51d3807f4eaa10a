"""retrain.py's training as it was: a new last layer, plain gradient descent on batches drawn at random, no old categories."""

import numpy as np
from scipy.special import softmax

from expansion_trainer.head.material import Labelled
from expansion_trainer.head.softmax import Rows

STEPS, RATE, BATCH = 4000, 0.01, 100
FIRST = 0.001
"""Standard deviation of the first weights."""


def head(training: Labelled, categories: int, steps: int = STEPS, seed: int = 0) -> Rows:
    random = np.random.default_rng(seed)
    size = training.bottlenecks.shape[1]
    weights = random.normal(scale=FIRST, size=(size, categories)).astype(np.float32)
    bias = np.zeros(categories, np.float32)
    for _ in range(steps):
        drawn = random.integers(len(training), size=BATCH)
        images = training.bottlenecks[drawn]
        slope = softmax(images @ weights + bias, axis=1)
        slope[np.arange(BATCH), training.labels[drawn]] -= 1
        slope *= np.float32(RATE / BATCH)
        weights -= images.T @ slope
        bias -= slope.sum(axis=0)
    return Rows(weights=weights, bias=bias)
