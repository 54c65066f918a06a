"""The two headers of every answer."""

from __future__ import annotations

import re
import secrets

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .service import SessionService

_SESSION_PATH = re.compile(r"/sessions/(?!count$)([A-Za-z0-9_-]{1,128})(?:/|$)")


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
