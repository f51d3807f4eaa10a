"""What a file means for a live resource: read, applied as kubectl and Argo CD apply it, and previewed."""

import json
from typing import Any

import pytest
from operator_values import NOW
from test_convergence import World

from expansion_contract.resource import RETRAIN_ANNOTATION
from kubectl_clx import preview
from kubectl_clx.applied import after_applying
from kubectl_clx.exits import Exit
from kubectl_clx.manifests import expansions, namespace_of
from kubectl_clx.problem import Problem

HEAD = "apiVersion: classifierexpansion.dev/v1alpha1\nkind: ClassifierExpansion\n"


def manifest(**spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": "flowers"}, "spec": spec}


def live(spec: dict[str, Any], last: dict[str, Any] | None = None, **metadata: Any) -> dict[str, Any]:
    annotations = {"kubectl.kubernetes.io/last-applied-configuration": json.dumps(last)} if last else {}
    return {"metadata": {"name": "flowers", "annotations": annotations, **metadata}, "spec": spec}


def manager(name: str, *paths: str, operation: str = "Apply", **entry: Any) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for path in paths:
        node = fields
        for part in path.split("."):
            node = node.setdefault(f"f:{part}", {})
    return {"manager": name, "operation": operation, "fieldsV1": fields, **entry}


# Applying


def test_what_the_file_does_not_name_stays() -> None:
    """A default, or a version somebody pinned in a hurry."""
    there = live(
        {"serving": {"replicas": 2, "version": 5}, "suspend": True}, manifest(serving={"replicas": 2})
    )
    assert after_applying(manifest(serving={"replicas": 3}), there)["spec"] == {
        "serving": {"replicas": 3, "version": 5},
        "suspend": True,
    }


def test_what_the_file_named_before_and_names_no_more_goes() -> None:
    there = live({"serving": {"replicas": 4, "version": 5}}, manifest(serving={"replicas": 4, "version": 5}))
    assert after_applying(manifest(serving={"replicas": 4}), there)["spec"] == {"serving": {"replicas": 4}}


def test_lists_are_wholes() -> None:
    there = live({"categories": {"include": ["a", "b"]}}, manifest(categories={"include": ["a", "b"]}))
    assert after_applying(manifest(categories={"include": ["c"]}), there)["spec"]["categories"][
        "include"
    ] == ["c"]


def test_kubectl_takes_a_null_for_nothing_and_the_server_keeps_it() -> None:
    file = manifest(acceptance={"maximumBaseAccuracyDrop": None})
    by_kubectl = live({"acceptance": {"maximumBaseAccuracyDrop": 0.02}}, manifest(acceptance={}))
    assert after_applying(file, by_kubectl)["spec"]["acceptance"] == {"maximumBaseAccuracyDrop": 0.02}
    named_before = live(
        {"acceptance": {"maximumBaseAccuracyDrop": 0.02}},
        manifest(acceptance={"maximumBaseAccuracyDrop": 0.02}),
    )
    assert after_applying(file, named_before)["spec"]["acceptance"] == {}
    by_server = live(
        {"acceptance": {"maximumBaseAccuracyDrop": 0.02}},
        managedFields=[manager("argocd-controller", "spec.acceptance")],
    )
    assert after_applying(file, by_server)["spec"]["acceptance"] == {"maximumBaseAccuracyDrop": None}


def test_server_side_what_its_manager_alone_owns_goes_with_the_file() -> None:
    there = live(
        {"serving": {"replicas": 3, "version": 5}, "suspend": True},
        managedFields=[
            manager("kustomize-controller", "spec.serving.replicas", "spec.serving.version", "spec.suspend"),
            manager("kubectl-clx", "spec.serving.version", operation="Update"),
            manager("classifier-expansion", "status.phase", operation="Update", subresource="status"),
        ],
    )
    assert after_applying(manifest(), there)["spec"] == {"serving": {"version": 5}}


def test_labels_change_and_nothing_else_of_metadata() -> None:
    there = live(
        {},
        manifest() | {"metadata": {"name": "flowers", "labels": {"old": "1"}}},
        labels={"old": "1", "x": "2"},
    )
    file = {"metadata": {"name": "flowers", "labels": {"new": "3"}}, "spec": {}}
    after = after_applying(file, there)["metadata"]
    assert (after["name"], after["labels"]) == ("flowers", {"x": "2", "new": "3"})


def test_neither_the_file_nor_the_live_resource_is_changed() -> None:
    file, there = manifest(serving={"replicas": 3}), live({"serving": {"replicas": 2}})
    after_applying(file, there)["spec"]["serving"]["replicas"] = 9
    assert (file["spec"], there["spec"]) == ({"serving": {"replicas": 3}}, {"serving": {"replicas": 2}})


# Reading


def test_our_documents_are_found_among_others() -> None:
    text = f"kind: Secret\n---\n{HEAD}metadata: {{name: a}}\n---\n\n---\n{HEAD}metadata: {{name: b}}\n"
    assert [one["metadata"]["name"] for one in expansions(text, "f.yaml")] == ["a", "b"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        pytest.param("a: [", "f.yaml is no YAML", id="no YAML"),
        pytest.param("kind: Secret", "f.yaml has no ClassifierExpansion", id="nothing of ours"),
        pytest.param("", "f.yaml has no ClassifierExpansion", id="empty"),
        pytest.param(HEAD, "without metadata.name", id="no name"),
    ],
)
def test_a_file_that_cannot_be_read_says_why(text: str, says: str) -> None:
    with pytest.raises(Problem, match=says):
        expansions(text, "f.yaml")


def test_the_file_s_namespace_may_be_repeated_but_not_contradicted() -> None:
    body = {"metadata": {"name": "a", "namespace": "team"}}
    assert namespace_of(body, "team", "default") == namespace_of(body, None, "default") == "team"
    assert namespace_of({"metadata": {"name": "a"}}, None, "default") == "default"
    with pytest.raises(Problem, match=r"metadata\.namespace team of a, and -n says other"):
        namespace_of(body, "other", "default")


# Previewing


def served() -> dict[str, Any]:
    world = World()
    world.settle()
    return world.expansion.to_wire()


def seen(spec: dict[str, Any], there: dict[str, Any] | None) -> preview.Preview:
    whole = {
        "categories": {"images": "s3://photos/flowers/"},
        "output": {"models": "s3://models/flowers/"},
        **spec,
    }
    return preview.of({"metadata": {"name": "flowers"}, "spec": whole}, there, "team", None, NOW)


def test_a_preview_names_the_effect_the_fields_and_the_consequence() -> None:
    shown = seen({"training": {"seed": 7}}, served())
    assert shown.exit is Exit.TRAIN
    first, field, last = shown.text.splitlines()
    assert (first, field) == ("team/flowers: retrain", "  spec.training.seed: 0 -> 7")
    assert last.startswith("A Job trains run ")
    assert last.endswith("Version 1 stays until that model is accepted.")


def test_a_file_that_changes_nothing_ends_with_zero() -> None:
    assert seen({}, served()) == preview.Preview(
        text="team/flowers: nothing\nThe spec stays as it is.", exit=Exit.DONE
    )


def test_a_wish_for_one_more_run_in_the_file_trains() -> None:
    file = {
        "metadata": {"name": "flowers", "annotations": {RETRAIN_ANNOTATION: "2026-11-22"}},
        "spec": {
            "categories": {"images": "s3://photos/flowers/"},
            "output": {"models": "s3://models/flowers/"},
        },
    }
    shown = preview.of(file, served(), "team", None, NOW)
    assert shown.exit is Exit.TRAIN
    assert "A Job trains run" in shown.text


def test_an_invalid_file_is_refused_with_path_and_rule() -> None:
    shown = seen({"split": {"testPercent": 90}, "sevring": {}}, served())
    assert shown.exit is Exit.REFUSED
    assert "spec.split.testPercent" in shown.text
    assert "spec.sevring: there is no such field." in shown.text


def test_a_resource_that_is_not_there_yet_is_trained() -> None:
    assert seen({}, None).exit is Exit.TRAIN
    assert seen({"mode": "Forget"}, None).exit is Exit.REFUSED


def test_every_effect_has_an_exit_code_of_its_own() -> None:
    codes = list(preview._EXITS.values())
    assert len(set(codes)) == len(codes) == len(preview.Effect)
