"""Promises of what each picture of something old counts for when the boundary to the new categories is set."""

import numpy as np
import pytest

from expansion_trainer.head.softmax import Labels, Rows
from expansion_trainer.head.witnesses import UNKNOWN, weights

CATEGORIES = 20
BASE = Rows(weights=np.eye(CATEGORIES, dtype=np.float32), bias=np.zeros(CATEGORIES, np.float32))


def counted(truth: Labels, labels: Labels) -> np.ndarray:
    """Of pictures that the base answers rightly."""
    return weights(BASE, np.eye(CATEGORIES, dtype=np.float32)[truth], labels)


EVERYTHING = np.tile(np.arange(CATEGORIES), 5)
"""Photographs of all categories alike."""


def unlabelled(labels: Labels) -> Labels:
    return np.full(len(labels), UNKNOWN)


def test_photographs_without_labels_count_alike() -> None:
    assert set(counted(EVERYTHING, unlabelled(EVERYTHING))) == {1.0}


@pytest.mark.parametrize(
    "kept", [pytest.param(20, id="all categories"), pytest.param(16, id="all but some aside")]
)
def test_labelled_images_of_nearly_all_categories_count_like_photographs(kept: int) -> None:
    replay = np.arange(kept)
    truth, labels = np.append(EVERYTHING, replay), np.append(unlabelled(EVERYTHING), replay)
    assert set(counted(truth, labels)) == {1.0}


@pytest.mark.parametrize("copies", [1, 30])
def test_images_of_a_few_categories_count_as_much_as_these_make_up_of_the_base(copies: int) -> None:
    near = np.tile([3, 7], copies)
    truth, labels = np.append(EVERYTHING, near), np.append(unlabelled(EVERYTHING), near)
    found = counted(truth, labels)
    assert found.max() == 1.0
    assert found[np.isin(truth, [3, 7])].sum() / found.sum() == pytest.approx(2 / CATEGORIES)


def test_images_of_a_few_categories_alone_count_alike() -> None:
    near = np.array([3, 7, 7])
    assert set(counted(near, near)) == {1.0}
