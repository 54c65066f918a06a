"""What ranks tell each other while they work: sums and one sender's bytes, over MPI or over nothing.

A training that is written against `Communicator` runs the same alone, under `mpiexec`, and as a gang of pods. Only
buffers travel: the calls of MPI for Python that take objects would pickle them.
"""

from __future__ import annotations

import os
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from shardwise.engine.errors import BadConfiguration, Temporary

_STARTED_BY_MPI = ("PMI_RANK", "PMI_SIZE", "PMIX_RANK", "OMPI_COMM_WORLD_SIZE")


class Communicator(Protocol):
    """All ranks of a training, as one of them sees them. Every rank makes the same calls in the same order.

    Raises:
        Temporary: from any call, when MPI says that a peer is gone.
    """

    @property
    def rank(self) -> int:
        """Which one this is, counted from 0."""

    @property
    def size(self) -> int:
        """How many there are."""

    def add(self, words: npt.NDArray[np.int64]) -> None:
        """Replace the words (any shape, C-contiguous) by their sums over all ranks, with wrap-around."""

    def add_floats(self, values: npt.NDArray[np.float64]) -> None:
        """Replace the values (any shape, C-contiguous) by their sums over all ranks, in whatever order."""

    def broadcast(self, data: bytes) -> bytes:
        """Return rank 0's data, on every rank; what the others give is not looked at."""

    def barrier(self) -> None:
        """Return when every rank has come here."""


class SingleProcess:
    """The only rank there is. Needs no MPI."""

    rank = 0
    size = 1

    def add(self, words: npt.NDArray[np.int64]) -> None:
        """See `Communicator.add`."""

    def add_floats(self, values: npt.NDArray[np.float64]) -> None:
        """See `Communicator.add_floats`."""

    def broadcast(self, data: bytes) -> bytes:
        """See `Communicator.broadcast`."""
        return data

    def barrier(self) -> None:
        """See `Communicator.barrier`."""


class MpiCommunicator:
    """The ranks of MPI's COMM_WORLD; `mpi` is the module `mpi4py.MPI`, which starts MPI as it is imported."""

    def __init__(self, mpi: Any) -> None:
        self._mpi = mpi
        self._all = mpi.COMM_WORLD
        self.rank: int = self._all.Get_rank()
        self.size: int = self._all.Get_size()

    def add(self, words: npt.NDArray[np.int64]) -> None:
        """See `Communicator.add`."""
        self._reduce(words)

    def add_floats(self, values: npt.NDArray[np.float64]) -> None:
        """See `Communicator.add_floats`."""
        self._reduce(values)

    def _reduce(self, array: npt.NDArray[Any]) -> None:
        try:
            self._all.Allreduce(self._mpi.IN_PLACE, array, op=self._mpi.SUM)
        except self._mpi.Exception as error:
            raise _lost(error) from error

    def broadcast(self, data: bytes) -> bytes:
        """See `Communicator.broadcast`."""
        length = np.array([len(data)], np.int64)
        try:
            self._all.Bcast(length, root=0)
            buffer = np.zeros(int(length[0]), np.uint8)
            if self.rank == 0:
                buffer[:] = np.frombuffer(data, np.uint8)
            self._all.Bcast(buffer, root=0)
        except self._mpi.Exception as error:
            raise _lost(error) from error
        return buffer.tobytes()

    def barrier(self) -> None:
        """See `Communicator.barrier`."""
        try:
            self._all.Barrier()
        except self._mpi.Exception as error:
            raise _lost(error) from error

    def close(self) -> None:
        """End MPI, together with all other ranks."""
        self._mpi.Finalize()

    def abort(self) -> None:
        """End all ranks at once: whoever waits for this one would wait for ever."""
        self._all.Abort(1)


def open_communicator() -> Communicator:
    """Return the communicator that this process was started with: MPI's under any `mpiexec`, else `SingleProcess`.

    Raises:
        BadConfiguration: started by `mpiexec`, but MPI for Python or an MPI library is missing.
    """
    if not any(name in os.environ for name in _STARTED_BY_MPI):
        return SingleProcess()
    return MpiCommunicator(load_mpi())


def load_mpi() -> Any:
    """Import MPI for Python, which starts MPI.

    Raises:
        BadConfiguration: it, or an MPI library, is missing.
    """
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:
        raise BadConfiguration(
            f'several ranks need MPI, which is not here ({error}): pip install "shardwise[mpi]",'
            " or train in one process (sharding.shards: 1, no mpiexec)"
        ) from error
    return MPI


def _lost(error: Exception) -> Temporary:
    return Temporary(f"MPI: a peer is lost: {error}")
