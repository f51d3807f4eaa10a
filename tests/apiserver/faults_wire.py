"""The wire between an operator and its two servers, on which any one call can be made to fail; everything else passes unchanged.

A life is one namespace and the bucket of the same name: calls of several lives pass at once, and each life counts its own.
"""

import json
import re
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self
from urllib.parse import unquote, urlsplit

Mangle = Callable[[Iterator[bytes]], Iterable[bytes]]
API, S3 = "api", "s3"
PATIENCE = 100
"""Seconds after which a client that waits for a lost answer is given up; longer than any client of ours waits."""
_ATTEMPTS = 4
"""botocore and urllib3 try a call so often: a call that fails is one whose attempts all failed."""
_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "expect", "accept-encoding"}


class Fault(StrEnum):
    BEFORE = "before"  # the connection breaks, nothing was done
    AFTER = "after"  # it was done, and the connection breaks before the answer
    TIMEOUT = "timeout"  # it was done, and the answer never comes
    CONFLICT = "409"
    GONE = "410"
    INVALID = "422"
    BUSY = "429"
    BROKEN = "500"
    AWAY = "503"
    STALE = "stale"  # a read is answered as it was before the last change
    KILLED = "killed"  # it was done, and the operator dies


_STUBBORN = frozenset({Fault.BEFORE, Fault.AFTER, Fault.BUSY, Fault.BROKEN, Fault.AWAY})
_WORDS = {
    "409": ("Conflict", "OperationAborted"),
    "410": ("Expired", "Gone"),
    "422": ("Invalid", "UnprocessableEntity"),
    "429": ("TooManyRequests", "TooManyRequests"),
    "500": ("InternalError", "InternalError"),
    "503": ("ServiceUnavailable", "SlowDown"),
    "403": ("Forbidden", "AccessDenied"),
}


@dataclass(kw_only=True)
class Call:
    """One attempt of one call, and what became of it."""

    server: str
    method: str
    target: str
    body: bytes
    fault: Fault | None = None
    status: int | None = None  # the server's; None if it was never asked

    @property
    def is_read(self) -> bool:
        return self.method in {"GET", "HEAD"}

    def __str__(self) -> str:
        return f"{self.server} {self.method} {unquote(self.target)}"


@dataclass
class Answer:
    status: int
    headers: list[tuple[str, str]]
    content: bytes


@dataclass
class Line:
    """The calls of one life, and the fault that one of them will meet."""

    calls: list[Call] = field(default_factory=list)
    planned: tuple[int, Fault] | None = None
    tried_again: frozenset[Fault] = _STUBBORN
    """For what its clients try a call again at once, so that all of their attempts fail."""
    shut: Fault | None = None
    """What every call meets, as long as it stands here."""
    dead: bool = False
    """The operator was killed: nothing that its threads still ask for is done."""
    gate: Callable[[Call], object] = lambda _: None
    """Every call waits here before it is passed on."""
    met: Call | None = None
    _again: int = 0
    _answers: dict[str, list[Answer]] = field(default_factory=dict)

    def plan(self, number: int, fault: Fault) -> None:
        """The call that comes after `number` others from now on."""
        self.planned, self.met, self._again = (len(self.calls) + number, fault), None, 0

    def take(self, call: Call) -> Fault | None:
        number = len(self.calls)
        self.calls.append(call)
        if self.shut is not None:
            call.fault = self.shut
            return self.shut
        if self.planned is None or self.dead:
            return None
        at, fault = self.planned
        if number == at:
            self.met, self._again = call, _ATTEMPTS - 1
        elif self._is_tried_again(call, fault):
            self._again -= 1
        else:
            self._again = 0
            return None
        call.fault = fault
        return fault

    def _is_tried_again(self, call: Call, fault: Fault) -> bool:
        same = self.met is not None and (call.method, call.target) == (self.met.method, self.met.target)
        return same and fault in self.tried_again and self._again > 0

    def stale(self, call: Call) -> Answer | None:
        """The answer before the last one that differed."""
        known = self._answers.get(call.target, [])
        return known[-2] if call.is_read and len(known) > 1 else None

    def remember(self, call: Call, answer: Answer) -> None:
        if call.method == "GET" and call.server == API:
            known = self._answers.setdefault(call.target, [])
            if not known or known[-1].content != answer.content:
                self._answers[call.target] = [*known[-1:], answer]


class Wire:
    """`with` it: `api` and `store` are the addresses of the near end."""

    def __init__(self, api: str, authority: str, store: str) -> None:
        """`api`, `store`: addresses of the far end; `authority`: a file with the API server's certificate."""
        self.lines: dict[str, Line] = {}
        self.mangle: Mangle | None = None
        self._far = {API: urlsplit(api), S3: urlsplit(store)}
        self._context = ssl.create_default_context(cafile=authority)
        self._context.check_hostname = False
        self._servers = {kind: _Server(self, kind) for kind in (API, S3)}

    @property
    def api(self) -> str:
        return self._servers[API].address

    @property
    def store(self) -> str:
        return self._servers[S3].address

    def __enter__(self) -> Self:
        for server in self._servers.values():
            threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        for server in self._servers.values():
            server.shutdown()
            server.server_close()

    def line(self, name: str) -> Line:
        return self.lines.setdefault(name, Line())

    def line_of(self, kind: str, path: str) -> Line | None:
        found = re.search("/namespaces/([^/?]+)", path) if kind == API else re.match("/([^/?]+)", path)
        return self.lines.get(found[1]) if found else None

    def far_end(self, kind: str) -> HTTPConnection:
        at = self._far[kind]
        if at.scheme == "https":
            return HTTPSConnection(at.hostname or "", at.port, timeout=PATIENCE, context=self._context)
        return HTTPConnection(at.hostname or "", at.port, timeout=PATIENCE)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, wire: Wire, kind: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.wire, self.kind = wire, kind

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, *_: object) -> None:
        """A client that went away is what this is about."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server
    _upstream: HTTPConnection | None = None
    timeout = 300
    disable_nagle_algorithm = True
    wbufsize = -1

    def log_message(self, format: str, *args: object) -> None:
        """Calls are counted, not told."""

    def handle_expect_100(self) -> bool:
        """At once: botocore would wait a second for it."""
        super().handle_expect_100()
        self.wfile.flush()
        return True

    def _handle(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if "watch=true" in self.path:
            self._watch()
            return
        call = Call(server=self.server.kind, method=self.command, target=self.path, body=body)
        line = self.server.wire.line_of(call.server, self.path)
        if line is None:
            self._answer(call, self._ask(call))
            return
        fault = line.take(call)
        if line.dead:
            self._refuse(call, "403")
            return
        line.gate(call)
        self._meet(line, call, fault)

    do_GET = do_HEAD = do_PUT = do_POST = do_PATCH = do_DELETE = _handle  # noqa: N815

    def _meet(self, line: Line, call: Call, fault: Fault | None) -> None:
        match fault:
            case None:
                answer = self._ask(call)
                line.remember(call, answer)
                self._answer(call, answer)
            case Fault.BEFORE:
                self._break()
            case Fault.AFTER:
                self._ask(call)
                self._break()
            case Fault.TIMEOUT:
                self._ask(call)
                self._be_silent()
            case Fault.KILLED:
                self._ask(call)
                line.dead = True
                self._refuse(call, "403")
            case Fault.STALE:
                known = line.stale(call)
                line.met = call if known else None
                self._answer(call, known or self._ask(call))
            case _:
                self._refuse(call, fault)

    def _ask(self, call: Call) -> Answer:
        """The far end, over a connection that is kept; once more if it had been closed meanwhile."""
        fresh = self._upstream is None
        try:
            return self._ask_once(call)
        except (HTTPException, OSError):
            self._hang_up()
            if fresh:
                raise
            return self._ask_once(call)

    def _ask_once(self, call: Call) -> Answer:
        response = self._send(call.body)
        call.status = response.status
        headers = [(name, value) for name, value in response.getheaders() if name.lower() not in _HOP_BY_HOP]
        answer = Answer(response.status, headers, response.read())
        if response.will_close:
            self._hang_up()
        return answer

    def _send(self, body: bytes) -> HTTPResponse:
        if self._upstream is None:
            self._upstream = self.server.wire.far_end(self.server.kind)
        self._upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            if name.lower() not in _HOP_BY_HOP:
                self._upstream.putheader(name, value)
        self._upstream.endheaders(body or None)
        return self._upstream.getresponse()

    def _hang_up(self) -> None:
        if self._upstream:
            self._upstream.close()
            self._upstream = None

    def _answer(self, call: Call, answer: Answer) -> None:
        self.send_response_only(answer.status)
        for name, value in answer.headers:
            if name.lower() != "content-length" or call.method == "HEAD":
                self.send_header(name, value)
        if call.method != "HEAD":
            self.send_header("Content-Length", str(len(answer.content)))
        self.end_headers()
        if call.method != "HEAD":
            self.wfile.write(answer.content)

    def _refuse(self, call: Call, status: str) -> None:
        """In the words that the real servers have for it."""
        reason, code = _WORDS[status]
        headers: Mapping[str, str] = {"Retry-After": "1"} if status == "429" and call.server == API else {}
        if call.server == API:
            content, kind = _status(int(status), reason), "application/json"
        else:
            content, kind = _error(code), "application/xml"
        self._answer(call, Answer(int(status), [*headers.items(), ("Content-Type", kind)], content))

    def _break(self) -> None:
        """A reset, not an end: nothing of an answer can have been lost on the way."""
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def _be_silent(self) -> None:
        """Until the client gives up."""
        self.close_connection = True
        self.connection.settimeout(PATIENCE)
        with suppress(OSError):
            self.connection.recv(1)

    def _watch(self) -> None:
        response = self._send(b"")
        self.close_connection = True
        self.send_response_only(response.status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Connection", "close")
        self.end_headers()
        lines = iter(response.readline, b"")
        mangle = self.server.wire.mangle
        with suppress(OSError, HTTPException, ValueError):
            for line in mangle(lines) if mangle and response.status == 200 else lines:
                self.wfile.write(line)
                self.wfile.flush()
        self._hang_up()


def _status(code: int, reason: str) -> bytes:
    message = f"the wire answers {code} {reason} (injected)"
    status = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure"}
    return json.dumps({**status, "message": message, "reason": reason, "code": code}).encode()


def _error(code: str) -> bytes:
    return f"<?xml version='1.0' encoding='UTF-8'?><Error><Code>{code}</Code><Message>injected</Message></Error>".encode()
