"""Which answers of the API server are too old to decide by."""

from dataclasses import dataclass

import pytest

from expansion_operator.freshness import MOST, PATIENCE, Freshness


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


def asked(freshness: Freshness, version: str, of: str = "team/flowers") -> bool:
    return freshness.is_older(of, version, freshness.newest(of))


def test_an_answer_older_than_what_was_told_is_not_believed() -> None:
    freshness = Freshness()
    freshness.told("team/flowers", "9")
    freshness.told("team/flowers", "8")
    assert [asked(freshness, version) for version in ("8", "9", "10")] == [True, False, False]
    assert not asked(freshness, "1", of="team/roses")


def test_what_is_told_while_an_answer_is_on_its_way_does_not_make_it_old() -> None:
    freshness = Freshness()
    newest = freshness.newest("Jobs")
    freshness.told("Jobs", "9")
    assert not freshness.is_older("Jobs", "8", newest)


def test_what_is_gone_is_not_there_again_as_it_was() -> None:
    freshness = Freshness()
    freshness.gone("team/flowers")
    assert not asked(freshness, "1")
    freshness.told("team/flowers", "9")
    freshness.gone("team/flowers")
    assert [asked(freshness, version) for version in ("9", "12")] == [True, False]


def test_an_api_server_that_counts_anew_is_believed_after_a_while() -> None:
    clock = Clock()
    freshness = Freshness(clock)
    freshness.told("team/flowers", "900")
    assert asked(freshness, "5")
    clock.now = PATIENCE - 1
    assert asked(freshness, "6")
    clock.now = PATIENCE
    assert [asked(freshness, version) for version in ("7", "8", "6")] == [False, False, True]


def test_one_old_answer_long_ago_does_not_make_the_next_one_believed() -> None:
    clock = Clock()
    freshness = Freshness(clock)
    freshness.told("team/flowers", "9")
    assert [asked(freshness, version) for version in ("8", "9")] == [True, False]
    clock.now = 2 * PATIENCE
    assert asked(freshness, "8")


@pytest.mark.parametrize("version", ["", "abc", "1-2"])
def test_versions_that_are_no_numbers_are_never_old(version: str) -> None:
    freshness = Freshness()
    freshness.told("team/flowers", version)
    assert freshness.newest("team/flowers") == 0
    freshness.told("team/flowers", "9")
    assert not asked(freshness, version)


def test_of_very_many_things_the_first_are_forgotten() -> None:
    freshness = Freshness()
    for number in range(MOST + 1):
        freshness.told(str(number), "9")
    assert (freshness.newest("0"), freshness.newest("1")) == (0, 9)
