"""Stands between an HTTP client and its server and loses what a test says, as a network or a dying server would.

The real client talks to the real server; only the line between them fails.
"""

from __future__ import annotations

import http.client
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum, auto
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

_HOP_HEADERS = {"connection", "keep-alive", "transfer-encoding", "content-length"}


class Fault(Enum):
    """What becomes of a request."""

    CUT_BEFORE = auto()
    """The server never sees it."""
    CUT_AFTER = auto()
    """The server has done it, the client never hears of it."""
    HOLD_AFTER = auto()
    """The same, but the client hears nothing at all until the proxy ends."""
    CUT_WITHIN = auto()
    """The same, but half of the answer's body arrives."""
    FAIL_AFTER = auto()
    """The server has done it, the client gets a gateway's 502."""
    BUSY_AFTER = auto()
    """The server has done it, the client gets a gateway's 503."""


_GATEWAY_STATUS = {Fault.FAIL_AFTER: 502, Fault.BUSY_AFTER: 503}


@dataclass(frozen=True, kw_only=True)
class Request:
    """A request that came by."""

    method: str
    path: str


@dataclass(kw_only=True)
class _Planned:
    path_part: str
    fault: Fault
    after: int
    then: Callable[[], None] | None


class FlakyProxy:
    """Forwards requests to `url`, and loses the next ones that were marked for it."""

    def __init__(self, target: str) -> None:
        self._target = target
        self._faults: list[_Planned] = []
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self.requests: list[Request] = []
        self._server = _Server(("127.0.0.1", 0), _handler(self))
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})

    def lose(
        self,
        path_part: str,
        fault: Fault,
        *,
        times: int = 1,
        after: int = 0,
        then: Callable[[], None] | None = None,
    ) -> None:
        """Lose the next requests whose path holds `path_part`, once `after` of them came through.

        `then` runs when the server has done its part.
        """
        self._faults.extend(_Planned(path_part=path_part, fault=fault, after=after, then=then) for _ in range(times))

    def count(self, path_part: str) -> int:
        """Return how many requests with this in their path came by, lost ones included."""
        return sum(path_part in request.path for request in self.requests)

    @property
    def pending(self) -> int:
        """Return how many faults have not happened yet."""
        return len(self._faults)

    def note(self, request: Request) -> _Planned | None:
        """Note a request and take its fault."""
        with self._lock:
            self.requests.append(request)
            for index, planned in enumerate(self._faults):
                if planned.path_part not in request.path:
                    continue
                if planned.after == 0:
                    return self._faults.pop(index)
                planned.after -= 1
        return None

    def forward(self, request: Request, *, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, str], bytes]:
        """Ask the server."""
        target = urlsplit(self._target)
        connection = http.client.HTTPConnection(str(target.hostname), int(target.port or 80), timeout=60)
        try:
            connection.request(request.method, request.path, body=body, headers=headers)
            response = connection.getresponse()
            return response.status, dict(response.getheaders()), response.read()
        finally:
            connection.close()

    def hold(self) -> None:
        """Wait until the proxy ends."""
        self._ended.wait(60)

    def start(self) -> None:
        """Begin to listen."""
        self._thread.start()

    def stop(self) -> None:
        """End all connections."""
        self._ended.set()
        self._server.shutdown()
        self._server.close_connections()
        self._server.server_close()
        self._thread.join()


@contextmanager
def flaky_proxy(target: str) -> Iterator[FlakyProxy]:
    """Run a proxy in front of the server at `target`."""
    proxy = FlakyProxy(target)
    proxy.start()
    try:
        yield proxy
    finally:
        proxy.stop()


class _Server(ThreadingHTTPServer):
    # Joined at the end, so that nothing outlives a test; `close_connections` wakes those that read.
    daemon_threads = False

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        self._open: set[socket.socket] = set()
        super().__init__(address, handler)

    def process_request(self, request: socket.socket | tuple[bytes, socket.socket], client_address: object) -> None:
        assert isinstance(request, socket.socket)
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: socket.socket | tuple[bytes, socket.socket]) -> None:
        assert isinstance(request, socket.socket)
        self._open.discard(request)
        super().shutdown_request(request)

    def close_connections(self) -> None:
        for connection in list(self._open):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                self._open.discard(connection)


def _handler(proxy: FlakyProxy) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # Else each small answer waits 40 ms for its acknowledgement.
        disable_nagle_algorithm = True

        def _pass_on(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            request = Request(method=self.command, path=self.path)
            planned = proxy.note(request)
            fault = planned.fault if planned else None
            if fault is not Fault.CUT_BEFORE:
                headers = {name: value for name, value in self.headers.items() if name.lower() not in _HOP_HEADERS}
                try:
                    status, answered, content = proxy.forward(request, headers=headers, body=body)
                except OSError:
                    self.close_connection = True
                    return
            if planned and planned.then:
                planned.then()
            if fault is Fault.HOLD_AFTER:
                proxy.hold()
            if fault in (Fault.CUT_BEFORE, Fault.CUT_AFTER, Fault.HOLD_AFTER):
                self.close_connection = True
                return
            if fault in _GATEWAY_STATUS:
                status, answered, content = _GATEWAY_STATUS[fault], {"content-type": "text/html"}, b"<h1>Bad luck</h1>"
            self.send_response(status)
            for name, value in answered.items():
                if name.lower() not in _HOP_HEADERS:
                    self.send_header(name, value)
            # What is only asked about has no content here, but its length is part of the answer.
            told = {name.lower(): value for name, value in answered.items()}.get("content-length")
            length = told if self.command == "HEAD" and told is not None else str(len(content))
            self.send_header("content-length", length)
            self.end_headers()
            if fault is Fault.CUT_WITHIN:
                content = content[: len(content) // 2]
                self.close_connection = True
            self.wfile.write(content)

        do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = _pass_on

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing: tests look at `requests`."""

    return Handler
