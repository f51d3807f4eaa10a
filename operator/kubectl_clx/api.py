"""The Kubernetes API as the person at the terminal may use it, and the only room of the plugin that speaks to it."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self

from kubernetes import client, config
from urllib3.exceptions import HTTPError

from expansion_contract import environment
from expansion_contract.resource import GROUP, KIND, PLURAL, VERSION
from kubectl_clx.problem import Problem

Body = dict[str, Any]
FIELD_MANAGER = "kubectl-clx"
_MERGE = "application/merge-patch+json"
_CONNECT_SECONDS, _READ_SECONDS = 10, 30
_DEFAULT_NAMESPACE = "default"


@dataclass(frozen=True, kw_only=True)
class Where:
    """What kubectl's own flags say; None: as the kubeconfig has it."""

    kubeconfig: str | None = None
    context: str | None = None
    namespace: str | None = None


class LogGone(Exception):
    """The log cannot be read now: its container has not started, or its pod has gone."""


class Api:
    """Raises Problem for everything that the API server says no to."""

    def __init__(self, connection: client.ApiClient, namespace: str) -> None:
        self._client, self.namespace = connection, namespace

    @classmethod
    def at(cls, where: Where) -> Self:
        try:
            contexts, active = config.list_kube_config_contexts(where.kubeconfig)
            connection = config.new_client_from_config(where.kubeconfig, where.context)
        except config.ConfigException as error:
            raise Problem(
                f"No cluster can be reached: {error} Name a kubeconfig with --kubeconfig or KUBECONFIG, and a context with --context."
            ) from None
        chosen = next((one for one in contexts if one["name"] == where.context), active)
        return cls(connection, where.namespace or chosen["context"].get("namespace") or _DEFAULT_NAMESPACE)

    def expansion(self, name: str) -> Body:
        return self._json("GET", self._path(name), self._title(name))

    def find(self, name: str) -> Body | None:
        """None if there is none; a cluster that does not know our kind is a Problem all the same."""
        response = self._send("GET", self._path(name), {}, None, _READ_SECONDS)
        content = response.read()
        if response.status == 404 and json.loads(content).get("details", {}).get("name") == name:
            return None
        self._must_be_well(response.status, content, self._title(name), "read")
        found: Body = json.loads(content)
        return found

    def within(self, namespace: str) -> "Api":
        """The same cluster, in another namespace."""
        return Api(self._client, namespace)

    def patch(self, name: str, changes: Body) -> Body:
        """A merge patch, with a field manager that says who it was."""
        query = {"fieldManager": FIELD_MANAGER}
        return self._json("PATCH", self._path(name), self._title(name), query, changes)

    def pods(self, name: str) -> list[Body]:
        """Of this resource: its trainer's and its model servers'."""
        return self._pods(f"{environment.NAME_LABEL}={name}")

    def trainer_pods(self, name: str, run_id: str) -> list[Body]:
        return self._pods(f"{environment.NAME_LABEL}={name},{environment.RUN_LABEL}={run_id}")

    def log(self, pod: str, *, follow: bool, since: str | None, tail: int | None) -> Iterator[str]:
        """Lines with their time in front, as they come. Raises LogGone."""
        query = {"container": environment.TRAINER, "timestamps": "true", "follow": str(follow).lower()}
        query |= {"sinceTime": since} if since else {}
        query |= {"tailLines": str(tail)} if tail is not None else {}
        path = f"/api/v1/namespaces/{self.namespace}/pods/{pod}/log"
        response = self._send("GET", path, query, None, timeout=None if follow else _READ_SECONDS)
        if response.status in {400, 404}:  # its container waits to start; it has gone
            raise LogGone(_message(response.read()))
        if response.status >= 300:
            self._must_be_well(
                response.status, response.read(), f"The log of pod {self.namespace}/{pod}", "read"
            )
        return _lines(response)

    def _pods(self, selector: str) -> list[Body]:
        path = f"/api/v1/namespaces/{self.namespace}/pods"
        answer = self._json("GET", path, f"Pods in namespace {self.namespace}", {"labelSelector": selector})
        items: list[Body] = answer["items"]
        return items

    def _title(self, name: str) -> str:
        return f"{KIND} {self.namespace}/{name}"

    def _path(self, name: str) -> str:
        return f"/apis/{GROUP}/{VERSION}/namespaces/{self.namespace}/{PLURAL}/{name}"

    def _json(
        self, method: str, path: str, what: str, query: Mapping[str, str] | None = None, body: Any = None
    ) -> Body:
        response = self._send(method, path, query or {}, body, _READ_SECONDS)
        content = response.read()
        self._must_be_well(response.status, content, what, "changed" if method == "PATCH" else "read")
        answer: Body = json.loads(content)
        return answer

    def _send(self, method: str, path: str, query: Mapping[str, str], body: Any, timeout: int | None) -> Any:
        headers = {"Accept": "application/json, */*"} | ({"Content-Type": _MERGE} if body is not None else {})
        method, url, headers, body, _ = self._client.param_serialize(
            method, path, query_params=list(query.items()), header_params=headers, body=body, auth_settings=["BearerToken"]
        )  # fmt: skip
        limits = (_CONNECT_SECONDS, timeout)
        try:
            return self._client.call_api(method, url, headers, body, _request_timeout=limits)
        except (HTTPError, client.ApiException, OSError) as error:
            raise Problem(
                f"The API server at {self._client.configuration.host} cannot be reached: {error}. Is the context right (--context)?"
            ) from None

    def _must_be_well(self, status: int, content: bytes, what: str, done: str) -> None:
        if status >= 300:
            raise Problem(f"{what} cannot be {done}: {_remedy(status, _message(content), self.namespace)}")


def _remedy(status: int, said: str, namespace: str) -> str:
    if status == 401:
        return "the API server does not accept your credentials. Log in again, or choose another --context."
    if status == 403:
        return (
            f"{said}. The cluster's roles view and edit cover {PLURAL}; ask for one in namespace {namespace}."
        )
    if status == 404 and "could not find the requested resource" in said:
        return f"this cluster does not know the kind {KIND}. Install the chart (docs/install.md), or choose another --context."
    if status == 404:
        return f"there is none. `kubectl get clx -A` shows those there are; -n chooses the namespace (now {namespace})."
    return f"{said or 'no reason given'} (HTTP {status})."


def _message(content: bytes) -> str:
    text = content.decode(errors="replace")
    try:
        return str(json.loads(text).get("message", text)).rstrip(".")
    except (ValueError, AttributeError):
        return text.strip().rstrip(".")


def _lines(response: Any) -> Iterator[str]:
    """A connection that breaks ends the lines; who follows asks again."""
    try:
        pending = b""
        for chunk in response.response.stream(amt=None, decode_content=False):
            *lines, pending = (pending + chunk).split(b"\n")
            yield from (line.decode(errors="replace") for line in lines)
        if pending:
            yield pending.decode(errors="replace")
    except (HTTPError, OSError):
        return
    finally:
        response.response.close()
