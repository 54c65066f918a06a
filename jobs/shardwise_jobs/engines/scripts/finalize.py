"""The end of a suite: every script's record, what became of those that left none, and whether the suite is well.

A script that failed does not fail this step: it is what the suite was run to find out. The runner reads the verdict.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from shardwise_api import indexes
from shardwise_api.wire import (
    MAX_SUITE_JOBS,
    MAX_TERMINATION_MESSAGE_BYTES,
    ItemCounts,
    Metric,
    RunResult,
    SuiteCounts,
    SuiteResult,
    WorkerExit,
    WorkResult,
)

from .discovery.frozen_list import FrozenSuite, script_sha256
from .model.records import FAILURES, FINE, AttemptRecord, JobRecord, Status, counts_of, exit_status_of, record_of
from .work import LOST, ended
from .workspace import StoredRecord, Workspace

MAX_WARNINGS = 10
MAX_WARNING_CHARACTERS = 160
NAMED = 5
"""So many failed scripts are named in a message."""
_KILLED = 137
_OOM_KILLED = "OOMKilled"


def finalize(workspace: Workspace, *, suite: FrozenSuite, worked: WorkResult | None) -> RunResult:
    """Write the summary and return what the suite came to. Safe to repeat."""
    stored = workspace.all_stored(suite)
    if workspace.options.dry_run:
        records = [_skipped(workspace, suite, one) for one in stored]
    else:
        ends = {end.shard: end for end in worked.ends} if worked else {}
        failed = frozenset(indexes.from_text(worked.failed_shards)) if worked else frozenset[int]()
        records = [_at_its_end(one, end=ends.get(one.index), failed=one.index in failed) for one in stored]
    interrupted = any(record.status is Status.INTERRUPTED for record in records)
    exit_status = exit_status_of(
        records, options=workspace.options, interrupted=interrupted, nothing_discovered=suite.nothing_discovered
    )
    warnings = workspace.warnings(suite, stored)
    if not records:
        warnings.append("nothing was selected, so nothing ran")
    summary, uri = workspace.sum_up(records, exit_status=exit_status, warnings=warnings)
    counts = counts_of(records)
    suite_result = SuiteResult(
        exit_status=int(exit_status),
        message=_message(records, exit_status=int(exit_status)),
        counts=SuiteCounts(total=len(records), **counts),
        jobs=[_line(record) for record in records[:MAX_SUITE_JOBS]],
    )
    return _fitting(
        RunResult(
            digest=summary["digest"],
            uri=uri,
            items=ItemCounts(
                done=counts["success"], failed=counts["failed"], skipped=counts["skipped"] + counts["interrupted"]
            ),
            metrics=_metrics(summary, worked),
            summary={"exitStatus": int(exit_status), **counts},
            suite=suite_result,
            warnings=[warning[:MAX_WARNING_CHARACTERS] for warning in warnings[:MAX_WARNINGS]],
        )
    )


def _skipped(workspace: Workspace, suite: FrozenSuite, stored: StoredRecord) -> JobRecord:
    job, command = suite.jobs[stored.index], stored.record.command
    if script_sha256(workspace.tree, job.script) is None:
        return record_of(job, command=command, status=Status.FAILED, error=f"Script not found: {job.script}")
    return record_of(job, command=command, status=Status.SKIPPED)


def _at_its_end(stored: StoredRecord, *, end: WorkerExit | None, failed: bool) -> JobRecord:
    """Return a record that says how a script ended: its worker's, or for one that was killed the runner's words."""
    record = stored.record
    if record.status in FINE or record.status in FAILURES or (record.status is Status.INTERRUPTED and not failed):
        return record
    attempts = ended(record.attempts_detail)
    if end is None:
        error = "The worker was ended and left no word, nor did whoever ran it"
        lost = AttemptRecord(number=max(1, len(attempts)), status=Status.ERROR, reason=LOST, error=error)
    else:
        lost = AttemptRecord(
            number=max(1, len(attempts)),
            status=Status.FAILED,
            exit_code=end.exit_code,
            reason=end.reason,
            error=_words(end),
        )
    if attempts:
        told = {"status", "exit_code", "reason", "error"}
        lost = attempts[-1].model_copy(update=lost.model_dump(include=told))
    attempts = (*attempts[:-1], lost)
    last = {name: getattr(lost, name) for name in ("status", "exit_code", "reason", "error", "pod", "node")}
    return record.model_copy(update={**last, "attempts": len(attempts), "attempts_detail": attempts})


def _words(end: WorkerExit) -> str:
    code = "" if end.exit_code is None else f" (exit code {end.exit_code})"
    if end.reason == _OOM_KILLED:
        return f"Killed by the kernel: out of memory{code}"
    return f"{end.reason}{code}{f': {end.message}' if end.message else ''}"


def _message(records: Sequence[JobRecord], *, exit_status: int) -> str:
    """Return why a suite is not well, in few words."""
    if exit_status == 0:
        return ""
    mandatory = [record for record in records if not record.optional]
    bad = [record for record in mandatory if record.status not in FINE]
    named = ", ".join(f"{record.id} ({_why(record)})" for record in bad[:NAMED])
    more = f" and {len(bad) - NAMED} more" if len(bad) > NAMED else ""
    return f"{len(bad)} of {len(mandatory)} mandatory jobs did not succeed: {named}{more}"[:600]


def _why(record: JobRecord) -> str:
    if record.reason:
        return record.reason
    return f"exit code {record.exit_code}" if record.exit_code is not None else str(record.status)


def _metrics(summary: Mapping[str, Any], worked: WorkResult | None) -> list[Metric]:
    found = {"wall_speedup": summary["wall_speedup"]}
    if worked is not None:
        found |= {"total_time_seconds": worked.seconds, "num_workers": worked.workers}
    return [Metric(name=name, value=round(value, 3)) for name, value in found.items() if value is not None]


def _line(record: JobRecord) -> str:
    code = "-" if record.exit_code is None else str(record.exit_code)
    seconds = "-" if record.duration_sec is None else f"{record.duration_sec:g}"
    return f"{record.status} {record.attempts} {code} {seconds} {record.id}"


def _fitting(result: RunResult) -> RunResult:
    """Return a result that a kubelet hands on whole: with as many jobs as there is room for."""
    assert result.suite is not None
    room = MAX_TERMINATION_MESSAGE_BYTES
    while result.suite.jobs and len(result.model_dump_json(by_alias=True, exclude_none=True).encode()) > room:
        kept = result.suite.jobs[:-1]
        result = result.model_copy(update={"suite": result.suite.model_copy(update={"jobs": kept})})
    return result
