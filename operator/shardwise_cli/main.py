"""The `shardwise` command: its own commands, and those that installed engines bring (entry points)."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import EntryPoint, entry_points

import click

from shardwise_api import safe_streams

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


_COMMANDS = {
    "run": "run",
    "plan": "plan",
    "submit": "submit",
    "get": "get",
    "watch": "watch",
    "logs": "logs",
    "result": "get",
    "suspend": "change",
    "resume": "change",
    "delete": "change",
    "render": "render",
}
"""Our own commands, and the module below `commands` that each is in."""


class LazyGroup(click.Group):
    """Imports a command when it is asked for: each costs what it imports, and most are not asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of our own commands and of those that engines bring."""
        return sorted({*_COMMANDS, *_engines()})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command, None if there is none of that name."""
        if cmd_name in _COMMANDS:
            module = import_module(f".commands.{_COMMANDS[cmd_name]}", __package__)
            command: click.Command = getattr(module, cmd_name)
            return command
        point = _engines().get(cmd_name)
        return None if point is None else point.load()


def _engines() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group="shardwise.commands")}


@click.group(cls=LazyGroup, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="shardwise", prog_name="shardwise")
def cli() -> None:
    """Sharded batch runs with the same result, wherever and however they run."""


def main() -> None:
    """Run the command line."""
    safe_streams.reserve()
    cli()
