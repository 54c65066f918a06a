"""An Indexed Job of processes: what the Job controller does with pods, on a laptop.

Same words and rules as batch/v1: parallelism, a backoff limit per index, exit codes that are not retried or not
counted. Workers are in sessions of their own, so that a Ctrl-C in a terminal reaches the runner alone.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from shardwise_api.status import Failure
from shardwise_api.wire import Environment, ExitCode, Step, StepFailure
from shardwise_operator.core.conditions import shortened
from shardwise_operator.core.observed import FAILED_INDEXES, JobState, JobView
from shardwise_operator.core.retry_policy import UNCOUNTED, RetryPolicy

from .workdir import Workdir

BACKOFF_SECONDS = 0.1
LONGEST_BACKOFF_SECONDS = 5.0
"""Shorter than the Job controller's: there is no API server to spare, and a person waits."""
MAX_FAILURES = 10
KILL_SECONDS = 5.0
"""A killed process is gone in no time, unless it hangs in the kernel."""
WORKER = (sys.executable, "-P", "-m", "shardwise_jobs")
"""The folder it is started in is no place to import from: what lies there would stand in for modules."""


@dataclass(slots=True)
class _Index:
    """One completion index: how often it failed, and when it may run again."""

    failures: int = 0
    attempts: int = 0
    not_before: float = 0.0
    process: subprocess.Popen[bytes] | None = None
    told_to_end: bool = False


@dataclass(slots=True, kw_only=True)
class LocalJob:
    """The Job of one step."""

    step: Step
    completions: int
    parallelism: int
    rules: RetryPolicy
    workdir: Workdir
    document: Path
    environment: Mapping[str, str]
    command: Sequence[str] = WORKER
    backoff_seconds: float = BACKOFF_SECONDS
    failures: list[Failure] = field(default_factory=list)
    """The last few failed attempts, newest last."""
    _indexes: dict[int, _Index] = field(default_factory=dict)
    _waiting: list[int] = field(default_factory=list)
    _completed: set[int] = field(default_factory=set)
    _failed: set[int] = field(default_factory=set)
    _state: JobState = JobState.RUNNING
    _reason: str = ""
    _message: str = ""
    _started: datetime | None = None
    _ended: datetime | None = None

    def __post_init__(self) -> None:
        self._waiting = list(range(self.completions))

    def view(self) -> JobView:
        """Return what is to be seen of the Job."""
        return JobView(
            state=self._state,
            completions=self.completions,
            parallelism=self.parallelism,
            active=len(self._running()),
            running=frozenset(number for number, index in self._indexes.items() if index.process is not None),
            completed=frozenset(self._completed),
            failed=frozenset(self._failed),
            reason=self._reason,
            message=self._message,
            started=self._started,
            ended=self._ended,
        )

    def resume(self) -> None:
        """Go on after `suspend`."""
        if self._state is JobState.SUSPENDED:
            self._state = JobState.RUNNING

    def tick(self) -> None:
        """Reap what has ended, start what may run."""
        self._reap()
        if self._state is not JobState.RUNNING:
            return
        if self.rules.success_count is not None and len(self._completed) >= self.rules.success_count:
            # Complete when nobody works any more: the next step reads what they leave.
            self._signal(signal.SIGTERM)
            if not self._running():
                self._end(JobState.COMPLETE, reason="")
            return
        if len(self._completed) + len(self._failed) == self.completions:
            self._end(JobState.FAILED if self._failed else JobState.COMPLETE, reason=FAILED_INDEXES)
            return
        now = time.monotonic()
        free = self.parallelism - len(self._running())
        for index in [index for index in self._waiting if self._index(index).not_before <= now][: max(0, free)]:
            self._start(index)

    def suspend(self) -> None:
        """Ask all workers to end after their current block; completed indexes stay."""
        if self._state is JobState.RUNNING:
            self._state = JobState.SUSPENDED
            self._signal(signal.SIGTERM)

    def stop(self) -> None:
        """End the Job for good."""
        if self._state in (JobState.RUNNING, JobState.SUSPENDED):
            self._end(JobState.FAILED, reason="Stopped")
            self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """End all workers at once and see them gone; blocks that were not committed are worked again one day."""
        self._signal(signal.SIGKILL)
        for index in self._running():
            assert index.process is not None
            with suppress(subprocess.TimeoutExpired):
                index.process.wait(KILL_SECONDS)

    @property
    def alive(self) -> bool:
        """Whether any worker still runs."""
        self._reap()
        return bool(self._running())

    def pids(self) -> list[int]:
        """Return the process ids of the running workers."""
        return [index.process.pid for index in self._running() if index.process is not None]

    def _index(self, index: int) -> _Index:
        return self._indexes.setdefault(index, _Index())

    def _running(self) -> list[_Index]:
        return [index for index in self._indexes.values() if index.process is not None]

    def _start(self, number: int) -> None:
        index = self._index(number)
        index.attempts += 1
        index.told_to_end = False
        self._waiting.remove(number)
        self._started = self._started or datetime.now(UTC)
        message = self.workdir.termination_log(self.step, number)
        message.unlink(missing_ok=True)
        with self.workdir.log(self.step, number, index.attempts).open("ab") as log:
            index.process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={
                    **os.environ,
                    **self.environment,
                    Environment.RUN: str(self.document),
                    Environment.STEP: str(self.step),
                    Environment.SHARD: str(number),
                    Environment.TERMINATION_LOG: str(message),
                    Environment.PROGRESS: self.workdir.progress.absolute().as_uri(),
                    Environment.PARENT: str(os.getpid()),
                },
            )

    def _reap(self) -> None:
        for number, index in self._indexes.items():
            if index.process is None or (code := index.process.poll()) is None:
                continue
            index.process = None
            # In the words of a pod: the code of a process that a signal ended.
            self._ended_with(number, index, code if code >= 0 else 128 - code)

    def _ended_with(self, number: int, index: _Index, code: int) -> None:
        message = self._read_message(number)
        if code == ExitCode.DONE:
            self._completed.add(number)
            if not self._failed:
                self._message = message
            return
        self._waiting.append(number)
        self._waiting.sort()
        if index.told_to_end or self._state is JobState.FAILED:
            # A worker that was asked to stop has not failed, even if the Job goes on by now.
            return
        told = _told(message, code)
        failure = Failure(
            shard=number if self.step is Step.WORK else None,
            exit_code=code,
            reason=told.reason,
            message=shortened(told.message),
        )
        # At least the last one of each index: of a suite's scripts nobody else may know how they ended.
        self.failures = [*self.failures, failure][-max(MAX_FAILURES, self.completions) :]
        if code in self.rules.fail_job_codes:
            self._give_up(number, told)
            self._end(JobState.FAILED, reason="PodFailurePolicy" if self.step is Step.WORK else told.reason)
            self._signal(signal.SIGTERM)
            return
        if code not in UNCOUNTED:
            index.failures += 1
        if code in self.rules.fail_index_codes or index.failures > self.rules.per_index:
            self._give_up(number, told)
            if len(self._failed) > self.rules.max_failed:
                self._end(JobState.FAILED, reason="MaxFailedIndexesExceeded")
                self._signal(signal.SIGTERM)
            return
        index.not_before = time.monotonic() + self._pause(index.failures)

    def _pause(self, failures: int) -> float:
        if (wanted := self.rules.pause(failures)) is not None:
            return wanted
        delay = min(LONGEST_BACKOFF_SECONDS, self.backoff_seconds * 2 ** min(failures, 10))
        return random.uniform(delay / 2, delay)

    def _give_up(self, number: int, told: StepFailure) -> None:
        self._waiting.remove(number)
        self._failed.add(number)
        self._message = told.model_dump_json(by_alias=True)

    def _read_message(self, number: int) -> str:
        try:
            return self.workdir.termination_log(self.step, number).read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return ""

    def _end(self, state: JobState, *, reason: str) -> None:
        self._state = state
        self._reason = "" if state is JobState.COMPLETE else reason
        self._ended = datetime.now(UTC)

    def _signal(self, number: signal.Signals) -> None:
        for index in self._running():
            assert index.process is not None
            # One that ended by itself just before has its own reason.
            if index.process.poll() is None and not (index.told_to_end and number is signal.SIGTERM):
                index.told_to_end = True
                index.process.send_signal(number)


_SIGNALS: dict[int, str] = {
    int(number): number.name if isinstance(number, signal.Signals) else f"signal {number}"
    for number in signal.valid_signals()
}


def _told(message: str, code: int) -> StepFailure:
    if message:
        try:
            return StepFailure.model_validate_json(message)
        except ValueError:
            pass
    if code - 128 in _SIGNALS:
        return StepFailure(reason="Killed", message=f"the worker was ended by {_SIGNALS[code - 128]}")
    return StepFailure(reason="WorkerFailed", message=f"the worker left with exit code {code}; its log says more")
