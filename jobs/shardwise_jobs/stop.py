"""SIGTERM as a flag: a worker asks between blocks, so that what it leaves behind is always whole."""

from __future__ import annotations

import os
import signal
from types import FrameType

from .errors import Interrupted


class StopFlag:
    """Set by SIGTERM, or when the local runner that started this worker is gone."""

    def __init__(self, *, parent: int | None = None) -> None:
        self._parent = parent
        self._signalled = False

    def install(self) -> None:
        """Take SIGTERM; SIGINT is the runner's business (a terminal sends it to the whole group)."""
        signal.signal(signal.SIGTERM, self._on_signal)
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._signalled = True

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
