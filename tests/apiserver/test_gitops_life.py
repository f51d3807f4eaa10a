"""Flux's own applier and Argo CD's own diff beside our operator: no difference at any moment of a life, and waits that end."""

import copy
import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from apiserver_expansions import SERVED, Operator, Team
from apiserver_waiting import Waiter, condition_of, wait_for
from kubernetes import config

from expansion_development import processes, programs
from expansion_development.gitops import Compare, Gitops
from expansion_development.kubernetes_api import Api, Manifest
from expansion_development.programs import Places
from expansion_operator.cluster import Cluster
from expansion_operator.lease import taken

pytestmark = pytest.mark.apiserver
EXAMPLE = processes.REPOSITORY / "examples" / "digits" / "expansion.yaml"
FLUX = processes.REPOSITORY / "examples" / "gitops" / "flux" / "expansions.yaml"
EXPRESSIONS: dict[str, str] = yaml.safe_load(FLUX.read_text(encoding="utf-8"))["spec"]["healthCheckExprs"][0]
TRACKING = {
    "argocd.argoproj.io/tracking-id": "vision:classifierexpansion.dev/ClassifierExpansion:vision/digits"
}
ARGO = "argocd-controller"
Sync = Callable[[Manifest], None]
Differs = Callable[[Manifest], bool]


@pytest.fixture(scope="module")
def gitops(kubeconfig: Path, operator: Operator) -> Iterator[Gitops]:
    with Gitops(kubeconfig) as libraries:
        yield libraries


@pytest.fixture(scope="module")
def kubectl(kubeconfig: Path) -> Callable[..., None]:
    program = programs.obtain([programs.KUBECTL], Places.of(dict(os.environ)), print)[programs.KUBECTL]

    def run(git: Manifest, *words: str) -> None:
        command = [program, "--kubeconfig", kubeconfig, *words, "-f", "-"]
        done = subprocess.run(command, input=json.dumps(git), capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr

    return run


@pytest.fixture
def git(team: Team) -> Manifest:
    """Our example as a team would commit it."""
    manifest: Manifest = yaml.safe_load(EXAMPLE.read_text(encoding="utf-8"))
    spec, ours = manifest["spec"], team.spec()
    manifest["metadata"]["namespace"] = team.namespace
    for part in ("categories", "output", "storage"):
        spec[part] |= ours[part]
    spec["serving"] |= SERVED
    return manifest


def edited(git: Manifest, **spec: Any) -> Manifest:
    """The next commit."""
    following = copy.deepcopy(git)
    for part, fields in spec.items():
        following["spec"][part] = {**following["spec"].get(part, {}), **fields}
    return following


def tracked(git: Manifest) -> Manifest:
    """As Argo CD marks what it applies."""
    return {**git, "metadata": {**git["metadata"], "annotations": TRACKING}}


@pytest.fixture(params=["Flux", "Argo CD", "Argo CD by server-side apply"])
def controller(
    request: pytest.FixtureRequest, gitops: Gitops, kubectl: Callable[..., None]
) -> tuple[Sync, Differs]:
    """How one of Git's controllers brings a commit to the cluster, and whether it then sees a difference."""
    if request.param == "Flux":
        return (
            lambda git: gitops.flux_applies(git) and None,
            lambda git: gitops.flux_would_do(git) != "unchanged",
        )
    if request.param == "Argo CD":
        words, compared = (), [Compare.THREE_WAY]
    else:
        words = ("--server-side", f"--field-manager={ARGO}", "--force-conflicts")
        compared = [Compare.STRUCTURED, Compare.SERVER]

    def differs(git: Manifest) -> bool:
        seen = {how: gitops.argo_compares(tracked(git), how).status for how in compared}
        assert len({*seen.values()}) == 1, seen
        return "OutOfSync" in seen.values()

    return lambda git: kubectl(tracked(git), "apply", *words), differs


def phases_without_a_difference(team: Team, git: Manifest, differs: Differs, until: str) -> set[str]:
    """All that were seen on the way to this phase."""
    seen = set[str]()

    def arrived() -> bool:
        seen.add(team.get("digits")["status"].get("phase", "not looked at"))
        assert not differs(git), f"a difference in {sorted(seen)}"
        return until in seen

    wait_for(arrived, f"the phase {until}", 120)
    return seen


def test_no_difference_is_seen_at_any_moment_of_a_life(
    team: Team, git: Manifest, controller: tuple[Sync, Differs]
) -> None:
    sync, differs = controller
    team.behave("slow:3", "succeed")
    sync(git)
    seen = phases_without_a_difference(team, git, differs, "Ready")
    assert len(seen) > 2, seen
    strict = edited(git, acceptance={"minimumAccuracy": 0.99})
    assert differs(strict), "an edit in Git is a difference"
    sync(strict)
    phases_without_a_difference(team, strict, differs, "Stalled")
    sync(git)
    phases_without_a_difference(team, git, differs, "Ready")
    paused = {**git, "spec": {**git["spec"], "suspend": True}}
    sync(paused)
    phases_without_a_difference(team, paused, differs, "Suspended")
    assert (team.versions(), team.attempts()) == ([1], 1)


def test_a_field_that_git_names_is_a_difference_when_somebody_changes_it_and_another_one_is_not(
    team: Team, git: Manifest, controller: tuple[Sync, Differs]
) -> None:
    sync, differs = controller
    paused = {**git, "spec": {**git["spec"], "suspend": True}}
    sync(paused)
    team.patch("digits", serving={"version": 5})
    wait_for(lambda: is_looked_at(team), "the operator to look at the edit")
    assert not differs(paused)
    team.patch("digits", acceptance={"minimumNewCategoryAccuracy": 0.5})
    assert differs(paused)
    sync(paused)
    assert not differs(paused)
    wait_for(lambda: is_looked_at(team), "the operator to look at what Git has put right")
    assert team.get("digits")["spec"]["serving"]["version"] == 5


def is_looked_at(team: Team) -> bool:
    found = team.get("digits")
    return bool(found.get("status", {}).get("observedGeneration") == found["metadata"]["generation"])


def test_the_lease_of_the_chart_is_no_difference_while_an_operator_holds_it(
    api: Api, namespace: str, kubeconfig: Path, controller: tuple[Sync, Differs]
) -> None:
    sync, differs = controller
    metadata = {"name": "operator", "namespace": namespace, "labels": {"app.kubernetes.io/name": "operator"}}
    lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata}
    sync(lease)
    operators = Cluster(config.new_client_from_config(str(kubeconfig)))
    held = taken(operators.lease(namespace, "operator"), "operator-1", "2026-11-22T12:00:00.000000Z")
    assert operators.write_lease(namespace, "operator", held)
    assert not differs(lease)
    sync(lease)
    assert api.get("leases", namespace, "operator")["spec"] == held["spec"]


HOW_TO_WAIT = (None, EXPRESSIONS)
"""By kstatus, and by our healthCheckExprs."""


def test_a_wait_of_flux_ends_when_the_resource_is_ready(team: Team, git: Manifest, gitops: Gitops) -> None:
    team.behave("slow:5")
    assert gitops.flux_applies(git) == "created"
    for how in HOW_TO_WAIT:
        assert gitops.flux_waits(git, 0.5, how).message.startswith("timeout waiting for: [")
    assert gitops.flux_waits(git, 120).status == "Ready"
    assert condition_of(team.get("digits"), "Ready")["status"] == "True"
    assert team.served() == 1
    assert gitops.flux_waits(git, 60, EXPRESSIONS).status == "Ready"


def test_a_wait_of_flux_fails_as_soon_as_only_a_person_can_help(
    team: Team, git: Manifest, gitops: Gitops
) -> None:
    team.behave("fail:11")
    gitops.flux_applies(git)
    for how in HOW_TO_WAIT:
        said = gitops.flux_waits(git, 120, how).message
        assert said.startswith("failed early due to stalled resources: [")
    assert condition_of(team.get("digits"), "Stalled")["reason"] == "BadDataset"
    assert team.attempts() == 1


def test_what_somebody_keeps_suspended_holds_a_wait_up_but_for_the_expressions(
    team: Team, git: Manifest, gitops: Gitops, wait_for_condition: Waiter
) -> None:
    paused = {**git, "spec": {**git["spec"], "suspend": True}}
    gitops.flux_applies(paused)
    wait_for_condition("digits", "Suspended")
    assert gitops.flux_waits(paused, 60, EXPRESSIONS).status == "Ready"
    assert gitops.flux_waits(paused, 1).status == "NotReady"
    assert team.jobs() == []
