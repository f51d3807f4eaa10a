"""What all pods of ours have in common: names, labels, ownership, security, and the way to storage."""

from typing import Any

from expansion_contract import environment
from expansion_contract.resource import API_VERSION, KIND, ClassifierExpansion, Storage
from expansion_contract.run import storage_access

Body = dict[str, Any]

USER = 65532
"""Not root, in no image's /etc/passwd, and what our own images run as."""
SCRATCH = "/scratch"
CA_FOLDER = "/etc/expansion/ca"
CA_KEY = "ca.crt"
RUN_DIGITS = 10


def job_name(expansion_name: str, run_id: str) -> str:
    return f"{expansion_name}-{run_id[:RUN_DIGITS]}"


def serving_name(expansion_name: str) -> str:
    """Of the Deployment and of the Service."""
    return f"{expansion_name}-serving"


def labels(expansion: ClassifierExpansion, component: str) -> dict[str, str]:
    """Ours alone: a copied label of the parent would let Argo CD prune a running Job."""
    return {
        environment.MANAGED_BY_LABEL: environment.MANAGED_BY,
        environment.COMPONENT_LABEL: component,
        environment.NAME_LABEL: expansion.metadata.name,
    }


def metadata(expansion: ClassifierExpansion, name: str, labelled: dict[str, str]) -> Body:
    owner = {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "name": expansion.metadata.name,
        "uid": expansion.metadata.uid,
        "controller": True,
        "blockOwnerDeletion": True,
    }
    return {
        "name": name,
        "namespace": expansion.metadata.namespace,
        "labels": labelled,
        "ownerReferences": [owner],
    }


def restricted_pod() -> Body:
    """Of every pod: no API token, no environment full of Services, and the Pod Security Standard `restricted`."""
    return {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    }


def restricted_container() -> Body:
    return {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
    }


def variables(**values: str) -> list[Body]:
    return [{"name": name, "value": value} for name, value in values.items() if value]


def storage_variables(expansion: ClassifierExpansion) -> list[Body]:
    values = environment.of_storage(storage_access(expansion))
    if expansion.spec.storage.ca_secret_name:
        values[environment.CA_BUNDLE] = f"{CA_FOLDER}/{CA_KEY}"
    return variables(**values)


def scratch_variables() -> list[Body]:
    """The root file system is read-only: whatever a library writes goes where it may."""
    return variables(HOME=SCRATCH, TMPDIR=SCRATCH, **{environment.SCRATCH: SCRATCH})


def keys(storage: Storage) -> Body:
    """The container's envFrom, if there is a Secret; else the pod's own identity is used."""
    return {"envFrom": [{"secretRef": {"name": storage.secret_name}}]} if storage.secret_name else {}


def scratch_volume() -> Body:
    return {"name": "scratch", "emptyDir": {}}


def scratch_mount() -> Body:
    return {"name": "scratch", "mountPath": SCRATCH}


def ca_volumes(storage: Storage) -> list[Body]:
    if not storage.ca_secret_name:
        return []
    items = [{"key": CA_KEY, "path": CA_KEY}]
    return [{"name": "ca", "secret": {"secretName": storage.ca_secret_name, "items": items}}]


def ca_mounts(storage: Storage) -> list[Body]:
    return [{"name": "ca", "mountPath": CA_FOLDER, "readOnly": True}] if storage.ca_secret_name else []


def pull_secrets(expansion: ClassifierExpansion) -> Body:
    names = expansion.spec.compute.pod_template.image_pull_secrets
    return {"imagePullSecrets": [{"name": name} for name in names]} if names else {}
