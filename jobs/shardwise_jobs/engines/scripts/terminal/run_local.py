"""A suite on this machine from its settings to its exit status: select, check, run, sum up.

`shardwise suite` is this with a command line before it; its self-test goes the same way.
"""

from __future__ import annotations

import json
import os
import sys
import uuid
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from shardwise_api.console import SafeConsole
from shardwise_api.safe_streams import after_showing, messages, results, settle, tell
from shardwise_api.scripts import KILL_SECONDS

from ..discovery.checks import require_interpreter, require_tree, require_writable
from ..discovery.config import canonical_jobs
from ..discovery.selection import Selection, select
from ..model.job import SuiteJob
from ..model.options import SuiteOptions
from ..model.records import JobRecord, SuiteExit, exit_status_of
from ..model.summary import summary_of, write_summary
from ..model.validation_errors import InvalidSuite
from ..running.interrupt import Interrupt
from ..running.logs import log, orchestrator_log
from ..running.provenance import commit_of, gpu_info
from ..running.runner import Runner, Suite
from .board import Board, Plain, print_list, print_records, wide_console
from .worker_advice import advise_here


@dataclass(frozen=True, slots=True, kw_only=True)
class SuiteRequest:
    """What is asked for."""

    root: Path
    options: SuiteOptions
    list_only: bool = False
    verbose: bool = False
    as_json: bool = False
    kill_seconds: float = KILL_SECONDS


def run_local(request: SuiteRequest) -> int:
    """Do what is asked for and return the exit status.

    Signals are taken from here on; after a second one this process is gone when its summary is written.

    Raises:
        BadConfiguration: it can't be done; nothing was started.
    """
    tree, options = require_tree(request.root), request.options
    selection = select(tree, options)
    suite = Suite(
        tree=tree,
        jobs=selection.jobs,
        options=options,
        interpreter=options.interpreter or sys.executable,
        kill_seconds=request.kill_seconds,
    )
    if selection.nothing_discovered:
        _warn(selection)
        tell("error: strict_discovery: there is no job, neither given nor found")
        return SuiteExit.NOTHING_DISCOVERED
    if request.list_only:
        _warn(selection)
        return after_showing(lambda: _list(suite, as_json=request.as_json), status=SuiteExit.SUCCESS)
    if not selection.jobs:
        _warn(selection)
        nothing = _Session(suite, request=request, interrupt=Interrupt())
        return nothing.show_nothing() if request.as_json else SuiteExit.SUCCESS
    require_interpreter(suite.interpreter, tree=tree, environment=suite.environment)
    require_writable(tree, options=options)
    interrupt = Interrupt()
    with interrupt.installed():
        status = _Session(suite, request=request, interrupt=interrupt).run(selection.warnings)
        if interrupt.at_once:
            # Threads may still wait for scripts that are being killed; nobody waits for them.
            settle()
            os._exit(SuiteExit.INTERRUPTED)
    return status


class _Session:
    """One run: its listener, its log, its summary."""

    def __init__(self, suite: Suite, *, request: SuiteRequest, interrupt: Interrupt) -> None:
        self._suite, self._request, self._interrupt = suite, request, interrupt
        self._run_uid = str(uuid.uuid4())
        self._started = datetime.now(UTC)
        self._commit = commit_of(suite.tree)
        self._gpus = gpu_info(suite.environment)
        self._complained = False
        self._summary: dict[str, Any] = {}

    def run(self, warnings: Sequence[str]) -> int:
        suite, options = self._suite, self._suite.options
        workers = options.workers(len(suite.jobs))
        console = SafeConsole(file=messages())
        with ExitStack() as stack:
            listener: Plain = Plain(total=len(suite.jobs), verbose=self._request.verbose)
            if console.is_terminal and not self._request.verbose and not options.dry_run:
                listener = Board(suite.jobs, console=console)
            stack.enter_context(orchestrator_log(suite.logs, console=listener.handler, verbose=self._request.verbose))
            for warning in warnings:
                log.warning("warning: %s", warning)
            how = f"{workers} at a time" if workers > 1 else "one by one"
            log.info("%d jobs in %s, %s", len(suite.jobs), suite.tree, how)
            self._hint(workers)
            runner = Runner(suite, interrupt=self._interrupt, listener=listener, publish=self._publish)
            stack.enter_context(listener)
            records = runner.run()
            verdict = exit_status_of(records, options=options, interrupted=self._interrupt.is_set)
            # While nothing else can go wrong: the file is what is left of a run when its terminal is gone.
            path = self._write(self._sum_up(records, exit_status=verdict))
        status = after_showing(lambda: self._show(records, path=path), status=verdict)
        if verdict is SuiteExit.INTERRUPTED:
            tell("interrupted: the same command runs all of it again")
        # Whoever looks for the summary must not be told that all is well.
        return status if path is not None else status or SuiteExit.MANDATORY_JOB_FAILED

    def show_nothing(self) -> int:
        """Print the summary of no job for a program that reads it; nothing is left in the tree."""
        self._sum_up([], exit_status=SuiteExit.SUCCESS)
        return after_showing(lambda: self._show([], path=None), status=SuiteExit.SUCCESS)

    def _write(self, summary: dict[str, Any]) -> Path | None:
        try:
            return Path(write_summary(self._suite.summaries, summary))
        except InvalidSuite as error:
            log.error("The last summary could not be written: %s", error)
            return None

    def _show(self, records: Sequence[JobRecord], *, path: Path | None) -> None:
        if self._request.as_json:
            click.echo(json.dumps(self._summary, indent=2), file=results())
            return
        print_records(records, summary=self._summary, path=path, tree=self._suite.tree, console=wide_console())

    def _hint(self, workers: int) -> None:
        options = self._suite.options
        if options.default_jobs and any(self._is_missing(job) for job in canonical_jobs()):
            log.warning("Built-in jobs without their scripts fail: --no-default-jobs leaves them out.")
        if not options.parallel and options.max_workers != SuiteOptions.model_fields["max_workers"].default:
            log.warning(
                "One by one, for all of --max-workers %d: --parallel is what asks for more.", options.max_workers
            )
        advice = advise_here(gpus=self._gpus["device_count"])
        if workers > advice.most:
            log.warning("%d at a time is more than this machine is likely to bear: %s", workers, advice.text)

    def _is_missing(self, built_in: SuiteJob) -> bool:
        selected = any(job.id == built_in.id and job.script == built_in.script for job in self._suite.jobs)
        return selected and not (self._suite.tree / built_in.script).exists()

    def _publish(self, records: Sequence[JobRecord]) -> None:
        """Write the summary as of now; should this run be killed, it is the last word."""
        try:
            write_summary(self._suite.summaries, self._sum_up(records, exit_status=None))
        except InvalidSuite as error:
            # The scripts go on: what they do is worth more than this. The last one says it again.
            if not self._complained:
                self._complained = True
                log.error("%s", error)

    def _sum_up(self, records: Sequence[JobRecord], *, exit_status: SuiteExit | None) -> dict[str, Any]:
        self._summary = summary_of(
            records,
            run_uid=self._run_uid,
            start_time=self._started,
            end_time=datetime.now(UTC),
            working_directory=str(self._suite.tree),
            arguments=self._suite.options.arguments(verbose=self._request.verbose),
            exit_status=exit_status,
            git_commit=self._commit,
            gpu_info=self._gpus,
        )
        return self._summary


def _warn(selection: Selection) -> None:
    for warning in selection.warnings:
        tell(f"warning: {warning}")


def _list(suite: Suite, *, as_json: bool) -> None:
    if as_json:
        listed = [{**job.model_dump(mode="json"), "command": suite.command(job)} for job in suite.jobs]
        click.echo(json.dumps(listed, indent=2), file=results())
        return
    console = wide_console()
    print_list(suite.jobs, console=console)
    advice = advise_here(gpus=gpu_info(suite.environment)["device_count"])
    console.print(f"This machine is likely to bear {advice.text}.")
