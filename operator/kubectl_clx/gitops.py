"""Says in GitOps words what becomes of a field that a person sets: who manages the resource, and what to commit. Pure."""

from dataclasses import dataclass
from typing import Any

import yaml

Body = dict[str, Any]
_ARGO_ID = "argocd.argoproj.io/tracking-id"
_ARGO_LABEL = "argocd.argoproj.io/instance"
_ARGO_MANAGERS = frozenset({"argocd-controller", "argocd-application-controller"})
_FLUX = {
    "kustomize-controller": ("kustomize.toolkit.fluxcd.io", "Kustomization"),
    "helm-controller": ("helm.toolkit.fluxcd.io", "HelmRelease"),
}


@dataclass(frozen=True, kw_only=True)
class Git:
    """Who brings this resource from Git."""

    keeper: str  # "Argo CD (Application vision-models)"
    managers: frozenset[str]  # its field managers


def keeper(body: Body) -> Git | None:
    """None if nobody does, as far as the resource tells."""
    metadata = body["metadata"]
    labels, annotations = metadata.get("labels") or {}, metadata.get("annotations") or {}
    for manager, (group, kind) in _FLUX.items():
        if name := labels.get(f"{group}/name"):
            where = labels.get(f"{group}/namespace", metadata.get("namespace", ""))
            return Git(keeper=f"Flux ({kind} {where}/{name})", managers=frozenset({manager}))
    application = annotations.get(_ARGO_ID, "").partition(":")[0] or labels.get(_ARGO_LABEL)
    if application:
        return Git(keeper=f"Argo CD (Application {application})", managers=_ARGO_MANAGERS)
    if _managers(body) & _ARGO_MANAGERS:
        return Git(keeper="Argo CD", managers=_ARGO_MANAGERS)
    return None


def owns(git: Git, body: Body, path: tuple[str, ...]) -> bool:
    """Does Git name this field? Then it is put back; a field that Git does not name is left as it is."""
    applied = (yaml.safe_load(_last_applied(body)) or {}) if _last_applied(body) else {}
    return _is_in(applied, path) or any(
        _is_in(entry.get("fieldsV1") or {}, tuple(f"f:{part}" for part in path))
        for entry in body["metadata"].get("managedFields") or ()
        if entry.get("manager") in git.managers
    )


def advice(body: Body, changes: Body, path: tuple[str, ...]) -> str:
    """What to do in Git about a field that was just set. Empty if Git has no part in it."""
    git = keeper(body)
    if git is None:
        return ""
    field = ".".join(path)
    if owns(git, body, path):
        first = f"Git names {field}, and {git.keeper} brings it: the next sync puts it back. Commit instead:"
    else:
        first = f"{git.keeper} brings this resource. Git does not name {field}, so this stays until Git does. To say it in Git:"
    return f"{first}\n\n{_indented(changes)}"


def _indented(changes: Body) -> str:
    text = yaml.safe_dump(changes, sort_keys=False)
    return "\n".join(f"  {line}" for line in text.splitlines())


def _last_applied(body: Body) -> str:
    annotations = body["metadata"].get("annotations") or {}
    return str(annotations.get("kubectl.kubernetes.io/last-applied-configuration", ""))


def _managers(body: Body) -> set[str]:
    return {entry.get("manager", "") for entry in body["metadata"].get("managedFields") or ()}


def _is_in(fields: Any, path: tuple[str, ...]) -> bool:
    for part in path:
        if not isinstance(fields, dict) or part not in fields:
            return False
        fields = fields[part]
    return True
