"""What Git's controllers do to a real API server beside our operator: no difference stays, and nobody's field is lost."""

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from apiserver_expansions import EXPANSIONS, install_definition
from test_clx_applied import FIRST, manifest

from expansion_development import processes, programs
from expansion_development.kubernetes_api import Api, Manifest
from expansion_development.programs import Places

pytestmark = [pytest.mark.apiserver, pytest.mark.usefixtures("definition")]
GUIDE = processes.REPOSITORY / "docs" / "gitops.md"
CUSTOMIZATIONS = processes.REPOSITORY / "examples" / "gitops" / "argocd" / "customizations"
MANAGERS = ["argocd-controller", "kustomize-controller"]
STATUS = {
    "observedGeneration": 1,
    "phase": "Ready",
    "conditions": [
        {
            "type": "Ready",
            "status": "True",
            "reason": "Ready",
            "message": "Version 1 answers.",
            "lastTransitionTime": "2026-11-22T12:00:00Z",
            "observedGeneration": 1,
        }
    ],
}


@pytest.fixture(scope="module")
def definition(api: Api) -> None:
    install_definition(api)


@pytest.fixture(scope="module")
def kubectl() -> Path:
    return programs.obtain([programs.KUBECTL], Places.of(dict(os.environ)), print)[programs.KUBECTL]


def example(path: Path) -> Manifest:
    loaded: Manifest = yaml.safe_load(path.read_text(encoding="utf-8"))
    return loaded


EXAMPLES = {
    "much given": manifest(),
    **{
        path.parent.name: example(path)
        for path in (processes.REPOSITORY / "examples").glob("*/expansion.yaml")
    },
}


def without_bookkeeping(body: Manifest) -> Manifest:
    metadata = {key: value for key, value in body["metadata"].items() if key not in {"managedFields"}}
    return {**body, "metadata": metadata}


@pytest.mark.parametrize("manager", MANAGERS)
@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_applying_git_again_is_no_difference_whatever_the_operator_said_meanwhile(
    api: Api, namespace: str, manager: str, name: str
) -> None:
    """As Flux and Argo CD's server-side diff find drift: by an apply that changes nothing."""
    git = EXAMPLES[name]
    api.apply(EXPANSIONS, namespace, git, manager)
    live = api.patch(EXPANSIONS, namespace, git["metadata"]["name"], {"status": STATUS}, part="status")
    again = api.apply(EXPANSIONS, namespace, git, manager)
    assert without_bookkeeping(again) == without_bookkeeping(live)


@pytest.mark.parametrize("manager", MANAGERS)
def test_a_version_that_git_does_not_name_survives_the_next_sync_and_one_that_it_names_does_not(
    api: Api, namespace: str, manager: str
) -> None:
    api.apply(EXPANSIONS, namespace, manifest(), manager)
    api.patch(EXPANSIONS, namespace, "flowers", {"spec": {"serving": {"version": 5}}})
    assert api.apply(EXPANSIONS, namespace, manifest(), manager)["spec"]["serving"]["version"] == 5
    named = manifest(serving={**FIRST["serving"], "version": 7})
    assert api.apply(EXPANSIONS, namespace, named, manager)["spec"]["serving"]["version"] == 7


def test_the_guide_s_command_adds_two_keys_to_argo_s_configuration_and_touches_no_other(
    api: Api, namespace: str, kubeconfig: Path, kubectl: Path
) -> None:
    labels = {"app.kubernetes.io/part-of": "argocd"}
    before: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "argocd-cm", "labels": labels},
        "data": {"url": "https://argo.example.com"},
    }
    api.create("configmaps", namespace, before)
    command = re.search(
        r"kubectl create configmap argocd-cm.*?-f -", GUIDE.read_text(encoding="utf-8"), re.DOTALL
    )
    assert command
    environment = {
        **os.environ,
        "KUBECONFIG": str(kubeconfig),
        "PATH": f"{kubectl.parent}:{os.environ['PATH']}",
    }
    line = command[0].replace("-n argocd", f"-n {namespace}")
    done = subprocess.run(
        ["bash", "-c", line], cwd=CUSTOMIZATIONS, env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    after = api.get("configmaps", namespace, "argocd-cm")
    kind = "classifierexpansion.dev_ClassifierExpansion"
    health, actions = f"resource.customizations.health.{kind}", f"resource.customizations.actions.{kind}"
    assert set(after["data"]) == {"url", health, actions}
    assert after["metadata"]["labels"] == labels
    assert after["data"][health] == (CUSTOMIZATIONS / "health.lua").read_text(encoding="utf-8")
    assert {one["name"] for one in yaml.safe_load(after["data"][actions])["definitions"]} >= {
        "retrain",
        "roll-back",
    }
