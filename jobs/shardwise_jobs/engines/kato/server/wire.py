"""JSON both ways and the two headers: the thin layer between uvicorn and the routes.

Bodies are parsed by pydantic's own JSON reader: it is faster than the standard library's and refuses what no store
could keep (lone surrogates) or no JSON answer could echo (NaN).
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from pydantic_core import from_json, to_json
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .service import SessionService

_SESSION_PATH = re.compile(r"/sessions/(?!count$)([A-Za-z0-9_-]{1,128})(?:/|$)")


class JsonRequest(Request):
    """A request whose body is read by pydantic's JSON reader."""

    async def json(self) -> Any:
        """Return the parsed body; a JSONDecodeError becomes a 422."""
        try:
            return from_json(await self.body(), allow_inf_nan=False)
        except ValueError as error:
            raise json.JSONDecodeError(str(error), "", 0) from error


class JsonRoute(APIRoute):
    """A route that reads its body so."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """See `APIRoute.get_route_handler`."""
        handler = super().get_route_handler()

        async def handle(request: Request) -> Response:
            return await handler(JsonRequest(request.scope, request.receive))

        return handle


def answer(body: object, *, headers: dict[str, str] | None = None) -> Response:
    """Return a 200 with a JSON body; answers are made here, so nothing validates them again."""
    return Response(to_json(body), media_type="application/json", headers=headers)


class Headers:
    """Adds `x-trace-id` to every answer and `x-session-id` to those about a session; counts requests."""

    def __init__(self, app: ASGIApp, *, service: SessionService) -> None:
        self._app = app
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        self._service.requests += 1
        trace = next((value for name, value in scope["headers"] if name == b"x-trace-id"), None)
        added = [(b"x-trace-id", trace or f"kato-{secrets.token_hex(16)}".encode())]
        session = _SESSION_PATH.match(scope["path"])
        if session is not None:
            added.append((b"x-session-id", session[1].encode()))

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *added]
            await send(message)

        await self._app(scope, receive, send_with_headers)
