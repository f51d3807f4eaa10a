"""What the operator asks of the API server in a whole life, by its audit log, is what the chart lets it do: no less and no more."""

from pathlib import Path

import pytest
from apiserver_expansions import EXPANSIONS, SERVED, Operator, Team, add_images, install_definition, message
from apiserver_kueue import kueue_of, take_into_queue
from apiserver_waiting import Waiter, condition_of, wait_for
from chart_account import Permission, granted, refused, used

from expansion_contract.resource import FINALIZER
from expansion_development.control_plane import ControlPlane
from expansion_development.kubernetes_api import Api, Manifest
from expansion_development.object_store import ObjectStore
from expansion_development.process_node.running import RunningNode

pytestmark = pytest.mark.apiserver
ASKED_BY_ADMISSION: set[Permission] = {
    ("classifierexpansion.dev", "classifierexpansions/finalizers", "update")
}
"""Needed, and asked for inside the API server: the plugin OwnerReferencesPermissionEnforcement, which is on here, lets nobody
set an owner reference without it, and writes nothing into the audit log."""
LEASE = "operator"
PATIENCE = 240
"""Seconds: nothing here is about speed."""


@pytest.fixture
def team(api: Api, namespace: str, moto_store: ObjectStore, bucket: str, process_node: RunningNode) -> Team:
    install_definition(api)
    add_images(process_node)
    team = Team(api, namespace, moto_store, bucket)
    team.create_secret()
    team.put_images(tulip=20, rose=20)
    return team


@pytest.mark.parametrize(
    "everywhere", [pytest.param(False, id="some namespaces"), pytest.param(True, id="the whole cluster")]
)
def test_a_whole_life_uses_every_permission_of_the_chart_and_needs_no_other(
    team: Team,
    wait_for_condition: Waiter,
    control_plane: ControlPlane,
    tmp_path: Path,
    everywhere: bool,
) -> None:
    where = () if everywhere else (team.namespace,)
    lease = {"lease": f"{team.namespace}/{LEASE}", "identity": "the-only-one"}
    team.api.create("leases", team.namespace, lease_of_the_chart())
    before = control_plane.audit_log.stat().st_size
    with Operator(control_plane.kubeconfig, tmp_path / "operator.log", *where, **lease) as operator:
        live(team, wait_for_condition, control_plane.kubeconfig)
        team.api.delete("leases", team.namespace, LEASE)
        wait_for(lambda: team.api.find("leases", team.namespace, LEASE), "a new Lease")
    events = list(operator.account.audited(control_plane.audit_log, since=before))
    assert refused(events) == []
    assert used(events) == granted("operator", "secret", "lease") - ASKED_BY_ADMISSION


def test_an_operator_of_two_namespaces_acts_in_both_and_nowhere_else(
    team: Team, moto_store: ObjectStore, kubeconfig: Path, tmp_path: Path
) -> None:
    teams = [team]
    for name in ("second", "not-ours"):
        other = Team(team.api, f"{team.namespace}-{name}", moto_store, f"{team.bucket}-{name}")
        metadata = {"name": other.namespace}
        team.api.create("namespaces", "", {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
        moto_store.create_bucket(other.bucket)
        other.put_images(tulip=20, rose=20)
        teams.append(other)
    *ours, stranger = teams
    for each in teams:
        each.create_secret()
        each.apply()
    with Operator(kubeconfig, tmp_path / "operator.log", *(each.namespace for each in ours)) as operator:
        for each in ours:
            wait_for(lambda each=each: each.versions() == [1], f"a version in {each.namespace}")
        assert operator.healthy("healthz")
    assert stranger.get()["status"] == {"observedGeneration": -1}
    assert stranger.jobs() == []
    for each in teams[1:]:
        team.api.delete("namespaces", "", each.namespace)


def lease_of_the_chart() -> dict[str, object]:
    return {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": LEASE}}


def live(team: Team, wait_for_condition: Waiter, kubeconfig: Path) -> None:
    """Made, trained, served, stopped, trained again, grown by another one, queued, no longer served, deleted with its storage."""
    models = {"models": f"s3://{team.bucket}/models/", "deletionPolicy": "Delete"}
    team.apply(output=models, serving=SERVED)
    wait_for_condition("flowers", "Ready", timeout=PATIENCE)
    team.behave("slow:600")
    team.patch(retrain={"revision": 1})
    wait_for_condition("flowers", "Trained", "Unknown", reason="Running")
    team.patch(compute={"backoffLimit": 7})
    wait_for(lambda: any(job["spec"]["backoffLimit"] == 7 for job in team.jobs()), "another limit of the Job")
    for _ in range(2):
        team.patch(suspend=True)
        wait_for_condition("flowers", "Suspended")
        wait_for(lambda: not any(map(is_under_way, team.jobs())), "the Job to be stopped", PATIENCE)
        team.behave("succeed")
        team.patch(suspend=False)
        wait_for_condition("flowers", "Ready", timeout=PATIENCE)
    assert team.versions() == [1, 2]
    team.apply(
        "more",
        base={"expansionRef": {"name": "flowers"}},
        categories={"images": f"s3://{team.bucket}/photos/", "onOverlap": "KeepBoth"},
        output={"models": f"s3://{team.bucket}/more/"},
    )
    with kueue_of(team.api):
        wait_in_a_queue(team, wait_for_condition, kubeconfig)
    team.patch(serving={"mode": "None"})
    wait_for(lambda: not team.api.list("services", team.namespace), "the Service to be gone")
    wait_for_condition("more", "Ready", timeout=PATIENCE)
    assert team.get()["metadata"]["finalizers"] == [FINALIZER]
    team.api.delete(EXPANSIONS, team.namespace, "flowers")
    wait_for(lambda: team.api.find(EXPANSIONS, team.namespace, "flowers") is None, "the resource to be gone")


def is_under_way(job: Manifest) -> bool:
    return not any(condition_of(job, end).get("status") == "True" for end in ("Complete", "Failed"))


def wait_in_a_queue(team: Team, wait_for_condition: Waiter, kubeconfig: Path) -> None:
    compute = {"gpusPerWorker": 0, "queueName": "gpus"}
    team.apply("queued", output={"models": f"s3://{team.bucket}/queued/"}, compute=compute)
    (job,) = wait_for(lambda: [one for one in team.jobs() if "queued" in one["metadata"]["name"]], "the Job")
    team.api.patch("jobs", team.namespace, job["metadata"]["name"], {"spec": {"suspend": True}})
    take_into_queue(kubeconfig, team.namespace, job, QuotaReserved=("False", "no GPU left"))
    wait_for(lambda: "no GPU left" in message(team.get("queued"), "Trained"), "Kueue's words")
    team.api.patch("jobs", team.namespace, job["metadata"]["name"], {"spec": {"suspend": False}})
    wait_for_condition("queued", "Ready", timeout=PATIENCE)


def test_an_operator_of_the_whole_cluster_reads_no_secret_unless_it_is_let_and_says_how(
    team: Team, wait_for_condition: Waiter, kubeconfig: Path, tmp_path: Path
) -> None:
    team.api.delete("rolebindings", team.namespace, "operator-secrets")
    with Operator(kubeconfig, tmp_path / "operator.log"):
        team.apply()
        found = wait_for_condition("flowers", "Stalled", reason="Forbidden")
    assert f"to read Secret {team.namespace}/s3-credentials" in message(found, "Stalled")
    assert "rbac.secretNamespaces" in message(found, "Stalled")


def test_no_pod_of_ours_holds_a_token(
    team: Team, wait_for_condition: Waiter, kubeconfig: Path, tmp_path: Path
) -> None:
    """The API server's own admission would mount one into every pod that does not refuse it."""
    with Operator(kubeconfig, tmp_path / "operator.log", team.namespace):
        team.apply(serving=SERVED)
        wait_for_condition("flowers", "Ready", timeout=PATIENCE)
        pods = team.api.list("pods", team.namespace)
    components = {pod["metadata"]["labels"]["app.kubernetes.io/component"] for pod in pods}
    assert components == {"trainer", "model-server"}
    volumes = [volume for pod in pods for volume in pod["spec"].get("volumes", ())]
    assert [volume for volume in volumes if "projected" in volume] == []
