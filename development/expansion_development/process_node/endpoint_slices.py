"""Writes the EndpointSlices of Services: the controller manager's own would be refused, for our pods have loopback addresses.

The API refuses loopback in slices of IP addresses, not in those of names; 127.1.0.5 is a valid name, too.
"""

import json
from collections.abc import Iterable, Iterator

from kubernetes.client import ApiException

from expansion_development.kubernetes_api import Api, Manifest
from expansion_development.process_node.probes import port_of
from expansion_development.process_node.quantities import TERMINAL

MANAGER = "process-node"


class Slices:
    """Remembers what it wrote and writes only differences; a Service's slice goes with the Service."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._written: dict[str, str] = {}

    def sync(self, pods: Iterable[Manifest]) -> None:
        known = list(pods)
        for service in self._api.list("services"):
            if service["spec"].get("selector"):
                self._write(endpoint_slice(service, known))

    def _write(self, wanted: Manifest) -> None:
        uid, text = wanted["metadata"]["ownerReferences"][0]["uid"], json.dumps(wanted, sort_keys=True)
        if self._written.get(uid) == text:
            return
        try:
            self._api.apply("endpointslices", wanted["metadata"]["namespace"], wanted, MANAGER)
        except ApiException as error:
            if error.status not in {403, 404}:  # its namespace is being deleted
                raise
        self._written[uid] = text


def endpoint_slice(service: Manifest, pods: Iterable[Manifest]) -> Manifest:
    metadata, spec = service["metadata"], service["spec"]
    chosen = [pod for pod in pods if _is_chosen(pod, metadata["namespace"], spec["selector"])]
    owner = {"apiVersion": "v1", "kind": "Service", "name": metadata["name"], "uid": metadata["uid"]}
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": f"{metadata['name']}-{MANAGER}",
            "namespace": metadata["namespace"],
            "labels": {
                "kubernetes.io/service-name": metadata["name"],
                "endpointslice.kubernetes.io/managed-by": MANAGER,
            },
            "ownerReferences": [owner],
        },
        "addressType": "FQDN",
        "endpoints": [_endpoint(pod, spec) for pod in chosen],
        "ports": list(_ports(spec, chosen)),
    }


def _is_chosen(pod: Manifest, namespace: str, selector: Manifest) -> bool:
    metadata, status = pod["metadata"], pod.get("status") or {}
    labels = metadata.get("labels") or {}
    return (
        metadata["namespace"] == namespace
        and all(labels.get(key) == value for key, value in selector.items())
        and bool(status.get("podIP"))
        and status.get("phase") not in TERMINAL
    )


def _endpoint(pod: Manifest, service: Manifest) -> Manifest:
    metadata, status = pod["metadata"], pod["status"]
    conditions = {one["type"]: one["status"] for one in status.get("conditions") or ()}
    serving, terminating = conditions.get("Ready") == "True", "deletionTimestamp" in metadata
    ready = (serving and not terminating) or bool(service.get("publishNotReadyAddresses"))
    return {
        "addresses": [status["podIP"]],
        "conditions": {"ready": ready, "serving": serving, "terminating": terminating},
        "nodeName": pod["spec"].get("nodeName"),
        "targetRef": {
            "kind": "Pod",
            "namespace": metadata["namespace"],
            "name": metadata["name"],
            "uid": metadata["uid"],
        },
    }


def _ports(service: Manifest, pods: list[Manifest]) -> Iterator[Manifest]:
    for port in service.get("ports") or ():
        number = _number(port.get("targetPort", port["port"]), pods)
        if number:
            yield {"name": port.get("name", ""), "port": number, "protocol": port.get("protocol", "TCP")}


def _number(target: int | str, pods: list[Manifest]) -> int | None:
    if isinstance(target, int):
        return target
    spec = pods[0]["spec"] if pods else {"containers": []}
    containers = [*spec["containers"], *(spec.get("initContainers") or ())]
    try:
        return port_of(target, {"ports": [port for one in containers for port in one.get("ports") or ()]})
    except OSError:
        return None
