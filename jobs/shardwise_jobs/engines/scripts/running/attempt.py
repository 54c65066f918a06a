"""One attempt at one script: a process of its own, its output as it comes, a time limit, and nothing left behind.

The runner of `shardwise suite` and a worker on a cluster both run a script so, and so both say the same of it.
"""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from shardwise_api.scripts import KILL_SECONDS

from ..model.records import AttemptRecord, Status
from . import subreaper

_POLL_SECONDS = 0.1
_CHUNK_BYTES = 1 << 16
_SIGNALLED = 128
"""Added to a signal's number in an exit code, as a shell does."""
_KILLED = _SIGNALLED + signal.SIGKILL


class Stopping(Protocol):
    """Says whether the run is to end; `shardwise.engine.stop.StopFlag` does."""

    @property
    def is_set(self) -> bool:
        """Whether nothing new is to be begun."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How long an attempt may take, in seconds."""

    timeout_seconds: float | None = None
    grace_seconds: float = 30.0
    """For a running script to end by itself after the run was interrupted; then comes SIGTERM."""
    kill_seconds: float = KILL_SECONDS
    """From SIGTERM to SIGKILL, for a script that has something to put away."""
    open_files: int | None = None
    """So many the script may have open; None: as many as this process."""


def run_attempt(
    command: Sequence[str],
    *,
    number: int = 1,
    cwd: Path,
    env: Mapping[str, str],
    output: Callable[[bytes], object],
    limits: Limits,
    stop: Stopping,
    at_once: Callable[[], bool] = lambda: False,
    pod: str | None = None,
    node: str | None = None,
) -> AttemptRecord:
    """Run a command to its end and return what became of it.

    `output` is called with what the command prints (both streams, as bytes, as it comes); should it raise, the
    command is killed and its error is raised here. `stop` begins the grace time; `at_once` ends it.
    """
    attempt = _Attempt(limits=limits, stop=stop, at_once=at_once, output=output)
    kills = OomKills()
    kills_before = kills.count()
    started = _Moment()
    told = attempt.run(command, cwd=cwd, env=env)
    over = attempt.over or _Moment()
    ended = _ending(told, cause=attempt.cause, limits=limits)
    # To count is all that the kernel does. That it was this script is likely, as nobody else sends it SIGKILL.
    if ended.exit_code == _KILLED and attempt.cause is None and kills.count() != kills_before:
        ended = _Ending(
            status=Status.FAILED,
            exit_code=_KILLED,
            reason="OOMKilled",
            error=f"Killed by the kernel: out of memory (exit code {_KILLED})",
        )
    return AttemptRecord(
        number=number,
        status=ended.status,
        exit_code=ended.exit_code,
        reason=ended.reason,
        error=ended.error,
        start_time=started.date.isoformat(),
        end_time=over.date.isoformat(),
        duration_sec=round(over.clock - started.clock, 2),
        pod=pod,
        node=node,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Moment:
    date: datetime = field(default_factory=lambda: datetime.now(UTC))
    clock: float = field(default_factory=time.monotonic)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ending:
    status: Status
    exit_code: int | None = None
    reason: str | None = None
    error: str | None = None


def _ending(told: str, *, cause: Status | None, limits: Limits) -> _Ending:
    """Say what the subreaper's last words mean; `cause` is why the script was stopped, if it was."""
    what, _, detail = told.partition(" ")
    if what == "error":
        return _Ending(status=Status.ERROR, reason="StartFailed", error=f"Can't be started: {detail}")
    if what == "signal":
        code = _SIGNALLED + int(detail)
        by_signal = f"Killed by {_name(int(detail))} (exit code {code})"
    else:
        # Without a word, the subreaper itself was killed.
        code = int(detail) if what == "exit" else _KILLED
        by_signal = "" if what == "exit" else "Killed together with the process that watches it"
    if cause is Status.TIMEOUT:
        limit = f"Took longer than {limits.timeout_seconds:g} s"
        return _Ending(status=cause, exit_code=code, reason="Timeout", error=f"{limit}; exit code {code}")
    if cause is Status.INTERRUPTED:
        return _Ending(status=cause, exit_code=code, reason="Interrupted", error="Stopped: the run was interrupted")
    if code == 0:
        return _Ending(status=Status.SUCCESS, exit_code=0)
    return _Ending(status=Status.FAILED, exit_code=code, error=by_signal or f"Non-zero exit code: {code}")


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


class _Attempt:
    """A subreaper, the pipes to it, and the clock."""

    def __init__(
        self,
        *,
        limits: Limits,
        stop: Stopping,
        at_once: Callable[[], bool],
        output: Callable[[bytes], object],
    ) -> None:
        self._limits, self._stop, self._at_once, self._output = limits, stop, at_once, output
        self._grace_over = self._kill_at = float("inf")
        self._stopping = self._killed = False
        self._said = b""
        self.cause: Status | None = None
        """Why the script was stopped; None when it ended by itself."""
        self.over: _Moment | None = None
        """When the script ended; what it has left behind may take longer."""

    def run(self, command: Sequence[str], *, cwd: Path, env: Mapping[str, str]) -> str:
        """Return the subreaper's last words: empty when it was killed."""
        deadline = float("inf")
        if self._limits.timeout_seconds is not None:
            deadline = time.monotonic() + self._limits.timeout_seconds
        with _pipe() as (heard, saying), _pipe() as (obeyed, commanding), _pipe() as (reading, writing):
            files = subreaper.AS_HERE if self._limits.open_files is None else str(self._limits.open_files)
            own = [sys.executable, "-I", "-S", subreaper.__file__, str(obeyed.number), str(saying.number), files]
            process = subprocess.Popen(
                [*own, *command],
                stdin=subprocess.DEVNULL,
                stdout=writing.number,
                stderr=writing.number,
                cwd=cwd,
                env=env,
                pass_fds=(obeyed.number, saying.number),
                start_new_session=True,
            )
            for end in (obeyed, saying, writing):
                end.close()
            try:
                self._follow(heard.number, reading.number, commanding.number, deadline=deadline)
            finally:
                # On an error too: it then kills what it keeps, and ends.
                commanding.close()
                process.wait()
            # Nothing that could write is left, or it is nothing that is waited for.
            self._drain(reading.number)
        return self._said.decode()

    def _follow(self, heard: int, reading: int, commanding: int, *, deadline: float) -> None:
        for end in (heard, reading):
            os.set_blocking(end, False)
        with selectors.DefaultSelector() as selector:
            selector.register(heard, selectors.EVENT_READ)
            selector.register(reading, selectors.EVENT_READ)
            while True:
                ready = {key.fd for key, _ in selector.select(_POLL_SECONDS)}
                if reading in ready and not self._read(reading):
                    selector.unregister(reading)
                # Before the clock, whether it was ready or not: to keep output takes time, in which a script may end.
                if not self._hear(heard):
                    return
                self._look_at_clock(commanding, deadline=deadline)

    def _hear(self, heard: int) -> bool:
        try:
            said = os.read(heard, 4096)
        except BlockingIOError:
            return True
        self._said += said
        if said and self.over is None:
            self.over = _Moment()
        return bool(said)

    def _look_at_clock(self, commanding: int, *, deadline: float) -> None:
        now = time.monotonic()
        if not self._stopping and self._stop.is_set:
            self._stopping = True
            self._grace_over = now + self._limits.grace_seconds
        if self._killed:
            return
        if self._at_once():
            if self.over is None:
                self.cause = self.cause or Status.INTERRUPTED
            self._kill_at = now
        elif self.over is None and self.cause is None and (now >= deadline or now >= self._grace_over):
            self.cause = Status.TIMEOUT if now >= deadline else Status.INTERRUPTED
            self._kill_at = now + self._limits.kill_seconds
            _ask(commanding, subreaper.TERMINATE)
        if now >= self._kill_at:
            self._killed = True
            _ask(commanding, subreaper.KILL)

    def _read(self, reading: int) -> bool:
        try:
            chunk = os.read(reading, _CHUNK_BYTES)
        except BlockingIOError:
            return True
        if chunk:
            self._output(chunk)
        return bool(chunk)

    def _drain(self, reading: int) -> None:
        while True:
            try:
                chunk = os.read(reading, _CHUNK_BYTES)
            except BlockingIOError:
                return
            if not chunk:
                return
            self._output(chunk)


class _End:
    """One end of a pipe, closed once."""

    def __init__(self, number: int) -> None:
        self.number = number
        self._open = True

    def close(self) -> None:
        if self._open:
            self._open = False
            os.close(self.number)


@contextmanager
def _pipe() -> Iterator[tuple[_End, _End]]:
    ends = tuple(_End(number) for number in os.pipe())
    try:
        yield ends[0], ends[1]
    finally:
        for end in ends:
            end.close()


def _ask(commanding: int, what: bytes) -> None:
    # It may have ended just now.
    with suppress(BrokenPipeError):
        os.write(commanding, what)


_ROOT = Path("/")
_FIELD = "oom_kill"


class OomKills:
    """The counter of kills in this process's memory cgroup, of version 1 or 2; the machine's where there is none.

    A script that the kernel killed for want of memory has no chance to say it itself. The cgroup of this process is
    that of what it starts, in a pod as on a laptop.
    """

    def __init__(self, *, root: Path = _ROOT) -> None:
        self._files = [*_counters(root), root / "proc/vmstat"]

    def count(self) -> int | None:
        """Return how many there were so far; None where nothing counts them."""
        for file in self._files:
            try:
                lines = file.read_text(encoding="ascii").splitlines()
            except OSError:
                continue
            for line in lines:
                name, _, value = line.partition(" ")
                if name == _FIELD:
                    return int(value)
        return None


def _counters(root: Path) -> list[Path]:
    found = []
    for line in _lines(root / "proc/self/cgroup"):
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            name = "memory.events"
        elif "memory" in controllers.split(","):
            name = "memory.oom_control"
        else:
            continue
        found += [folder / name for folder in _folders(root, controllers=controllers, path=path)]
    return found


def _folders(root: Path, *, controllers: str, path: str) -> list[Path]:
    found = []
    for line in _lines(root / "proc/self/mountinfo"):
        before, _, after = line.partition(" - ")
        top, mount = before.split(" ")[3:5]
        kind, _, options = after.split(" ")[:3]
        if kind == "cgroup2" if controllers == "" else kind == "cgroup" and "memory" in options.split(","):
            # A container sees its own cgroup as the mount's root, whatever the path says that the host knows it by.
            below = path[len(top) :] if top != "/" and (path + "/").startswith(top + "/") else path
            folder = root / mount.lstrip("/")
            own = folder / below.lstrip("/")
            found.append(folder if ".." in own.parts or not own.is_dir() else own)
    return found


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
