"""Kubernetes' quantities (500m, 4Gi) and which pods fit a node, in a scheduler's words. Pure."""

import re
from collections.abc import Iterable, Mapping
from fractions import Fraction

from expansion_development.kubernetes_api import Manifest

_SUFFIXES = {"": Fraction(1), "m": Fraction(1, 1000)}
_SUFFIXES |= {suffix: Fraction(1000**power) for power, suffix in enumerate("kMGTPE", start=1)}
_SUFFIXES |= {f"{suffix}i": Fraction(1024**power) for power, suffix in enumerate("KMGTPE", start=1)}
TERMINAL = ("Succeeded", "Failed")


def quantity(text: str | int) -> Fraction:
    found = re.fullmatch(r"([+-]?[\d.]+(?:[eE][+-]?\d+)?)([a-zA-Z]*)", str(text))
    if not found or found[2] not in _SUFFIXES:
        raise ValueError(f"{text!r} is no quantity; write 500m, 2 or 4Gi.")
    return Fraction(found[1]) * _SUFFIXES[found[2]]


def requests_of(pod: Manifest) -> dict[str, Fraction]:
    """The sum over containers and sidecars, or the largest of the other init containers if that is more."""
    init = pod["spec"].get("initContainers") or ()
    sidecars = [one for one in init if one.get("restartPolicy") == "Always"]
    needed = total(_requests(one) for one in [*pod["spec"]["containers"], *sidecars]) | {"pods": Fraction(1)}
    for container in init:
        if container not in sidecars:
            for name, amount in _requests(container).items():
                needed[name] = max(amount, needed.get(name, Fraction(0)))
    return needed


def total(requests: Iterable[Mapping[str, Fraction]]) -> dict[str, Fraction]:
    summed: dict[str, Fraction] = {}
    for one in requests:
        for name, amount in one.items():
            summed[name] = summed.get(name, Fraction(0)) + amount
    return summed


def _requests(container: Manifest) -> dict[str, Fraction]:
    resources = container.get("resources") or {}
    named = {**(resources.get("limits") or {}), **(resources.get("requests") or {})}
    return {name: quantity(amount) for name, amount in named.items()}


def why_unschedulable(pod: Manifest, node: Manifest, running: Iterable[Manifest]) -> str | None:
    """As kube-scheduler says it of a cluster of one node; None if the pod fits."""
    selector: Mapping[str, str] = pod["spec"].get("nodeSelector") or {}
    labels = node["metadata"].get("labels") or {}
    if any(labels.get(key) != value for key, value in selector.items()):
        return _sentence(["node(s) didn't match Pod's node affinity/selector"])
    used = total(requests_of(other) for other in running)
    lacking = [
        name
        for name, amount in sorted(requests_of(pod).items())
        if used.get(name, Fraction(0)) + amount > quantity(node["status"]["allocatable"].get(name, 0))
    ]
    return _sentence([_lack(name) for name in lacking]) if lacking else None


def _lack(resource: str) -> str:
    return "Too many pods" if resource == "pods" else f"Insufficient {resource}"


def _sentence(reasons: list[str]) -> str:
    return f"0/1 nodes are available: {', '.join(f'1 {reason}' for reason in reasons)}. preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod."
