"""Follows runs to their end, shown in whatever way there is room for."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing

from shardwise_api.console import safe_console
from shardwise_api.terminal import echo

from .client import Client
from .events import Snapshot, follow, merged
from .live_display import Display, LineDisplay, LiveDisplay
from .names import RESOURCES, RunName
from .run_store import RunStore


def display(*, namespaces: bool = False) -> Display:
    """Return bars for a terminal, lines for anything else, on standard output."""
    console = safe_console()
    if console.is_terminal:
        return LiveDisplay(console, namespaces=namespaces)
    return LineDisplay(echo, namespaces=namespaces)


async def watch(client: Client, names: Sequence[RunName], *, namespace: str | None, shown: Display | None) -> RunStore:
    """Follow the runs of these names, or all that there are, until those named are over; return how they were last.

    All namespaces when `namespace` is None. Without `shown` it waits in silence.
    """
    store = RunStore(names)
    kinds = {kind for name in names for kind in name.kinds} or set(RESOURCES)
    # One run needs no more than events of one run: a namespace may hold thousands.
    params = {"fieldSelector": f"metadata.name={names[0].name}"} if len(names) == 1 else {}
    streams = [
        follow(client, RESOURCES[kind], namespace=namespace, params=params) for kind in RESOURCES if kind in kinds
    ]
    unheard = {RESOURCES[kind] for kind in kinds}
    async with aclosing(merged(*streams)) as events:
        async for event in events:
            store.take(event)
            if isinstance(event, Snapshot):
                unheard.discard(event.resource)
            if unheard:
                continue
            if shown is not None:
                shown.show(store)
            if store.over:
                break
    return store
