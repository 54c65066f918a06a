"""`shardwise suspend`, `resume` and `delete`: what a person may do to a run that is in a cluster."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import aclosing

import click

from shardwise_api.terminal import echo

from ..cluster import names
from ..cluster.client import FIELD_MANAGER, PODS, Client
from ..cluster.kubeconfig import ClusterOptions
from ..cluster.options import cluster_options, on_cluster, run_argument
from ..cluster.view import RunView, view
from .common import EXIT_COMPLETE, EXIT_FAILED

SUSPEND_EPILOG = """
Workers commit or roll back their current block and end; what is done stays done. Saying it twice does no harm.

\b
Example:
  shardwise suspend words
"""
RESUME_EPILOG = """
It goes on where it was; nothing is repeated but unfinished blocks.

\b
Example:
  shardwise resume words
"""
DELETE_EPILOG = """
Pods, logs and the status go with a run; what it has learned stays in its store and its output.

\b
Examples:
  shardwise delete words
  shardwise delete words --wait && shardwise submit run.yaml
"""


@click.command(epilog=SUSPEND_EPILOG)
@cluster_options
@run_argument(many=True)
def suspend(options: ClusterOptions, runs: tuple[str, ...]) -> None:
    """Stop the workers of RUNs until `shardwise resume`."""
    on_cluster(options, lambda client: _set_suspend(client, runs, value=True))


@click.command(epilog=RESUME_EPILOG)
@cluster_options
@run_argument(many=True)
def resume(options: ClusterOptions, runs: tuple[str, ...]) -> None:
    """Let suspended RUNs go on."""
    on_cluster(options, lambda client: _set_suspend(client, runs, value=False))


async def _set_suspend(client: Client, texts: Sequence[str], *, value: bool) -> int:
    from ..cluster.runs import find_all

    code = EXIT_COMPLETE
    for run in map(view, await find_all(client, [names.parse(text) for text in texts])):
        if run.finished:
            echo(f"{run.short} is {run.phase}: there is nothing to {'suspend' if value else 'resume'}", err=True)
            code = EXIT_FAILED
            continue
        if run.suspend == value:
            echo(f"{run.short} {'is suspended already' if value else 'is not suspended'}")
            continue
        await client.call(
            "patch", names.RESOURCES[run.kind], namespace=run.namespace, name=run.name,
            params={"fieldManager": FIELD_MANAGER}, body={"spec": {"suspend": value}},
        )  # fmt: skip
        if value:
            echo(
                f"{run.short} suspended: its workers finish their blocks and end; shardwise resume {run.short} goes on"
            )
        else:
            echo(f"{run.short} resumed: it goes on where it was; shardwise watch {run.short}")
    return code


@click.command(epilog=DELETE_EPILOG)
@cluster_options
@run_argument(many=True)
@click.option("-y", "--yes", is_flag=True, help="Don't ask, also when a run has not ended.")
@click.option("--wait", is_flag=True, help="Return when it and its pods are gone: its name is free again then.")
def delete(options: ClusterOptions, runs: tuple[str, ...], yes: bool, wait: bool) -> None:
    """Delete RUNs. On a terminal, asks for those that have not ended."""
    on_cluster(options, lambda client: _delete(client, runs, yes=yes, wait=wait))


async def _delete(client: Client, texts: Sequence[str], *, yes: bool, wait: bool) -> int:
    from ..cluster.runs import find_all

    code = EXIT_COMPLETE
    chosen = []
    for run in map(view, await find_all(client, [names.parse(text) for text in texts])):
        asks = not yes and not run.finished and sys.stdin.isatty()
        if asks and not click.confirm(f"{run.short} has not ended ({run.phase}, {run.percent or 0}%). Delete it?"):
            echo(f"{run.short} kept")
            code = EXIT_FAILED
            continue
        chosen.append(run)
    for run in chosen:
        # Of this uid only: never a run that has taken the name in the meantime.
        await client.call(
            "delete", names.RESOURCES[run.kind], namespace=run.namespace, name=run.name,
            body={"propagationPolicy": "Background", "preconditions": {"uid": run.uid}},
        )  # fmt: skip
        echo(f"{run.short} {'is being deleted' if wait else 'deleted'}")
    if wait:
        for run in chosen:
            await _gone(client, run)
            echo(f"{run.short} is gone")
    return code


async def _gone(client: Client, run: RunView) -> None:
    from ..cluster.events import Deleted, Snapshot, follow
    from ..cluster.pods import selector

    for resource, params in (
        (names.RESOURCES[run.kind], {"fieldSelector": f"metadata.name={run.name}"}),
        (PODS, selector(run)),
    ):
        left: set[str] = set()
        async with aclosing(follow(client, resource, namespace=run.namespace, params=params)) as events:
            async for event in events:
                if isinstance(event, Snapshot):
                    left = {item["metadata"]["uid"] for item in event.items}
                elif isinstance(event, Deleted):
                    left.discard(event.item["metadata"]["uid"])
                if resource != PODS:
                    left &= {run.uid}
                if not left:
                    break
