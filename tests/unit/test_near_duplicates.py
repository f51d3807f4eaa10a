"""What is nearly the same picture, found exactly however many there are."""

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from expansion_trainer.dataset.near_duplicates import COSINE, leaders, members


def digests(count: int) -> list[str]:
    return [hashlib.sha256(str(n).encode()).hexdigest() for n in range(count)]


def pictures(count: int, size: int = 96, seed: int = 0) -> np.ndarray:
    """Bottlenecks as networks give them: none negative, of unequal length, all somewhat alike."""
    rng = np.random.default_rng(seed)
    return (np.abs(rng.normal(size=(count, size))) * rng.uniform(1, 9, (count, 1))).astype(np.float32)


def copy(picture: np.ndarray, change: float, seed: int) -> np.ndarray:
    """Another picture whose cosine with this one is about 1 - change²/2."""
    other = np.random.default_rng(seed).normal(size=picture.shape)
    other *= change * np.linalg.norm(picture) / np.linalg.norm(other)
    return ((picture + other) * 1.7).astype(np.float32)


def test_a_copy_is_found_and_both_follow_the_smallest_digest():
    some = pictures(50)
    some[40] = copy(some[7], 0.1, seed=1)
    names = digests(50)
    found = leaders(some, names, range(50))
    first = min((7, 40), key=lambda index: names[index])
    assert found == {7: first, 40: first}


def test_different_pictures_are_nobody_s_copies():
    assert leaders(pictures(200), digests(200), range(200)) == {}


def test_a_chain_of_copies_is_one_group():
    some = pictures(10)
    for place in (1, 2, 3):
        some[place] = copy(some[place - 1], 0.2, seed=place)
    assert list(members(leaders(some, digests(10), range(10))).values()) == [[0, 1, 2, 3]]


def test_pictures_that_cannot_be_used_are_not_compared():
    some = pictures(5)
    some[3] = some[1]
    assert leaders(some, digests(5), [0, 1, 2, 4]) == {}
    assert leaders(some, digests(5), [1]) == leaders(some, digests(5), []) == {}


def test_pictures_that_could_not_be_told_apart_at_all_are_one_group_in_reasonable_time():
    same = np.repeat(pictures(1), 5000, axis=0)
    found = leaders(same, digests(5000), range(5000))
    assert len(found) == 5000
    assert len(set(found.values())) == 1


def test_empty_bottlenecks_say_nothing_of_each_other():
    assert leaders(np.zeros((3, 4), np.float32), digests(3), range(3)) == {}


@settings(max_examples=25)
@given(st.integers(2, 300), st.integers(1, 80), st.integers(0, 2**32 - 1))
def test_exactly_the_pairs_are_found_that_comparing_all_with_all_finds(count, size, seed):
    rng = np.random.default_rng(seed)
    some = pictures(count, size, seed)
    for place in range(0, count - 1, 3):
        some[place + 1] = copy(some[place], rng.uniform(0, 0.4), seed)
    units = some / np.linalg.norm(some, axis=1, keepdims=True)
    cosines = units @ units.T
    np.fill_diagonal(cosines, -1)
    sure = np.abs(cosines - COSINE) > 1e-5
    if sure.all():
        found = leaders(some, digests(count), range(count))
        assert sorted(found) == np.flatnonzero(cosines.max(axis=1) >= COSINE).tolist()


@pytest.mark.parametrize("seed", range(3))
def test_the_order_of_the_pictures_changes_nothing(seed):
    some, names = pictures(60), digests(60)
    some[50] = copy(some[3], 0.1, seed=2)
    some[51] = copy(some[4], 0.1, seed=3)
    order = np.random.default_rng(seed).permutation(60)
    shuffled = leaders(some[order], [names[i] for i in order], range(60))
    assert {int(order[i]): int(order[j]) for i, j in shuffled.items()} == leaders(some, names, range(60))
