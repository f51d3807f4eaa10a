"""Answers /healthz and /readyz from a thread of its own, so that a stuck event loop is seen and not waited for."""

from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

Problem = Callable[[], str | None]


def serve(
    address: str, port: int, alive: Problem, ready: Problem, remark: Problem = lambda: None
) -> ThreadingHTTPServer:
    """200 ok, or 503 and what is wrong in a sentence. `remark`: said behind an ok."""
    questions = {"/healthz": alive, "/readyz": ready}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            question = questions.get(self.path)
            problem = question() if question else f"there is no {self.path}"
            body = f"{problem or '; '.join(filter(None, ('ok', remark())))}\n".encode()
            self.send_response(404 if question is None else 503 if problem else 200)
            self.send_header("Content-Type", "text/plain; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """The kubelet asks every few seconds; nobody wants to read that."""

    server = ThreadingHTTPServer((address, port), Handler)
    server.daemon_threads = True
    Thread(target=server.serve_forever, name="health", daemon=True).start()
    return server
