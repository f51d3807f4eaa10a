"""Manifests in, manifests out: the few verbs of the Kubernetes API that development needs, through the official client."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from kubernetes import config
from kubernetes.client import ApiException

Manifest = dict[str, Any]

_CORE, _APPS, _BATCH = "/api/v1", "/apis/apps/v1", "/apis/batch/v1"
_ADMISSION = "/apis/admissionregistration.k8s.io/v1"
_RBAC = "/apis/rbac.authorization.k8s.io/v1"
_GROUPS = {
    "configmaps": _CORE,
    "endpoints": _CORE,
    "events": _CORE,
    "namespaces": _CORE,
    "nodes": _CORE,
    "pods": _CORE,
    "resourcequotas": _CORE,
    "secrets": _CORE,
    "serviceaccounts": _CORE,
    "services": _CORE,
    "deployments": _APPS,
    "replicasets": _APPS,
    "jobs": _BATCH,
    "endpointslices": "/apis/discovery.k8s.io/v1",
    "leases": "/apis/coordination.k8s.io/v1",
    "mutatingadmissionpolicies": _ADMISSION,
    "mutatingadmissionpolicybindings": _ADMISSION,
    "validatingadmissionpolicies": _ADMISSION,
    "validatingadmissionpolicybindings": _ADMISSION,
    "validatingwebhookconfigurations": _ADMISSION,
    "roles": _RBAC,
    "rolebindings": _RBAC,
    "clusterroles": _RBAC,
    "clusterrolebindings": _RBAC,
    "customresourcedefinitions": "/apis/apiextensions.k8s.io/v1",
    "classifierexpansions": "/apis/classifierexpansion.dev/v1alpha1",
}
MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
_APPLY = "application/apply-patch+yaml"
_TIMEOUT_SECONDS = (5, 30)


class Api:
    """`plural` is the resource's name in addresses: pods, jobs, classifierexpansions. Raises ApiException."""

    def __init__(self, kubeconfig: Path) -> None:
        self._client = config.new_client_from_config(str(kubeconfig))  # type: ignore[no-untyped-call]

    def get(self, plural: str, namespace: str, name: str, part: str = "") -> Manifest:
        return self._json("GET", _path(plural, namespace, name, part))

    def find(self, plural: str, namespace: str, name: str) -> Manifest | None:
        try:
            return self.get(plural, namespace, name)
        except ApiException as error:
            if error.status == 404:
                return None
            raise

    def list(self, plural: str, namespace: str = "", **query: str) -> list[Manifest]:
        return list(self.listing(plural, namespace, **query)["items"])

    def listing(self, plural: str, namespace: str = "", **query: str) -> Manifest:
        """The list itself, for its resourceVersion. An empty namespace lists all of them."""
        return self._json("GET", _path(plural, namespace), query=query)

    def create(self, plural: str, namespace: str, body: Manifest, name: str = "", part: str = "") -> Manifest:
        return self._json("POST", _path(plural, namespace, name, part), body)

    def apply(self, plural: str, namespace: str, body: Manifest, manager: str = "development") -> Manifest:
        """Server-side apply, by force."""
        path = _path(plural, namespace, body["metadata"]["name"])
        return self._json("PATCH", path, body, _APPLY, {"fieldManager": manager, "force": "true"})

    def patch(
        self, plural: str, namespace: str, name: str, body: Manifest, part: str = "", kind: str = MERGE
    ) -> Manifest:
        return self._json("PATCH", _path(plural, namespace, name, part), body, kind)

    def delete(
        self, plural: str, namespace: str, name: str, grace_seconds: int | None = None, uid: str = ""
    ) -> None:
        """Nothing happens if there is no such object."""
        body: Manifest = {"propagationPolicy": "Background"}
        if grace_seconds is not None:
            body["gracePeriodSeconds"] = grace_seconds
        if uid:
            body["preconditions"] = {"uid": uid}
        try:
            self._json("DELETE", _path(plural, namespace, name), body)
        except ApiException as error:
            if error.status not in {404, 409 if uid else 404}:
                raise

    def watch(
        self, plural: str, namespace: str, resource_version: str, seconds: int, **query: str
    ) -> Iterator[tuple[str, Manifest]]:
        """(type, object) until `seconds` are over or the server ends it."""
        parameters = {
            "watch": "true",
            "resourceVersion": resource_version,
            "timeoutSeconds": str(seconds),
            **query,
        }
        response = self._send(
            "GET", _path(plural, namespace), None, "", parameters, (5, seconds + 15)
        ).response
        try:
            pending = b""
            for chunk in response.stream(amt=None, decode_content=False):
                *lines, pending = (pending + chunk).split(b"\n")
                for line in filter(None, lines):
                    event = json.loads(line)
                    yield event["type"], event["object"]
        finally:
            response.close()

    def _json(
        self,
        method: str,
        path: str,
        body: Manifest | None = None,
        kind: str = "application/json",
        query: Mapping[str, str] | None = None,
    ) -> Manifest:
        response = self._send(method, path, body, kind, query or {}, _TIMEOUT_SECONDS)
        content: Manifest = json.loads(response.read())
        return content

    def _send(
        self,
        method: str,
        path: str,
        body: Manifest | None,
        kind: str,
        query: Mapping[str, str],
        timeout: tuple[int, int],
    ) -> Any:
        headers = {"Accept": "application/json"} | ({"Content-Type": kind} if body is not None else {})
        request = self._client.param_serialize(
            method,
            path,
            query_params=list(query.items()),
            header_params=headers,
            body=body,
            auth_settings=["BearerToken"],
        )
        method, url, headers, body, _ = request
        response = self._client.call_api(method, url, headers, body, _request_timeout=timeout)
        if response.status >= 400:
            response.read()
            raise ApiException(http_resp=response)
        return response


def message_of(error: ApiException) -> str:
    """The API server's own words."""
    try:
        return str(json.loads(error.body or "")["message"])
    except (ValueError, KeyError, TypeError):
        return str(error.reason)


def _path(plural: str, namespace: str, name: str = "", part: str = "") -> str:
    inside = f"namespaces/{namespace}" if namespace else ""
    return "/".join(filter(None, (_GROUPS[plural], inside, plural, name, part)))
