"""Room for the files that a runner keeps open while it runs scripts side by side: pipes to each, and its log.

What a shell allows (often 1024, sometimes 64) is for a program to raise as far as its hard limit goes. Scripts get what
the shell allowed, as programs exist that look at every number below the limit.
"""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..model.validation_errors import InvalidSuite

PER_SCRIPT = 12
"""Three pipes, the log, and what it takes to start a process."""
BESIDE = 32
"""For summaries, the board, and what is looked at on the way."""


@contextmanager
def room_for(scripts: int) -> Iterator[int | None]:
    """Allow this process as many open files as so many scripts at once need, until the block ends.

    Yields how many a script may have, None where nothing had to be raised.

    Raises:
        InvalidSuite: see `require_room`.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = require_room(scripts)
    if soft == resource.RLIM_INFINITY or needed <= soft:
        yield None
        return
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
    try:
        yield soft
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def require_room(scripts: int) -> int:
    """Return how many files this process has open when it runs so many scripts at once.

    Raises:
        InvalidSuite: it may not have as many.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    base = len([*Path("/proc/self/fd").iterdir()]) + BESIDE
    needed = base + scripts * PER_SCRIPT
    if hard != resource.RLIM_INFINITY and needed > hard:
        fit = max(0, hard - base) // PER_SCRIPT
        way_out = f"ask for {fit}, or raise it" if fit else "raise it"
        raise InvalidSuite(
            f"max_workers: {scripts} scripts at once need up to {needed} open files, and the hard limit is {hard} "
            f"(ulimit -Hn): {way_out}"
        )
    return needed
