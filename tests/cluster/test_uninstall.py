"""`helm uninstall`: runs last, by its file's name, because it takes the installation away."""

import pytest
from cluster_tools import RELEASE, SYSTEM, attempt, kubectl, run

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]
KINDS = "deployments,services,serviceaccounts,roles,rolebindings,clusterroles,clusterrolebindings"


def test_uninstalling_leaves_only_the_definition_and_with_it_the_resources(release: str):
    run("helm", "uninstall", RELEASE, "--namespace", SYSTEM, "--wait")
    left = kubectl(
        "get",
        KINDS,
        "--all-namespaces",
        "--selector",
        f"app.kubernetes.io/instance={RELEASE}",
        "--output",
        "name",
    )
    assert left == ""
    kept = attempt("kubectl", "get", "crd", "classifierexpansions.classifierexpansion.dev")
    assert kept.returncode == 0
