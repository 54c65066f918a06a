"""`shardwise watch`: runs of a cluster as they go on, a bar for each."""

from __future__ import annotations

from collections.abc import Sequence

import click

from ..cluster import names
from ..cluster.client import Client
from ..cluster.errors import UsageProblem
from ..cluster.kubeconfig import ClusterOptions
from ..cluster.options import cluster_options, on_cluster, run_argument
from .common import EXIT_COMPLETE, EXIT_FAILED

EPILOG = """
With names it ends when all of those have ended: exit code 0 when all are Complete, 1 when one isn't.
Without, it shows runs as they come and go until Ctrl-C. Where its output is no terminal, it prints a line per
step that matters.

\b
Examples:
  shardwise watch words
  shardwise watch -A
  shardwise watch words >> watch.log
"""


@click.command(epilog=EPILOG)
@cluster_options
@run_argument(many=True, required=False)
@click.option("-A", "--all-namespaces", "everywhere", is_flag=True, help="Runs of all namespaces.")
def watch(options: ClusterOptions, runs: tuple[str, ...], everywhere: bool) -> None:
    """Follow RUNs of a cluster: phase, progress, rate, time left and failures, live."""
    on_cluster(
        options,
        lambda client: _watch(client, options, runs, everywhere=everywhere),
        interrupted="no longer watched; the runs go on",
    )


async def _watch(client: Client, options: ClusterOptions, texts: Sequence[str], *, everywhere: bool) -> int:
    from ..cluster.runs import find_all
    from ..cluster.watching import display, watch

    if everywhere and (texts or options.namespace):
        raise UsageProblem("-A follows all namespaces: leave out names and -n, or -A")
    wanted = [names.parse(text) for text in texts]
    found = await find_all(client, wanted)
    named = [names.RunName(kind=run["kind"], name=run["metadata"]["name"]) for run in found]
    namespace = None if everywhere else client.namespace
    with display(namespaces=everywhere) as shown:
        store = await watch(client, named, namespace=namespace, shown=shown)
    return EXIT_COMPLETE if store.all_complete else EXIT_FAILED
