"""How many scripts a machine is likely to bear at once: the original's table, and its rules for GPUs and memory.

Advice only. Whoever asks for more workers gets them, with a word about it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

GIGABYTE = 1 << 30
PER_WORKER_BYTES = 8 * GIGABYTE


@dataclass(frozen=True, slots=True)
class _Row:
    cores: int
    gigabytes: int
    fewest: int
    most: int


TABLE = (_Row(4, 16, 2, 3), _Row(6, 32, 4, 6), _Row(8, 64, 6, 8), _Row(16, 128, 8, 12))
"""From this many cores and this much memory on: between so many workers and so many."""
_SHORT_OF = 0.9
"""A machine sold with 16 GB shows a little less."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """A range of workers, and what it rests on."""

    fewest: int
    most: int
    because: str

    @property
    def text(self) -> str:
        """For people."""
        workers = str(self.most) if self.fewest == self.most else f"{self.fewest} to {self.most}"
        return f"{workers} at a time ({self.because})"


def advise(*, cores: int, memory_bytes: int, gpus: int) -> Advice:
    """Return how many workers are likely to do."""
    if gpus:
        return Advice(fewest=gpus, most=gpus, because="one per GPU" if gpus > 1 else "one GPU")
    gigabytes = memory_bytes / GIGABYTE
    because = f"{cores} cores, {gigabytes:.0f} GiB"
    fitting = [row for row in TABLE if cores >= row.cores and gigabytes >= _SHORT_OF * row.gigabytes]
    if fitting:
        return Advice(fewest=fitting[-1].fewest, most=fitting[-1].most, because=because)
    workers = max(1, min(cores, round(memory_bytes / PER_WORKER_BYTES)))
    return Advice(fewest=workers, most=workers, because=f"{because}; 8 GiB each")


def advise_here(*, gpus: int) -> Advice:
    """Return how many this machine is likely to bear."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return advise(cores=len(os.sched_getaffinity(0)), memory_bytes=memory, gpus=gpus)
