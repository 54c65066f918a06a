"""What every embedder promises: a text's vector depends on the text alone, bit for bit.

Libraries pad the texts of a batch to the longest one, and sums over padded rows round otherwise: the same text would
have another vector in another batch, so sharding and restarts would show in the result. Here a call of the model holds
one text, and several calls run at once, on as many threads as there are processors.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from shardwise.engine.errors import WorkError

Vectors = NDArray[np.float32]


class Embedder(Protocol):
    """A model that makes vectors of texts. One instance may be used by several threads."""

    @property
    def name(self) -> str:
        """What the vectors are made with, weights included: rows of other names don't compare."""

    @property
    def dimension(self) -> int:
        """Numbers in a vector."""

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Return one row of unit length per text, shape (texts, dimension), float32.

        Raises:
            EmbeddingFailed: the model refused a text, or made something that is no direction.
        """

    def close(self) -> None:
        """Give back threads and memory."""


class EmbeddingFailed(WorkError):
    """The model made no vector of a text."""

    reason = "EmbeddingFailed"


class PerTextEmbedder:
    """Runs a model's `one` for each of several texts, some at once, each alone in its call."""

    def __init__(self, one: Callable[[str], NDArray[np.floating]], *, dimension: int, threads: int) -> None:
        self._one = one
        self._dimension = dimension
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="embed") if threads > 1 else None

    def embed(self, texts: Sequence[str]) -> Vectors:
        """See `Embedder.embed`."""
        found = map(self._one, texts) if self._pool is None else self._pool.map(self._one, texts)
        rows = np.empty((len(texts), self._dimension), dtype=np.float32)
        for number, row in enumerate(found):
            if row.shape != (self._dimension,):
                raise EmbeddingFailed(f"the model made {row.shape} numbers of a text, not {self._dimension}")
            rows[number] = unit(row)
        return rows

    def close(self) -> None:
        """See `Embedder.close`."""
        if self._pool is not None:
            self._pool.shutdown()


def unit(vector: NDArray[np.floating]) -> Vectors:
    """Return a vector's direction: its last axis scaled to length 1, reckoned in float64 and rounded once.

    Raises:
        EmbeddingFailed: it is zero, infinite or not a number.
    """
    wide = vector.astype(np.float64)
    length = np.sqrt(np.square(wide).sum(axis=-1, keepdims=True))
    if not np.all(np.isfinite(length)) or not np.all(length):
        raise EmbeddingFailed("the model made a vector of a text that has no direction (zero, or not a number)")
    direction: Vectors = (wide / length).astype(np.float32)
    return direction


_CGROUPS = Path("/sys/fs/cgroup")


def processors(*, cgroups: Path = _CGROUPS) -> int:
    """Return the processors this process may use, at least 1: its affinity, or its CPU limit when that is less.

    A container's CPU limit is not what the machine shows.
    """
    limit = _limit(cgroups)
    allowed = len(os.sched_getaffinity(0))
    return max(1, allowed if limit is None else min(allowed, math.ceil(limit)))


def _limit(cgroups: Path) -> float | None:
    # In a container its own group is the root of what it sees; version 2 first, then version 1.
    for names in (("cpu.max",), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")):
        try:
            words = " ".join((cgroups / name).read_text(encoding="ascii") for name in names).split()
            quota, period = (float(word) for word in words)
        except (OSError, ValueError):  # not there, or "max"
            continue
        if quota > 0 and period > 0:
            return quota / period
    return None
