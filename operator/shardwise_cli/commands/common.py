"""What the commands on a manifest share: arguments, loading, exit codes."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import click

from shardwise_api.manifest import InvalidManifest, load_manifest, resolve_paths
from shardwise_api.runs import Run
from shardwise_api.safe_streams import tell

from ..local.runner import local_uid
from ..local.workdir import Workdir

EXIT_COMPLETE = 0
EXIT_FAILED = 1
EXIT_INVALID = 2
EXIT_INTERRUPTED = 130

F = TypeVar("F", bound=Callable[..., Any])


def manifest_arguments(command: F) -> F:
    """Add MANIFEST, --set and --workdir to a command."""
    for decorate in (
        click.option(
            "--workdir",
            type=click.Path(path_type=Path, file_okay=False),
            help="Logs, status and default output.  [default: .shardwise/NAME beside the manifest]",
        ),
        click.option(
            "--set",
            "overrides",
            multiple=True,
            metavar="PATH=VALUE",
            help="Override a field, as --set sharding.shards=8 (a field of spec) or --set metadata.name=other.",
        ),
        click.argument("manifest", type=click.Path(path_type=Path)),
    ):
        command = decorate(command)
    return command


def load(manifest: Path, overrides: Sequence[str]) -> Run:
    """Return the run that a manifest asks for, paths resolved; leave with exit code 2 when it is invalid."""
    try:
        run = resolve_paths(load_manifest(manifest, overrides=overrides), base=manifest.absolute().parent)
    except InvalidManifest as error:
        fail(f"{manifest} is not valid:\n" + "\n".join(f"  {problem}" for problem in error.problems), EXIT_INVALID)
    run.metadata.uid = local_uid(run)
    return run


def default_workdir(manifest: Path, run: Run) -> Path:
    """Return where a run of this name works, so that a second start finds the first one's."""
    return manifest.absolute().parent / ".shardwise" / run.metadata.name


def open_workdir(manifest: Path, run: Run, workdir: Path | None) -> Workdir:
    """Return a run's work directory: the one that a person names, or the default one."""
    path = workdir.absolute() if workdir else default_workdir(manifest, run)
    return Workdir(path, manifests=manifest.absolute().parent)


def fail(message: str, code: int) -> NoReturn:
    """Say what is wrong on standard error and leave."""
    tell(message)
    sys.exit(code)
