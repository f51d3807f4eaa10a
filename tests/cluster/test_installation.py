"""What the chart installs: permissions no wider than needed, messages at `kubectl apply`, and nothing left behind."""

import pytest
import yaml
from cluster_tools import CHART, ROOT, SYSTEM, VISION, Body, attempt, kubectl, one, refusal, rendered

from expansion_development.processes import wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]
NAMES = "expansion-classifier-expansion"
ACCOUNT = f"system:serviceaccount:{SYSTEM}:expansion-classifier-expansion"


def may(verb: str, resource: str, namespace: str = VISION) -> bool:
    asked = ("auth", "can-i", verb, resource, "--as", ACCOUNT, "--namespace", namespace, "--quiet")
    return attempt("kubectl", *asked).returncode == 0


@pytest.mark.parametrize(
    ("verb", "resource"),
    [
        pytest.param("list", "secrets", id="look through secrets"),
        pytest.param("watch", "secrets", id="watch secrets"),
        pytest.param("create", "secrets", id="write secrets"),
        pytest.param(
            "update", "classifierexpansions.classifierexpansion.dev", id="replace the user's resource"
        ),
        pytest.param(
            "delete", "classifierexpansions.classifierexpansion.dev", id="delete the user's resource"
        ),
        pytest.param("create", "pods", id="make pods"),
        pytest.param("create", "pods/exec", id="run in pods"),
        pytest.param("delete", "persistentvolumeclaims", id="delete volumes"),
        pytest.param("create", "rolebindings.rbac.authorization.k8s.io", id="grant permissions"),
        pytest.param("get", "nodes", id="see nodes"),
    ],
)
def test_the_operator_may_not(release: str, vision: str, verb: str, resource: str):
    assert not may(verb, resource)


def test_the_operator_may_use_a_secret_that_is_named(release: str, vision: str):
    assert may("get", "secrets/s3-credentials")


@pytest.mark.parametrize("namespace", ["default", "kube-system", SYSTEM])
def test_the_operator_reads_no_secret_where_nobody_let_it(release: str, vision: str, namespace: str):
    assert not may("get", "secrets/s3-credentials", namespace)


FILES = {
    name: yaml.safe_load((CHART / "files" / f"{name}-rules.yaml").read_text())
    for name in ("operator", "secret", "lease")
}


@pytest.mark.parametrize(
    ("values", "kind", "expected"),
    [
        pytest.param((), "ClusterRole", FILES["operator"], id="the whole cluster"),
        pytest.param(
            ("--set", "watchNamespaces={shop}"),
            "Role",
            FILES["operator"] + FILES["secret"],
            id="some namespaces",
        ),
    ],
)
def test_the_rules_that_are_rendered_are_those_that_the_operator_is_tested_under(
    values: tuple[str, ...], kind: str, expected: list[Body]
):
    roles = {(body["kind"], body["metadata"]["name"]): body for body in rendered(*values)}
    assert roles[(kind, NAMES)]["rules"] == expected
    lease = yaml.safe_load(yaml.safe_dump(FILES["lease"]).replace("NAME-OF-THE-LEASE", NAMES))
    assert roles[("Role", f"{NAMES}-lease")]["rules"] == lease


def test_secrets_are_read_in_the_namespaces_that_are_named_and_never_in_the_whole_cluster():
    objects = rendered("--set", "rbac.secretNamespaces={shop,garden}")
    readers = [
        body["metadata"]["name"]
        for body in objects
        if body["kind"] == "ClusterRole" and any("secrets" in rule["resources"] for rule in body["rules"])
    ]
    assert readers == [f"{NAMES}-secrets"]
    bound = [body for body in objects if body.get("roleRef", {}).get("name") == readers[0]]
    assert [(body["kind"], body["metadata"]["namespace"]) for body in bound] == [
        ("RoleBinding", "shop"),
        ("RoleBinding", "garden"),
    ]


@pytest.mark.parametrize(
    ("role", "verb", "allowed"), [("view", "get", "yes"), ("view", "create", "no"), ("edit", "create", "yes")]
)
def test_the_clusters_own_roles_cover_expansions(
    release: str, vision: str, role: str, verb: str, allowed: str
):
    person = f"{role}er"
    binding = ("--clusterrole", role, "--user", person, "--namespace", VISION)
    kubectl("create", "rolebinding", f"{role}-{verb}", *binding)
    asked = ("auth", "can-i", verb, "classifierexpansions.classifierexpansion.dev", "--as", person)
    # The controller manager gathers the parts of these roles a moment after they are there.
    assert wait_until(lambda: attempt("kubectl", *asked, "--namespace", VISION).stdout.strip() == allowed, 20)


def test_a_typing_error_is_answered_by_kubectl_apply(expansion: Body):
    wrong = {**expansion, "spec": {**expansion["spec"], "acceptance": {"minimumAcuracy": 0.9}}}
    assert 'unknown field "spec.acceptance.minimumAcuracy"' in refusal(wrong)


def test_a_broken_rule_is_answered_with_a_sentence(expansion: Body):
    wrong = {**expansion, "spec": {**expansion["spec"], "base": {}}}
    assert "spec.base needs exactly one of pretrained, expansionRef and model" in refusal(wrong)


def test_kubectl_explain_explains(release: str):
    said = kubectl("explain", "classifierexpansion.spec.acceptance.minimumNewCategoryAccuracy")
    assert "test images of the new categories" in " ".join(said.split())


def test_a_namespaced_installation_has_no_cluster_wide_permission_to_anything():
    objects = rendered("--set", "watchNamespaces={shop,garden}")
    bound = [body for body in objects if body["kind"] == "ClusterRoleBinding"]
    assert bound == []
    roles = [body for body in objects if body["kind"] == "Role"]
    assert [role["metadata"]["namespace"] for role in roles] == ["shop", "garden", SYSTEM]
    assert {group for rule in roles[-1]["rules"] for group in rule["apiGroups"]} == {"coordination.k8s.io"}


@pytest.mark.parametrize(
    ("values", "said"),
    [
        pytest.param("replica=2", "additional properties 'replica' not allowed", id="a misspelt value"),
        pytest.param(
            "metrics.serviceMonitor.enabled=true,metrics.service.enabled=false",
            "metrics.serviceMonitor.enabled needs metrics.service.enabled",
            id="a monitor of nothing",
        ),
        pytest.param(
            "serviceAccount.create=false", "serviceAccount.name is required", id="an account without a name"
        ),
    ],
)
def test_helm_refuses_values_that_cannot_work(values: str, said: str):
    done = attempt("helm", "template", "expansion", str(CHART), "--set", values)
    assert done.returncode != 0
    assert said in done.stderr


def test_the_rendered_definition_is_the_generated_one_and_is_kept():
    generated = yaml.safe_load(
        (ROOT / "crds" / "classifierexpansion.dev_classifierexpansions.yaml").read_text()
    )
    definition = one(rendered(), "CustomResourceDefinition")
    assert definition["spec"] == generated["spec"]
    assert definition["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"


def test_an_image_by_digest_and_a_registry_reach_the_pods():
    digest = "sha256:" + "0" * 64
    values = f"images.registry=registry.example.com/ml,images.operator.digest={digest}"
    (container,) = one(rendered("--set", values), "Deployment")["spec"]["template"]["spec"]["containers"]
    assert container["image"] == f"registry.example.com/ml/classifier-expansion/operator@{digest}"
    variables = {variable["name"]: variable.get("value") for variable in container["env"]}
    assert (
        variables["EXPANSION_TRAINER_IMAGE"] == "registry.example.com/ml/classifier-expansion/trainer:0.1.0"
    )


def test_every_rendered_object_is_one_that_the_api_server_takes(release: str, vision: str):
    """Server-side dry run of the installation with everything switched on that needs no other project's kinds."""
    said = kubectl(
        "apply",
        "--dry-run=server",
        "--server-side",
        "--force-conflicts",
        "--filename",
        "-",
        given=yaml.safe_dump_all(
            rendered("--set", f"watchNamespaces={{{VISION}}},priorityClassName=system-cluster-critical")
        ),
    )
    assert "deployment.apps/expansion-classifier-expansion" in said
