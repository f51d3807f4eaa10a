"""The files that we give to Argo CD and Flux, and what a definition must not do so that they see no difference for ever."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from argo_lua import ACTIONS, FOLDER, actions
from test_convergence import World
from test_crd import nodes, schema

from expansion_contract.resource import API_VERSION, GROUP, KIND, parsed

HOUSE = Path(__file__).parents[2]
GITOPS = HOUSE / "examples" / "gitops"
KEY = f"{GROUP}_{KIND}"


def documents(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((GITOPS / name).read_text(encoding="utf-8")))


def defaulted(value: Any, node: dict[str, Any]) -> Any:
    """What the API server stores: the schema's defaults wherever the object around them is there."""
    if isinstance(value, list):
        return [defaulted(item, node["items"]) for item in value]
    if not isinstance(value, dict) or "properties" not in node:
        return value
    given = {
        **{k: inner["default"] for k, inner in node["properties"].items() if "default" in inner},
        **value,
    }
    return {key: defaulted(item, node["properties"].get(key, {})) for key, item in given.items()}


def difference(git: Any, live: Any) -> Any:
    """What Argo's default comparison sees: fields that Git names must be equal, lists as wholes; others are not looked at."""
    if isinstance(git, dict) and isinstance(live, dict):
        changed = {key: difference(item, live.get(key)) for key, item in git.items()}
        return {key: item for key, item in changed.items() if item is not None} or None
    return None if git == live else (git, live)


EVERYTHING = {
    "categories": {
        "images": "s3://photos/flowers/",
        "include": ["rose", "tulip"],
        "overlaps": [{"category": "rose", "onOverlap": "KeepBoth"}],
    },
    "compute": {
        "podTemplate": {
            "labels": {},
            "nodeSelector": {"gpu": "yes"},
            "tolerations": [{"key": "gpu", "value": "yes"}, {"key": "spot", "operator": "Exists"}],
            "imagePullSecrets": ["registry"],
            "resources": {"limits": {"memory": "16Gi"}},
        }
    },
    "acceptance": {"minimumAccuracy": 0.9, "confidence": 0.95},
    "output": {"models": "s3://models/flowers/"},
    "serving": {"rollout": {}},
}


def test_no_default_stands_inside_a_list() -> None:
    """Argo compares lists as wholes: a default that the API server adds inside one is a difference that never ends."""
    assert [path for path, node in nodes(schema()) if "[]" in path and "default" in node] == []


@pytest.mark.parametrize(
    "spec",
    [
        pytest.param(EVERYTHING, id="much given"),
        *(
            pytest.param(yaml.safe_load(path.read_text(encoding="utf-8"))["spec"], id=path.parent.name)
            for path in sorted((HOUSE / "examples").glob("*/expansion.yaml"))
        ),
    ],
)
def test_the_defaults_are_no_difference_to_argo(spec: dict[str, Any]) -> None:
    stored = defaulted(spec, schema()["properties"]["spec"])
    assert stored != spec
    assert difference(spec, stored) is None


def test_the_operator_s_answer_is_in_status_alone() -> None:
    """What Git says stays word for word what it says, whatever happens."""
    world = World()
    before = world.expansion.to_wire()
    world.settle()
    after = world.expansion.to_wire()
    assert (after["spec"], after["metadata"]) == (before["spec"], before["metadata"])


def test_argocd_cm_gets_a_key_of_our_kind_for_health_and_one_for_actions() -> None:
    (component,) = documents("argocd/customizations/kustomization.yaml")
    (generator,) = component["configMapGenerator"]
    assert generator["name"] == "argocd-cm"
    assert generator["behavior"] == "merge"
    assert generator["files"] == [
        f"resource.customizations.health.{KEY}=health.lua",
        f"resource.customizations.actions.{KEY}=actions.yaml",
    ]
    assert all((FOLDER / file.partition("=")[2]).is_file() for file in generator["files"])


def test_every_action_that_is_offered_is_defined() -> None:
    assert set(actions(World().expansion.to_wire())) == {one["name"] for one in ACTIONS["definitions"]}


def test_both_operators_come_from_our_chart() -> None:
    (application,) = documents("argocd/operator.yaml")
    *_, release = documents("flux/operator.yaml")
    for path in (application["spec"]["source"]["path"], release["spec"]["chart"]["spec"]["chart"]):
        assert (HOUSE / path / "Chart.yaml").is_file()


def test_what_waits_comes_last_and_deletes_nothing() -> None:
    (operator,), (expansions,) = documents("argocd/operator.yaml"), documents("argocd/expansions.yaml")
    wave = "argocd.argoproj.io/sync-wave"
    assert int(operator["metadata"]["annotations"][wave]) < int(expansions["metadata"]["annotations"][wave])
    assert expansions["spec"]["syncPolicy"]["automated"]["prune"] is False
    (kustomization,) = documents("flux/expansions.yaml")
    assert kustomization["spec"]["prune"] is False


def test_what_argo_shall_not_undo_are_fields_of_ours() -> None:
    (ignored,) = documents("argocd/expansions.yaml")[0]["spec"]["ignoreDifferences"]
    assert (ignored["group"], ignored["kind"]) == (GROUP, KIND)
    paths = {path.replace(".", "/") for path, _ in nodes(schema())}
    assert set(ignored["jsonPointers"]) <= paths


def test_flux_asks_its_expressions_of_our_kind() -> None:
    (check,) = documents("flux/expansions.yaml")[0]["spec"]["healthCheckExprs"]
    assert (check["apiVersion"], check["kind"]) == (API_VERSION, KIND)
    assert set(check) - {"apiVersion", "kind"} <= {"current", "failed", "inProgress"}


def test_the_example_with_everything_is_a_resource() -> None:
    assert parsed({"metadata": {"name": "flowers"}, "spec": EVERYTHING})
