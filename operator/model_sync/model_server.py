"""Speaks to the model server beside us: its config file in, its state and its answers out."""

import http.client
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from expansion_contract.environment import MONITORING_CONFIG_FILE
from model_sync.golden import Answer

_STATUS_SECONDS = 5
_PREDICT_SECONDS = 60
_MONITORING = 'prometheus_config { enable: true path: "/monitoring/prometheus/metrics" }\n'


@dataclass(frozen=True, kw_only=True)
class VersionState:
    state: str  # START, LOADING, AVAILABLE, UNLOADING, END
    error: str = ""


@dataclass(frozen=True, kw_only=True)
class ServerConfig:
    """`versions` are loaded under the model's own name: who names no version is answered by the highest that is available.

    `aside` is loaded under a second name, where only the agent asks.
    """

    versions: tuple[int, ...] = ()
    aside: int | None = None


@dataclass(frozen=True, kw_only=True)
class ServerSeen:
    """One name's versions. `answers` False: nobody listens. TensorFlow Serving listens only once its first models are available."""

    answers: bool
    versions: Mapping[int, VersionState] = field(default_factory=dict)

    def is_available(self, version: int | None) -> bool:
        found = None if version is None else self.versions.get(version)
        return found is not None and found.state == "AVAILABLE"

    @property
    def held(self) -> frozenset[int]:
        """Versions that have memory, or are about to."""
        return frozenset(version for version, found in self.versions.items() if found.state != "END")


class ModelServerError(Exception):
    """It answered, but not what was asked."""


class ModelServerBusy(Exception):
    """It took the question and did not answer in time: no reason to think that it is gone."""


class ModelServer:
    def __init__(self, address: str, model_name: str) -> None:
        self.address = address.rstrip("/")
        self._netloc = urlsplit(address).netloc
        self._path = f"/v1/models/{model_name}"

    def look(self) -> ServerSeen:
        try:
            status, document = self._ask("GET", self._path, None, _STATUS_SECONDS)
        except OSError:
            return ServerSeen(answers=False)
        if status == 404:  # it knows no version of the model yet
            return ServerSeen(answers=True)
        if status != 200:
            raise ModelServerError(f"{self.address}{self._path} answered {status}: {_error(document)}")
        return ServerSeen(answers=True, versions=_versions(document))

    def answer(self, version: int, image: str) -> Answer:
        """`image` in base64. Raises ModelServerError in the server's own words."""
        path = f"{self._path}/versions/{version}:predict"
        body = json.dumps({"instances": [{"b64": image}]})
        try:
            status, document = self._ask("POST", path, body, _PREDICT_SECONDS)
        except OSError as error:
            raise ModelServerError(f"{self.address}{path}: {error}") from None
        if status != 200:
            raise ModelServerError(f"{self.address}{path} answered {status}: {_error(document)}")
        return _answer(document, f"{self.address}{path}")

    def _ask(self, method: str, path: str, body: str | None, seconds: float) -> tuple[int, Any]:
        """Raises OSError if nobody listens."""
        connection = http.client.HTTPConnection(self._netloc, timeout=seconds)
        try:
            connection.request(method, path, body, {"Content-Type": "application/json"} if body else {})
            response = connection.getresponse()
            return response.status, _json(response.read())
        except TimeoutError as error:
            raise ModelServerBusy(f"{self.address}{path} did not answer in {seconds:g} seconds.") from error
        except http.client.HTTPException as error:
            raise ConnectionError(f"broken answer: {error!r}") from error
        finally:
            connection.close()


def second_name(model_name: str) -> str:
    """Under which a version is asked its golden images while another one answers under the model's own name."""
    return f"{model_name}-check"


def config_text(model_name: str, base_path: Path, config: ServerConfig) -> str:
    """The text form of ModelServerConfig. No versions: a server with nothing to serve, which starts all the same."""
    named = {model_name: config.versions}
    if config.aside is not None:
        named[second_name(model_name)] = (config.aside,)
    models = [_model(name, base_path, versions) for name, versions in named.items() if versions]
    return f"model_config_list {{\n{''.join(models)}}}\n"


def _model(name: str, base_path: Path, versions: Sequence[int]) -> str:
    named = " ".join(f"versions: {version}" for version in sorted(versions))
    return (
        "  config {\n"
        f"    name: {json.dumps(name)}\n"
        f"    base_path: {json.dumps(str(base_path))}\n"
        '    model_platform: "tensorflow"\n'
        f"    model_version_policy {{ specific {{ {named} }} }}\n"
        "  }\n"
    )


def write_monitoring(models: Path) -> None:
    _write(models / MONITORING_CONFIG_FILE, _MONITORING)


def write_config(file: Path, text: str) -> None:
    """The server reads it at any time, so it changes in one step, and only if it changes."""
    if not file.exists() or file.read_text(encoding="utf-8") != text:
        _write(file, text)


def _write(file: Path, text: str) -> None:
    partial = file.with_name(f".{file.name}.partial")
    with partial.open("w", encoding="utf-8") as content:
        content.write(text)
        content.flush()
        os.fsync(content.fileno())
    partial.replace(file)


def _versions(document: Any) -> dict[int, VersionState]:
    return {
        int(row["version"]): VersionState(
            state=row["state"],
            error=""
            if row["status"].get("error_code", "OK") == "OK"
            else f"{row['status']['error_code']}: {row['status'].get('error_message', '')}",
        )
        for row in document.get("model_version_status", [])
    }


def _answer(document: Any, address: str) -> Answer:
    try:
        prediction = document["predictions"][0]
        names, scores = tuple(prediction["names"]), tuple(map(float, prediction["scores"]))
    except (KeyError, IndexError, TypeError, ValueError):
        raise ModelServerError(
            f"{address} answered without names and scores: {str(document)[:200]}"
        ) from None
    if len(names) != len(scores):
        raise ModelServerError(f"{address} answered {len(names)} names and {len(scores)} scores")
    return Answer(names=names, scores=scores)


def _json(content: bytes) -> Any:
    try:
        return json.loads(content)
    except ValueError:
        return {"error": content[:200].decode(errors="replace")}


def _error(document: Any) -> str:
    return str(document.get("error", document) if isinstance(document, dict) else document)[:500]
