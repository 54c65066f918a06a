"""How losses went, thinned as a training grows: always the same rows, however often it was interrupted."""

from __future__ import annotations

import numpy as np

from ..model.gates import F64
from .checkpoint import HISTORY_COLUMNS

MOST_ROWS = 10_000


class History:
    """Rows of step, soft loss, hard loss and hard accuracy, in the order of their steps.

    Kept are the steps that 2^k divides, with the least k for which at most `most` of all steps so far remain. That
    depends on the last step alone, so that a training which was interrupted has the rows of one which was not.
    """

    def __init__(self, rows: F64 | None = None, *, most: int = MOST_ROWS) -> None:
        self._rows: list[tuple[float, ...]] = [] if rows is None else [tuple(row) for row in rows.tolist()]
        self._most = most
        self._every = 1
        if self._rows:
            self._widen(int(self._rows[-1][0]))

    def add(self, step: int, *, soft_loss: float, hard_loss: float, hard_accuracy: float) -> None:
        """Add a step's losses; steps come one after another, from 1."""
        self._widen(step)
        if step % self._every == 0:
            self._rows.append((step, soft_loss, hard_loss, hard_accuracy))

    def _widen(self, step: int) -> None:
        if step // self._every <= self._most:
            return
        while step // self._every > self._most:
            self._every *= 2
        self._rows = [row for row in self._rows if row[0] % self._every == 0]

    @property
    def rows(self) -> F64:
        """All that is kept, (rows, 4)."""
        return np.array(self._rows, dtype=np.float64).reshape(-1, len(HISTORY_COLUMNS))
