"""What others may ask the agent over HTTP: the kubelet /started and /ready, the operator /status, Prometheus /metrics."""

from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from model_sync.metrics import CONTENT_TYPE
from model_sync.sync import Agent

_JSON = "application/json"


def answer(agent: Agent, path: str) -> tuple[int, str, bytes]:
    """HTTP status, content type, body."""
    status = agent.status.model_dump_json(by_alias=True, exclude_none=True).encode()
    if path == "/started":
        return (200 if agent.started else 503), _JSON, status
    if path == "/ready":
        return (200 if agent.status.live_version is not None else 503), _JSON, status
    if path == "/status":
        return 200, _JSON, status
    if path == "/metrics":
        return 200, CONTENT_TYPE, agent.numbers.page()
    return 404, "text/plain", b"Ask /started, /ready, /status or /metrics.\n"


class Doors(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, host: str, port: int, agent: Agent) -> None:
        super().__init__((host, port), _Handler)
        self.agent = agent


class _Handler(BaseHTTPRequestHandler):
    server: Doors

    def do_GET(self) -> None:
        status, kind, content = answer(self.server.agent, self.path.partition("?")[0])
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Probes come every few seconds; they are not news."""
