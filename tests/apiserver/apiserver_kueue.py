"""Kueue is not on these machines: here is the definition of its Workload, and what its manager does to a Job."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from apiserver_waiting import condition_of, wait_for
from kubernetes import client, config
from kubernetes.client import ApiException

from expansion_development.kubernetes_api import Api, Manifest
from expansion_operator.queueing import JOB_UID_LABEL

WORKLOADS = "workloads.kueue.x-k8s.io"
OPEN = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
DEFINITION: dict[str, Any] = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {
        "name": WORKLOADS,
        "annotations": {"api-approved.kubernetes.io": "unapproved, only for this test"},
    },
    "spec": {
        "group": "kueue.x-k8s.io",
        "scope": "Namespaced",
        "names": {
            "kind": "Workload",
            "plural": "workloads",
            "singular": "workload",
            "listKind": "WorkloadList",
        },
        "versions": [
            {
                "name": "v1beta1",
                "served": True,
                "storage": True,
                "schema": {"openAPIV3Schema": {**OPEN, "properties": {"spec": OPEN, "status": OPEN}}},
            }
        ],
    },
}


@contextmanager
def kueue_of(api: Api) -> Iterator[None]:
    """While it lasts, the cluster knows Workloads."""
    api.apply("customresourcedefinitions", "", DEFINITION)
    wait_for(
        lambda: (
            condition_of(api.find("customresourcedefinitions", "", WORKLOADS), "Established").get("status")
            == "True"
        ),
        "Workloads to be known",
    )
    yield
    api.delete("customresourcedefinitions", "", WORKLOADS)


def take_into_queue(kubeconfig: Path, namespace: str, job: Manifest, **conditions: tuple[str, str]) -> None:
    """As Kueue does it: a Workload with the Job's uid."""
    said = [{"type": kind, "status": status, "message": text} for kind, (status, text) in conditions.items()]
    workload = {
        "apiVersion": "kueue.x-k8s.io/v1beta1",
        "kind": "Workload",
        "metadata": {"name": "job-flowers", "labels": {JOB_UID_LABEL: job["metadata"]["uid"]}},
        "spec": {"queueName": "gpus", "active": True},
        "status": {"conditions": said},
    }
    objects = client.CustomObjectsApi(config.new_client_from_config(str(kubeconfig)))
    where = ("kueue.x-k8s.io", "v1beta1", namespace, "workloads")
    try:
        objects.create_namespaced_custom_object(*where, workload)
    except ApiException as error:
        if error.status != 409:
            raise
        objects.patch_namespaced_custom_object(*where, "job-flowers", workload)
