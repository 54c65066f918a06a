"""Ranks as threads of this process: what MPI does for a training, without processes, and with ranks that can vanish."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt

from shardwise.engine.errors import Temporary
from shardwise_jobs.mpi.communicator import Communicator, SingleProcess

Left = TypeVar("Left")


class _Meetings:
    """Where ranks leave what they give: one meeting per call, complete when all have come."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._changed = threading.Condition()
        self._given: dict[int, dict[int, Any]] = {}
        self._lost = False

    def meet(self, number: int, *, rank: int, mine: Any) -> list[Any]:
        """Return what all ranks give to a meeting, in their order. Raises Temporary when one of them will not come."""
        with self._changed:
            given = self._given.setdefault(number, {})
            given[rank] = mine
            self._changed.notify_all()
            # One that came and left afterwards has not been lost to this meeting.
            self._changed.wait_for(lambda: len(given) == self._size or self._lost)
            # Whoever is here has left the meeting before.
            self._given.pop(number - 2, None)
        if len(given) < self._size:
            raise Temporary("a peer is lost")
        return [given[peer] for peer in range(self._size)]

    def lose(self) -> None:
        """Tell whoever waits for one that will not come."""
        with self._changed:
            self._lost = True
            self._changed.notify_all()


class ThreadCommunicator:
    """One rank's view of the threads' world."""

    def __init__(self, *, rank: int, size: int, meetings: _Meetings) -> None:
        self.rank = rank
        self.size = size
        self._meetings = meetings
        self._calls = 0

    def add(self, words: npt.NDArray[np.int64]) -> None:
        """See `Communicator.add`."""
        words[...] = sum(self._all(words.copy()))

    def add_floats(self, values: npt.NDArray[np.float64]) -> None:
        """See `Communicator.add_floats`; from the last rank to the first, which nobody may rely on."""
        values[...] = sum(reversed(self._all(values.copy())))

    def broadcast(self, data: bytes) -> bytes:
        """See `Communicator.broadcast`."""
        shared: bytes = self._all(data)[0]
        return shared

    def barrier(self) -> None:
        """See `Communicator.barrier`."""
        self._all(None)

    def _all(self, mine: Any) -> list[Any]:
        self._calls += 1
        return self._meetings.meet(self._calls, rank=self.rank, mine=mine)


class Outcome(Generic[Left]):
    """What a rank returned, or raised."""

    def __init__(self, work: Callable[[Communicator], Left], world: Communicator) -> None:
        self.error: Exception | None = None
        self._left: list[Left] = []
        try:
            self._left.append(work(world))
        except Exception as error:
            self.error = error

    @property
    def value(self) -> Left:
        """What it returned."""
        if self.error is not None:
            raise self.error
        return self._left[0]


def together(ranks: int, work: Callable[[Communicator], Left]) -> Sequence[Outcome[Left]]:
    """Do `work` as each of some ranks at the same time, and return what came of it, in the order of the ranks."""
    if ranks == 1:
        return [Outcome(work, SingleProcess())]
    meetings = _Meetings(ranks)

    def one(rank: int) -> Outcome[Left]:
        outcome = Outcome(work, ThreadCommunicator(rank=rank, size=ranks, meetings=meetings))
        if outcome.error is not None:
            meetings.lose()
        return outcome

    with ThreadPoolExecutor(max_workers=ranks) as pool:
        return list(pool.map(one, range(ranks)))
