"""Promises of the sums that stand for images: exact, whatever the order and however the images are dealt out."""

import numpy as np
import pytest
from numpy.typing import NDArray

from expansion_trainer.head import statistics
from expansion_trainer.head.statistics import Statistics

SIZE, CATEGORIES = 7, 5
FIELDS = ("counts", "means", "scatter", "balanced_scatter", "variances")


def drawn(
    seed: int, each: tuple[int, ...] = (3, 40, 1, 12, 9)
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Skewed and far from 0, like pooled activations, where careless sums lose digits."""
    random = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(each)), each)
    mixing = random.normal(size=(SIZE, SIZE))
    images = 100 + random.gamma(1.0, size=(len(labels), SIZE)) @ mixing + 5 * labels[:, None]
    order = random.permutation(len(labels))
    return images[order].astype(np.float32), labels[order]


def assert_same(a: Statistics, b: Statistics, fields: tuple[str, ...] = FIELDS) -> None:
    for field in fields:
        np.testing.assert_allclose(getattr(a, field), getattr(b, field), rtol=1e-6, atol=1e-8, err_msg=field)


def test_they_are_what_their_names_say() -> None:
    x, y = drawn(0)
    s = statistics.of(x, y, CATEGORIES)
    own = [x[y == c].astype(np.float64) for c in range(CATEGORIES)]
    scatters = [(part - part.mean(axis=0)).T @ (part - part.mean(axis=0)) for part in own]
    np.testing.assert_allclose(s.means, [part.mean(axis=0) for part in own])
    np.testing.assert_allclose(s.scatter, np.sum(scatters, axis=0), rtol=1e-9, atol=1e-9)
    each = [scatter / len(part) for scatter, part in zip(scatters, own, strict=True)]
    np.testing.assert_allclose(s.balanced_scatter, np.sum(each, axis=0), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(s.variances, [part.var(axis=0) for part in own], rtol=1e-9, atol=1e-9)


def test_the_gram_of_the_images_is_in_them() -> None:
    x, y = drawn(0)
    s = statistics.of(x, y, CATEGORIES)
    doubles = x.astype(np.float64)
    np.testing.assert_allclose(s.gram, doubles.T @ doubles, rtol=1e-9)
    shares = 1.0 / s.counts[y]
    np.testing.assert_allclose(s.balanced_gram, doubles.T @ (doubles * shares[:, None]), rtol=1e-9)


def test_the_order_of_the_images_does_not_matter() -> None:
    x, y = drawn(0)
    order = np.random.default_rng(9).permutation(len(y))
    assert_same(statistics.of(x, y, CATEGORIES), statistics.of(x[order], y[order], CATEGORIES))


def test_more_images_than_are_centred_at_once_give_the_same_sums() -> None:
    x, y = drawn(0, each=(statistics.CHUNK, 9, 0, statistics.CHUNK // 2, 1))
    halves = [statistics.of(x[part], y[part], CATEGORIES) for part in np.array_split(np.arange(len(y)), 7)]
    together = halves[0]
    for half in halves[1:]:
        together = statistics.merged(together, half)
    assert_same(together, statistics.of(x, y, CATEGORIES), ("counts", "means", "scatter", "variances"))


def test_merging_sides_that_share_no_category_is_exact_in_either_order() -> None:
    x, y = drawn(0)
    first, second = (statistics.of(x[side], y[side], CATEGORIES) for side in (y < 2, y >= 2))
    whole = statistics.of(x, y, CATEGORIES)
    assert_same(statistics.merged(first, second), whole)
    assert_same(statistics.merged(second, first), whole)


def test_merging_sides_of_one_category_keeps_the_balanced_diagonal() -> None:
    x, y = drawn(0)
    side = np.arange(len(y)) % 3 == 0
    both = statistics.merged(*(statistics.of(x[part], y[part], CATEGORIES) for part in (side, ~side)))
    whole = statistics.of(x, y, CATEGORIES)
    assert_same(both, whole, ("counts", "means", "scatter", "variances"))
    np.testing.assert_allclose(np.diag(both.balanced_scatter), np.diag(whole.balanced_scatter), rtol=1e-6)
    apart = np.abs(both.balanced_scatter - whole.balanced_scatter).max()
    assert apart < 0.2 * np.abs(whole.balanced_scatter).max()


def test_appended_categories_come_behind() -> None:
    x, y = drawn(0)
    first = statistics.of(x[y < 2], y[y < 2], 2)
    second = statistics.of(x[y >= 2], y[y >= 2] - 2, CATEGORIES - 2)
    assert_same(statistics.appended(first, second), statistics.of(x, y, CATEGORIES))


def test_a_removed_category_keeps_its_index_and_leaves_no_images() -> None:
    x, y = drawn(0)
    left = statistics.removed(statistics.of(x, y, CATEGORIES), [1, 3])
    whole = statistics.of(x[(y != 1) & (y != 3)], y[(y != 1) & (y != 3)], CATEGORIES)
    assert_same(left, whole, ("counts", "means", "variances"))
    np.testing.assert_allclose(np.diag(left.scatter), np.diag(whole.scatter), rtol=1e-6)
    assert np.linalg.eigvalsh(left.scatter).min() > -1e-6


def test_covariances_divide_by_what_is_known() -> None:
    x, y = drawn(0)
    s = statistics.of(x, y, CATEGORIES + 2)  # two categories nothing is known of
    np.testing.assert_allclose(s.within, s.scatter / (len(y) - CATEGORIES))
    np.testing.assert_allclose(s.balanced_within, s.balanced_scatter / CATEGORIES)
    between = np.cov(s.means[:CATEGORIES].T, bias=True)
    np.testing.assert_allclose(s.total, s.within + between)


@pytest.mark.parametrize("categories", [0, 3])
def test_no_images_are_no_error(categories: int) -> None:
    nothing = statistics.of(np.zeros((0, SIZE), np.float32), np.zeros(0, np.int64), categories)
    assert_same(nothing, statistics.empty(categories, SIZE))
    assert not nothing.within.any()
    assert_same(statistics.merged(nothing, nothing), nothing)
