"""How calls fail on the wire: the original's statuses and bodies, whichever way of ours led to them."""

from __future__ import annotations

import logging
from typing import NoReturn, TypeVar

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse
from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException

from shardwise.engine.errors import WorkError
from shardwise_jobs.http_server.wire import install_refusals

from .predictions import TooCostly
from .service import EmptyStm
from .sessions import NoRoom, SessionNotFound, TooLarge

_RETRY_SECONDS = 10
"""Sessions are looked through that often, and some may be over then."""

Model = TypeVar("Model", bound=BaseModel)
log = logging.getLogger(__name__)


def install(app: FastAPI) -> None:
    """Teach an application the error answers."""
    install_refusals(app)

    @app.exception_handler(SessionNotFound)
    async def session_not_found(request: Request, error: SessionNotFound) -> Response:
        body = {"code": "SESSION_NOT_FOUND", "message": str(error), "session_id": error.session_id}
        return JSONResponse({"error": body}, status_code=404)

    @app.exception_handler(EmptyStm)
    async def empty_stm(request: Request, error: EmptyStm) -> Response:
        return JSONResponse({"detail": "Cannot learn from empty STM"}, status_code=400)

    @app.exception_handler(NoRoom)
    async def no_room(request: Request, error: NoRoom) -> Response:
        return JSONResponse({"detail": str(error)}, status_code=503, headers={"Retry-After": str(_RETRY_SECONDS)})

    @app.exception_handler(TooCostly)
    @app.exception_handler(TooLarge)
    async def too_costly(request: Request, error: TooCostly | TooLarge) -> Response:
        # Of the client's making: another try would take as long.
        return JSONResponse({"detail": str(error)}, status_code=413)

    @app.exception_handler(WorkError)
    async def store_failed(request: Request, error: WorkError) -> Response:
        # One line instead of a traceback: it is the store that is ill, not this code.
        log.warning("%s %s: %s", request.method, request.url.path, error)
        return PlainTextResponse("Internal Server Error", status_code=500)


def detailed_not_found(error: SessionNotFound) -> HTTPException:
    """Return the other form of the same error: what `GET /sessions/{id}` alone answers."""
    return HTTPException(404, str(error))


def refuse(error: ValidationError, *, location: tuple[str, ...]) -> NoReturn:
    """Answer 422 for a part of a body that was checked by hand."""
    details = error.errors(include_url=False)
    raise RequestValidationError([{**detail, "loc": (*location, *detail["loc"])} for detail in details]) from None


def checked(model: type[Model], value: object, *, location: tuple[str, ...]) -> Model:
    """Parse a part of a body by hand, for bodies that come in two forms."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        refuse(error, location=location)
