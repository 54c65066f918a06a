"""The guard before our ASGI applications: host, size and time of a body, and how many requests are at work.

A body is read here whole, for the routes take theirs whole, so that a sender who drips holds a connection and nothing
else. See `shardwise_api.http_guard` for what is common to all our services.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Collection
from contextlib import nullcontext
from http import HTTPStatus

from pydantic_core import to_json
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from shardwise_api.http_guard import ConnectionGuard, json_flaw

HEALTH_PATHS = frozenset({"/health"})


class _Refused(Exception):
    """A request is not handed on."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


class _Gone(Exception):
    """Whoever asked has left."""


class Guard:
    """Hands on what keeps to the limits."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        connections: ConnectionGuard,
        loopback: bool,
        always: Collection[str] = HEALTH_PATHS,
    ) -> None:
        """`loopback`: whether the server listens on this machine alone; `always`: paths that are never too many."""
        self._app = app
        self._connections = connections
        self._limits = connections.limits
        self._loopback = loopback
        self._always = always
        self._at_work = 0
        self._held_bytes = 0
        self._held_of_peer = Counter[str]()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        connection = self._connections.find(scope.get("client"))
        with nullcontext() if connection is None else connection.request():
            body, peer = bytearray(), _peer(scope)
            try:
                self._check_host(scope)
                await self._read(scope, receive, body)
                if connection is not None:
                    connection.works()
                await self._work(scope, bytes(body), receive, send)
            except _Refused as refusal:
                await _refuse(refusal, send)
            except _Gone:
                return
            finally:
                self._held_bytes -= len(body)
                self._held_of_peer -= Counter({peer: len(body)})

    async def _work(self, scope: Scope, body: bytes, receive: Receive, send: Send) -> None:
        if scope["path"] not in self._always and self._at_work >= self._limits.requests:
            # In uvicorn's words: clients know by them that nothing was done.
            raise _Refused(HTTPStatus.SERVICE_UNAVAILABLE, "Service Unavailable")
        if body and (flaw := json_flaw(body, limits=self._limits)) is not None:
            raise _Refused(HTTPStatus.UNPROCESSABLE_ENTITY, flaw)
        handed_on = False

        async def receive_again() -> Message:
            nonlocal handed_on
            if handed_on:
                return await receive()
            handed_on = True
            return {"type": "http.request", "body": body, "more_body": False}

        self._at_work += 1
        try:
            await self._app(scope, receive_again, send)
        finally:
            self._at_work -= 1

    def _check_host(self, scope: Scope) -> None:
        hosts = [value.decode("latin-1") for name, value in scope["headers"] if name == b"host"] or [None]
        if not all(self._limits.answers_to(host, loopback=self._loopback) for host in hosts):
            raise _Refused(
                HTTPStatus.MISDIRECTED_REQUEST,
                "this server does not answer to the name in Host; SHARDWISE_HTTP_HOSTS sets the names it answers to",
            )

    async def _read(self, scope: Scope, receive: Receive, body: bytearray) -> None:
        peer = _peer(scope)
        length = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
        if length.isdigit() and int(length[:20]) > self._limits.body_bytes:
            raise self._too_long()
        try:
            async with asyncio.timeout(self._limits.body_seconds):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise _Gone
                    piece = message.get("body", b"")
                    body += piece
                    self._held_bytes += len(piece)
                    self._held_of_peer[peer] += len(piece)
                    if len(body) > self._limits.body_bytes:
                        raise self._too_long()
                    full = self._held_bytes > self._limits.body_bytes_in_all
                    if full or self._held_of_peer[peer] > self._limits.body_bytes_per_peer:
                        raise _Refused(HTTPStatus.SERVICE_UNAVAILABLE, "Service Unavailable")
                    if not message.get("more_body", False):
                        return
        except TimeoutError:
            why = f"the body did not come within {self._limits.body_seconds:g} s"
            raise _Refused(HTTPStatus.REQUEST_TIMEOUT, why) from None

    def _too_long(self) -> _Refused:
        why = f"The body is longer than {self._limits.body_bytes} bytes; send less at once"
        return _Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, why)


def _peer(scope: Scope) -> str:
    client = scope.get("client")
    return "" if client is None else str(client[0])


async def _refuse(refusal: _Refused, send: Send) -> None:
    plain = refusal.status == HTTPStatus.SERVICE_UNAVAILABLE
    detail: object = str(refusal)
    if refusal.status == HTTPStatus.UNPROCESSABLE_ENTITY:
        # As the routes say what is wrong with a body.
        detail = [{"type": "too_much", "loc": ["body"], "msg": detail}]
    body = str(refusal).encode() if plain else to_json({"detail": detail})
    kind = b"text/plain; charset=utf-8" if plain else b"application/json"
    headers = [(b"content-type", kind), (b"content-length", str(len(body)).encode()), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": int(refusal.status), "headers": headers})
    await send({"type": "http.response.body", "body": body})
