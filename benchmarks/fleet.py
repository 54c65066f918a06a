"""Real worker processes that start their work at one moment, and a clock from that moment to the last one's end."""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from shardwise_api.wire import Environment, RunDocument, Step

from . import worker

_STOP_SECONDS = 10
_TICK_SECONDS = 0.1


class WorkerFailed(Exception):
    """A worker ended before it had told its result."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Worked:
    """What a fleet did."""

    seconds: float
    """From the word to begin until the last worker told its result."""
    startup_seconds: float
    """From the first process's start until all were ready to begin."""
    done: int
    """Samples learned."""
    calls: dict[str, int]
    """What transport Rest took, over all workers."""
    cpu_seconds: float
    """What the workers computed in that time; on a busy machine it says more than the clock."""
    sum_of_peak_rss_bytes: int
    """Each worker's own highest resident size, added up: more than they ever had at one moment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Worker:
    process: subprocess.Popen[str]
    log: Path

    def line(self) -> str:
        """Read a line that is there, or about to be."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline().strip()
        if not line:
            code = self.process.wait()
            raise WorkerFailed(f"a worker ended with {code}: {self.log.read_text(encoding='utf-8')[-2000:]}")
        return line


def work(
    *,
    document: RunDocument,
    folder: Path,
    workers: int,
    options: Sequence[str] = (),
    on_tick: Callable[[list[int]], None] | None = None,
) -> Worked:
    """Work a prepared run with one process per shard; `on_tick` gets their process ids ten times a second.

    Raises:
        WorkerFailed: with the end of the worker's log.
    """
    path = folder / "run.json"
    path.write_text(document.model_dump_json(by_alias=True, exclude_none=True), encoding="utf-8")
    with ExitStack() as stack:
        started = time.perf_counter()
        fleet = [
            stack.enter_context(_worker(document=path, folder=folder, shard=shard, options=options))
            for shard in range(workers)
        ]
        for one in fleet:
            if (line := one.line()) != worker.READY:
                raise WorkerFailed(f"a worker said {line!r} instead of {worker.READY!r}")
        begun = time.perf_counter()
        for one in fleet:
            assert one.process.stdin is not None
            one.process.stdin.write(f"{worker.GO}\n")
            one.process.stdin.flush()
        results = [json.loads(line) for line in _results(fleet, on_tick=on_tick)]
        seconds = time.perf_counter() - begun
        for one in fleet:
            if one.process.wait(timeout=_STOP_SECONDS):
                one.line()
    kinds = {kind for result in results for kind in result["calls"]}
    return Worked(
        seconds=seconds,
        startup_seconds=begun - started,
        done=sum(result["done"] for result in results),
        calls={kind: sum(result["calls"][kind] for result in results) for kind in sorted(kinds)},
        cpu_seconds=sum(result["cpu_seconds"] for result in results),
        sum_of_peak_rss_bytes=sum(result["peak_rss_bytes"] for result in results),
    )


def _results(fleet: Sequence[_Worker], *, on_tick: Callable[[list[int]], None] | None) -> list[str]:
    pids = [one.process.pid for one in fleet]
    lines = []
    with selectors.DefaultSelector() as selector:
        for one in fleet:
            assert one.process.stdout is not None
            selector.register(one.process.stdout, selectors.EVENT_READ, one)
        while selector.get_map():
            for key, _ in selector.select(None if on_tick is None else _TICK_SECONDS):
                selector.unregister(key.fileobj)
                lines.append(key.data.line())
            if on_tick is not None:
                on_tick(pids)
    return lines


@contextmanager
def _worker(*, document: Path, folder: Path, shard: int, options: Sequence[str]) -> Iterator[_Worker]:
    log = folder / f"worker-{shard}.log"
    environment = {
        **os.environ,
        # As the local runner sets them: the shards are the parallelism.
        "OMP_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
        Environment.RUN: str(document),
        Environment.STEP: Step.WORK,
        Environment.SHARD: str(shard),
        Environment.OUTPUT: (folder / "output").as_uri(),
        Environment.PROGRESS: (folder / "progress").as_uri(),
        Environment.TERMINATION_LOG: str(folder / f"result-{shard}.json"),
        Environment.PARENT: str(os.getpid()),
    }
    with (
        log.open("w", encoding="utf-8") as stream,
        subprocess.Popen(
            [sys.executable, "-m", worker.__name__, *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stream,
            text=True,
            env=environment,
        ) as process,
    ):
        try:
            yield _Worker(process=process, log=log)
        finally:
            _end(process)


def _end(process: subprocess.Popen[str]) -> None:
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(timeout=_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
