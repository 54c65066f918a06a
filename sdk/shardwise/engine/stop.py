"""SIGTERM as a flag, with a clock behind it: a worker ends between two blocks if it can, and soon in any case.

Work asks between blocks, so that what it leaves behind is whole. Where there is nothing to be made whole (prepare,
finalize, the wait for another try) SIGTERM ends it at once. Work that goes on for `BLOCK_SECONDS` is interrupted within
its block, which then is rolled back, as after a kill; and a worker that hangs even so is ended by a thread, since a
call into a library may not see signals at all.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType

from shardwise_api.wire import ExitCode

from .errors import Interrupted

BLOCK_SECONDS = 5.0
"""For the current block, after SIGTERM."""
LAST_SECONDS = 3.0
"""For what is left after that: to roll back, to delete sessions, to report."""
_SLICE_SECONDS = 0.2

_current: StopFlag | None = None
"""The process's flag: signals are the whole process's too."""


class StopFlag:
    """Set by SIGTERM, or when the local runner that started this worker is gone."""

    def __init__(self, *, parent: int | None = None) -> None:
        self._parent = parent
        self._signalled = False
        self._at_once = False
        self._over = False
        self._block_seconds = BLOCK_SECONDS

    def install(self, *, leave: Callable[[Interrupted], object] = lambda error: None) -> None:
        """Take SIGTERM; SIGINT is the runner's business (a terminal sends it to the whole group).

        `leave` is called, on a thread, before a worker that hangs is ended.
        """
        global _current
        _current = self
        reading, writing = os.pipe()
        os.set_blocking(writing, False)
        # Written to when the signal comes, also while the main thread is in a library that does not look up.
        signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        signal.signal(signal.SIGTERM, self._on_signal)
        signal.signal(signal.SIGALRM, self._on_deadline)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        threading.Thread(target=self._watch, args=(reading, leave), name="stop", daemon=True).start()

    def _watch(self, reading: int, leave: Callable[[Interrupted], object]) -> None:
        while signal.SIGTERM not in os.read(reading, 64):
            continue
        time.sleep(self._block_seconds)
        main = threading.main_thread().ident
        assert main is not None
        signal.pthread_kill(main, signal.SIGALRM)
        time.sleep(LAST_SECONDS)
        if not self._over:
            leave(Interrupted("the worker did not come to an end and was cut off; what was committed stays"))
            os._exit(ExitCode.TERMINATED)

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._signalled = True
        if self._at_once and not self._over:
            raise Interrupted("stopped; the step will begin anew")

    def _on_deadline(self, _number: int, _frame: FrameType | None) -> None:
        if self._signalled and not self._over:
            raise Interrupted("stopped within a block, which will be worked again; what was committed stays")

    @property
    def signalled(self) -> bool:
        """Whether SIGTERM came: whatever fails from then on fails because of it."""
        return self._signalled

    @property
    def is_set(self) -> bool:
        """Whether work should end after the current block."""
        return self._signalled or (self._parent is not None and os.getppid() != self._parent)

    def check(self) -> None:
        """Raise when work should end.

        Raises:
            Interrupted: the worker leaves with 143.
        """
        if self.is_set:
            raise Interrupted("stopped between two blocks; what was committed stays")

    def at_once(self) -> None:
        """From now on SIGTERM raises Interrupted wherever the main thread is: for steps that may be begun anew."""
        self._at_once = True
        self.check()

    def allow(self, seconds: float) -> None:
        """From now on work has so long to come to its end after SIGTERM, instead of `BLOCK_SECONDS`."""
        self._block_seconds = seconds

    def over(self) -> None:
        """The step has ended, one way or the other: nothing is interrupted any more."""
        self._over = True


def interruptible_sleep(seconds: float) -> None:
    """Sleep, as a wait before another try does.

    Raises:
        Interrupted: work should end; a try that failed has left nothing that can't be repeated.
    """
    if _current is None:
        time.sleep(seconds)
        return
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        if _current.is_set:
            raise Interrupted("stopped while waiting to try again; what was committed stays")
        time.sleep(min(left, _SLICE_SECONDS))
