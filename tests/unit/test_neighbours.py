"""Who had an output prefix first: the same answer for everybody, whatever the order of events."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from expansion_operator.neighbours import Neighbours, claim


def body(
    name: str, output: str = "s3://models/a/", created: str = "10:00", endpoint: str = ""
) -> dict[str, Any]:
    return {
        "metadata": {"namespace": "team", "name": name, "uid": f"uid-{name}", "creationTimestamp": created},
        "spec": {"output": {"models": output}, "storage": {"endpointUrl": endpoint}},
    }


def owners(mine: dict[str, Any], *others: dict[str, Any]) -> list[str]:
    neighbours = Neighbours()
    for one in (mine, *others):
        neighbours.remember(one)
    return [other.key for other in neighbours.older(claim(mine))]


@pytest.mark.parametrize(
    ("other", "conflict"),
    [
        pytest.param("s3://models/a/", True, id="the same"),
        pytest.param("s3://models/a", True, id="the same without a slash"),
        pytest.param("s3://models/a/b/", True, id="inside"),
        pytest.param("s3://models/", True, id="around"),
        pytest.param("s3://models/a-2/", False, id="beside"),
        pytest.param("s3://other/a/", False, id="another bucket"),
    ],
)
def test_the_same_place_or_one_inside_the_other_is_a_conflict(other: str, conflict: bool) -> None:
    assert owners(body("mine"), body("first", other, created="09:00")) == (["team/first"] if conflict else [])


def test_the_older_one_has_it_and_the_younger_does_not_disturb_it() -> None:
    older, younger = body("older", created="09:00"), body("younger", created="11:00")
    assert owners(older, younger) == []
    assert owners(younger, older) == ["team/older"]


def test_who_waits_for_a_prefix_is_known_when_it_becomes_free() -> None:
    neighbours = Neighbours()
    older = body("older", created="09:00")
    for one in (
        older,
        body("waiting", "s3://models/a/b"),
        body("elsewhere", "s3://models/c"),
        body("first", created="08:00"),
    ):
        neighbours.remember(one)
    assert [other.key for other in neighbours.younger(claim(older))] == ["team/waiting"]


@given(st.permutations(["a", "b", "c", "d"]))
def test_of_one_second_the_same_one_wins_for_everybody(order: list[str]) -> None:
    bodies = [body(name) for name in order]
    winners = [one["metadata"]["name"] for one in bodies if not owners(one, *bodies)]
    assert winners == ["a"]


def test_the_same_bucket_name_at_another_endpoint_is_another_bucket() -> None:
    assert owners(body("mine"), body("first", created="09:00", endpoint="http://minio:9000")) == []


def test_an_endpoint_with_and_without_a_slash_is_one() -> None:
    mine, first = (
        body("mine", endpoint="http://s3:9000/"),
        body("first", created="09:00", endpoint="http://s3:9000"),
    )
    assert owners(mine, first) == ["team/first"]


def test_what_is_gone_owns_nothing() -> None:
    neighbours, mine = Neighbours(), body("mine")
    neighbours.replace([mine, body("first", created="09:00"), body("second", created="09:30")])
    neighbours.forget("team/first")
    assert [other.key for other in neighbours.older(claim(mine))] == ["team/second"]
    assert neighbours.replace([mine]) == {"team/second"}, "so that its metrics go, too"
    assert list(neighbours.older(claim(mine))) == []
