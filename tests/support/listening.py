"""A server as a process of its own, which says where it listens: started, read and ended for tests."""

from __future__ import annotations

import select
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from .leash import leashed

_START_SECONDS = 60
_STOP_SECONDS = 30


class ServerDidNotStart(Exception):
    """The server ended, or said nothing, before it listened."""


@dataclass(frozen=True, kw_only=True)
class Listening:
    """A running server."""

    url: str
    process: subprocess.Popen[str]
    errors: IO[str]

    def stop(self) -> int:
        """Ask the server to stop, and return its exit status."""
        self.process.terminate()
        try:
            return self.process.wait(timeout=_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise

    def log(self) -> str:
        """Return what it has written to standard error."""
        self.errors.seek(0)
        return self.errors.read()


@contextmanager
def listening(
    command: Sequence[str], *, environment: Mapping[str, str], folder: Path | None = None
) -> Iterator[Listening]:
    """Start a server, wait until it listens, and stop it at the end unless the test did."""
    with (
        tempfile.TemporaryFile("w+") as errors,
        subprocess.Popen(
            leashed(*command),
            env=environment,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        ) as process,
    ):
        try:
            yield Listening(url=_announced_url(process, errors), process=process, errors=errors)
        finally:
            if process.poll() is None:
                process.terminate()
                try:
                    process.wait(timeout=_STOP_SECONDS)
                except subprocess.TimeoutExpired:
                    process.kill()


def _announced_url(process: subprocess.Popen[str], errors: IO[str]) -> str:
    assert process.stdout is not None
    ready, _, _ = select.select([process.stdout], [], [], _START_SECONDS)
    line = process.stdout.readline() if ready else ""
    if not line.startswith("listening on "):
        errors.seek(0)
        raise ServerDidNotStart(f"said {line!r}; standard error: {errors.read()[-2000:]}")
    return line.removeprefix("listening on ").strip()
