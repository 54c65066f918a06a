"""Takes progress reports as the operator does, and answers what a test says."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Receiver:
    """What came in; `answers` are given first, then 204."""

    url: str = ""
    answers: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    reports: list[dict[str, Any]] = field(default_factory=list)
    tokens: list[str | None] = field(default_factory=list)
    hold: threading.Event | None = None
    """Answers wait for it."""
    changed: threading.Condition = field(default_factory=threading.Condition)

    def wait_for(self, count: int) -> None:
        """Wait until so many reports have come."""
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.reports) >= count, 60), self.reports

    @property
    def done(self) -> list[int]:
        """The items of each report."""
        return [report["items"]["done"] for report in self.reports]


@contextmanager
def receiving() -> Iterator[Receiver]:
    """Run a receiver on a loopback port."""
    receiver = Receiver()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if receiver.hold is not None:
                receiver.hold.wait(60)
            with receiver.changed:
                receiver.reports.append({"path": self.path, **json.loads(body)})
                receiver.tokens.append(self.headers["authorization"])
                status, headers = receiver.answers.pop(0) if receiver.answers else (204, {})
                receiver.changed.notify_all()
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = False
    receiver.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield receiver
    finally:
        if receiver.hold is not None:
            receiver.hold.set()
        server.shutdown()
        server.server_close()
        thread.join()
