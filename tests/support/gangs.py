"""Workers of a gang as processes of their own, and a look at everything that they start."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from .leash import leashed
from .ranks import FOLDER, STEPS, TROUBLE, Left, Summed

ROOT = Path(__file__).parents[2]
TOKEN = "the run's token"
FOR_EVER = 10**9
LIMIT_SECONDS = 30.0
"""Within which a lost rank is known to everybody here. Promised are 10 where ranks have their cores (docs/mpi.md)."""


def until(condition: Callable[[], bool], *, seconds: float = 60) -> None:
    """Return when the condition holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.02)


@dataclass(slots=True, kw_only=True)
class Worker:
    """A worker that was started."""

    process: subprocess.Popen[str]
    name: str
    folder: Path
    tree: dict[int, psutil.Process] = field(default_factory=dict)
    """Every process seen below it."""

    def look(self) -> None:
        """Remember the processes below it."""
        try:
            for found in psutil.Process(self.process.pid).children(recursive=True):
                self.tree[found.pid] = found
        except psutil.NoSuchProcess:
            pass

    def left(self, *, seconds: float = 60) -> Left:
        """Wait for its end and return what it left; nothing that it started is there any more."""
        self.process.wait(timeout=seconds)
        self.nothing_is_left()
        return Left.model_validate_json((self.folder / f"left-{self.name}").read_bytes())

    def result(self) -> Summed:
        """Wait for its end, which is a good one."""
        left = self.left()
        assert left.code == self.process.returncode == 0, (left, self.log)
        assert left.result is not None
        return Summed.model_validate_json(left.result)

    def failure(self, *, seconds: float = 60) -> tuple[int, str, str]:
        """Wait for its end, which is none; return exit code, reason and message."""
        left = self.left(seconds=seconds)
        assert left.failure is not None, self.log
        assert left.code == self.process.returncode
        return left.code, left.failure.reason, left.failure.message

    def nothing_is_left(self) -> None:
        """Fail when a process that it started is still there."""
        until(lambda: not [one for one in self.tree.values() if _alive(one)], seconds=LIMIT_SECONDS)

    @property
    def log(self) -> str:
        """What it has said so far."""
        return (self.folder / f"log-{self.name}").read_text(errors="replace")


@dataclass(slots=True, kw_only=True)
class Gang:
    """The workers of one run."""

    folder: Path
    rendezvous: str = ""
    workers: list[Worker] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.rendezvous = self.rendezvous or f"file://{self.folder}/rendezvous"

    def start(self, rank: int, *, size: int, steps: int = 20, trouble: str | None = None, token: str = TOKEN) -> Worker:
        """Start the worker of a rank."""
        name = f"w{len(self.workers)}"
        environment = {
            **os.environ,
            FOLDER: str(self.folder),
            STEPS: str(steps),
            "TEST_SIZE": str(size),
            "TEST_TOKEN": token,
            "SHARDWISE_RENDEZVOUS": self.rendezvous,
            "JOB_COMPLETION_INDEX": str(rank),
            "POD_NAME": name,
            **({} if trouble is None else {TROUBLE: trouble}),
        }
        with (self.folder / f"log-{name}").open("wb") as log:
            process = subprocess.Popen(
                leashed(sys.executable, "-m", "tests.support.ranks", "worker"),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=ROOT,
                env=environment,
                text=True,
            )
        worker = Worker(process=process, name=name, folder=self.folder)
        self.workers.append(worker)
        return worker

    def start_all(self, size: int, *, steps: int = 20) -> list[Worker]:
        """Start the workers of all ranks."""
        return [self.start(rank, size=size, steps=steps) for rank in range(size)]

    def train(self, size: int) -> list[Worker]:
        """Start the workers of all ranks, for ever, and return when each has made a step."""
        workers = self.start_all(size, steps=FOR_EVER)
        until(lambda: all(self.pid(rank) for rank in range(size)))
        for worker in workers:
            worker.look()
        return workers

    def pid(self, rank: int) -> int | None:
        """Return the process id of a rank's process, once it has made a step."""
        try:
            return int((self.folder / f"pid-{rank}").read_text() or 0) or None
        except FileNotFoundError:
            return None

    def waited(self, worker: Worker) -> list[str]:
        """Return what a worker was told of the ranks that are awaited."""
        try:
            return (self.folder / f"waited-{worker.name}").read_text().split("\n")
        except FileNotFoundError:
            return []

    def clear(self) -> None:
        """End whatever a failed test has left."""
        for worker in self.workers:
            worker.look()
            if worker.process.poll() is None:
                worker.process.send_signal(signal.SIGCONT)
                worker.process.kill()
                worker.process.wait()
            for found in worker.tree.values():
                if _alive(found):
                    found.kill()


def _alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
