"""The `shardwise` command: its own commands, and those that installed engines bring (entry points)."""

from __future__ import annotations

import sys
from importlib.metadata import entry_points, version

import click

from shardwise_api import safe_streams

from .commands.change import delete, resume, suspend
from .commands.get import get, result
from .commands.logs import logs
from .commands.plan import plan
from .commands.render import render
from .commands.run import run
from .commands.submit import submit
from .commands.watch import watch

EPILOG = """
\b
Try it:
  shardwise plan examples/kato-pydocs.yaml     what would run, before anything starts
  shardwise run examples/kato-pydocs.yaml      run it here, with progress and a result
  shardwise kato --help                        stores, patterns and the KATO server
  shardwise ingest --help                      chunks, rows, indexes and the HTTP service
  shardwise suite --self-test                  a tree's training scripts, several at a time
  shardwise submit run.yaml --watch            run it in a cluster, as kubectl would reach it
"""


@click.group(epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(version("shardwise"), prog_name="shardwise")
def cli() -> None:
    """Sharded batch runs with the same result, wherever and however they run."""


for command in (run, plan, submit, get, watch, logs, result, suspend, resume, delete, render):
    cli.add_command(command)


def main() -> None:
    """Run the command line; the commands of engines are found by entry point."""
    safe_streams.reserve()
    for point in entry_points(group="shardwise.commands"):
        if _asked_for(point.name):
            cli.add_command(point.load(), name=point.name)
    cli()


def _asked_for(name: str) -> bool:
    # Loading an engine's commands costs imports that `shardwise run` has no use for.
    words = [word for word in sys.argv[1:] if not word.startswith("-")]
    return not words or words[0] == name or words[0] not in cli.commands
