"""Files that MPICH and Hydra remove when they end in peace, which a killed process does not.

Both have a name only until whoever needs them has opened them, so that a rank process can take the names away as soon
as it has found its peers: nothing is left behind then, however it ends.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

PROXY = "SHARDWISE_RANK_PROXY"
"""Environment variable: the process id of Hydra's proxy, or of the worker where a rank is alone."""
_SHARED_MEMORY = "/dev/shm/mpich_shm_"  # noqa: S108 (MPICH's names, they are only removed)
"""1 MB for the ranks of a node; each rank of a gang is a node of its own."""
_TOPOLOGY = "/tmp/hydra_hwloc_xmlfile_"  # noqa: S108
"""5 KB that the proxy writes for its ranks, about the machine's processors."""


def remove() -> None:
    """Remove them, once MPI is open."""
    proxy = os.environ.get(PROXY)
    if proxy is None:
        # A plain mpiexec: its ranks may share a node, and it sees to its own end.
        return
    names = set()
    # The proxy is not to be looked at when it is gone, or where a system hides others' open files.
    with contextlib.suppress(OSError):
        names |= {str(open_file.readlink()) for open_file in Path(f"/proc/{proxy}/fd").iterdir()}
    for line in Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace").splitlines():
        _, found, rest = line.partition(_SHARED_MEMORY)
        names.add(found + rest)
    for name in names:
        if name.startswith((_SHARED_MEMORY, _TOPOLOGY)):
            Path(name).unlink(missing_ok=True)
