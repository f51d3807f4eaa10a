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


# Who grows whom


def growing(
    name: str, base: str = "", version: int | None = None, outcome: str | None = None
) -> dict[str, Any]:
    made = body(name, f"s3://models/{name}/")
    if base:
        made["spec"]["base"] = {"expansionRef": {"name": base}}
    if version:
        folder = f"s3://models/{base}/versions/{version}"
        made["status"] = {"run": {"id": "1", "base": {"uri": folder}, "outcome": outcome}}
    return made


def knowing(*bodies: dict[str, Any]) -> Neighbours:
    neighbours = Neighbours()
    for one in bodies:
        neighbours.remember(one)
    return neighbours


@pytest.mark.parametrize(
    ("references", "way"),
    [
        pytest.param({"a": "b"}, "", id="no circle"),
        pytest.param({"a": "a"}, "a a", id="itself"),
        pytest.param({"a": "b", "b": "a"}, "a b a", id="two"),
        pytest.param({"a": "b", "b": "c", "c": "a"}, "a b c a", id="three"),
        pytest.param({"a": "b", "b": "c", "c": "b"}, "", id="a circle of others"),
        pytest.param({"a": "b", "c": "a"}, "", id="a chain"),
    ],
)
def test_bases_that_lead_back_are_a_circle_of_those_who_stand_in_it(
    references: dict[str, str], way: str
) -> None:
    bodies = {name: growing(name, base) for name, base in references.items()}
    found = knowing(*bodies.values()).circle(claim(bodies["a"]))
    assert [key.removeprefix("team/") for key in found] == way.split()


def test_those_who_grow_a_resource_are_woken_by_what_they_do_not_know_and_by_nothing_else() -> None:
    neighbours, cars = knowing(growing("flowers", "cars")), growing("cars")
    status: dict[str, Any] = {"model": {"announced": 1, "runId": "r"}}
    assert neighbours.woken_by(cars) == ("team/flowers",)
    assert neighbours.woken_by(cars) == ()
    assert neighbours.woken_by({**cars, "status": {"run": {"percent": 50}}}) == ()
    assert neighbours.woken_by({**cars, "status": status}) == ("team/flowers",)
    assert neighbours.woken_by({**cars, "status": {**status, "phase": "Ready"}}) == ()
    assert neighbours.woken_by({**cars, "status": {"model": {"announced": 2, "runId": "s"}}}) == (
        "team/flowers",
    )


def test_what_was_read_meanwhile_does_not_swallow_the_news() -> None:
    neighbours, cars = knowing(growing("flowers", "cars")), growing("cars")
    neighbours.remember(cars)
    assert neighbours.woken_by(cars) == ("team/flowers",)


def test_versions_that_others_are_growing_are_held_until_their_runs_end() -> None:
    neighbours = knowing(
        growing("flowers", "cars", 7),
        growing("birds", "cars", 6, "Succeeded"),
        growing("fish", "cars-2", 5),
        growing("trees", "cars"),
    )
    assert neighbours.held_versions(claim(growing("cars"))) == {7}
    assert neighbours.held_versions(claim(growing("flowers"))) == set()
