"""Reports by HTTP to the operator, on a thread of their own: work waits for none of them, and none of them fails it.

The standard library's client is enough, and keeps two things away from the token: proxies and redirects. Whatever goes
wrong is said once per kind; the next report makes good for the lost one.
"""

from __future__ import annotations

import http.client
import logging
import random
import socket
import threading
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

log = logging.getLogger(__name__)

INTERVAL_SECONDS = 2.0
"""Between two reports, as the operator asks for."""
PATIENCE_SECONDS = 3.0
"""How long the last report may hold up the end of a worker."""
TIMEOUT_SECONDS = 3.0
"""To connect, and for each read."""
_WHOLE_CALL_SECONDS = 6.0
"""From the connection to the answer's end: a receiver that drips must not keep all later reports."""
_FIRST_BACKOFF_SECONDS = 2.0
_LONGEST_BACKOFF_SECONDS = 3.0
_LAST_BACKOFF_SECONDS = 0.5
_DICE = random.Random()
"""Its own: what a thread draws must not show in what anybody else draws."""
_FINAL = frozenset(
    {HTTPStatus.FORBIDDEN, HTTPStatus.REQUEST_ENTITY_TOO_LARGE, HTTPStatus.UNPROCESSABLE_ENTITY, HTTPStatus.NOT_FOUND}
)
"""Answers that the same report would get again. Not 401: tokens are renewed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Outcome:
    """What became of a report."""

    again: bool
    """It may be sent again, if there is no newer one by then."""
    pause: float = 0.0
    """Seconds before anything is sent again, 0 when all is well."""
    asked: float = 0.0
    """Those of them that the receiver asked for."""


class HttpSink:
    """POSTs the newest report to `url`, with the content of `token_file` as its bearer token."""

    def __init__(self, *, url: str, token_file: str | None) -> None:
        self._url = url
        self._token_file = token_file
        self._changed = threading.Condition()
        self._unsent: bytes | None = None
        self._busy = False
        self._last = False
        self._thread: threading.Thread | None = None
        self._told: set[str] = set()
        self._failed_in_a_row = 0

    def put(self, report: bytes, *, last: bool) -> None:
        """See `progress.Sink.put`."""
        with self._changed:
            self._unsent = report
            self._last = last
            if self._thread is None:
                # A daemon: a report that hangs must not keep a finished worker.
                self._thread = threading.Thread(target=self._work, name="progress", daemon=True)
                self._thread.start()
            self._changed.notify_all()
            if last:
                self._changed.wait_for(lambda: self._unsent is None and not self._busy, PATIENCE_SECONDS)

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._unsent is not None)
                report, self._unsent = self._unsent, None
                last, self._busy = self._last, True
            assert report is not None
            outcome = self._post(report)
            with self._changed:
                self._busy = False
                if outcome.again and self._unsent is None:
                    self._unsent = report
                self._changed.notify_all()
                if last:
                    self._changed.wait_for(lambda: False, max(outcome.asked, _LAST_BACKOFF_SECONDS))
                else:
                    # Who brings the last report waits for it: the pause between two is for the others.
                    self._changed.wait_for(lambda: self._last, max(outcome.pause, INTERVAL_SECONDS))

    def _post(self, report: bytes) -> _Outcome:
        again, asked = True, 0.0
        try:
            status, asked, said = self._answered(report)
            if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
                self._failed_in_a_row = 0
                return _Outcome(again=False)
            self._tell(f"answered {status}", said)
            again = status not in _FINAL
        except (OSError, http.client.HTTPException, ValueError) as error:
            self._tell(type(error).__name__, str(error))
        self._failed_in_a_row += 1
        longest = min(_LONGEST_BACKOFF_SECONDS, _FIRST_BACKOFF_SECONDS * 2 ** min(self._failed_in_a_row - 1, 10))
        asked = min(asked, _LONGEST_BACKOFF_SECONDS)
        return _Outcome(again=again, asked=asked, pause=max(asked, _DICE.uniform(longest / 2, longest)))

    def _answered(self, report: bytes) -> tuple[int, float, str]:
        parts = urlsplit(self._url)
        headers = {"Content-Type": "application/json", "Connection": "close", **self._authorization()}
        connection = _connection(parts)
        watch: threading.Timer | None = None
        try:
            connection.connect()
            watch = threading.Timer(_WHOLE_CALL_SECONDS, _hang_up, [connection.sock])
            watch.daemon = True
            watch.start()
            path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            connection.request("POST", path, body=report, headers=headers)
            answer = connection.getresponse()
            return answer.status, _seconds(answer.getheader("Retry-After")), answer.read(200).decode("utf-8", "replace")
        finally:
            if watch is not None:
                watch.cancel()
            connection.close()

    def _authorization(self) -> dict[str, str]:
        if not self._token_file:
            return {}
        return {"Authorization": f"Bearer {Path(self._token_file).read_text(encoding='ascii').strip()}"}

    def _tell(self, kind: str, said: str) -> None:
        if kind not in self._told:
            self._told.add(kind)
            log.warning("progress not reported: %s: %s (said once)", kind, " ".join(said.split()))


def _connection(parts: SplitResult) -> http.client.HTTPConnection:
    if not parts.hostname:
        raise ValueError("the URL names no host")
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    return kind(parts.hostname, parts.port, timeout=TIMEOUT_SECONDS)


def _hang_up(line: socket.socket) -> None:
    with suppress(OSError):
        line.shutdown(socket.SHUT_RDWR)


def _seconds(text: str | None) -> float:
    return float(text) if text is not None and text.isdecimal() else 0.0
