"""The REST interface: http_rest_api_handler.cc, http_rest_api_util.cc and the Prometheus page of http_server.cc."""

import json
import re
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock
from typing import Any
from urllib.parse import unquote

from google.protobuf.json_format import MessageToDict

from expansion_development.model_server.errors import StatusError, invalid
from expansion_development.model_server.manager import Manager, VersionStatus
from expansion_development.model_server.tensors import parse

_WHERE = r"(?:/versions/(?P<version>\d+)|/labels/(?P<label>[^/:]+))?"
_POST = re.compile(
    rf"/v1/models/(?P<model>[^/:]+){_WHERE}:(?P<method>classify|regress|predict)", re.IGNORECASE
)
_GET = re.compile(rf"/v1/models(?:/(?P<model>[^/:]+))?{_WHERE}(?P<metadata>/metadata)?", re.IGNORECASE)
_OURS = re.compile(r"/v1/.*", re.IGNORECASE | re.DOTALL)
_JSON = "application/json"


class Rest:
    """`metrics_path` None: no Prometheus page, as without --monitoring_config_file."""

    def __init__(self, manager: Manager, metrics_path: str | None) -> None:
        self._manager = manager
        self._metrics_path = metrics_path
        self._requests: Counter[tuple[str, str]] = Counter()
        self._lock = Lock()

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, str, bytes]:
        """HTTP status, content type, body."""
        if path == self._metrics_path:
            return 200, "text/plain", self._metrics().encode()
        if not _OURS.fullmatch(path):
            return 404, "text/plain", b""
        found = (_POST if method == "POST" else _GET).fullmatch(path)
        model = unquote((found and found["model"]) or "")
        try:
            content = self._dispatched(method, path, found, model, body)
        except StatusError as error:
            self._count(model, error.code)
            shown = json.dumps({"error": error.message}, indent=4, ensure_ascii=False)
            return error.http_status, _JSON, shown.encode("utf-8", "surrogateescape")
        self._count(model, "OK")
        return 200, _JSON, content

    def _dispatched(
        self, method: str, path: str, found: re.Match[str] | None, model: str, body: bytes
    ) -> bytes:
        if found is None or method not in {"GET", "POST"}:
            raise invalid(f"Malformed request: {method} {path}")
        version = int(found["version"]) if found["version"] else None
        label = unquote(found["label"]) if found["label"] else None
        if method == "POST":
            return self._inferred(found["method"].lower(), model, version, label, body)
        if not model:
            raise invalid("Missing model name in request.")
        if found["metadata"]:
            return self._metadata(model, version, label)
        return _status_json(self._manager.status(model, version, label))

    def _inferred(
        self, method: str, model: str, version: int | None, label: str | None, body: bytes
    ) -> bytes:
        if method != "predict":
            raise StatusError("UNIMPLEMENTED", f"This stand-in does not offer {method}; use predict.")
        document = parse(body)
        return self._manager.servable(model, version, label).predict(document)

    def _metadata(self, model: str, version: int | None, label: str | None) -> bytes:
        servable = self._manager.servable(model, version, label)
        signatures = {
            name: MessageToDict(
                signature, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
            )
            for name, signature in servable.signatures.items()
        }
        number = str(self._manager.version_of(model, servable))
        document = {
            "model_spec": {"name": model, "signature_name": "", "version": number},
            "metadata": {"signature_def": {"signature_def": signatures}},
        }
        return json.dumps(document, indent=1).encode()

    def _count(self, model: str, code: str) -> None:
        with self._lock:
            self._requests[model, code] += 1

    def _metrics(self) -> str:
        lines = ["# TYPE :tensorflow:serving:request_count counter"]
        with self._lock:
            for (model, code), count in sorted(self._requests.items()):
                lines.append(
                    f':tensorflow:serving:request_count{{model_name="{model}",status="{code}"}} {count}'
                )
        lines.append("# TYPE :tensorflow:cc:saved_model:load_attempt_count counter")
        for (folder, result), count in sorted(self._manager.loads.items()):
            lines.append(
                f':tensorflow:cc:saved_model:load_attempt_count{{model_path="{folder}",status="{result}"}} {count}'
            )
        return "\n".join(lines) + "\n"


def _status_json(versions: dict[int, VersionStatus]) -> bytes:
    """HTTP 200 in every state: who wants to know must read it."""
    rows = [
        {
            "version": str(version),
            "state": status.state,
            "status": {
                "error_code": status.error.code if status.error else "OK",
                "error_message": status.error.message if status.error else "",
            },
        }
        for version, status in versions.items()
    ]
    return json.dumps({"model_version_status": rows}, indent=1).encode()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    rest: Rest


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def do_GET(self) -> None:
        self._reply()

    def do_POST(self) -> None:
        self._reply()

    def _reply(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        status, kind, content = self.server.rest.answer(self.command, self.path.partition("?")[0], body)
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """TensorFlow Serving does not log requests."""


def serve(rest: Rest, host: str, port: int) -> ThreadingHTTPServer:
    server = _Server((host, port), _Handler)
    server.rest = rest
    return server
