"""What all commands for a cluster share: how they are told which one, and how they end."""

from __future__ import annotations

import asyncio
import functools
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import Any, NoReturn, TypeVar

import click
from click.shell_completion import CompletionItem

from ..commands.common import EXIT_INTERRUPTED, fail
from .client import Client, connect
from .errors import ClientError
from .kubeconfig import ClusterOptions, locate

F = TypeVar("F", bound=Callable[..., Any])
_COMPLETION_SECONDS = 3
_EXIT_TERMINATED = 143


def cluster_options(command: F) -> F:
    """Add --kubeconfig, --context and --namespace to a command; it gets them as `options`."""

    @functools.wraps(command)
    def with_wish(*, kubeconfig: str | None, context: str | None, namespace: str | None, **arguments: Any) -> Any:
        return command(options=ClusterOptions(kubeconfig=kubeconfig, context=context, namespace=namespace), **arguments)

    decorated: Any = with_wish
    for option in (
        click.option("--kubeconfig", metavar="FILE", help="Kubeconfig.  [default: $KUBECONFIG or ~/.kube/config]"),
        click.option("--context", metavar="NAME", help="Context of the kubeconfig.  [default: its current one]"),
        click.option("-n", "--namespace", metavar="NAME", help="Namespace.  [default: the context's]"),
    ):
        decorated = option(decorated)
    return decorated  # type: ignore[no-any-return]


def run_argument(*, many: bool = False, required: bool = True) -> Callable[[F], F]:
    """Add the argument RUN, or RUN… where there may be several."""
    return click.argument(
        "runs" if many else "run",
        metavar="RUN" if required and not many else "RUN..." if required else "[RUN...]",
        nargs=-1 if many else 1,
        required=required,
        shell_complete=_complete,
    )


def on_cluster(
    options: ClusterOptions, work: Callable[[Client], Awaitable[int]], *, interrupted: str | Callable[[], str] = ""
) -> NoReturn:
    """Connect, do the work and leave with its exit code; failures are told in words, never as a traceback.

    `interrupted` is told on Ctrl-C, with exit code 130.
    """

    async def connected() -> int:
        # Ended by its end, also on SIGTERM: the credentials' temporary files have to go.
        task = asyncio.current_task()
        if task is not None:
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        async with connect(locate(options)) as client:
            return await work(client)

    try:
        sys.exit(asyncio.run(connected()))
    except ClientError as error:
        fail(str(error), error.exit_code)
    except asyncio.CancelledError:
        sys.exit(_EXIT_TERMINATED)
    except KeyboardInterrupt:
        told = interrupted() if callable(interrupted) else interrupted
        fail(told or "interrupted", EXIT_INTERRUPTED)


def _complete(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    from .runs import list_runs

    given = context.params
    options = ClusterOptions(
        kubeconfig=given.get("kubeconfig"), context=given.get("context"), namespace=given.get("namespace")
    )

    async def names() -> list[str]:
        async with connect(locate(options)) as client:
            return [run["metadata"]["name"] for run in await list_runs(client, namespace=client.namespace)]

    try:
        found = asyncio.run(asyncio.wait_for(names(), _COMPLETION_SECONDS))
    except (ClientError, TimeoutError):
        # A shell that waits for a word has no room for a reason.
        return []
    return [CompletionItem(name) for name in found if name.startswith(incomplete)]
