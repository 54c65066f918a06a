"""Hydra, MPICH's starter, with nobody to log in to: it prints what each rank's worker is to run, and waits for them.

A launch line comes over the network and is run, so that it is taken apart here: a worker runs its own proxy program
with options that are known, for its own rank, under the starter of the leader that has proved who it is.
"""

from __future__ import annotations

import contextlib
import re
import shlex
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from shardwise.engine.errors import BadConfiguration, Temporary

from .parent_death import wrap
from .rank_process import PEACE_SECONDS, RELAY

_LINE = "HYDRA_LAUNCH: "
_END = "HYDRA_LAUNCH_END"
_NUMBER = re.compile(r"-?\d{1,9}")
_OPTIONS = {
    "--control-port": re.compile(r"[0-9A-Za-z.:-]{1,253}:\d{1,5}"),
    "--rmk": re.compile("user"),
    "--launcher": re.compile("manual"),
    "--demux": re.compile("poll|select"),
    "--pgid": _NUMBER,
    "--retries": _NUMBER,
    "--usize": _NUMBER,
    "--pmi-port": re.compile("0"),
    "--gpus-per-proc": _NUMBER,
    "--gpu-subdevs-per-proc": _NUMBER,
    "--proxy-id": _NUMBER,
}


def program(name: str) -> str:
    """Return the path of one of Hydra's programs: beside this Python, where the wheel puts them, or on the PATH.

    Raises:
        BadConfiguration: it is missing.
    """
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.is_file() else shutil.which(name)
    if found is None:
        raise BadConfiguration(
            f'several ranks need MPICH\'s {name}, which is not here: pip install "shardwise[mpi]",'
            " or train in one process (sharding.shards: 1)"
        )
    return found


def check_line(line: str, *, rank: int, leader: str) -> list[str]:
    """Return what to run for a launch line: this worker's own proxy program, for its own rank.

    Raises:
        Temporary: the line asks for anything else. `leader` is the only address that the proxy may talk to.
    """
    try:
        words = shlex.split(line)
    except ValueError:
        words = []
    given = dict(zip(words[1::2], words[2::2], strict=False))
    known = len(words) % 2 == 1 and len(given) == len(words) // 2 and given.keys() <= _OPTIONS.keys()
    if not known or not all(_OPTIONS[name].fullmatch(value) for name, value in given.items()):
        raise Temporary(f"rank 0 handed out a launch line that is not one of Hydra's: {line!r}")
    proxy = program("hydra_pmi_proxy")
    if words[0] != proxy:
        raise Temporary(f"rank 0 would have {words[0]} run, this worker has {proxy}: the ranks' images differ")
    if given.get("--proxy-id") != str(rank):
        raise Temporary(f"rank 0 handed out a launch line that is not for rank {rank}: {line!r}")
    if given.get("--control-port", "").rpartition(":")[0] != leader:
        raise Temporary(f"rank 0 is at {leader}, but its launch line leads elsewhere: {line!r}")
    return words


class Mpiexec:
    """One `mpiexec`. It ends when all its ranks have, and is killed when its worker is gone."""

    def __init__(self, *, size: int, address: str, tell: Callable[[list[str] | None], object]) -> None:
        """Start it; `tell` gets the ranks' launch lines in order, or None when there are none, from a thread.

        `address` is where the other ranks reach this worker.
        """
        self._size = size
        self._tell = tell
        self._process = subprocess.Popen(
            [
                *wrap([program("mpiexec"), "-launcher", "manual", "-n", str(size)]),
                # Names of nobody: proxies come by themselves, and ranks with different names are ranks on different
                # nodes, which share no memory. One address given several times would be one node with one line.
                *("-hosts", ",".join(f"rank-{rank}" for rank in range(size)), "-localhost", address),
                # Each rank has the environment of its own worker, which is where its pod's names are.
                *("-genvnone", "-wdir", "/", *RELAY),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        )
        threading.Thread(target=self._read, name="mpiexec", daemon=True).start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        lines: list[str] = []
        for text in self._process.stdout:
            if text.startswith(_LINE):
                lines.append(text.removeprefix(_LINE).strip())
            elif text.startswith(_END):
                self._tell(lines if len(lines) == self._size else None)
                break
        else:
            self._tell(None)
        for text in self._process.stdout:
            sys.stderr.write(text)

    def wait(self) -> None:
        """Give it a moment to end by itself, as it does when all ranks have."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(PEACE_SECONDS)

    def clear(self) -> None:
        """Kill what is left of it."""
        self._process.kill()
        self._process.wait()
