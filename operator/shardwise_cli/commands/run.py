"""`shardwise run`: a manifest on this machine, with progress, a result and a way to go on after Ctrl-C."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from shardwise_api import safe_streams
from shardwise_api.runs import Run
from shardwise_api.status import ConditionType, RunStatus
from shardwise_api.terminal import to_json

from ..local.runner import LocalRunner
from ..local.workdir import Busy, IdentityChanged, StatusUnreadable, Workdir
from ..progress_bar import ProgressBar
from ..tables import print_run
from .common import (
    EXIT_COMPLETE,
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    EXIT_INVALID,
    fail,
    load,
    manifest_arguments,
    open_workdir,
)

INVALID_REASONS = frozenset({"InvalidSpec", "InvalidInput", "StoreMismatch"})
"""A run that failed for one of these was never going to work: exit 2, as for a manifest that doesn't parse."""

EPILOG = """
\b
Ctrl-C once finishes the current blocks (a training's step, with a checkpoint), twice stops at once; either way
--resume goes on where it was, and nothing is lost or counted twice.
Scripts that run are waited for as long as graceSeconds says.
Exit code: 0 Complete, 1 Failed, 2 invalid manifest, 130 interrupted; of scripts also 3, nothing discovered.

\b
Examples:
  shardwise run examples/kato-pydocs.yaml
  shardwise run run.yaml --set sharding.shards=8 --set sharding.parallelism=4
  shardwise run run.yaml -o json > result.json
  shardwise run training.yaml --resume --set sharding.shards=3     with another number of ranks
  shardwise run examples/scripts-suite.yaml --set engine.scripts.maxWorkers=6
"""


@click.command(epilog=EPILOG)
@manifest_arguments
@click.option(
    "-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True,
    help="json: the final resource with its status on standard output, and nothing else there.",
)  # fmt: skip
@click.option("--resume", is_flag=True, help="Go on with a run that was interrupted or failed (or begin it).")
def run(manifest: Path, overrides: tuple[str, ...], workdir: Path | None, output: str, resume: bool) -> None:
    """Run MANIFEST on this machine, without a cluster: same plan, same workers, same digest."""
    wanted = load(manifest, overrides)
    directory = open_workdir(manifest, wanted, workdir)
    try:
        with directory.locked():
            _refuse_unfinished(directory, resume=resume)
            with (
                ProgressBar(run=wanted) as bar,
                LocalRunner(run=wanted, workdir=directory, on_status=bar.show) as runner,
            ):
                done = runner.run()
    except Busy as error:
        fail(str(error), EXIT_FAILED)
    except IdentityChanged as error:
        fail(str(error), EXIT_INVALID)
    except OSError as error:
        fail(f"--workdir {directory.path}: {error.strerror or error}", EXIT_INVALID)
    shown = safe_streams.after_showing(lambda: _show(done, output=output, directory=directory), status=EXIT_COMPLETE)
    code = _tell(done) or shown
    safe_streams.settle()
    sys.exit(code)


def _show(done: Run, *, output: str, directory: Workdir) -> None:
    if output == "json":
        click.echo(to_json(done.resource_document()), file=safe_streams.results())
    else:
        print_run(done, logs=directory.path / "logs")


def _refuse_unfinished(directory: Workdir, *, resume: bool) -> None:
    try:
        before = directory.status()
    except StatusUnreadable as error:
        if not resume:
            fail(f"{error}: go on with --resume, or remove that folder", EXIT_FAILED)
        safe_streams.tell(f"{error}: going on from what was committed")
        return
    if before is None or resume or before.is_true(ConditionType.COMPLETE):
        return
    if before.is_true(ConditionType.FAILED) and not before.items.done:
        return
    fail(
        f"{directory.path} holds an unfinished run ({before.phase}, {before.items.done} items done): go on with "
        "--resume, or remove that folder",
        EXIT_FAILED,
    )


def _tell(done: Run) -> int:
    status = done.status or RunStatus()
    failed = status.condition(ConditionType.FAILED)
    if failed is not None and failed.status == "True":
        safe_streams.tell(f"Failed ({failed.reason}): {failed.message}")
        if status.suite is not None and status.suite.exit_status is not None:
            return status.suite.exit_status
        return EXIT_INVALID if failed.reason in INVALID_REASONS else EXIT_FAILED
    if status.is_true(ConditionType.COMPLETE):
        return EXIT_COMPLETE
    safe_streams.tell("interrupted: nothing is lost, the same command with --resume goes on")
    return EXIT_INTERRUPTED
