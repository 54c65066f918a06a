"""From an application to a listening process, and gracefully out again."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import socket
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any, cast

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.auto import AutoHTTPProtocol

from shardwise.engine.errors import BadConfiguration, Unavailable
from shardwise_api.http_guard import ConnectionGuard, HttpLimits, LogThrottle, is_loopback
from shardwise_jobs.bootstrap import configure_logging

from .guard import Guard

KEEP_ALIVE_SECONDS = 5
_GRACE_SECONDS = 25
"""Less than the 30 s that Kubernetes gives a pod."""
_OBJECTS_BEFORE_COLLECTION = 50_000
_BACKLOG = 256
"""Connections that the system takes on before we do: as many files may come at once."""


class _Server(uvicorn.Server):
    """Says where it listens once it does, for callers that let the system choose the port."""

    def __init__(self, config: uvicorn.Config, *, url: str) -> None:
        super().__init__(config)
        self._url = url

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """See `uvicorn.Server.startup`."""
        await super().startup(sockets=sockets)
        sys.stdout.write(f"listening on {self._url}\n")
        sys.stdout.flush()


def log_to_stderr(level: str = "INFO") -> None:
    """Log to standard error, a line each; standard output is for the address alone."""
    configure_logging(level, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    throttle = LogThrottle()
    for handler in logging.getLogger().handlers:
        handler.addFilter(throttle)


def limits_from(environment: Mapping[str, str], **defaults: Any) -> HttpLimits:
    """Return the limits as variables set them, else `defaults`, by field.

    Raises:
        BadConfiguration: a variable's value is none.
    """
    try:
        return HttpLimits.from_environment(environment, **defaults)
    except ValueError as error:
        raise BadConfiguration(str(error)) from None


def serve(app: ASGIApp, *, host: str, port: int, limits: HttpLimits, access_log: bool = False) -> None:
    """Serve until SIGTERM or SIGINT, then end what is under way and return. Port 0 picks a free one.

    Prints one line, `listening on http://HOST:PORT`, to standard output.

    Raises:
        Unavailable: nobody can listen there.
    """
    listener = _listen(host=host, port=port)
    connections = ConnectionGuard(limits, name="server")
    config = uvicorn.Config(
        Guard(app, connections=connections, loopback=is_loopback(listener.getsockname()[0])),
        # A class in the eyes of uvicorn, which only calls it.
        http=cast("type[asyncio.Protocol]", connections.wrapping(AutoHTTPProtocol)),
        # One that upgrades would leave the guard.
        ws="none",
        backlog=_BACKLOG,
        log_config=None,
        access_log=access_log,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=_GRACE_SECONDS,
        server_header=False,
    )
    shown = f"[{host}]" if ":" in host else host
    server = _Server(config, url=f"http://{shown}:{listener.getsockname()[1]}")
    with listener, _signals_end(server), _few_collections():
        server.run(sockets=[listener])


def _listen(*, host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # The protocol is named because asyncio turns Nagle's algorithm off only then: else each answer takes 40 ms.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(_BACKLOG)
    except (OSError, OverflowError) as error:
        listener.close()
        raise Unavailable(f"can't listen on {host}:{port}: {error}") from error
    return listener


@contextmanager
def _few_collections() -> Iterator[None]:
    # A call makes thousands of small objects, next to none of them in cycles: looking for those cost a tenth of it.
    before = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(_OBJECTS_BEFORE_COLLECTION, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


@contextmanager
def _signals_end(server: uvicorn.Server) -> Iterator[None]:
    # uvicorn handles signals only while it runs, and at its end raises the one that ended it once more, for whoever
    # was there before: here nobody needs to die of it, and one that comes early must not be lost.
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int, frame: FrameType | None) -> None:
        server.should_exit = True

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
