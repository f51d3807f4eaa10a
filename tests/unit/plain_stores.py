"""Stores that take writes and nothing else: one that answers 501 to a conditional write, one that does not see the condition."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread


@dataclass
class PlainStore:
    refuses_conditions: bool
    endpoint: str = ""
    objects: dict[str, bytes] = field(default_factory=dict)


@contextmanager
def plain_store(refuses_conditions: bool) -> Iterator[PlainStore]:
    store = PlainStore(refuses_conditions)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(store))
    store.endpoint = f"http://127.0.0.1:{server.server_port}"
    Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield store
    finally:
        server.shutdown()
        server.server_close()


def _handler(store: PlainStore) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            content = self.rfile.read(int(self.headers["Content-Length"]))
            if store.refuses_conditions and {"If-Match", "If-None-Match"} & set(self.headers.keys()):
                self._answer(501, b"<Error><Code>NotImplemented</Code></Error>")
                return
            store.objects[self.path] = content
            self._answer(200)

        def do_DELETE(self) -> None:
            store.objects.pop(self.path, None)
            self._answer(204)

        def _answer(self, status: int, content: bytes = b"") -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Nobody reads it."""

    return Handler
