"""How the operator's applications listen: behind the guard that all our HTTP services have."""

from __future__ import annotations

import asyncio
from contextlib import nullcontext

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from shardwise_api.http_guard import ConnectionGuard, HttpLimits, is_loopback

SHUTDOWN_SECONDS = 2.0
KEEP_ALIVE_SECONDS = 75.0
"""Longer than Prometheus' interval: the guard ends what is idle sooner when there is no room."""
_MOST_HEADERS = 64
_BACKLOG = 128


class _GuardedSite(web.TCPSite):
    """A site whose connections are guarded."""

    def __init__(self, runner: web.AppRunner, guard: ConnectionGuard, *, host: str | None, port: int) -> None:
        super().__init__(runner, host=host, port=port)
        self._guard = guard

    async def start(self) -> None:
        """See `web.BaseSite.start`."""
        await web.BaseSite.start(self)
        assert self._runner.server is not None
        factory = self._guard.wrapping(self._runner.server)
        self._server = await asyncio.get_running_loop().create_server(factory, self._host, self._port, backlog=_BACKLOG)


async def serve(
    application: web.Application, *, name: str, host: str | None, port: int, limits: HttpLimits
) -> web.AppRunner:
    """Listen, on all addresses when `host` is None; `cleanup` of what is returned ends it.

    Raises:
        OSError: nobody can listen there.
    """
    guard = ConnectionGuard(limits, name=name)
    application.middlewares.append(_guarding(guard, loopback=is_loopback(host)))
    # Without an access log: Authorization headers are nobody's business.
    runner = web.AppRunner(
        application,
        access_log=None,
        shutdown_timeout=SHUTDOWN_SECONDS,
        keepalive_timeout=KEEP_ALIVE_SECONDS,
        max_headers=_MOST_HEADERS,
    )
    await runner.setup()
    await _GuardedSite(runner, guard, host=host, port=port).start()
    return runner


def _guarding(guard: ConnectionGuard, *, loopback: bool) -> Middleware:
    @web.middleware
    async def guarded(request: web.Request, handler: Handler) -> web.StreamResponse:
        peer = None if request.transport is None else request.transport.get_extra_info("peername")
        connection = None if peer is None else guard.find(tuple(peer[:2]))
        with nullcontext() if connection is None else connection.request():
            if not all(guard.limits.answers_to(host, loopback=loopback) for host in request.headers.getall("Host", [])):
                error = "this server does not answer to the name in Host; SHARDWISE_HTTP_HOSTS sets those it answers to"
                return web.json_response({"error": error}, status=421)
            if connection is not None:
                # Until then it waits for its sender, and makes room for others when there is none.
                request.content.on_eof(connection.works)
            return await handler(request)

    return guarded
