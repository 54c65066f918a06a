"""The memory of several processes at once, as the kernel counts it.

PSS shares pages that several processes map among them (the interpreter and its libraries), so that a sum of it is what
the processes take together; a sum of RSS would count those pages once per process.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

SAMPLE_SECONDS = 0.1


class PeakMemory:
    """The highest sum seen; call `look` again and again."""

    def __init__(self) -> None:
        self.peak_bytes = 0
        self.looks = 0

    def look(self, pids: Sequence[int]) -> None:
        """Take one sample of the processes that still run."""
        self.looks += 1
        self.peak_bytes = max(self.peak_bytes, sum(map(pss_bytes, pids)))


def pss_bytes(pid: int) -> int:
    """Return a process's proportional set size, 0 when it has ended."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
    except (FileNotFoundError, ProcessLookupError):
        return 0
    for line in text.splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    return 0
