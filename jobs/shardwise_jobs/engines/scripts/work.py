"""One attempt at one script of a frozen suite: what a worker does, and what it writes down before it leaves.

Attempts of an index follow each other in workers of their own, so that what is known of the earlier ones is on the
output: a record, and a log that all of them write to. How often an index is tried is for its Job to say.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

from shardwise.engine.errors import Interrupted, WorkError
from shardwise.engine.worker import Context
from shardwise_api.scripts import KILL_SECONDS, RECORD_SECONDS
from shardwise_api.wire import Environment, ExitCode, ItemCounts, ShardResult

from .discovery.frozen_list import FrozenJob, FrozenSuite, script_sha256
from .model.records import AttemptRecord, JobRecord, Status, record_of
from .model.validation_errors import InvalidSuite
from .running.attempt import Limits, run_attempt
from .running.logs import ScriptLog, echo
from .workspace import StoredRecord, Workspace

_MEANT_FOR_THE_JOB = frozenset({int(ExitCode.NO_SCRIPT), int(ExitCode.TEMPORARY), int(ExitCode.TERMINATED)})
"""What these say of a worker a script must not: such an end would use up all retries at once, or none, for ever."""
LOST = "WorkerLost"


class ScriptFailed(WorkError):
    """A script came to no good end; the worker leaves with the script's own exit code, as far as a Job may see it."""

    reason = "ScriptFailed"

    def __init__(self, record: JobRecord) -> None:
        super().__init__(f"{record.id}: {record.error or 'failed'}")
        self.exit_code = _seen_by_the_job(record.exit_code)
        self.reason = record.reason or self.reason


class ScriptNotFound(WorkError):
    """There is nothing to start, so the command line tries it only once: nor is this index tried again."""

    exit_code = ExitCode.NO_SCRIPT
    reason = "ScriptNotFound"


def _seen_by_the_job(code: int | None) -> int:
    return int(ExitCode.FAILED) if not code or code in _MEANT_FOR_THE_JOB else code


@dataclass(frozen=True, slots=True, kw_only=True)
class _Index:
    """An index, its script, and what earlier attempts left."""

    number: int
    job: FrozenJob
    command: list[str]
    attempts: tuple[AttemptRecord, ...]
    warnings: tuple[str, ...]
    log_path: str | None

    def stored(self, record: JobRecord) -> StoredRecord:
        """Return a record as it is stored."""
        return StoredRecord(index=self.number, record=record, warnings=self.warnings)


def work(workspace: Workspace, *, suite: FrozenSuite, shard: int, context: Context) -> ShardResult:
    """Run the script of an index once, unless it has succeeded before.

    Raises:
        ScriptFailed: it failed.
        ScriptNotFound: it isn't there, or can't be read.
        Interrupted: the run was, and the script with it.
    """
    started = time.monotonic()
    context.stop.allow(workspace.options.grace_seconds + KILL_SECONDS + RECORD_SECONDS / 2)
    known = workspace.stored(shard)
    if known is not None and known.record.status is Status.SUCCESS:
        return _result(shard, started)
    if context.stop.is_set:
        workspace.publish(suite, stop=context.stop)
    context.stop.check()
    context.progress.send(ItemCounts(), total=1, message=suite.job(shard).id)
    index = _index(workspace, suite=suite, number=shard, known=known)
    problem = _problem(workspace, index.job)
    record = _attempt(workspace, index, context=context) if problem is None else _refused(index, problem)
    workspace.store(index.stored(record))
    workspace.publish(suite, stop=context.stop)
    good = record.status is Status.SUCCESS
    counts = ItemCounts(done=1) if good else ItemCounts(failed=1)
    if record.status is Status.INTERRUPTED:
        raise Interrupted(f"{record.id}: {record.error}")
    context.progress.send(counts, total=1, message=record.id, last=True)
    if problem is not None:
        raise ScriptNotFound(f"{record.id}: {problem}")
    if not good:
        raise ScriptFailed(record)
    return _result(shard, started)


def _result(shard: int, started: float) -> ShardResult:
    return ShardResult(shard=shard, items=ItemCounts(done=1), seconds=round(time.monotonic() - started, 3))


def _index(workspace: Workspace, *, suite: FrozenSuite, number: int, known: StoredRecord | None) -> _Index:
    job = suite.job(number)
    warnings = () if known is None else known.warnings
    changed = _changed(workspace, job)
    return _Index(
        number=number,
        job=job,
        command=workspace.command(job),
        attempts=() if known is None else ended(known.record.attempts_detail),
        warnings=warnings if changed is None or changed in warnings else (*warnings, changed),
        log_path=None if known is None else known.record.log_path,
    )


def ended(attempts: tuple[AttemptRecord, ...]) -> tuple[AttemptRecord, ...]:
    """Return attempts of which none goes on: of one whose worker was killed nobody has written the end."""
    return tuple(
        attempt.model_copy(
            update={
                "status": Status.ERROR,
                "reason": LOST,
                "error": "The worker was ended before it could say how the script ended",
            }
        )
        if attempt.status is Status.RUNNING
        else attempt
        for attempt in attempts
    )


def _changed(workspace: Workspace, job: FrozenJob) -> str | None:
    """Return a warning when a script is not what it was when the list was frozen."""
    try:
        now = script_sha256(workspace.tree, job.script)
    except InvalidSuite:
        return None
    if now is None or now == job.script_sha256:
        return None
    then = "not there" if job.script_sha256 is None else f"sha256 {job.script_sha256[:12]}…"
    return f"{job.script} has changed since the list was frozen ({then} then, sha256 {now[:12]}… now) and ran as it is"


def _refused(index: _Index, problem: str) -> JobRecord:
    record = record_of(
        index.job,
        command=index.command,
        attempts=index.attempts,
        status=Status.FAILED,
        error=problem,
        log_path=index.log_path,
    )
    return record.model_copy(update={"exit_code": None, "reason": None})


def _attempt(workspace: Workspace, index: _Index, *, context: Context) -> JobRecord:
    try:
        if index.job.use_output_dir:
            (workspace.outputs / index.job.output).mkdir(parents=True, exist_ok=True)
        with _log(workspace, index) as log:
            attempt = _run(workspace, index, log=log, context=context)
            return record_of(
                index.job,
                command=index.command,
                attempts=(*index.attempts, attempt),
                log_path=_relative(workspace, log.path),
                log_sha256=log.digest,
            )
    except OSError as error:
        # A full volume, most likely: of this worker, not of the script.
        return record_of(
            index.job,
            command=index.command,
            attempts=index.attempts,
            status=Status.ERROR,
            error=f"{type(error).__name__}: {error}",
            log_path=index.log_path,
        )


def _run(workspace: Workspace, index: _Index, *, log: ScriptLog, context: Context) -> AttemptRecord:
    log.begin(index.command)
    number, pod, node = len(index.attempts) + 1, os.environ.get("POD_NAME"), os.environ.get(Environment.NODE)
    begun = AttemptRecord(number=number, status=Status.RUNNING, pod=pod, node=node)
    record = record_of(
        index.job, command=index.command, attempts=(*index.attempts, begun), log_path=_relative(workspace, log.path)
    )
    workspace.store(index.stored(record))
    lines = echo()

    def output(chunk: bytes) -> None:
        log.write(chunk)
        lines.write(chunk)

    attempt = run_attempt(
        index.command,
        number=number,
        cwd=workspace.tree,
        env=_environment(),
        output=output,
        limits=Limits(
            timeout_seconds=workspace.options.timeout_seconds,
            grace_seconds=workspace.options.grace_seconds,
            kill_seconds=KILL_SECONDS,
        ),
        stop=context.stop,
        pod=pod,
        node=node,
    )
    lines.close()
    return attempt


def _problem(workspace: Workspace, job: FrozenJob) -> str | None:
    try:
        return f"Script not found: {job.script}" if script_sha256(workspace.tree, job.script) is None else None
    except InvalidSuite as error:
        return str(error)


def _environment() -> dict[str, str]:
    """Return what a script gets: nothing of what was meant for its worker."""
    ours = frozenset(map(str, Environment))
    # What a script prints is seen when it prints it, and a kill loses none of it.
    return {"PYTHONUNBUFFERED": "1", **{name: value for name, value in os.environ.items() if name not in ours}}


def _relative(workspace: Workspace, path: Path) -> str:
    return str(path.relative_to(workspace.output))


def _log(workspace: Workspace, index: _Index) -> ScriptLog:
    if index.log_path is None or not (workspace.output / index.log_path).exists():
        return ScriptLog.new(workspace.logs, id=index.job.id)
    return ScriptLog.continued(workspace.output / index.log_path)
