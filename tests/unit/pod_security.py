"""The Pod Security Standard `restricted`, as kubernetes.io/docs/concepts/security/pod-security-standards writes it."""

from collections.abc import Iterator
from typing import Any

VOLUMES = {
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
}
HOST = {"hostNetwork", "hostPID", "hostIPC"}


def violations(pod: dict[str, Any]) -> list[str]:
    containers = [*pod.get("initContainers", []), *pod["containers"]]
    return [*_of_pod(pod), *(found for container in containers for found in _of_container(container, pod))]


def _of_pod(pod: dict[str, Any]) -> Iterator[str]:
    for volume in pod.get("volumes", []):
        if not set(volume) - {"name"} <= VOLUMES:
            yield f"volume {volume['name']}"
    yield from (field for field in HOST if pod.get(field))


def _of_container(container: dict[str, Any], pod: dict[str, Any]) -> Iterator[str]:
    own = container.get("securityContext", {})
    context = {**pod.get("securityContext", {}), **own}
    name = container["name"]
    if own.get("privileged"):
        yield f"{name} is privileged"
    if own.get("allowPrivilegeEscalation") is not False:
        yield f"{name} may escalate"
    if context.get("runAsNonRoot") is not True or context.get("runAsUser") == 0:
        yield f"{name} may be root"
    if context.get("seccompProfile", {}).get("type") not in {"RuntimeDefault", "Localhost"}:
        yield f"{name} has no seccomp profile"
    capabilities = own.get("capabilities", {})
    if capabilities.get("drop") != ["ALL"] or set(capabilities.get("add", [])) - {"NET_BIND_SERVICE"}:
        yield f"{name} has capabilities"
    if any("hostPort" in port for port in container.get("ports", [])):
        yield f"{name} has a port of the host"
