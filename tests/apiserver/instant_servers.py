"""Stand-ins of stand-ins, for tests of the operator alone: an agent that calls live what serving.json names, and a model server
that says 200 to everything. The real model-sync and the model server's stand-in have tests of their own.
"""

import os
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from expansion_contract import environment, layout
from expansion_contract.version import AgentStatus, ServingDocument
from expansion_storage import StorageError, open_prefix


def agent_status() -> AgentStatus:
    """A version is live as soon as it is asked for."""
    name = os.environ[environment.MODEL_NAME]
    output = open_prefix(os.environ[environment.OUTPUT], environment.storage_access(os.environ))
    try:
        document = ServingDocument.model_validate_json(output.read(layout.SERVING))
    except StorageError:
        return AgentStatus(model_name=name)
    return AgentStatus(
        model_name=name, live_version=document.version, desired_version=document.version, state="Live"
    )


class Agent(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        answer(self, agent_status().to_json())

    def log_message(self, format: str, *args: object) -> None:
        """Probes are not news."""


class ModelServer(Agent):
    def do_GET(self) -> None:
        answer(self, b"{}")


def answer(request: BaseHTTPRequestHandler, body: bytes) -> None:
    request.send_response(200)
    request.send_header("Content-Length", str(len(body)))
    request.end_headers()
    request.wfile.write(body)


if __name__ == "__main__":
    address = os.environ[environment.BIND]
    kind, port = (
        (Agent, environment.AGENT_PORT) if sys.argv[1] == "agent" else (ModelServer, environment.REST_PORT)
    )
    ThreadingHTTPServer((address, port), kind).serve_forever()
