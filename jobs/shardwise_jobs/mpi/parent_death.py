"""No process outlives the one that started it: the kernel is asked to kill it then, whatever the parent died of.

As a program (`python -m shardwise_jobs.mpi.parent_death COMMAND …`) it asks for that and becomes the command. A worker
has threads, and to run Python between fork and exec of such a process can lock up.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Sequence

_PR_SET_PDEATHSIG = 1
_prctl = ctypes.CDLL(None, use_errno=True).prctl


def die_with(parent: int) -> None:
    """Have this process killed as soon as `parent`, which must have started it, ends; end now when it has."""
    if _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    if os.getppid() != parent:
        os._exit(1)


def wrap(command: Sequence[str]) -> list[str]:
    """Return the command so that it dies with the process that starts it; it keeps its process id."""
    return [sys.executable, "-P", "-m", __name__, str(os.getpid()), *command]


if __name__ == "__main__":
    die_with(int(sys.argv[1]))
    os.execv(sys.argv[2], sys.argv[2:])  # noqa: S606 (a list, without a shell)
