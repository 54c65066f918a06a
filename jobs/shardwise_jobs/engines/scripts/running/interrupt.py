"""Signals as two flags: after the first nothing is begun and what runs may end; after the second all is ended at once.

A handler runs in the middle of whatever the main thread does. It takes no lock and writes nothing, so that it can't
lock up with it; who works looks at the flags.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

_SLICE_SECONDS = 0.1
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupt:
    """How often the run was told to end."""

    def __init__(self) -> None:
        self._count = 0

    @property
    def is_set(self) -> bool:
        """Whether nothing new is to be begun."""
        return self._count > 0

    @property
    def at_once(self) -> bool:
        """Whether what runs is not to be waited for."""
        return self._count > 1

    def again(self) -> None:
        """Count one more; a third ends this process, and what it runs with it, whatever it does just now."""
        self._count += 1
        if self._count > 2:
            os._exit(128 + signal.SIGINT)

    def pause(self, seconds: float) -> bool:
        """Sleep, but no longer than until the run is to end; return whether it is."""
        end = time.monotonic() + seconds
        while not self.is_set and (left := end - time.monotonic()) > 0:
            time.sleep(min(left, _SLICE_SECONDS))
        return self.is_set

    @contextmanager
    def installed(self) -> Iterator[Interrupt]:
        """Take SIGINT, SIGTERM and SIGHUP until the block ends; call it on the main thread."""
        # Under nohup the terminal may go, and the run goes on.
        taken = [number for number in _SIGNALS if number != signal.SIGHUP or _heeded(number)]
        before = {number: signal.signal(number, lambda *_: self.again()) for number in taken}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _heeded(number: int) -> bool:
    return signal.getsignal(number) is not signal.SIG_IGN
