"""An account for the operator with exactly the rules that the chart gives it, and what the audit log says it did with them."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from expansion_development import processes
from expansion_development.kubernetes_api import Api

SYSTEM, EVERYWHERE = "expansion-system", "operator-everywhere"
_FILES = processes.REPOSITORY / "charts" / "classifier-expansion" / "files"
_GROUP = "rbac.authorization.k8s.io"
_SECONDS = 7200
Rule = dict[str, Any]
Permission = tuple[str, str, str]
"""(API group, resource, verb); a part of a resource as `jobs/status`."""


def rules(name: str, lease: str = "") -> list[Rule]:
    """`operator`, `secret` or `lease`."""
    text = (_FILES / f"{name}-rules.yaml").read_text(encoding="utf-8")
    found: list[Rule] = yaml.safe_load(text.replace("NAME-OF-THE-LEASE", lease))
    return found


def granted(*names: str) -> set[Permission]:
    return {
        (group, resource, verb)
        for name in names
        for rule in rules(name)
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def let_operators_read_secrets(api: Api, namespace: str) -> None:
    """As rbac.secretNamespaces does it for an operator of the whole cluster."""
    _grant(api, "operator-secrets", namespace, EVERYWHERE, rules("secret"))


def _grant(api: Api, name: str, namespace: str, account: str, rules: list[Rule]) -> None:
    """By a Role, or a ClusterRole where there is no namespace."""
    cluster = "" if namespace else "Cluster"
    role = {"apiVersion": f"{_GROUP}/v1", "kind": f"{cluster}Role", "metadata": {"name": name}}
    binding = {
        **role,
        "kind": f"{cluster}RoleBinding",
        "roleRef": {"apiGroup": _GROUP, "kind": role["kind"], "name": name},
        "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": SYSTEM}],
    }
    api.apply(f"{cluster.lower()}roles", namespace, {**role, "rules": rules})
    api.apply(f"{cluster.lower()}rolebindings", namespace, binding)


@dataclass(frozen=True, kw_only=True)
class ChartAccount:
    """As one installation makes it. No namespaces: one for the whole cluster, which may read Secrets where it is let."""

    api: Api
    namespaces: tuple[str, ...] = ()
    lease: str = ""
    """namespace/name"""

    @property
    def name(self) -> str:
        return "-".join(("operator", *self.namespaces)) if self.namespaces else EVERYWHERE

    @property
    def user(self) -> str:
        return f"system:serviceaccount:{SYSTEM}:{self.name}"

    def kubeconfig(self, admin: Path, made: Path) -> Path:
        """Its own, with a fresh token in a file beside it; `admin`: somebody's who may make it."""
        self._install()
        config = yaml.safe_load(admin.read_text(encoding="utf-8"))
        token = made.with_suffix(".token")
        config["users"] = [{"name": "admin", "user": {"tokenFile": str(token)}}]
        made.write_text(yaml.safe_dump(config), encoding="utf-8")
        self.write_token(token)
        return made

    def write_token(self, file: Path) -> None:
        asked = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest"}
        asked |= {"spec": {"expirationSeconds": _SECONDS}}
        made = self.api.create("serviceaccounts", SYSTEM, asked, self.name, "token")
        file.write_text(made["status"]["token"], encoding="utf-8")

    def revoke_tokens(self) -> None:
        """Every one that there is: they belong to an account that is no more."""
        self.api.delete("serviceaccounts", SYSTEM, self.name)
        self._install()

    def _install(self) -> None:
        metadata = {"name": SYSTEM}
        self.api.apply("namespaces", "", {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
        account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": self.name}}
        self.api.apply("serviceaccounts", SYSTEM, account)
        for namespace in self.namespaces:
            _grant(self.api, self.name, namespace, self.name, rules("operator") + rules("secret"))
        if not self.namespaces:
            _grant(self.api, self.name, "", self.name, rules("operator"))
        if self.lease:
            where, _, name = self.lease.partition("/")
            _grant(self.api, f"{self.name}-lease", where, self.name, rules("lease", name))

    def audited(self, log: Path, *, since: int = 0) -> Iterator[dict[str, Any]]:
        """What the API server says this account asked for, about objects; `since`: how many bytes the log had before."""
        for line in log.read_bytes()[since:].decode("utf-8").splitlines():
            event = json.loads(line)
            if event["user"]["username"] == self.user and "resource" in event.get("objectRef", {}):
                yield event


def used(events: Iterable[dict[str, Any]]) -> set[Permission]:
    return {permission for event in events for permission in _needed(event)}


def _needed(event: dict[str, Any]) -> Iterator[Permission]:
    about = event["objectRef"]
    resource = "/".join(filter(None, (about["resource"], about.get("subresource"))))
    verbs = [event["verb"]]
    # A server-side apply that makes its object is asked for both.
    if event["verb"] == "patch" and event.get("responseStatus", {}).get("code") == 201:
        verbs.append("create")
    for verb in verbs:
        yield about.get("apiGroup", ""), resource, verb


def refused(events: Iterable[dict[str, Any]]) -> list[str]:
    """What it asked for and no rule lets it; not what is refused because its namespace is being deleted, which is a 403 as well."""
    return [f"{event['verb']} {event['requestURI']}" for event in events if _is_refused(event)]


def _is_refused(event: dict[str, Any]) -> bool:
    decision = event.get("annotations", {}).get("authorization.k8s.io/decision")
    return decision == "forbid" or event.get("responseStatus", {}).get("code") == 401
