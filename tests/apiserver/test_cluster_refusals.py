"""What the cluster's own people and nodes refuse, with a real API server: policies, webhooks that are away, GPUs that are not there."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from apiserver_expansions import EXPANSIONS, Team, message
from apiserver_waiting import Waiter, wait_for
from kubernetes.client import ApiException

from expansion_development.kubernetes_api import Api, Manifest

pytestmark = pytest.mark.apiserver
WORDS = "Jobs of this team need the approval of ops@example.com."
Make = Callable[..., None]


@pytest.fixture
def admission(api: Api) -> Iterator[Make]:
    """`admission(plural, kind, name, spec={...})`; removed after the test."""
    made: list[tuple[str, str]] = []

    def make(plural: str, kind: str, name: str, **body: Any) -> None:
        made.append((plural, name))
        head = {"apiVersion": "admissionregistration.k8s.io/v1", "kind": kind, "metadata": {"name": name}}
        api.create(plural, "", {**head, **body})

    yield make
    for plural, name in reversed(made):
        api.delete(plural, "", name)


def of_jobs_in(team: Team) -> dict[str, Any]:
    rule = {"apiGroups": ["batch"], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["jobs"]}
    return {"rule": rule, "selector": {"matchLabels": {"kubernetes.io/metadata.name": team.namespace}}}


def refuses_jobs(team: Team) -> bool:
    """By now: the API server learns of new rules a moment later."""
    pod = {"containers": [{"name": "main", "image": "any"}], "restartPolicy": "Never"}
    job: Manifest = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"generateName": "probe-"}}
    job["spec"] = {"suspend": True, "template": {"spec": pod}}
    try:
        made = team.api.create("jobs", team.namespace, job)
    except ApiException:
        return True
    team.api.delete("jobs", team.namespace, made["metadata"]["name"])
    return False


def test_a_policy_that_denies_a_job_is_told_in_its_own_words_and_needs_somebody(
    team: Team, admission: Make, wait_for_condition: Waiter
) -> None:
    where, name = of_jobs_in(team), f"approval-{team.namespace}"
    matched = {"resourceRules": [where["rule"]], "namespaceSelector": where["selector"]}
    policy = {"matchConstraints": matched, "validations": [{"expression": "false", "message": WORDS}]}
    binding = {"policyName": name, "validationActions": ["Deny"]}
    admission("validatingadmissionpolicies", "ValidatingAdmissionPolicy", name, spec=policy)
    admission("validatingadmissionpolicybindings", "ValidatingAdmissionPolicyBinding", name, spec=binding)
    wait_for(lambda: refuses_jobs(team), "the policy to be in force", 60)
    team.apply()
    found = wait_for_condition("flowers", "Stalled", reason="AdmissionDenied")
    assert WORDS in message(found, "Stalled")
    assert team.attempts() == 0
    team.api.delete("validatingadmissionpolicybindings", "", name)
    wait_for(lambda: not refuses_jobs(team), "the policy to be gone", 60)
    team.api.patch(EXPANSIONS, team.namespace, "flowers", {"metadata": {"labels": {"look": "again"}}})
    wait_for_condition("flowers", "Ready")
    assert team.attempts() == 1


def test_a_webhook_that_nobody_answers_is_named_and_waited_for(
    team: Team, admission: Make, wait_for_condition: Waiter
) -> None:
    where, name = of_jobs_in(team), f"webhook-{team.namespace}"
    webhook = {
        "name": "approval.example.com",
        "clientConfig": {"url": "https://127.0.0.1:1/approve"},
        "rules": [where["rule"]],
        "namespaceSelector": where["selector"],
        "failurePolicy": "Fail",
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
        "timeoutSeconds": 2,
    }
    admission("validatingwebhookconfigurations", "ValidatingWebhookConfiguration", name, webhooks=[webhook])
    wait_for(lambda: refuses_jobs(team), "the webhook to be asked", 60)
    team.apply()
    found = wait_for_condition("flowers", "Trained", "Unknown", reason="WebhookUnavailable")
    assert 'failed calling webhook "approval.example.com"' in message(found, "Trained")
    team.api.delete("validatingwebhookconfigurations", "", name)
    wait_for_condition("flowers", "Ready", timeout=120)
    assert team.attempts() == 1


def test_a_run_that_no_node_has_room_for_says_so_in_the_schedulers_words_and_starts_when_it_asks_for_less(
    team: Team, wait_for_condition: Waiter
) -> None:
    team.apply(compute={"gpusPerWorker": 16})
    found = wait_for_condition("flowers", "Trained", "Unknown", reason="Unschedulable")
    assert "0/1 nodes are available: 1 Insufficient nvidia.com/gpu." in message(found, "Trained")
    team.apply(compute={"gpusPerWorker": 0})
    wait_for_condition("flowers", "Ready", timeout=120)
    assert team.attempts() == 1
