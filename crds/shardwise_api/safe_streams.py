"""Standard output and error for those who look on, and who may go: a `| head` that has enough, a closed terminal.

What runs must not end because of that, nor the exit status speak of it: what nobody reads any more is dropped.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import TextIO, cast

from .terminal import sanitize


class _Viewed:
    """As much of a text stream as is written to by click, rich and logging."""

    def __init__(self, stream: TextIO | None, *, drops_all: bool) -> None:
        self._stream, self._drops_all = stream, drops_all

    @property
    def encoding(self) -> str:
        return "utf-8" if self._stream is None else self._stream.encoding

    def fileno(self) -> int:
        if self._stream is None:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        return self._stream.fileno()

    def isatty(self) -> bool:
        return self._stream is not None and self._stream.isatty()

    def write(self, text: str) -> int:
        if self._stream is not None:
            try:
                self._stream.write(text)
            except OSError as error:
                self._lost(self._stream, error)
        return len(text)

    def flush(self) -> None:
        if self._stream is not None:
            try:
                self._stream.flush()
            except OSError as error:
                self._lost(self._stream, error)

    def __getattr__(self, name: str) -> object:
        # What a library asks of a stream besides, as its width or its mode.
        return getattr(self._stream, name)

    def _lost(self, stream: TextIO, error: OSError) -> None:
        if _nobody_reads(stream, error):
            _let_go(stream)
        elif not self._drops_all:
            raise error


def reserve() -> None:
    """Give each standard stream that is closed a place to go: else the next file that is opened takes its number."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


def messages() -> TextIO:
    """Return standard error; writing to it never fails."""
    return cast(TextIO, _Viewed(sys.stderr, drops_all=True))


def results() -> TextIO:
    """Return standard output; writing to it fails only where somebody still waits for it, as on a full disk."""
    return cast(TextIO, _Viewed(sys.stdout, drops_all=False))


def tell(text: str) -> None:
    """Say something on standard error."""
    messages().write(f"{sanitize(text)}\n")


def after_showing(show: Callable[[], object], *, status: int) -> int:
    """Show results and return the exit status: that which is given, and 1 for 0 where they could not be written."""
    try:
        show()
    except OSError as error:
        tell(f"error: standard output: {error.strerror or error}")
        return status or 1
    return status


def settle() -> None:
    """Leave nothing in the two streams that Python would fail to write at its end, which makes any exit status 120."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            try:
                stream.flush()
            except OSError:
                _let_go(stream)


def _nobody_reads(stream: TextIO, error: OSError) -> bool:
    """Whether it is a pipe, a socket or a terminal that was closed at its other end."""
    if error.errno == errno.EIO:
        # Of a closed terminal, or of a bad disk.
        return stat.S_ISCHR(os.fstat(stream.fileno()).st_mode)
    return isinstance(error, ConnectionError)


def _let_go(stream: TextIO) -> None:
    # What the stream still holds goes there as well.
    with suppress(OSError), open(os.devnull, "w") as nowhere:  # noqa: PTH123 (no path of ours)
        os.dup2(nowhere.fileno(), stream.fileno())
