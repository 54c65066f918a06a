"""What `shardwise plan` shows of a suite: which scripts were found, and the command of each."""

from __future__ import annotations

import shlex
from pathlib import Path

from rich.table import Table
from rich.text import Text

from shardwise_api import indexes
from shardwise_api.console import safe_console
from shardwise_api.runs import Run, suite_of
from shardwise_api.terminal import echo
from shardwise_api.wire import PrepareResult
from shardwise_operator.core.policies import policy_of


def print_suite(run: Run, prepared: PrepareResult, *, workdir: Path) -> None:
    """Print what a suite would run on standard output, and what is odd about it on standard error."""
    suite = suite_of(run)
    assert suite is not None
    total = prepared.items_total or 0
    table = Table(title=f"{run.kind} {run.metadata.name}", title_justify="left", show_header=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    table.add_row("engine", "scripts")
    table.add_row("tree", suite.source)
    table.add_row("scripts", f"{total:,}")
    table.add_row("processes", "none: dryRun" if suite.dry_run else f"{policy_of(run).parallelism(total)} at once")
    table.add_row("attempts", f"{suite.retries + 1} each")
    table.add_row("workdir", str(workdir))
    if prepared.already_complete:
        table.add_row("records", "all scripts of this run have succeeded: running it again changes nothing")
    console = safe_console()
    console.print(table)
    jobs = prepared.details.get("jobs") or []
    if jobs:
        shown = Table(title="Scripts", title_justify="left")
        overrides = {
            index: number for number, text in enumerate(prepared.parts or ()) for index in indexes.from_text(text)
        }
        for heading in ("id", "must succeed", *(["pod on a cluster"] if overrides else []), "command"):
            shown.add_column(heading, overflow="fold")
        for index, job in enumerate(jobs):
            must = "no" if job["optional"] else "yes"
            pod = f"podOverrides[{overrides[index]}]" if index in overrides else "worker"
            shown.add_row(
                Text(str(job["id"])),
                must,
                *([Text(pod)] if overrides else []),
                Text(shlex.join(map(str, job["command"]))),
            )
        console.print(shown)
    for warning in prepared.details.get("warnings") or []:
        echo(f"warning: {warning}", err=True)
