"""`shardwise logs`: what the workers of a run have written, of one shard or of all, now or as it comes."""

from __future__ import annotations

import click

from shardwise_api import indexes
from shardwise_api.terminal import sanitize
from shardwise_api.wire import Step

from ..cluster import names
from ..cluster.client import Client
from ..cluster.errors import UsageProblem
from ..cluster.kubeconfig import ClusterOptions
from ..cluster.options import cluster_options, on_cluster, run_argument
from .common import EXIT_COMPLETE

EPILOG = """
Each shard's newest attempt is shown; lines of several workers are merged by time and marked `[shard 3]`.
With -f, further attempts of a shard follow by themselves, until the run ends.

\b
Examples:
  shardwise logs words                      all steps and shards
  shardwise logs words --shard 3 -f         one shard, as it goes on
  shardwise logs words --shard 0-4,7        some shards
  shardwise logs words --shard 3 --previous why its last attempt failed
  shardwise logs words --step prepare
"""
_COLOURS = ("cyan", "green", "yellow", "magenta", "blue", "bright_cyan", "bright_green", "bright_magenta")


@click.command(epilog=EPILOG)
@cluster_options
@run_argument()
@click.option("--shard", "shards", metavar="N", help="A shard, or several as 0-4,7.  [default: all]")
@click.option("--step", type=click.Choice([str(step) for step in Step]), help="One step.  [default: all]")
@click.option("-f", "--follow", is_flag=True, help="Go on until the run ends, over further attempts too.")
@click.option("-p", "--previous", is_flag=True, help="The attempt before the newest one.")
@click.option("--tail", type=click.IntRange(min=0), metavar="LINES", help="The last lines of each log.  [default: all]")
def logs(
    options: ClusterOptions,
    run: str,
    shards: str | None,
    step: str | None,
    follow: bool,
    previous: bool,
    tail: int | None,
) -> None:
    """Show the logs of RUN's workers."""
    on_cluster(
        options,
        lambda client: _logs(client, run, shards=shards, step=step, follow=follow, previous=previous, tail=tail),
        interrupted="no longer followed; the run goes on" if follow else "",
    )


async def _logs(
    client: Client, text: str, *, shards: str | None, step: str | None, follow: bool, previous: bool, tail: int | None
) -> int:
    from ..cluster.logs import Output, Selection, follow_logs, print_logs
    from ..cluster.pods import PodView
    from ..cluster.runs import find
    from ..cluster.view import view

    if follow and previous:
        raise UsageProblem("--previous is over and can't be followed: leave out -f or --previous")
    chosen = _shards(shards)
    if chosen is not None and step not in (None, Step.WORK):
        raise UsageProblem(f"step {step} has no shards: leave out --shard or --step")
    steps = frozenset([step]) if step else frozenset(map(str, [Step.WORK] if chosen is not None else Step))
    run = view(await find(client, names.parse(text)))

    def line(pod: PodView, written: str, marked: bool) -> None:
        mark = click.style(f"[{pod.label}] ", fg=_COLOURS[pod.shard % len(_COLOURS)]) if marked else ""
        # A carriage return would let a line paint over its mark.
        for piece in written.removesuffix("\r").split("\r"):
            click.echo(f"{mark}{sanitize(piece)}")

    output = Output(line=line, remark=lambda told: click.echo(click.style(sanitize(told), fg="yellow"), err=True))
    selection = Selection(steps=steps, shards=chosen, tail=tail)
    if not follow:
        await print_logs(client, run, selection=selection, previous=previous, output=output)
        return EXIT_COMPLETE
    last = await follow_logs(client, run, selection=selection, output=output)
    if last.over:
        output.remark(f"{last.short} is {last.phase}{f' ({last.trouble})' if last.trouble else ''}")
    return EXIT_COMPLETE


def _shards(text: str | None) -> frozenset[int] | None:
    if text is None:
        return None
    try:
        chosen = frozenset(indexes.from_text(text))
    except ValueError as error:
        raise UsageProblem(f"--shard {text}: {error}; write 3, or 0-4,7") from error
    if not chosen:
        raise UsageProblem("--shard: write 3, or 0-4,7")
    return chosen
