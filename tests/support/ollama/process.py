"""The server as a process of its own on a free loopback port, with a hand to script it and to read its log."""

from __future__ import annotations

import select
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import httpx

from tests.support.leash import leashed

from .script import Fault

_START_SECONDS = 60
_STOP_SECONDS = 30


class ServerDidNotStart(Exception):
    """The server ended, or said nothing, before it listened."""


class OllamaProcess:
    """A running server. All waiting is the server's: it answers when what is waited for holds."""

    def __init__(self, *, url: str, process: subprocess.Popen[str], http: httpx.Client) -> None:
        self.url = url
        self.process = process
        self._http = http

    def script(self, *faults: Fault) -> None:
        """Add faults to what will go wrong."""
        self._post("faults", [asdict(fault) for fault in faults])

    def settings(self, **changes: float | bool) -> None:
        """Change latency_ms, load_ms, hold, parallel or max_queue."""
        self._post("settings", changes)

    def release(self, count: int | None = None) -> None:
        """Let held calls go on, the oldest first, all of them unless told."""
        self._post("release", {"count": count})

    def reset(self) -> None:
        """Forget faults, log and counters; hold nothing."""
        self._post("reset", {})

    def wait(self, **counters: int) -> dict[str, int]:
        """Return all counters once some have these values, or more where a name ends with `_at_least`."""
        found: dict[str, int] = self._get("wait", counters)
        return found

    def counters(self) -> dict[str, int]:
        """Return the counters: see `Counters`, and `connections` of clients that are open."""
        found: dict[str, int] = self._get("counters")
        return found

    def calls(self) -> list[dict[str, Any]]:
        """Return the log: see `Call`."""
        calls: list[dict[str, Any]] = self._get("calls")
        return calls

    def _get(self, what: str, params: dict[str, int] | None = None) -> Any:
        return self._answer(self._http.get(f"/script/{what}", params=params))

    def _post(self, what: str, body: Any) -> Any:
        return self._answer(self._http.post(f"/script/{what}", json=body))

    def _answer(self, response: httpx.Response) -> Any:
        assert response.status_code == httpx.codes.OK, f"{response.request.url}: {response.text}"
        return response.json()


@contextmanager
def ollama(*, parallel: int = 10, latency_ms: float = 0, max_queue: int = 512) -> Iterator[OllamaProcess]:
    """Start a server with model tinyllama:1.1b, wait until it listens, and stop it at the end."""
    command = [sys.executable, "-m", "tests.support.ollama", "--parallel", str(parallel)]
    command += ["--latency-ms", str(latency_ms), "--max-queue", str(max_queue)]
    with (
        tempfile.TemporaryFile("w+") as errors,
        subprocess.Popen(
            leashed(*command), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, text=True
        ) as process,
    ):
        try:
            assert process.stdout is not None
            ready, _, _ = select.select([process.stdout], [], [], _START_SECONDS)
            line = process.stdout.readline() if ready else ""
            if not line.startswith("listening on "):
                errors.seek(0)
                raise ServerDidNotStart(f"said {line!r}; standard error: {errors.read()[-2000:]}")
            url = line.removeprefix("listening on ").strip()
            with httpx.Client(base_url=url, timeout=60) as http:
                yield OllamaProcess(url=url, process=process, http=http)
        finally:
            process.terminate()
            try:
                process.wait(timeout=_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
