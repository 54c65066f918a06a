"""A kind of object as it changes: list, watch, and list again after whatever went wrong in between."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field

from .client import Client, Document, Resource
from .errors import ApiError, ClientError, Unreachable

_WATCH_SECONDS = 240
_QUIET_SECONDS = 100
"""API servers send a bookmark every minute or so: without even that, the connection is gone."""
_FIRST_PAUSE_SECONDS = 0.5
_LONGEST_PAUSE_SECONDS = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """All there is: what isn't in it is gone."""

    resource: Resource
    items: list[Document] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Updated:
    """One object is new or has changed."""

    resource: Resource
    item: Document


@dataclass(frozen=True, slots=True, kw_only=True)
class Deleted:
    """One object is no more; this is how it was last."""

    resource: Resource
    item: Document


@dataclass(frozen=True, slots=True, kw_only=True)
class Disconnected:
    """The API server can't be reached; it is tried again."""

    message: str


Event = Snapshot | Updated | Deleted | Disconnected


async def follow(
    client: Client, resource: Resource, *, namespace: str | None, params: Mapping[str, str] | None = None
) -> AsyncGenerator[Event, None]:
    """Yield what happens to a kind of objects, for ever; `params` are selectors.

    Raises:
        ApiError: refused, at once or later.
        Unreachable: no answer to the first call; later ones are tried again and told as `Disconnected`.
    """
    pause = _FIRST_PAUSE_SECONDS
    begun = False
    while True:
        try:
            items, version = await client.list(resource, namespace=namespace, params=params)
            yield Snapshot(resource=resource, items=items)
            begun, pause = True, _FIRST_PAUSE_SECONDS
            watch = _Watch(client, resource, namespace=namespace, params=params or {}, version=version)
            async with aclosing(watch.events()) as events:
                async for event in events:
                    yield event
        except (Unreachable, ApiError) as error:
            if not begun or not _passing(error):
                raise
            yield Disconnected(message=str(error))
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)


def _passing(error: ClientError) -> bool:
    return isinstance(error, Unreachable) or (isinstance(error, ApiError) and error.passing)


class _Watch:
    """Watches from a version on, for as long as the API server remembers it."""

    def __init__(
        self, client: Client, resource: Resource, *, namespace: str | None, params: Mapping[str, str], version: str
    ) -> None:
        self._client = client
        self._resource = resource
        self._namespace = namespace
        self._params = params
        self._version = version

    async def events(self) -> AsyncGenerator[Event, None]:
        """Yield changes; end when a new list is needed."""
        while True:
            params = {
                **self._params,
                "watch": "true",
                "allowWatchBookmarks": "true",
                "resourceVersion": self._version,
                "timeoutSeconds": str(_WATCH_SECONDS),
            }
            try:
                async with aclosing(
                    self._client.lines(
                        "watch", self._resource, namespace=self._namespace, params=params, quiet_seconds=_QUIET_SECONDS
                    )
                ) as lines:
                    async for line in lines:
                        event = json.loads(line)
                        item = event["object"]
                        if event["type"] == "ERROR":
                            # Too old a version, as a rule; a list mends any other reason too, or says what it is.
                            return
                        self._version = item["metadata"]["resourceVersion"]
                        if event["type"] in ("ADDED", "MODIFIED"):
                            yield Updated(resource=self._resource, item=item)
                        elif event["type"] == "DELETED":
                            yield Deleted(resource=self._resource, item=item)
            except ApiError as error:
                if error.code == 410:
                    return
                raise


async def merged(*streams: AsyncGenerator[Event, None]) -> AsyncGenerator[Event, None]:
    """Yield the events of several streams as they come; the first error of any ends them all."""
    queue: asyncio.Queue[Event | BaseException] = asyncio.Queue(maxsize=1000)

    async def pump(stream: AsyncGenerator[Event, None]) -> None:
        try:
            async for event in stream:
                await queue.put(event)
        except (ClientError, OSError) as error:
            await queue.put(error)

    tasks = [asyncio.create_task(pump(stream)) for stream in streams]
    try:
        while True:
            event = await queue.get()
            if isinstance(event, BaseException):
                raise event
            yield event
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
