"""`shardwise plan`: what a manifest would do here, before anything starts or is written."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path

import click
from rich.table import Table

from shardwise_api.console import safe_console
from shardwise_api.runs import Run
from shardwise_api.wire import Environment, PrepareResult, Step, StepFailure
from shardwise_operator.core.plan import run_document
from shardwise_operator.core.policies import policy_of

from ..local.jobs import WORKER
from ..local.runner import local_parallelism, worker_environment
from ..local.workdir import Workdir
from ..suite_plan import print_suite
from .common import fail, load, manifest_arguments, open_workdir

LISTED_SHARDS = 20


@click.command()
@manifest_arguments
def plan(manifest: Path, overrides: tuple[str, ...], workdir: Path | None) -> None:
    """Show shards, items and processes of MANIFEST; checks input, store and settings, and writes nothing."""
    run = load(manifest, overrides)
    directory = open_workdir(manifest, run, workdir)
    prepared = _look(run, directory)
    policy = policy_of(run)
    if policy.lists_scripts:
        print_suite(run, prepared, workdir=directory.path)
        return
    sharding = run.spec.sharding
    processes = local_parallelism(run, sharding.parallelism or sharding.shards)
    console = safe_console()
    table = Table(title=f"{run.kind} {run.metadata.name}", title_justify="left", show_header=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    table.add_row("engine", policy.engine)
    total = prepared.items_total
    details = prepared.details
    table.add_row(policy.items, "unknown until read" if total is None else f"{total:,}")
    if details.get("samples") is not None:
        table.add_row(
            "of these", f"{details['samples']:,} to learn, {details['failed']} broken, {details['skipped']} too short"
        )
    for label, value in policy.plan_rows():
        table.add_row(label, value)
    table.add_row("processes", f"{processes} at once")
    if guarantee := details.get("guarantee"):
        table.add_row("guarantee", str(guarantee))
    table.add_row("workdir", str(directory.path))
    if prepared.already_complete:
        table.add_row("ledger", "all blocks of this run are done: running it again changes nothing")
    console.print(table)
    if policy.deals_items:
        console.print(_shards(run, total))


def _look(run: Run, directory: Workdir) -> PrepareResult:
    with tempfile.TemporaryDirectory(prefix="shardwise-plan-") as folder:
        document = Path(folder) / "run.json"
        document.write_text(run_document(run).model_dump_json(by_alias=True, exclude_none=True), encoding="utf-8")
        message = Path(folder) / "message.json"
        done = subprocess.run(
            WORKER,
            env={
                **os.environ,
                **worker_environment(run, directory),
                Environment.RUN: str(document),
                Environment.STEP: str(Step.PREPARE),
                Environment.DRY_RUN: "1",
                Environment.TERMINATION_LOG: str(message),
            },
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
        text = message.read_text(encoding="utf-8") if message.exists() else ""
    if done.returncode == 0:
        return PrepareResult.model_validate_json(text)
    if text:
        told = StepFailure.model_validate_json(text)
        fail(f"{told.reason}: {told.message}", done.returncode)
    fail(done.stderr, done.returncode)


def _shards(run: Run, total: int | None) -> Table:
    sharding = run.spec.sharding
    table = Table(title="Shards", title_justify="left")
    for heading in ("shard", "items", "blocks", "first", "last"):
        table.add_column(heading, justify="right")
    for shard in range(min(sharding.shards, LISTED_SHARDS)):
        if total is None:
            table.add_row(str(shard), *_unknown(4))
            continue
        share = policy_of(run).share(shard, total=total)
        ends = (f"{end:,}" for end in share.ends) if share.ends else ("-", "-")
        table.add_row(str(shard), f"{share.items:,}", f"{share.blocks:,}", *ends)
    if sharding.shards > LISTED_SHARDS:
        table.add_row("…", *_unknown(4))
    return table


def _unknown(columns: int) -> Iterable[str]:
    return ["…"] * columns
