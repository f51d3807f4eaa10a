"""What kubectl accepts, completes and refuses, and in which words: the definition on a real API server."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from apiserver_expansions import EXPANSIONS, install_definition
from kubernetes import client, config
from kubernetes.client import ApiException

from expansion_contract.resource import (
    GROUP,
    MAX_NAME,
    NAME_RULE,
    NOT_ITSELF_RULE,
    PLURAL,
    VERSION,
    ClassifierExpansion,
    ExpansionSpec,
    parsed,
)
from expansion_contract.schema import Rule, Strict
from expansion_development.kubernetes_api import Api, Manifest, message_of

pytestmark = [pytest.mark.apiserver, pytest.mark.usefixtures("definition")]
SPEC: dict[str, Any] = {
    "categories": {"images": "s3://photos/flowers/"},
    "output": {"models": "s3://models/flowers/"},
}
PAIRS: dict[str, dict[str, Any]] = {
    "weights needs exactly one": {"base": {"pretrained": {"weights": {}}}},
    "sha256 is required with uri": {"base": {"pretrained": {"weights": {"uri": "s3://models/inception.h5"}}}},
    "spec.base needs exactly one": {"base": {"pretrained": {}, "expansionRef": {"name": "cars"}}},
    "spec.base.model.uri must be": {"base": {"model": {"uri": "./versions/7"}}},
    "spec.base.pack.uri must be": {"base": {"pretrained": {}, "pack": {"uri": "/packs/lite0"}}},
    "spec.base.pack goes with": {
        "base": {"expansionRef": {"name": "cars"}, "pack": {"uri": "s3://packs/lite0"}}
    },
    "gradientDescent goes with": {"training": {"head": {"gradientDescent": {"steps": 10}}}},
    "randomProjection goes with": {"training": {"head": {"randomProjection": {}, "solver": "Discriminant"}}},
    "spec.categories.unknownImages must be": {
        "categories": {"images": "s3://photos/flowers/", "unknownImages": "/photos/other"}
    },
    "spec.retrain.schedule must be": {"retrain": {"schedule": "every morning"}},
    "spec.categories.images must be": {"categories": {"images": "/home/me/flowers"}},
    "spec.replay.images must be": {"replay": {"images": "./replay"}},
    "spec.unlabelled.images must be": {"unlabelled": {"images": "file:///photos"}},
    "spec.output.models must be": {"output": {"models": "../models"}},
    "spec.storage.cache must be": {"storage": {"cache": "/tmp/cache"}},
}
"""The beginning of each rule's sentence, and a spec that breaks this rule and no other."""


@pytest.fixture(scope="module")
def definition(api: Api) -> None:
    install_definition(api)


def resource(name: str = "flowers", **spec: Any) -> Manifest:
    return {
        "apiVersion": "classifierexpansion.dev/v1alpha1",
        "kind": "ClassifierExpansion",
        "metadata": {"name": name},
        "spec": {**copy.deepcopy(SPEC), **spec},
    }


Refused = Callable[..., str]


@pytest.fixture
def refused(kubeconfig: Path, namespace: str) -> Refused:
    """The API server's words to somebody who asks as kubectl does, strictly; fails if it accepts."""
    objects = client.CustomObjectsApi(config.new_client_from_config(str(kubeconfig)))

    def create(body: Manifest) -> str:
        with pytest.raises(ApiException) as caught:
            objects.create_namespaced_custom_object(
                GROUP, VERSION, namespace, PLURAL, body, field_validation="Strict"
            )
        return message_of(caught.value)

    return create


def every_rule(above: type[Strict] = Strict) -> list[Rule]:
    """Of every class that stands somewhere in a resource."""
    below = [rule for model in above.__subclasses__() for rule in every_rule(model)]
    return list(dict.fromkeys([*above.__dict__.get("rules", ()), *below]))


def without_what_says_nothing(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    inner = {key: without_what_says_nothing(one) for key, one in value.items()}
    return {key: one for key, one in inner.items() if one not in (None, "", [], {})}


@pytest.mark.parametrize(
    "spec",
    [
        pytest.param({}, id="the least"),
        pytest.param(
            {
                "split": {"testPercent": 20},
                "serving": {"resources": {"limits": {"memory": "2Gi"}}},
                "compute": {"podTemplate": {"tolerations": [{"key": "gpu"}]}},
                "training": {
                    "head": {"solver": "GradientDescent", "gradientDescent": {"steps": 10}},
                    "fineTune": {"fromLayer": "mixed9"},
                },
                "categories": {
                    **SPEC["categories"],
                    "overlaps": [{"category": "rose", "onOverlap": "Merge"}],
                },
            },
            id="parts given",
        ),
        pytest.param({"acceptance": {"maximumBaseAccuracyDrop": None}}, id="a check switched off"),
    ],
)
def test_what_is_left_out_is_completed_as_the_command_line_completes_it(
    api: Api, namespace: str, spec: dict[str, Any]
) -> None:
    stored = api.create(EXPANSIONS, namespace, resource(**spec))
    ours = ExpansionSpec.model_validate(resource(**spec)["spec"])
    assert without_what_says_nothing(stored["spec"]) == without_what_says_nothing(ours.to_wire())
    assert parsed(stored).spec == ours


def test_nobody_has_looked_at_a_new_resource(api: Api, namespace: str) -> None:
    assert api.create(EXPANSIONS, namespace, resource())["status"] == {"observedGeneration": -1}


@pytest.mark.parametrize(("sentence", "spec"), [pytest.param(*pair, id=pair[0]) for pair in PAIRS.items()])
def test_a_broken_rule_is_answered_with_its_own_sentence(
    refused: Refused, sentence: str, spec: dict[str, Any]
) -> None:
    (rule,) = (rule for rule in every_rule() if sentence in rule.message)
    assert rule.message in refused(resource(**spec))


def test_every_rule_has_a_resource_above_that_breaks_it() -> None:
    """The three others have tests of their own: names, references to oneself, and changed outputs."""
    apart = {NAME_RULE.message, NOT_ITSELF_RULE.message}
    for rule in every_rule():
        if rule.message in apart or "oldSelf" in rule.cel:
            continue
        assert sum(sentence in rule.message for sentence in PAIRS) == 1, rule.message


@pytest.mark.parametrize(
    "name",
    [pytest.param("f" * (MAX_NAME + 1), id="too long"), pytest.param("2flowers", id="begins with a digit")],
)
def test_a_name_that_a_job_could_not_carry_is_refused(refused: Refused, name: str) -> None:
    assert NAME_RULE.message in refused(resource(name))


def test_nothing_grows_itself(refused: Refused) -> None:
    assert NOT_ITSELF_RULE.message in refused(resource("cars", base={"expansionRef": {"name": "cars"}}))


def test_the_longest_name_is_accepted(api: Api, namespace: str) -> None:
    api.create(EXPANSIONS, namespace, resource("f" * MAX_NAME))


def test_the_output_cannot_be_moved(api: Api, namespace: str) -> None:
    api.create(EXPANSIONS, namespace, resource())
    with pytest.raises(ApiException) as caught:
        api.patch(EXPANSIONS, namespace, "flowers", {"spec": {"output": {"models": "s3://models/other/"}}})
    assert "spec.output.models cannot be changed: versions are numbered there" in message_of(caught.value)


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        pytest.param({"split": {"testPercent": 60}}, "spec.split.testPercent", id="above a bound"),
        pytest.param({"mode": "expand"}, 'supported values: "Expand", "Replace"', id="not one of the words"),
        pytest.param({"acceptance": {"confidence": 1}}, "spec.acceptance.confidence", id="on an open bound"),
        pytest.param({"retrain": {"pollInterval": "soon"}}, "spec.retrain.pollInterval", id="no duration"),
        pytest.param({"categories": {}}, "spec.categories.images: Required value", id="missing"),
        pytest.param({"catagories": {}}, 'unknown field "spec.catagories"', id="unknown field"),
        pytest.param(
            {"categories": {"images": "s3://b-b/", "include": ["a", "a"]}},
            "Duplicate value",
            id="named twice",
        ),
    ],
)
def test_a_bad_value_is_refused_with_its_path(refused: Refused, spec: dict[str, Any], said: str) -> None:
    assert said in refused(resource(**spec))


def test_applying_the_same_again_writes_nothing(api: Api, namespace: str) -> None:
    api.apply(EXPANSIONS, namespace, resource())
    # The default status is stored with the first write after the creation; the operator's is that write.
    first = api.patch(EXPANSIONS, namespace, "flowers", {"status": {"observedGeneration": 1}}, part="status")
    again = api.apply(EXPANSIONS, namespace, resource())
    assert again["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]


def test_a_status_may_hold_all_that_the_contract_knows(api: Api, namespace: str) -> None:
    stored = api.create(EXPANSIONS, namespace, resource())
    condition = {
        "type": "Ready",
        "status": "True",
        "reason": "Live",
        "message": "",
        "lastTransitionTime": "2026-11-22T10:00:00Z",
        "observedGeneration": 1,
    }
    base = {"uri": "s3://models/cars/versions/7", "manifestSha256": "0" * 64, "version": 7}
    status = {
        "observedGeneration": 1,
        "conditions": [condition],
        "phase": "Ready",
        "dataset": {"digest": "sha256:1", "images": 1, "categories": 1, "listedAt": "2026-11-22T10:00:00Z"},
        "run": {"id": "1", "base": base, "percent": 3, "outcome": "Succeeded"},
        "candidate": {"runId": "1", "accepted": True, "accuracy": "0.9", "baseAccuracyDropMeasured": False},
        "model": {
            "version": 1,
            "runId": "1",
            "categories": 1005,
            "uri": "s3://models/flowers/versions/1",
            "base": base,
        },
        "serving": {"version": 1, "replicas": 2, "readyReplicas": 2},
        "history": [{"runId": "1", "outcome": "Published", "version": 1}],
    }
    written = api.patch(EXPANSIONS, namespace, "flowers", {"status": status}, part="status")
    assert written["status"] == status
    assert ClassifierExpansion.model_validate({**stored, "status": status}).status.model is not None


def test_the_short_name_and_the_columns_are_there(api: Api) -> None:
    found = api.get("customresourcedefinitions", "", f"{PLURAL}.{GROUP}")
    (version,) = found["spec"]["versions"]
    names = [column["name"] for column in version["additionalPrinterColumns"] if not column.get("priority")]
    assert names == ["Ready", "Phase", "Categories", "Accuracy", "Base drop", "Version", "Age"]
    assert found["status"]["acceptedNames"]["shortNames"] == ["clx"]
    assert set(found["status"]["acceptedNames"]["categories"]) == {"all", "ml"}
    assert not [c for c in found["status"]["conditions"] if c["type"] == "NonStructuralSchema"]
