"""JSON both ways: the thin layer between uvicorn and the routes.

Bodies are parsed by pydantic's own JSON reader: it is faster than the standard library's and refuses what no store
could keep (lone surrogates) or no JSON answer could echo (NaN).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.encoders import jsonable_encoder
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic_core import from_json, to_json


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

    request_class = JsonRequest

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """See `APIRoute.get_route_handler`."""
        handler = super().get_route_handler()

        async def handle(request: Request) -> Response:
            return await handler(self.request_class(request.scope, request.receive))

        return handle


def answer(body: object, *, headers: dict[str, str] | None = None) -> Response:
    """Return a 200 with a JSON body; answers are made here, so nothing validates them again."""
    return Response(to_json(body), media_type="application/json", headers=headers)


def install_refusals(app: FastAPI) -> None:
    """Have a bad body answered 422 also when it holds what JSON has no word for: a number too big for a float."""

    @app.exception_handler(RequestValidationError)
    async def refused(request: Request, error: RequestValidationError) -> Response:
        body = to_json({"detail": jsonable_encoder(error.errors())})
        return Response(body, status_code=422, media_type="application/json")
