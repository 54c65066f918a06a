"""Starts the cluster's processes and remembers them with their start times, so that a pid taken over is never mistaken.

Stopping does not rest on that record: whoever lives in a network namespace with the cluster's name is the cluster's.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from .errors import ClusterError
from .network import namespace_path
from .settings import NODES, Folders

_PROC = Path("/proc")
# Programs of a node see nothing of the starter's environment: a proxy set there would come between them.
_ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root"}
_STOP_SECONDS = 20.0
_TAIL_LINES = 25


@dataclass(frozen=True, kw_only=True)
class Process:
    """Somebody we started."""

    name: str
    pid: int
    started: int
    log: str

    @property
    def alive(self) -> bool:
        """Whether it still runs; a zombie does not."""
        now = _state_and_start(self.pid)
        return now is not None and now[0] != "Z" and now[1] == self.started

    def tail(self) -> str:
        """The end of what it said."""
        with suppress(OSError):
            return "\n".join(Path(self.log).read_text(errors="replace").splitlines()[-_TAIL_LINES:])
        return "(no log)"


def start(folders: Folders, name: str, command: Sequence[str | Path]) -> Process:
    """Start a program that outlives us, its words going to a log; record it."""
    log = folders.logs / f"{name}.log"
    with log.open("ab") as output:
        child = subprocess.Popen(
            [str(word) for word in command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=_ENVIRONMENT,
            cwd="/",
            start_new_session=True,
        )
    now = _state_and_start(child.pid)
    process = Process(name=name, pid=child.pid, started=now[1] if now else 0, log=str(log))
    # The interpreter would warn about a child that it forgets; this one is meant to be forgotten.
    child.returncode = 0
    _write(folders, [*recorded(folders), process])
    return process


def recorded(folders: Folders) -> list[Process]:
    """Everything that was started, dead or alive."""
    try:
        return [Process(**entry) for entry in json.loads(folders.processes.read_text())]
    except FileNotFoundError:
        return []
    except (ValueError, TypeError) as error:
        raise ClusterError(f"{folders.processes} can't be read: {error}") from error


def raise_if_dead(folders: Folders) -> None:
    """Raise with the log's tail as soon as any component has gone."""
    dead = [process for process in recorded(folders) if not process.alive]
    if dead:
        words = "\n".join(
            f"--- {process.name} has ended; the end of {process.log}:\n{process.tail()}" for process in dead
        )
        raise ClusterError(words)


def stop_all(folders: Folders) -> None:
    """Kill whoever lives in the nodes, and recorded processes that are still the ones we started."""
    deadline = time.monotonic() + _STOP_SECONDS
    while pids := alive(folders):
        if time.monotonic() > deadline:
            raise ClusterError(f"processes that don't end: {sorted(pids)}")
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        # A child of ours stays a zombie until it is waited for.
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        time.sleep(0.05)


def alive(folders: Folders) -> set[int]:
    """Pids of the cluster's processes that have not ended."""
    with suppress(ClusterError):
        ours = {process.pid for process in recorded(folders) if process.alive}
        return ours | set(_residents())
    return set(_residents())


def _residents() -> Iterator[int]:
    """Whoever lives in a node's network namespace, or, as pods have networks of their own, in its cgroup."""
    homes = set()
    for node in NODES:
        with suppress(OSError):
            homes.add(namespace_path(node).stat().st_ino)
    cgroups = tuple(f":/{node.namespace}/" for node in NODES)
    for entry in _PROC.iterdir():
        if not entry.name.isdigit():
            continue
        with suppress(OSError):
            state = _state_and_start(int(entry.name))
            if state is None or state[0] == "Z":
                continue
            member = (entry / "cgroup").read_text()
            if (entry / "ns" / "net").stat().st_ino in homes or any(cgroup in member for cgroup in cgroups):
                yield int(entry.name)


def _state_and_start(pid: int) -> tuple[str, int] | None:
    """State and start time (in ticks since boot) of a process; None when there is none."""
    try:
        text = (_PROC / str(pid) / "stat").read_text()
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()
    return fields[0], int(fields[19])


def _write(folders: Folders, processes: Sequence[Process]) -> None:
    part = folders.processes.with_suffix(".part")
    part.write_text(json.dumps([asdict(process) for process in processes], indent=1))
    part.replace(folders.processes)
