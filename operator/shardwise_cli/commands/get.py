"""`shardwise get` and `shardwise result`: what runs of a cluster are at, and what one came to."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import click

from shardwise_api.terminal import echo, to_json

from ..cluster import names
from ..cluster.client import Client
from ..cluster.errors import ClientError, UsageProblem
from ..cluster.kubeconfig import ClusterOptions
from ..cluster.options import cluster_options, on_cluster, run_argument
from .common import EXIT_COMPLETE

GET_EPILOG = """
\b
Examples:
  shardwise get                       the runs of this namespace
  shardwise get -A                    those of all namespaces
  shardwise get words                 one run on a page: conditions, items, failures, metrics, result
  shardwise get trun/words -o yaml    the whole resource
"""
RESULT_EPILOG = """
Exit code: 0 with a result, 1 when the run has none (yet); the phase is told then. A suite of scripts that
failed has one: which of them did.

\b
Examples:
  shardwise result words
  shardwise result words --digest     the digest alone, for scripts
  test "$(shardwise result a --digest)" = "$(shardwise result b --digest)"
"""


@click.command(epilog=GET_EPILOG)
@cluster_options
@run_argument(many=True, required=False)
@click.option("-A", "--all-namespaces", "everywhere", is_flag=True, help="Runs of all namespaces.")
@click.option(
    "-o", "--output", type=click.Choice(["table", "wide", "name", "json", "yaml"]),
    help="How to show them.  [default: a table; one named run on a page]",
)  # fmt: skip
def get(options: ClusterOptions, runs: tuple[str, ...], everywhere: bool, output: str | None) -> None:
    """Show RUNs of a cluster: all of a namespace in a table, or one on a page."""
    on_cluster(options, lambda client: _get(client, options, runs, everywhere=everywhere, output=output))


async def _get(
    client: Client, options: ClusterOptions, texts: Sequence[str], *, everywhere: bool, output: str | None
) -> int:
    from ..cluster.runs import find_all, list_runs
    from ..cluster.view import view

    if everywhere and (texts or options.namespace):
        raise UsageProblem("-A shows all namespaces: leave out names and -n, or -A")
    if texts:
        found = await find_all(client, [names.parse(text) for text in texts])
    else:
        found = await list_runs(client, namespace=None if everywhere else client.namespace)
    if output in ("json", "yaml", "name"):
        print_documents(found, output=output, single=len(texts) == 1)
        return EXIT_COMPLETE
    now = datetime.now(UTC)
    if len(texts) == 1 and output is None:
        from shardwise_api.console import safe_console

        from ..cluster.details import run_details

        safe_console().print(run_details(view(found[0]), now=now))
        return EXIT_COMPLETE
    if not found:
        where = "any namespace" if everywhere else f"namespace {client.namespace}"
        echo(f"no runs in {where}", err=True)
        return EXIT_COMPLETE
    _print_table([view(run) for run in found], now=now, namespaces=everywhere, wide=output == "wide")
    return EXIT_COMPLETE


def _print_table(runs: Sequence[Any], *, now: datetime, namespaces: bool, wide: bool) -> None:
    from ..cluster.table import table

    for line in table(runs, now=now, namespaces=namespaces, wide=wide):
        echo(line)


def print_documents(documents: Sequence[dict[str, Any]], *, output: str, single: bool) -> None:
    """Print resources as a program wants them: one, or a List of them."""
    if output == "name":
        for document in documents:
            resource = names.RESOURCES[document["kind"]]
            echo(f"{str(resource).replace(resource.plural, document['kind'].lower())}/{document['metadata']['name']}")
        return
    stripped = [_without_bookkeeping(document) for document in documents]
    shown: dict[str, Any] = stripped[0] if single else {"apiVersion": "v1", "kind": "List", "items": stripped}
    if output == "json":
        click.echo(to_json(shown, indent=2))
    else:
        import yaml

        click.echo(yaml.safe_dump(shown, sort_keys=False, allow_unicode=True), nl=False)


def _without_bookkeeping(document: dict[str, Any]) -> dict[str, Any]:
    """Return it as `kubectl get` shows it: without who has set which field."""
    metadata = {key: value for key, value in document["metadata"].items() if key != "managedFields"}
    return {**document, "metadata": metadata}


@click.command(epilog=RESULT_EPILOG)
@cluster_options
@run_argument()
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.option("--digest", "only_digest", is_flag=True, help="Print the digest and nothing else.")
def result(options: ClusterOptions, run: str, output: str, only_digest: bool) -> None:
    """Show RUN's result: digest, place of the artefacts, summary and metrics."""
    on_cluster(options, lambda client: _result(client, run, output=output, only_digest=only_digest))


async def _result(client: Client, text: str, *, output: str, only_digest: bool) -> int:
    from ..cluster.runs import find
    from ..cluster.view import view

    document = await find(client, names.parse(text))
    found = view(document)
    if not found.finished or found.result is None:
        told = f"{found.short} has no result: it is {found.phase}"
        if found.percent is not None and not found.finished:
            told += f", {found.percent}%"
        way = f"shardwise get {found.short}" if found.finished else f"shardwise watch {found.short}"
        raise ClientError(f"{told}{f' ({found.trouble})' if found.trouble else ''}; {way} shows more")
    if only_digest:
        echo(str(found.result.get("digest")))
    elif output == "json":
        # As it is: what a view has of it is fit for terminals.
        status = document["status"]
        suite = {} if found.suite is None else {"suite": status["suite"]}
        click.echo(to_json({**status["result"], **suite, "metrics": dict(found.metrics)}, indent=2))
    else:
        print_result(found)
    return EXIT_COMPLETE


def print_result(run: Any) -> None:
    """Print digest, summary and metrics of a run that has a result, of a suite its scripts too."""
    from shardwise_api.console import safe_console

    from ..cluster.details import metrics_table, result_grid, suite_table

    console = safe_console()
    console.print(result_grid(run))
    if run.suite is not None and run.suite.get("jobs"):
        console.print()
        console.print(suite_table(run.suite))
    if run.metrics:
        console.print()
        console.print(metrics_table(run.metrics))
