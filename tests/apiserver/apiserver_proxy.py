"""A door between an operator and the API server that can be shut: it answers with an error, hangs up, or says that a watch is over."""

import http.client
import json
import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import yaml

_BLOCK = 65536
_NOT_FORWARDED = {"connection", "keep-alive", "transfer-encoding", "content-length", "host"}


class Proxy:
    """`refusing` is the status of every answer while it is set; `ending` names the kind whose watches end with an error event."""

    def __init__(self, admin: Path) -> None:
        self._admin = yaml.safe_load(admin.read_text(encoding="utf-8"))
        self._upstream = urlsplit(self._admin["clusters"][0]["cluster"]["server"])
        self.refusing: int | None = None
        self.ending: str | None = None
        self._open: set[Any] = set()
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self.hang_up()
        self._server.server_close()

    def kubeconfig(self, made: Path) -> Path:
        """The administrator's, through this door."""
        config = json.loads(json.dumps(self._admin))
        config["clusters"][0]["cluster"] = {"server": f"http://127.0.0.1:{self._server.server_port}"}
        made.write_text(yaml.safe_dump(config), encoding="utf-8")
        return made

    def hang_up(self) -> None:
        """On everybody, watches too."""
        with self._lock:
            for connection in self._open:
                connection.close_both()

    def connect(self) -> http.client.HTTPSConnection:
        trusting = ssl._create_unverified_context()  # this machine's own API server
        assert self._upstream.hostname is not None
        return http.client.HTTPSConnection(self._upstream.hostname, self._upstream.port, context=trusting)

    def opened(self, connection: Any) -> None:
        with self._lock:
            self._open.add(connection)

    def closed(self, connection: Any) -> None:
        with self._lock:
            self._open.discard(connection)


def _handler(proxy: Proxy) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        upstream: http.client.HTTPSConnection

        def setup(self) -> None:
            super().setup()
            self.upstream = proxy.connect()
            proxy.opened(self)

        def finish(self) -> None:
            proxy.closed(self)
            self.upstream.close()
            super().finish()

        def handle(self) -> None:
            try:
                super().handle()
            except (OSError, http.client.HTTPException, ValueError):
                self.close_connection = True

        def close_both(self) -> None:
            for connection in (self.upstream.sock, self.connection):
                if connection is not None:
                    _shut(connection)

        def forward(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if proxy.refusing is not None:
                self._answer(
                    proxy.refusing, {"kind": "Status", "code": proxy.refusing, "message": "the door is shut"}
                )
            elif proxy.ending is not None and "watch=true" in self.path and f"/{proxy.ending}?" in self.path:
                error = {"kind": "Status", "code": 500, "message": "etcd has lost its memory"}
                self._answer(200, {"type": "ERROR", "object": error})
            else:
                self._pass_on(body)

        def _pass_on(self, body: bytes) -> None:
            headers = {k: v for k, v in self.headers.items() if k.lower() not in _NOT_FORWARDED}
            self.upstream.request(self.command, self.path, body or None, headers)
            answer = self.upstream.getresponse()
            self.send_response_only(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in _NOT_FORWARDED:
                    self.send_header(name, value)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            while block := answer.read1(_BLOCK):
                self.wfile.write(b"%x\r\n%s\r\n" % (len(block), block))
            answer.close()
            self.wfile.write(b"0\r\n\r\n")

        def _answer(self, status: int, said: dict[str, Any]) -> None:
            content = f"{json.dumps(said)}\n".encode()
            self.send_response_only(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            """The API server's own log is enough."""

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = forward  # noqa: N815

    return Handler


def _shut(connection: Any) -> None:
    try:
        connection.shutdown(2)
    except OSError:
        connection.close()
