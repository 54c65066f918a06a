"""Runs the selected jobs, one by one or several at a time; each gets its attempts and its log, and none stops another.

What became of them is kept in selection order, and told at every change, so that a kill leaves a summary of all until
then.
"""

from __future__ import annotations

import json
import os
import resource
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from shardwise_api.scripts import KILL_SECONDS

from ..model.command import command_of
from ..model.job import SuiteJob
from ..model.options import SuiteOptions
from ..model.records import FAILURES, AttemptRecord, JobRecord, Status, record_of
from ..model.validation_errors import InvalidSuite
from .attempt import Limits, run_attempt
from .interrupt import Interrupt
from .logs import Lines, ScriptLog, log

_POLL_SECONDS = 0.1
_PUBLISH_SECONDS = 0.5
"""Between two summaries: of two hundred quick scripts each would else be written two hundred times."""
_LAST_SECONDS = 2.0
"""For killed scripts to be waited for, after a second signal; then the run ends without."""


class RunListener(Protocol):
    """Whoever wants to know what goes on; called from many threads."""

    def changed(self, record: JobRecord) -> None:
        """Hear of a job whose status is another now, or that begins another attempt."""

    def line(self, id: str, line: bytes) -> None:
        """Hear what a job printed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """What is to be run, and where."""

    tree: Path
    """Scripts are relative to it and run in it."""
    jobs: tuple[SuiteJob, ...]
    options: SuiteOptions
    interpreter: str
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    kill_seconds: float = KILL_SECONDS

    @property
    def outputs(self) -> Path:
        """The folder below which every job has its own."""
        return self.tree / self.options.base_output_dir

    @property
    def logs(self) -> Path:
        """The folder of logs."""
        return self.tree / self.options.logs_dir

    @property
    def summaries(self) -> Path:
        """The folder of summaries."""
        return self.tree / self.options.summary_dir

    def command(self, job: SuiteJob) -> list[str]:
        """Return a job's command line."""
        return command_of(job, options=self.options, interpreter=self.interpreter, output_base=str(self.outputs))


class Runner:
    """One run of a suite."""

    def __init__(
        self,
        suite: Suite,
        *,
        interrupt: Interrupt,
        listener: RunListener,
        publish: Callable[[Sequence[JobRecord]], object] = lambda records: None,
    ) -> None:
        """`publish` is called on the caller's thread with all records, in selection order, after jobs have ended.

        Raises:
            InvalidSuite: so many scripts at once need more open files than this process may have.
        """
        if not suite.options.dry_run:
            require_room(suite.options.workers(len(suite.jobs)))
        self._suite, self._interrupt, self._listener, self._publish = suite, interrupt, listener, publish
        self._records = {job.id: record_of(job, command=suite.command(job)) for job in suite.jobs}
        self._limits = Limits(
            timeout_seconds=suite.options.timeout_seconds,
            grace_seconds=suite.options.grace_seconds,
            kill_seconds=suite.kill_seconds,
        )
        # What a script prints is seen when it prints it, and a kill loses none of it.
        self._environment = {"PYTHONUNBUFFERED": "1", **suite.environment}

    @property
    def records(self) -> list[JobRecord]:
        """All jobs' records as they are now, in selection order."""
        return list(self._records.values())

    def run(self) -> list[JobRecord]:
        """Run all jobs to their end, or to the interrupt's, and return their records in selection order."""
        workers = self._suite.options.workers(len(self._suite.jobs))
        if self._suite.options.dry_run:
            return self._run_all(workers)
        with room_for(workers) as for_scripts:
            self._limits = replace(self._limits, open_files=for_scripts)
            return self._run_all(workers)

    def _run_all(self, workers: int) -> list[JobRecord]:
        self._publish(self.records)
        options = self._suite.options
        jobs: Sequence[SuiteJob] = self._suite.jobs
        if workers > 1:
            jobs = longest_first(jobs, seconds=known_seconds(self._suite.summaries))
        pool = ThreadPoolExecutor(max_workers=workers, thread_name_prefix="worker")
        pending: set[Future[None]] = {pool.submit(self._run, job) for job in jobs}
        announced, given_up_at = 0, float("inf")
        news, next_at = 0, time.monotonic()
        while pending and time.monotonic() < given_up_at:
            done, pending = wait(pending, timeout=_POLL_SECONDS, return_when=FIRST_COMPLETED)
            news += len(done)
            if news and time.monotonic() >= next_at:
                self._publish(self.records)
                news, next_at = 0, time.monotonic() + _PUBLISH_SECONDS
            if self._interrupt.is_set and announced == 0:
                announced = 1
                log.warning(
                    "Interrupted: nothing more is started; what runs has %g s to end. Again: end at once.",
                    options.grace_seconds,
                )
            if self._interrupt.at_once and announced == 1:
                announced, given_up_at = 2, time.monotonic() + _LAST_SECONDS
                log.warning("Interrupted again: everything is ended now.")
        pool.shutdown(wait=not pending, cancel_futures=True)
        if pending:
            for job in self._suite.jobs:
                if self._records[job.id].status in (Status.PENDING, Status.RUNNING):
                    self._end(job, status=Status.INTERRUPTED, error="Stopped: the run was interrupted")
        self._publish(self.records)
        return self.records

    def _run(self, job: SuiteJob) -> None:
        try:
            self._run_attempts(job)
        except Exception as error:
            # Of the runner, not of the script: it must not be lost, and the other jobs go on.
            log.error("%s: %s: %s", job.id, type(error).__name__, error, exc_info=not isinstance(error, OSError))
            before = self._records[job.id]
            record = record_of(
                job,
                command=before.command,
                attempts=before.attempts_detail,
                status=Status.ERROR,
                error=f"{type(error).__name__}: {error}",
                log_path=before.log_path,
            )
            self._tell(record)

    def _run_attempts(self, job: SuiteJob) -> None:
        suite, options = self._suite, self._suite.options
        if problem := _problem_of(suite.tree / job.script):
            self._end(job, status=Status.FAILED, error=problem)
            return
        if options.dry_run:
            self._end(job, status=Status.SKIPPED)
            return
        if self._interrupt.is_set:
            self._end(job, status=Status.INTERRUPTED, error="Not started: the run was interrupted")
            return
        if job.use_output_dir:
            (suite.outputs / job.output).mkdir(parents=True, exist_ok=True)
        with ScriptLog.new(suite.logs, id=job.id) as script_log:
            log_path = _relative(script_log.path, to=suite.tree)
            attempts, status = self._attempts(job, script_log=script_log, log_path=log_path)
            digest = script_log.digest
        command = suite.command(job)
        record = record_of(job, command=command, attempts=attempts, status=status, log_path=log_path, log_sha256=digest)
        self._tell(record)

    def _attempts(
        self, job: SuiteJob, *, script_log: ScriptLog, log_path: str
    ) -> tuple[list[AttemptRecord], Status | None]:
        """Try a job until that's enough; the status is None when it is that of the last attempt."""
        suite, retries = self._suite, self._suite.options.retries
        command = suite.command(job)
        lines = Lines(lambda line: self._listener.line(job.id, line))

        def output(chunk: bytes) -> None:
            script_log.write(chunk)
            lines.write(chunk)

        attempts: list[AttemptRecord] = []
        while True:
            script_log.begin(command)
            running = record_of(job, command=command, attempts=attempts, status=Status.RUNNING, log_path=log_path)
            self._tell(running.model_copy(update={"attempts": len(attempts) + 1}))
            attempt = run_attempt(
                command,
                number=len(attempts) + 1,
                cwd=suite.tree,
                env=self._environment,
                output=output,
                limits=self._limits,
                stop=self._interrupt,
                at_once=lambda: self._interrupt.at_once,
            )
            lines.close()
            attempts.append(attempt)
            if attempt.status not in FAILURES or len(attempts) > retries:
                return attempts, None
            delay = suite.options.delay_after(len(attempts))
            told = (job.id, len(attempts), retries + 1, attempt.error, delay)
            log.warning("%s: attempt %d of %d: %s; again in %g s", *told)
            if self._interrupt.pause(delay):
                return attempts, Status.INTERRUPTED

    def _end(self, job: SuiteJob, *, status: Status, error: str | None = None) -> None:
        before = self._records[job.id]
        record = record_of(
            job, command=before.command, attempts=before.attempts_detail, status=status, error=error,
            log_path=before.log_path,
        )  # fmt: skip
        self._tell(record)

    def _tell(self, record: JobRecord) -> None:
        self._records[record.id] = record
        self._listener.changed(record)


def _problem_of(script: Path) -> str | None:
    try:
        with script.open("rb"):
            return None
    except FileNotFoundError:
        return f"Script not found: {script}"
    except OSError as error:
        return f"Script can't be read: {script}: {error.strerror or error}"


def _relative(path: Path, *, to: Path) -> str:
    return str(path.relative_to(to) if path.is_relative_to(to) else path)


_SUMMARIES = "training_summary_*.json"
_NEWEST = 20
"""Summaries that are looked at; a job that is in none of them counts as unknown."""


def longest_first(jobs: Sequence[SuiteJob], *, seconds: Mapping[str, float]) -> list[SuiteJob]:
    """Return jobs by falling duration, so that none of the long ones is left for the end.

    Those that are equally long, or all unknown, stay as they were. What was never seen to end comes first: it may be
    the longest.
    """
    return sorted(jobs, key=lambda job: -seconds.get(job.id, float("inf")))


def known_seconds(summaries: Path) -> dict[str, float]:
    """Return how long each job took when it last succeeded, by id, as the summaries in a folder say."""
    found: dict[str, float] = {}
    # Their names begin with the time, so they sort by it.
    for path in sorted(summaries.glob(_SUMMARIES), reverse=True)[:_NEWEST]:
        for job in _jobs(path):
            if job.get("status") == Status.SUCCESS and isinstance(job.get("duration_sec"), int | float):
                found.setdefault(str(job.get("id")), float(job["duration_sec"]))
    return found


def _jobs(path: Path) -> list[dict[str, Any]]:
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError):
        # Not ours, or somebody's edit: an order is no reason to fail.
        return []
    jobs = content.get("jobs") if isinstance(content, dict) else None
    return [job for job in jobs if isinstance(job, dict)] if isinstance(jobs, list) else []


PER_SCRIPT = 12
"""Three pipes, the log, and what it takes to start a process."""
BESIDE = 32
"""For summaries, the board, and what is looked at on the way."""


@contextmanager
def room_for(scripts: int) -> Iterator[int | None]:
    """Allow this process as many open files as so many scripts at once need, until the block ends.

    What a shell allows (often 1024, sometimes 64) is for a program to raise as far as its hard limit goes. Scripts get
    what the shell allowed, as programs exist that look at every number below the limit.

    Yields how many a script may have, None where nothing had to be raised.

    Raises:
        InvalidSuite: see `require_room`.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = require_room(scripts)
    if soft == resource.RLIM_INFINITY or needed <= soft:
        yield None
        return
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
    try:
        yield soft
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def require_room(scripts: int) -> int:
    """Return how many files this process has open when it runs so many scripts at once.

    Raises:
        InvalidSuite: it may not have as many.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    base = len([*Path("/proc/self/fd").iterdir()]) + BESIDE
    needed = base + scripts * PER_SCRIPT
    if hard != resource.RLIM_INFINITY and needed > hard:
        fit = max(0, hard - base) // PER_SCRIPT
        way_out = f"ask for {fit}, or raise it" if fit else "raise it"
        raise InvalidSuite(
            f"max_workers: {scripts} scripts at once need up to {needed} open files, and the hard limit is {hard} "
            f"(ulimit -Hn): {way_out}"
        )
    return needed
