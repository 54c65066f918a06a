"""Log files: one of the whole run, and one per script with its output byte for byte.

Names and formats are those of the original orchestrator, so that what reads its logs reads these.
"""

from __future__ import annotations

import hashlib
import logging
import re
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from shardwise.engine.errors import BadConfiguration

log = logging.getLogger("shardwise.suite")

_ORCHESTRATOR = "orchestrator.log"
_FORMAT = "%(asctime)s | %(levelname)s | %(threadName)s | %(message)s"
_TIME = "%Y-%m-%d %H:%M:%S"
_LINE_END = re.compile(rb"[\r\n]")
_CHUNK_BYTES = 1 << 20
_LONGEST_LINE = 1 << 16


@contextmanager
def orchestrator_log(folder: Path, *, console: logging.Handler, verbose: bool) -> Iterator[Path]:
    """Send the run's messages to `orchestrator.log`, appended, and to `console`.

    Raises:
        BadConfiguration: the log can't be written.
    """
    path = folder / _ORCHESTRATOR
    try:
        folder.mkdir(parents=True, exist_ok=True)
        to_file = logging.FileHandler(path, encoding="utf-8")
    except OSError as error:
        raise BadConfiguration(f"--logs-dir: {path}: {error.strerror or error}") from error
    to_file.setFormatter(logging.Formatter(_FORMAT, datefmt=_TIME))
    console.setFormatter(logging.Formatter("%(message)s"))
    log.setLevel(logging.DEBUG if verbose else logging.INFO)
    log.propagate = False
    handlers = (to_file, console)
    for handler in handlers:
        log.addHandler(handler)
    try:
        yield path
    finally:
        for handler in handlers:
            log.removeHandler(handler)
        to_file.close()


class ScriptLog:
    """One script's log of one run, all attempts in one file: `<folder>/<id>/run_YYYYMMDD_HHMMSS.log`, local time.

    Made by `new` or `continued`; closed at the end of its block. `digest` is that of the file then.
    """

    def __init__(self, path: Path, stream: BinaryIO) -> None:
        self.path = path
        self._stream = stream
        self._sha256 = hashlib.sha256()
        self._last = b"\n"

    @classmethod
    def new(cls, folder: Path, *, id: str, now: datetime | None = None) -> ScriptLog:
        """Begin a log; no file of an earlier run is overwritten."""
        stamp = (now or datetime.now()).strftime("%Y%m%d_%H%M%S")
        own = folder / id
        own.mkdir(parents=True, exist_ok=True)
        return cls(*_new(own, stamp=stamp))

    @classmethod
    def continued(cls, path: Path) -> ScriptLog:
        """Go on with a log to which earlier attempts have written."""
        log = cls(path, path.open("ab", buffering=0))
        with path.open("rb") as written:
            while chunk := written.read(_CHUNK_BYTES):
                log._follow(chunk)
        return log

    def __enter__(self) -> ScriptLog:
        return self

    def __exit__(self, _k: type[BaseException] | None, _e: BaseException | None, _t: TracebackType | None) -> None:
        self._stream.close()

    @property
    def digest(self) -> str:
        """SHA-256 of what was written so far, in hex."""
        return self._sha256.hexdigest()

    def begin(self, command: Sequence[str]) -> None:
        """Begin an attempt, on a line of its own."""
        start = b"" if self._last == b"\n" else b"\n"
        line = f"{time.strftime(_TIME)} | INFO | Command: {shlex.join(command)}\n"
        self.write(start + line.encode("utf-8", "surrogateescape"))

    def write(self, chunk: bytes) -> None:
        """Write output as it came."""
        rest = memoryview(chunk)
        while rest:
            rest = rest[self._stream.write(rest) :]
        if chunk:
            self._follow(chunk)

    def _follow(self, chunk: bytes) -> None:
        self._sha256.update(chunk)
        self._last = chunk[-1:]


def _new(folder: Path, *, stamp: str) -> tuple[Path, BinaryIO]:
    number = 1
    while True:
        path = folder / (f"run_{stamp}.log" if number == 1 else f"run_{stamp}_{number}.log")
        try:
            # Unbuffered: it can be followed, and is whole after a kill. No file of an earlier run is overwritten.
            return path, path.open("xb", buffering=0)
        except FileExistsError:
            number += 1


class Lines:
    """Cuts output into lines, so that those of scripts running side by side are never mixed.

    `\\r`, with which a progress bar begins anew, ends a line too; one that never ends is cut.
    """

    def __init__(self, each: Callable[[bytes], object]) -> None:
        self._each = each
        self._rest = b""

    def write(self, chunk: bytes) -> None:
        """Take output; hand on each line that it completes, without its end."""
        *whole, self._rest = _LINE_END.split(self._rest + chunk)
        for line in whole:
            if line:
                self._each(line)
        while len(self._rest) > _LONGEST_LINE:
            self._each(self._rest[:_LONGEST_LINE])
            self._rest = self._rest[_LONGEST_LINE:]

    def close(self) -> None:
        """Hand on what had no end."""
        if self._rest:
            self._each(self._rest)
            self._rest = b""


def echo(*, prefix: bytes = b"") -> Lines:
    """Return lines that go to standard output, each written whole."""

    def each(line: bytes) -> None:
        sys.stdout.buffer.write(prefix + line + b"\n")
        sys.stdout.buffer.flush()

    return Lines(each)
