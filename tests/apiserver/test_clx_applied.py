"""`kubectl clx diff` takes a file for what kubectl, and Git's controllers, would make of it: compared with what they make."""

import copy
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from apiserver_expansions import EXPANSIONS, install_definition

from expansion_contract.resource import parsed
from expansion_development import programs
from expansion_development.kubernetes_api import Api, Manifest
from expansion_development.programs import Places
from kubectl_clx.applied import after_applying

pytestmark = [pytest.mark.apiserver, pytest.mark.usefixtures("definition")]
FIRST: dict[str, Any] = {
    "categories": {"images": "s3://photos/f/", "include": ["rose", "tulip"]},
    "output": {"models": "s3://models/f/"},
    "acceptance": {"minimumAccuracy": 0.8, "maximumBaseAccuracyDrop": 0.02},
    "serving": {"replicas": 3},
    "compute": {
        "podTemplate": {"nodeSelector": {"gpu": "yes", "zone": "a"}, "tolerations": [{"key": "gpu"}]}
    },
}
EDITS = [
    pytest.param({}, id="the same again"),
    pytest.param({"serving": {"replicas": 5}}, id="a value"),
    pytest.param({"serving": None}, id="a part left out"),
    pytest.param({"serving": {}}, id="a part emptied"),
    pytest.param({"acceptance": {"minimumAccuracy": 0.8, "maximumBaseAccuracyDrop": None}}, id="a null"),
    pytest.param({"acceptance": {"minimumAccuracy": 0.9}}, id="a field left out"),
    pytest.param({"categories": {"images": "s3://photos/f/", "include": ["oak"]}}, id="a list"),
    pytest.param(
        {"compute": {"podTemplate": {"nodeSelector": {"zone": "b"}}}}, id="a map and a list left out"
    ),
    pytest.param({"suspend": False, "mode": "Replace"}, id="what somebody else set, and a default"),
]


@pytest.fixture(scope="module")
def definition(api: Api) -> None:
    install_definition(api)


@pytest.fixture(scope="module")
def kubectl() -> Path:
    return programs.obtain([programs.KUBECTL], Places.of(dict(os.environ)), print)[programs.KUBECTL]


def manifest(**changes: Any) -> Manifest:
    """`None` leaves a part out."""
    spec = {key: value for key, value in {**copy.deepcopy(FIRST), **changes}.items() if value is not None}
    return {
        "apiVersion": "classifierexpansion.dev/v1alpha1",
        "kind": "ClassifierExpansion",
        "metadata": {"name": "flowers"},
        "spec": spec,
    }


@pytest.mark.parametrize(
    "way", [(), ("--server-side", "--field-manager=argocd-controller", "--force-conflicts")]
)
@pytest.mark.parametrize("changes", EDITS)
def test_a_file_means_what_applying_it_makes(
    api: Api, namespace: str, kubeconfig: Path, kubectl: Path, way: tuple[str, ...], changes: dict[str, Any]
) -> None:
    def apply(body: Manifest, *flags: str) -> Manifest:
        command = [
            kubectl,
            "--kubeconfig",
            kubeconfig,
            "-n",
            namespace,
            "apply",
            *way,
            *flags,
            "-o",
            "json",
            "-f",
            "-",
        ]
        done = subprocess.run(command, input=json.dumps(body), capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        made: Manifest = json.loads(done.stdout)
        return made

    apply(manifest())
    api.patch(EXPANSIONS, namespace, "flowers", {"spec": {"suspend": True, "retrain": {"revision": 4}}})
    live = api.get(EXPANSIONS, namespace, "flowers")
    made = apply(manifest(**changes), "--dry-run=server")
    assert parsed(after_applying(manifest(**changes), live)).spec == parsed(made).spec
