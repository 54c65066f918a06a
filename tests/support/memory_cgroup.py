"""A memory cgroup with a limit, for a process that is to meet it: of version 1 or 2, where root may make one."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .require import missing

_ROOT = Path("/sys/fs/cgroup")
_PREFIX = "suite-memory-"
_REMOVE_SECONDS = 10.0


@contextmanager
def memory_cgroup(*, limit_bytes: int) -> Iterator[list[str]]:
    """Yield the words before a command that put it into a cgroup of its own, which is removed afterwards."""
    unified = (_ROOT / "cgroup.controllers").exists()
    top = _ROOT if unified else _ROOT / "memory"
    folder = top / f"{_PREFIX}{uuid.uuid4().hex[:8]}"
    for stale in top.glob(f"{_PREFIX}*"):
        # Of a test run that was killed. One with a process in it is somebody's, and stays.
        with suppress(OSError):
            stale.rmdir()
    try:
        if unified:
            (top / "cgroup.subtree_control").write_text("+memory")
        folder.mkdir()
        (folder / ("memory.max" if unified else "memory.limit_in_bytes")).write_text(str(limit_bytes))
        swap = folder / ("memory.swap.max" if unified else "memory.memsw.limit_in_bytes")
        if swap.exists():
            swap.write_text("0" if unified else str(limit_bytes))
    except OSError as error:
        with suppress(OSError):
            folder.rmdir()
        missing(f"a memory cgroup ({error})", "Run the tests as root where cgroups may be made.")
    try:
        yield ["sh", "-c", 'echo $$ > "$0" && exec "$@"', str(folder / "cgroup.procs")]
    finally:
        _remove(folder)


def _remove(folder: Path) -> None:
    deadline = time.monotonic() + _REMOVE_SECONDS
    while True:
        try:
            folder.rmdir()
        except FileNotFoundError:
            return
        except OSError:
            # The kernel lets go of a dead process a moment after its parent has.
            for pid in (folder / "cgroup.procs").read_text().split():
                with suppress(OSError):
                    os.kill(int(pid), 9)
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return
