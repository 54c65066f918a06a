"""One run on one page: what it is, where it is, what went wrong, and what it came to."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ..metrics_format import number
from . import text
from .view import RunView

COLOURS = {
    "Complete": "green",
    "Failed": "red",
    "Rejected": "red",
    "Deleting": "magenta",
    "Suspended": "yellow",
    "Running": "cyan",
    "Preparing": "cyan",
    "Finalizing": "cyan",
}
_OF_SCRIPTS = {
    "SUCCESS": "green",
    "FAILED": "red",
    "TIMEOUT": "red",
    "ERROR": "red",
    "INTERRUPTED": "yellow",
    "RUNNING": "cyan",
}


def coloured(phase: str) -> Text:
    """Return a phase in its colour."""
    return Text(phase, style=COLOURS.get(phase, ""))


def run_details(run: RunView, *, now: datetime) -> Group:
    """Return everything that a person asks of one run."""
    parts: list[RenderableType] = [_head(run, now)]
    if not run.seen:
        parts.append(
            Text("\nNo operator has looked at this run yet: is one installed, and does it watch this namespace?")
        )
    if run.conditions:
        parts += [_title("Conditions"), _conditions(run, now)]
    if run.suite is not None and run.suite.get("jobs"):
        parts += [_title("Scripts"), suite_table(run.suite)]
    if run.failures:
        parts += [_title("Failures"), _failures(run)]
    if run.result is not None:
        parts += [_title("Result"), result_grid(run)]
    if run.metrics:
        parts += [_title("Metrics"), metrics_table(run.metrics)]
    return Group(*parts)


def _head(run: RunView, now: datetime) -> Table:
    grid = _grid()
    spec = run.document.get("spec") or {}
    sharding = spec.get("sharding") or {}
    grid.add_row("name", f"{run.kind} {run.name} (namespace {run.namespace})")
    grid.add_row("phase", coloured(run.phase))
    if run.trouble:
        grid.add_row("trouble", Text(run.trouble, style="red" if run.over else "yellow"))
    total = text.count(run.total)
    progress = text.percent(run.percent)
    if run.rate:
        progress += f", {text.rate(run.rate)}"
    if run.remaining is not None and not run.finished:
        progress += f", about {text.duration(run.remaining)} to go"
    grid.add_row("progress", progress)
    failed, skipped = text.count(run.failed), text.count(run.skipped)
    if run.suite is not None and run.suite.get("exitStatus") is not None:
        grid.add_row("exit status", str(run.suite["exitStatus"]))
    what = "items" if run.suite is None else "scripts"
    grid.add_row(what, f"{text.count(run.done)} done, {failed} failed, {skipped} skipped of {total}")
    at_once = sharding.get("parallelism")
    dealt = ", ".join(filter(None, (sharding.get("strategy"), f"{at_once} at once" if at_once else "")))
    shards = f"{run.shards_done} done, {run.shards_active} active, {run.shards_failed} failed of {run.shards}"
    grid.add_row("shards", f"{shards} ({dealt})" if dealt else shards)
    reported = (run.document.get("status") or {}).get("shards") or {}
    if reported.get("failedIndexes"):
        grid.add_row("failed shards", str(reported["failedIndexes"]))
    if run.checkpoint is not None:
        grid.add_row("checkpoint", Text(f"{run.checkpoint.get('uri')} (step {run.checkpoint.get('step')})"))
    grid.add_row("age", text.age(run.created, now=now))
    if run.started is not None:
        end = run.ended or now
        grid.add_row("took" if run.ended else "running", text.age(run.started, now=end))
    return grid


def _conditions(run: RunView, now: datetime) -> Table:
    table = _plain("type", "status", "reason", "since", "message")
    for condition in run.conditions:
        since = text.age(condition.since, now=now)
        table.add_row(condition.type, condition.status, condition.reason, since, Text(condition.message))
    return table


def suite_table(suite: Mapping[str, Any]) -> Table:
    """Return the jobs of a suite, as many as the status has."""
    table = _plain("shard", "script", "status", "attempts", "exit", "took")
    jobs = suite.get("jobs") or []
    for shard, job in enumerate(jobs):
        state = str(job.get("status") or "")
        attempts, code = job.get("attempts"), job.get("exitCode")
        table.add_row(
            str(shard),
            Text(str(job.get("id"))),
            Text(state, style=_OF_SCRIPTS.get(state, "")),
            text.NOTHING if attempts is None else str(attempts),
            text.NOTHING if code is None else str(code),
            text.duration(job.get("durationSeconds")),
        )
    left_out = int((suite.get("counts") or {}).get("total") or 0) - len(jobs)
    if left_out > 0:
        table.add_row("…", f"{left_out} more in the summary", "", "", "", "")
    return table


def _failures(run: RunView) -> Table:
    table = _plain("shard", "exit", "reason", "message")
    for failure in run.failures:
        shard, code = failure.get("shard"), failure.get("exitCode")
        table.add_row(
            text.NOTHING if shard is None else str(shard),
            text.NOTHING if code is None else str(code),
            Text(str(failure.get("reason") or "")),
            Text(str(failure.get("message") or "")),
        )
    return table


def result_grid(run: RunView) -> Table:
    """Return digest, uri and summary of a run that has them."""
    grid = _grid()
    result = run.result or {}
    grid.add_row("digest", Text(str(result.get("digest") or text.NOTHING)))
    if uri := result.get("uri"):
        grid.add_row("uri", Text(str(uri)))
    for key, value in (result.get("summary") or {}).items():
        grid.add_row(str(key), Text(_shown(value)))
    return grid


def metrics_table(metrics: Mapping[str, float]) -> Table:
    """Return metrics by name."""
    table = Table(box=None, show_header=False, padding=(0, 3, 0, 0), pad_edge=False)
    table.add_column()
    table.add_column(justify="right")
    for name, value in metrics.items():
        table.add_row(Text(name), number(value))
    return table


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _title(title: str) -> Text:
    return Text(f"\n{title}", style="bold")


def _grid() -> Table:
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column(overflow="fold")
    return grid


def _plain(*headings: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    for heading in headings:
        last = heading == headings[-1]
        table.add_column(heading.upper(), no_wrap=not last, overflow="fold")
    return table
