"""Promises of pictures drawn by a program."""

import numpy as np
import pytest

from expansion_trainer.head.evidence import procedural_image, procedural_images


def test_they_are_pictures_of_the_size_asked_for() -> None:
    for picture in procedural_images(3, 40, 0):
        assert picture.shape == (40, 40, 3)
        assert picture.dtype == np.uint8


def test_any_of_them_can_be_drawn_alone() -> None:
    for index, picture in enumerate(procedural_images(5, 32, 7)):
        np.testing.assert_array_equal(procedural_image(index, 32, 7), picture)


def test_more_of_them_begin_with_the_same() -> None:
    few, many = list(procedural_images(2, 32, 0)), list(procedural_images(4, 32, 0))
    np.testing.assert_array_equal(few, many[:2])


def test_another_seed_draws_others() -> None:
    assert (procedural_image(0, 32, 0) != procedural_image(0, 32, 1)).any()


def test_they_differ_in_brightness_contrast_and_grain() -> None:
    pictures = np.array([procedural_image(index, 48, 0) for index in range(40)], np.float64)
    grain = np.abs(np.diff(pictures, axis=1)).mean(axis=(1, 2, 3))
    assert pictures.mean(axis=(1, 2, 3)).std() > 15
    assert pictures.std(axis=(1, 2, 3)).std() > 8
    assert grain.max() > 4 * grain.min()


@pytest.mark.parametrize("size", [8, 33])
def test_small_and_odd_sizes_are_drawn_too(size: int) -> None:
    assert procedural_image(1, size, 0).shape == (size, size, 3)
