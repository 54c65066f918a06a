"""A terminal of a command's own: what it shows is read, its keys are signals, and it can be closed."""

from __future__ import annotations

import os
import pty
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .leash import leashed
from .require import missing

CTRL_C = b"\x03"


class Terminal:
    """What `on_terminal` yields."""

    def __init__(self, process: subprocess.Popen[bytes], ours: int) -> None:
        self.process = process
        self._ours = ours
        self._shown = bytearray()
        self._open = True

    def wait_for(self, text: str) -> None:
        """Read until the terminal has shown this."""
        while text.encode() not in self._shown:
            self._shown += os.read(self._ours, 1 << 16)

    def press(self, keys: bytes) -> None:
        """Press keys."""
        os.write(self._ours, keys)

    def close(self) -> None:
        """Close it: the command gets SIGHUP, and can neither read nor write there any more."""
        if self._open:
            self._open = False
            os.close(self._ours)

    def finish(self) -> int:
        """Read on until the command ends, and return its exit status."""
        while self._open:
            # Linux says EIO when nobody holds the other end any more.
            try:
                chunk = os.read(self._ours, 1 << 16)
            except OSError:
                break
            self._shown += chunk
        return self.process.wait(60)


@contextmanager
def on_terminal(*command: str, cwd: Path) -> Iterator[Terminal]:
    """Start a command in the foreground of a terminal; both are gone after the block."""
    setsid = shutil.which("setsid")
    if setsid is None:
        missing("setsid", "It is part of util-linux.")
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        # The terminal becomes the new session's own, so that its keys are signals to all in the foreground.
        leashed(setsid, "--ctty", *command),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        cwd=cwd,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "100", "LINES": "30"},
    )
    os.close(theirs)
    terminal = Terminal(process, ours)
    try:
        yield terminal
    finally:
        process.kill()
        process.wait()
        terminal.close()
