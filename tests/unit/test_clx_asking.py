"""What `kubectl clx retrain` and `rollback` set, and what they say about Git."""

from typing import Any

import pytest
import yaml
from operator_values import NOW

from kubectl_clx import gitops
from kubectl_clx.asking import VERSION_PATH, retrain, rollback
from kubectl_clx.problem import Problem


def body(*published: int, pinned: int | None = None, **metadata: Any) -> dict[str, Any]:
    """A resource that published these, newest first."""
    history = [{"runId": f"r{n}", "outcome": "Published", "version": n} for n in published]
    refused = {"runId": "r9", "outcome": "Refused"}
    model = (
        {"version": published[0], "runId": "r", "categories": 1002, "uri": "s3://m/1"} if published else None
    )
    serving = {"replicas": 2} | ({"version": pinned} if pinned is not None else {})
    return {
        "metadata": {"name": "flowers", "namespace": "team", **metadata},
        "spec": {"serving": serving},
        "status": {"history": [refused, *history]} | ({"model": model} if model else {}),
    }


def version(asked: Any) -> Any:
    return asked.changes["spec"]["serving"]["version"]


# Retrain


def test_a_retrain_is_one_annotation_with_the_time() -> None:
    asked = retrain(body(1), NOW)
    assert asked.changes == {
        "metadata": {"annotations": {"classifierexpansion.dev/retrain-requested-at": "2026-11-22T12:00:00Z"}}
    }
    assert "kubectl clx status flowers" in asked.says


def test_a_retrain_of_a_suspended_resource_says_that_nothing_happens_yet() -> None:
    suspended = body(1)
    suspended["spec"]["suspend"] = True
    assert "nothing trains until spec.suspend is false" in retrain(suspended, NOW).says


# Rollback


def test_a_rollback_goes_to_the_published_version_below() -> None:
    assert version(rollback(body(7, 6, 5), None)) == 6
    assert version(rollback(body(7, 6, 5, pinned=6), None)) == 5


def test_a_rollback_goes_where_it_is_told() -> None:
    asked = rollback(body(7, 6, 5), "5")
    assert asked.changes == {"spec": {"serving": {"version": 5}}}
    assert "serves version 5 instead of 7, without a Job" in asked.says


def test_a_rollback_is_undone_by_going_to_the_newest() -> None:
    assert rollback(body(7, 6, pinned=6), "newest").changes == {"spec": {"serving": {"version": None}}}


@pytest.mark.parametrize(
    ("published", "to", "says"),
    [
        pytest.param(
            (), None, "no published version below 0 to go back to. It has published nothing", id="nothing"
        ),
        pytest.param((1,), None, "no published version below 1 to go back to. It knows 1.", id="the first"),
        pytest.param(
            (7, 6),
            "six",
            "--to must be the number of a published version or `newest`, got 'six'",
            id="a word",
        ),
        pytest.param((7, 6), "4", "knows no published version 4. It knows 7, 6.", id="unknown"),
        pytest.param((7, 6), "7", "serves version 7 already. It knows 7, 6.", id="served"),
    ],
)
def test_a_rollback_that_cannot_be_says_what_can(
    published: tuple[int, ...], to: str | None, says: str
) -> None:
    with pytest.raises(Problem) as problem:
        rollback(body(*published), to)
    assert says in str(problem.value)


# Git


ARGO = {
    "annotations": {
        "argocd.argoproj.io/tracking-id": "vision-models:classifierexpansion.dev/ClassifierExpansion:team/flowers"
    }
}
FLUX = {
    "labels": {
        "kustomize.toolkit.fluxcd.io/name": "models",
        "kustomize.toolkit.fluxcd.io/namespace": "flux-system",
    }
}
CHANGES = {"spec": {"serving": {"version": 5}}}


def owned(manager: str) -> dict[str, Any]:
    return {"managedFields": [{"manager": manager, "fieldsV1": {"f:spec": {"f:serving": {"f:version": {}}}}}]}


@pytest.mark.parametrize(
    ("metadata", "keeper"),
    [
        pytest.param(ARGO, "Argo CD (Application vision-models)", id="argo by annotation"),
        pytest.param(
            {"labels": {"argocd.argoproj.io/instance": "models"}},
            "Argo CD (Application models)",
            id="argo by label",
        ),
        pytest.param(owned("argocd-controller"), "Argo CD", id="argo by field manager"),
        pytest.param(FLUX, "Flux (Kustomization flux-system/models)", id="flux"),
        pytest.param(
            {"labels": {"helm.toolkit.fluxcd.io/name": "m", "helm.toolkit.fluxcd.io/namespace": "n"}},
            "Flux (HelmRelease n/m)",
            id="flux with helm",
        ),
    ],
)
def test_who_brings_a_resource_from_git_is_seen(metadata: dict[str, Any], keeper: str) -> None:
    found = gitops.keeper(body(7, 5, **metadata))
    assert found is not None
    assert found.keeper == keeper


def test_where_git_has_no_part_nothing_is_said_of_it() -> None:
    labelled = body(7, 5, labels={"app.kubernetes.io/instance": "flowers"}, **owned("kubectl-clx"))
    assert gitops.advice(labelled, CHANGES, VERSION_PATH) == ""


@pytest.mark.parametrize(
    "metadata",
    [
        pytest.param(ARGO | owned("argocd-controller"), id="server-side apply"),
        pytest.param(
            {
                "annotations": {
                    **ARGO["annotations"],
                    "kubectl.kubernetes.io/last-applied-configuration": '{"spec": {"serving": {"version": 7}}}',
                }
            },
            id="apply",
        ),
    ],
)
def test_a_field_that_git_names_is_put_back_and_what_to_commit_is_said(metadata: dict[str, Any]) -> None:
    advice = gitops.advice(body(7, 5, **metadata), CHANGES, VERSION_PATH)
    assert advice.startswith(
        "Git names spec.serving.version, and Argo CD (Application vision-models) brings it: the next sync puts it back."
    )
    commit = advice.partition("\n\n")[2]
    assert yaml.safe_load(commit) == CHANGES


def test_a_field_that_git_does_not_name_stays_and_what_to_commit_is_said() -> None:
    advice = gitops.advice(body(7, 5, **FLUX), CHANGES, VERSION_PATH)
    assert "Git does not name spec.serving.version, so this stays until Git does." in advice
    assert yaml.safe_load(advice.partition("\n\n")[2]) == CHANGES
