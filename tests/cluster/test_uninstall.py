"""Another installation, then `helm uninstall`: runs last, by its file's name, because it takes the installation away."""

import pytest
from cluster_tools import RELEASE, SYSTEM, Images, attempt, install, kubectl, operators_said, run

from expansion_development.processes import wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]
OF_OURS = f"app.kubernetes.io/instance={RELEASE}"
KINDS = "deployments,leases,poddisruptionbudgets,services,serviceaccounts,roles,rolebindings,clusterroles,clusterrolebindings"


def test_an_operator_of_some_namespaces_gets_along_with_roles_in_them(
    release: str, vision: str, images: Images
):
    install(images, "--set", f"watchNamespaces={{{vision}}}")
    assert kubectl("get", "clusterrolebindings", "--selector", OF_OURS, "--output", "name") == ""
    assert wait_until(lambda: f"watching {vision}" in operators_said(), 60)
    said = operators_said()
    assert "forbidden" not in said.lower()


def test_uninstalling_leaves_only_the_definition_and_with_it_the_resources(release: str):
    run("helm", "uninstall", RELEASE, "--namespace", SYSTEM, "--wait")
    left = kubectl(
        "get",
        KINDS,
        "--all-namespaces",
        "--selector",
        OF_OURS,
        "--output",
        "name",
    )
    assert left == ""
    kept = attempt("kubectl", "get", "crd", "classifierexpansions.classifierexpansion.dev")
    assert kept.returncode == 0
