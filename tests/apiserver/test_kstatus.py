"""What Flux sees of a resource at every moment of its life, asked of the real kstatus library and Flux's own evaluator."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import contract_values
import operator_values
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from test_convergence import HAPPENINGS, World

from expansion_contract.resource import ClassifierExpansion, Condition
from expansion_development.gitops import Gitops, GitopsError
from expansion_operator.observed import JobPhase, Publish, WriteRun, WriteServing
from expansion_operator.reconcile import invalid_status

pytestmark = pytest.mark.apiserver
FLUX = Path(__file__).parents[2] / "examples" / "gitops" / "flux"
UNDER_WAY = {JobPhase.PENDING, JobPhase.RUNNING}
EXPRESSIONS: dict[str, str] = yaml.safe_load((FLUX / "expansions.yaml").read_text())["spec"][
    "healthCheckExprs"
][0]


@pytest.fixture(scope="module")
def gitops() -> Iterator[Gitops]:
    with Gitops() as library:
        yield library


def wire(expansion: ClassifierExpansion) -> dict[str, Any]:
    return expansion.to_wire()


def holds(expansion: ClassifierExpansion, kind: str) -> bool:
    return any(c.type == kind and c.status == "True" for c in expansion.status.conditions)


def is_observed(expansion: ClassifierExpansion) -> bool:
    return expansion.status.observed_generation == expansion.metadata.generation


def expected(expansion: ClassifierExpansion) -> str:
    """The promise, in the words of the conditions: never Failed unless Stalled, never Current unless Ready for this generation."""
    if not is_observed(expansion):
        return "InProgress"
    if holds(expansion, "Stalled"):
        return "Failed"
    return "Current" if holds(expansion, "Ready") else "InProgress"


def deleted(expansion: ClassifierExpansion) -> ClassifierExpansion:
    metadata = expansion.metadata.model_copy(update={"deletion_timestamp": "2026-11-22T12:00:00Z"})
    return expansion.model_copy(update={"metadata": metadata})


@settings(max_examples=300)
@given(st.lists(st.sampled_from(sorted(HAPPENINGS)), max_size=30))
def test_kstatus_is_clean_at_every_moment_of_a_life(gitops: Gitops, happenings: list[str]) -> None:
    world = World()
    for happening in happenings:
        HAPPENINGS[happening](world)
        expansion = world.expansion
        seen = gitops.kstatus(wire(expansion))
        assert seen.status == expected(expansion) == operator_values.kstatus(expansion)
        assert seen.message
        assert not (holds(expansion, "Reconciling") and holds(expansion, "Stalled"))
        assert gitops.kstatus(wire(deleted(expansion))).status == "Terminating"


@settings(max_examples=150)
@given(st.lists(st.sampled_from(sorted(HAPPENINGS)), max_size=25))
def test_while_the_operator_works_flux_waits(gitops: Gitops, happenings: list[str]) -> None:
    """A step taken, or a run of this spec and data under way, is neither the end nor a failure."""
    world = World()
    for happening in happenings:
        HAPPENINGS[happening](world)
        steps = [a for a in world.look().actions if isinstance(a, WriteRun | Publish | WriteServing)]
        job = world.jobs.get(world.run)
        runs = job is not None and job.phase in UNDER_WAY and not world.storage_is_away
        if steps or (runs and world.run not in world.reports):
            assert gitops.kstatus(wire(world.expansion)).status == "InProgress"


def test_nobody_mistakes_a_resource_for_ready_before_the_operator_saw_it(gitops: Gitops):
    """The CRD's default; without it, an object without conditions would be Current."""
    body = wire(World().expansion)
    assert (body["status"]["observedGeneration"], body["status"]["conditions"]) == (-1, [])
    assert gitops.kstatus(body | {"status": {"observedGeneration": -1}}).status == "InProgress"


def test_a_resource_that_today_s_definition_refuses_is_failed(gitops: Gitops):
    body = contract_values.body()
    body["metadata"]["generation"] = 3
    body |= {"apiVersion": "classifierexpansion.dev/v1alpha1", "kind": "ClassifierExpansion"}
    world = World()
    world.settle()
    for before in ({}, {"status": wire(world.expansion)["status"]}):
        status = invalid_status(body | before, "spec.mode: there is no such field.", "2026-11-22T12:00:00Z")
        seen = gitops.kstatus(body | {"status": status})
        assert (seen.status, seen.message) == ("Failed", "spec.mode: there is no such field.")


# Flux's healthCheckExprs


@settings(max_examples=150)
@given(st.lists(st.sampled_from(sorted(HAPPENINGS)), max_size=25))
def test_the_expressions_say_what_kstatus_says_but_call_what_is_suspended_current(
    gitops: Gitops, happenings: list[str]
) -> None:
    world = World()
    for happening in happenings:
        HAPPENINGS[happening](world)
        expansion = world.expansion
        plain = gitops.kstatus(wire(expansion)).status
        resting = is_observed(expansion) and holds(expansion, "Suspended") and not holds(expansion, "Stalled")
        assert gitops.kstatus(wire(expansion), EXPRESSIONS).status == ("Current" if resting else plain)


def test_the_expressions_bear_a_resource_without_conditions(gitops: Gitops):
    body = wire(World().expansion)
    for status in ({}, {"observedGeneration": -1}, {"observedGeneration": 1}):
        assert gitops.kstatus(body | {"status": status}, EXPRESSIONS).status == "InProgress"


def test_the_oracle_tells_an_error_from_a_verdict(gitops: Gitops):
    world = World()
    world.settle()
    with pytest.raises(GitopsError, match="no such key"):
        gitops.kstatus(wire(world.expansion), {"current": "status.nothing.x == 1"})
    broken = wire(World().expansion) | {"status": {"observedGeneration": "one"}}
    with pytest.raises(GitopsError, match="observedGeneration"):
        gitops.kstatus(broken)


def test_a_condition_that_is_unknown_is_never_the_end(gitops: Gitops):
    world = World()
    world.settle()
    unknown = Condition(
        type="Ready", status="Unknown", reason="Asking", last_transition_time="2026-11-22T12:00:00Z"
    )
    world.status = world.status.model_copy(update={"conditions": [unknown]})
    assert gitops.kstatus(wire(world.expansion)).status == "InProgress"
