"""The server as a process of its own on a free loopback port."""

from __future__ import annotations

import select
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from tests.support.leash import leashed

from .hand import OllamaServer

_START_SECONDS = 60
_STOP_SECONDS = 30


class ServerDidNotStart(Exception):
    """The server ended, or said nothing, before it listened."""


class OllamaProcess(OllamaServer):
    """A server that belongs to the test."""

    def __init__(self, *, url: str, process: subprocess.Popen[str], http: httpx.Client) -> None:
        super().__init__(url=url, http=http)
        self.process = process


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
