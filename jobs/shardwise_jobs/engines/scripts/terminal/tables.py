"""A suite as tables for a person: what would be run, and what became of it."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from shardwise_api.console import safe_console
from shardwise_api.safe_streams import results

from ..model.job import SuiteJob
from ..model.records import FAILURES, JobRecord, Status
from .board import styled

_SUPPORTED = ("epochs", "folds", "sample", "batch")


def wide_console() -> Console:
    """Return a console for standard output that, where that is no terminal, has room for a path in one line."""
    return safe_console(file=results(), width=140)


def print_list(jobs: Sequence[SuiteJob], *, console: Console) -> None:
    """Print the selected jobs with what is passed to them."""
    table = Table(title=f"{len(jobs)} jobs", title_justify="left")
    for heading in ("id", "name", "script", "takes", "optional"):
        table.add_column(heading, overflow="fold")
    for job in jobs:
        takes = ["output-dir"] if job.use_output_dir else []
        takes += [name for name in _SUPPORTED if getattr(job, f"supports_{name}")]
        name = job.id if not job.aliases else f"{job.id} ({', '.join(job.aliases)})"
        optional = "yes" if job.optional else ""
        table.add_row(name, job.name, job.script, ", ".join(takes), optional)
    console.print(table)


def print_records(
    records: Sequence[JobRecord], *, summary: dict[str, Any], path: Path | None, tree: Path, console: Console
) -> None:
    """Print what became of each job, and where to read on; `path` is the summary's, if it could be written."""
    if any(record.status is Status.SKIPPED for record in records):
        console.print(f"Dry run in {tree}: nothing was started.")
        for record in records:
            told = shlex.join(record.command) if record.status is Status.SKIPPED else record.error
            console.print(f"{record.id}: {told}", soft_wrap=True)
    else:
        table = Table(title="Suite", title_justify="left")
        for heading, justify in (("job", "left"), ("status", "left"), ("attempts", "right"), ("time", "right")):
            table.add_column(heading, justify="right" if justify == "right" else "left", no_wrap=True)
        table.add_column("error or log", overflow="fold")
        for record in records:
            took = "" if record.duration_sec is None else f"{record.duration_sec:.1f} s"
            failed = record.status in FAILURES
            words = "\n".join(filter(None, [record.error, record.log_path if failed or not record.error else None]))
            table.add_row(record.id, styled(record.status), str(record.attempts), took, words)
        console.print(table)
    counts = ", ".join(f"{count} {name}" for name, count in summary["counts"].items() if count) or "nothing run"
    took = f" in {summary['duration_sec']:.1f} s"
    speedup = summary.get("wall_speedup")
    gained = f", {speedup:.1f} times as fast as one by one" if speedup and speedup >= 1.1 else ""
    console.print(f"{counts}{took}{gained}")
    for name in ("digest",):
        if summary.get(name):
            console.print(f"{name}: {summary[name]}", soft_wrap=True)
    if path is not None:
        console.print(f"summary: {path}", soft_wrap=True)
