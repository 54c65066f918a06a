"""A run's end as tables for a person."""

from __future__ import annotations

import json
from pathlib import Path

from rich.console import Console
from rich.table import Table

from shardwise_api.console import safe_console
from shardwise_api.runs import Run
from shardwise_api.safe_streams import results
from shardwise_api.status import ConditionType, RunStatus
from shardwise_operator.core.policies import policy_of

from .metrics_format import number

_OF_A_SUMMARY = ("picture", "guarantee")
"""What people look for in the summary of a run that learns patterns; its many numbers are in a file."""


def print_run(run: Run, *, logs: Path) -> None:
    """Print what a run came to on standard output."""
    console = safe_console(file=results())
    status = run.status or RunStatus()
    table = Table(title=f"{run.kind} {run.metadata.name}", title_justify="left", show_header=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    table.add_row("phase", str(status.phase))
    for type_ in (ConditionType.FAILED, ConditionType.COMPLETE):
        condition = status.condition(type_)
        if condition is not None and condition.message:
            table.add_row("message", condition.message)
    policy = policy_of(run)
    for label, value in policy.result_rows(status):
        table.add_row(label, value)
    metrics = {metric.name: metric.value for metric in status.metrics}
    if rate := metrics.get("rate_samples_per_sec"):
        table.add_row("rate", f"{rate:,.0f} samples/s ({metrics.get('total_time_seconds', 0):.1f} s of work)")
    if status.result is not None:
        table.add_row("digest", status.result.digest)
        if status.result.uri:
            table.add_row("summary", status.result.uri)
        for name, value in status.result.summary.items():
            if (policy.shows_metrics and name != "steps") or (value and name in _OF_A_SUMMARY):
                table.add_row(name, _shown(value))
    if status.checkpoint is not None:
        table.add_row("checkpoint", f"{status.checkpoint.uri} (step {status.checkpoint.step:,})")
    for failure in status.failures[-3:]:
        if failure.shard is not None:
            told = f"shard {failure.shard}: exit {failure.exit_code}, {failure.reason}: {failure.message}"
            table.add_row("failed attempt", told)
    if status.failures:
        table.add_row("logs", str(logs))
    console.print(table)
    if status.suite is not None:
        _print_jobs(console, status)
    elif policy.shows_metrics:
        _print_metrics(console, metrics)
    else:
        _print_levels(console, metrics)


def _print_jobs(console: Console, status: RunStatus) -> None:
    suite = status.suite
    if suite is None or not suite.jobs:
        return
    table = Table(title="Scripts", title_justify="left")
    for heading in ("id", "status", "attempts", "exit code", "seconds"):
        table.add_column(heading, justify="left" if heading in ("id", "status") else "right", overflow="fold")
    for job in suite.jobs:
        table.add_row(
            job.id,
            job.status,
            "" if job.attempts is None else str(job.attempts),
            "" if job.exit_code is None else str(job.exit_code),
            "" if job.duration_seconds is None else f"{job.duration_seconds:,.2f}",
        )
    if (left_out := suite.counts.total - len(suite.jobs)) > 0:
        table.add_row(f"… {left_out} more in the summary", "", "", "", "")
    console.print(table)


def _shown(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return number(value)


def _print_metrics(console: Console, metrics: dict[str, float]) -> None:
    if not metrics:
        return
    table = Table(title="Metrics", title_justify="left", show_header=False)
    table.add_column()
    table.add_column(justify="right")
    for name, value in metrics.items():
        table.add_row(name, number(value))
    console.print(table)


def _print_levels(console: Console, metrics: dict[str, float]) -> None:
    nodes = [name.removesuffix("_patterns") for name in metrics if name.endswith("_patterns")]
    if not nodes:
        return
    table = Table(title="Patterns", title_justify="left")
    for heading in ("node", "learned", "distinct", "sum of frequencies"):
        table.add_column(heading, justify="left" if heading == "node" else "right")
    for node in nodes:
        table.add_row(node, *(f"{metrics[f'{node}_{what}']:,.0f}" for what in ("learns", "patterns", "frequency_sum")))
    console.print(table)
