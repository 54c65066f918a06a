"""Local Jobs of small scripts: what a test needs to have one worked on, and to wait for what it does."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from shardwise_api.common import Retry
from shardwise_api.wire import Step
from shardwise_cli.local.jobs import LocalJob
from shardwise_cli.local.workdir import Workdir
from shardwise_operator.core.observed import JobState
from shardwise_operator.core.retry_policy import RetryPolicy

PRELUDE = """
import os, pathlib, signal, sys, time
shard = int(os.environ["JOB_COMPLETION_INDEX"])
folder = pathlib.Path(os.environ["TEST_FOLDER"])
def attempt():
    mark = folder / f"attempts-{shard}"
    with mark.open("a") as stream: stream.write("x")
    return len(mark.read_text())
def tell(text): pathlib.Path(os.environ["SHARDWISE_TERMINATION_LOG"]).write_text(text)
def note(name):
    part = folder / f".{name}-{shard}"
    part.write_text(str(os.getpid()))
    part.rename(folder / f"{name}-{shard}")
def wait_for(name):
    while not (folder / name).exists(): time.sleep(0.005)
"""
PATIENT_SECONDS = 20.0


def rules_of(retry: Retry) -> RetryPolicy:
    """The rules of shards with a manifest's `retry`."""
    final = frozenset(retry.non_retriable_exit_codes)
    return RetryPolicy(per_index=retry.per_shard, max_failed=retry.max_failed_shards, fail_job_codes=final)


class Jobs:
    """Makes Jobs in a folder, and leaves no process behind."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.made: list[LocalJob] = []

    def __call__(self, script: str, *, step: Step = Step.WORK, completions: int = 1, **fields: Any) -> LocalJob:
        path = self.folder / f"script-{len(self.made)}.py"
        path.write_text(PRELUDE + script)
        job = LocalJob(
            step=step,
            completions=completions,
            parallelism=fields.pop("parallelism", completions),
            rules=fields.pop("rules", None) or rules_of(fields.pop("retry", Retry(per_shard=3))),
            workdir=Workdir(self.folder),
            document=self.folder / "work.json",
            environment={"TEST_FOLDER": str(self.folder)},
            command=(sys.executable, "-I", "-S", str(path)),
            backoff_seconds=fields.pop("backoff_seconds", 0.001),
            **fields,
        )
        self.made.append(job)
        return job

    def attempts(self, shard: int = 0) -> int:
        mark = self.folder / f"attempts-{shard}"
        return len(mark.read_text()) if mark.exists() else 0


GRACEFUL = """
stopping = []
signal.signal(signal.SIGTERM, lambda *_: stopping.append(1))
n = attempt()
note('started')
while not stopping and not (folder / 'go').exists(): time.sleep(0.005)
if stopping:
    note('stopped')
    while (folder / 'hold').exists(): time.sleep(0.005)
    sys.exit(143)
"""


@contextmanager
def jobs_in(folder: Path) -> Iterator[Jobs]:
    """Yield a maker of Jobs, of which none outlives the block."""
    made = Jobs(folder)
    yield made
    for job in made.made:
        job.kill()
        assert not job.alive


def until(job: LocalJob, happened: Callable[[], bool], *, each: Callable[[], None] = lambda: None) -> None:
    end = time.monotonic() + PATIENT_SECONDS
    while not happened():
        assert time.monotonic() < end, f"waited in vain; the Job is {job.view()}, failures {job.failures}"
        job.tick()
        each()
        time.sleep(0.003)


def over(job: LocalJob) -> bool:
    return job.view().state in (JobState.COMPLETE, JobState.FAILED)


def to_the_end(job: LocalJob) -> None:
    until(job, lambda: over(job))


def exists(jobs: Jobs, *names: str) -> Callable[[], bool]:
    return lambda: all((jobs.folder / name).exists() for name in names)
