"""The routes: HTTP in, a call of the service, JSON out; how calls fail, the headers of every answer, and health.

Calls that change a session, or need the store, run in threads, for they may wait for a lock or for the store; all
others only read memory and are answered at once, so that a slow store never keeps the server from answering.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import Annotated, Any, NoReturn, TypeVar

import anyio.to_thread
from fastapi import APIRouter, Body, FastAPI, HTTPException, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse, StreamingResponse
from pydantic import BaseModel, ValidationError
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from shardwise.engine.errors import WorkError
from shardwise_jobs.services import run
from shardwise_jobs.services.gateway import PROBE_SECONDS
from shardwise_jobs.services.wire import JsonRoute, answer, install_refusals

from .models import ExtendedSequence, Genes, NewSession, Observed, PlainSequence, SequenceBatch, SessionConfig, Ttl
from .predictions import TooCostly
from .service import VERSION, Answer, EmptyStm, SessionService, open_gateway
from .sessions import NoRoom, SessionNotFound, TooLarge
from .settings import Settings

_SECONDS_BETWEEN_SWEEPS = 10.0

NodeId = Annotated[str, Query(min_length=1)]


def create_app(service: SessionService, *, threads: int = 100) -> ASGIApp:
    """Return the ASGI application over a service; `threads` is how many requests may be under way."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        # As many threads as requests may be under way: none waits for a thread that itself waits for a lock.
        anyio.to_thread.current_default_thread_limiter().total_tokens = threads
        sweeper = asyncio.create_task(_sweep_regularly(service))
        yield
        sweeper.cancel()
        with suppress(asyncio.CancelledError):
            await sweeper
        service.gateway.close()

    app = FastAPI(title="KATO", version=VERSION, lifespan=lifespan, docs_url=None, redoc_url=None)
    install_errors(app)
    app.include_router(_session_routes(service))
    app.include_router(_node_routes(service))
    app.include_router(_server_routes(service))
    # Around everything, so that a 500 has its trace id too.
    return Headers(app, service=service)


async def _sweep_regularly(service: SessionService) -> None:
    while True:
        await asyncio.sleep(_SECONDS_BETWEEN_SWEEPS)
        await anyio.to_thread.run_sync(service.sweep)


def _session_routes(service: SessionService) -> APIRouter:
    router = APIRouter(prefix="/sessions", route_class=JsonRoute)

    @router.post("")
    async def create(body: NewSession) -> Response:
        session = service.sessions.create(body)
        return answer(session.shown(), headers={"x-session-id": session.id})

    # Before the routes with an id, which would take the word for one.
    @router.get("/count")
    async def count() -> Response:
        return answer({"active_session_count": service.sessions.count()})

    @router.get("/{session_id}")
    async def show(session_id: str) -> Response:
        try:
            return answer(service.sessions.get(session_id).shown())
        except SessionNotFound as error:
            raise detailed_not_found(error) from None

    @router.delete("/{session_id}")
    async def delete(session_id: str) -> Response:
        service.sessions.delete(session_id)
        return answer({"status": "deleted", "session_id": session_id})

    @router.get("/{session_id}/exists")
    async def exists(session_id: str) -> Response:
        there, expired = service.sessions.exists(session_id)
        return answer({"exists": there, "expired": expired, "session_id": session_id})

    @router.post("/{session_id}/extend")
    async def extend(session_id: str, ttl_seconds: Annotated[Ttl, Query()] = 3600) -> Response:
        session = service.sessions.extend(session_id, ttl_seconds=ttl_seconds)
        return answer({"status": "extended", "session_id": session_id, "ttl_seconds": session.ttl_seconds})

    @router.post("/{session_id}/config")
    def configure(session_id: str, body: dict[str, Any]) -> Response:
        change, location = (body["config"], ("body", "config")) if "config" in body else (body, ("body",))
        config = checked(SessionConfig, {} if change is None else change, location=location)
        return answer(service.configure(session_id, config))

    @router.post("/{session_id}/observe")
    def observe(session_id: str, body: Annotated[Observed, Body()]) -> Response:
        return answer(service.observe(session_id, body))

    router.post("/{session_id}/observe-sequence")(_sequence_handler(service))

    if service.settings.extensions:

        @router.post("/{session_id}/learn-sequences")
        def learn_sequences(session_id: str, body: SequenceBatch) -> Response:
            return answer(service.learn_sequences(session_id, body))

    @router.post("/{session_id}/learn")
    def learn(session_id: str) -> Response:
        return answer(service.learn(session_id))

    @router.get("/{session_id}/stm")
    async def stm(session_id: str) -> Response:
        return answer(service.stm(session_id))

    @router.post("/{session_id}/clear-stm")
    def clear_stm(session_id: str) -> Response:
        return answer(service.clear_stm(session_id))

    @router.post("/{session_id}/clear-all")
    def clear_all(session_id: str) -> Response:
        return answer(service.clear_all(session_id))

    @router.get("/{session_id}/predictions")
    async def predictions(session_id: str) -> Response:
        return answer(service.predictions(session_id))

    return router


def _sequence_handler(service: SessionService) -> Callable[..., Response]:
    def plain(session_id: str, body: PlainSequence) -> Response:
        return answer(service.observe_sequence(session_id, body))

    def extended(session_id: str, body: ExtendedSequence) -> Response:
        return answer(service.observe_sequence(session_id, body))

    return extended if service.settings.extensions else plain


def _node_routes(service: SessionService) -> APIRouter:
    router = APIRouter(route_class=JsonRoute)

    @router.get("/pattern/{name}")
    def pattern(name: str, node_id: NodeId) -> Response:
        return answer(service.pattern(node_id, name))

    if service.settings.extensions:
        # Never all of them: an id is all it takes to use a session, so who asks must know whose they are.
        @router.get("/runs/{run}/sessions")
        async def sessions_of_run(run: str) -> Response:
            found = service.sessions.of_run(run)
            return answer({"sessions": [{"session_id": each.id, "node_id": each.node_id} for each in found]})

        @router.get("/knowledge/{node_id}/frequencies")
        def frequencies(node_id: str) -> Response:
            return StreamingResponse(service.frequencies(node_id), media_type="text/plain")

    @router.get("/gene/{name}")
    async def gene(name: str, node_id: NodeId) -> Response:
        try:
            return answer(service.gene(node_id, name))
        except KeyError:
            raise HTTPException(404, f"Gene {name} not found") from None

    @router.post("/genes/update")
    def update_genes(node_id: NodeId, body: Genes) -> Response:
        change = checked(SessionConfig, body.genes, location=("body", "genes"))
        return answer(service.update_genes(node_id, change))

    return router


def _server_routes(service: SessionService) -> APIRouter:
    router = APIRouter()

    @router.get("/health")
    async def health_check() -> Response:
        return answer(await health(service))

    @router.get("/status")
    @router.get("/")
    async def status() -> Response:
        return answer(service.overview())

    return router


async def health(service: SessionService) -> Answer:
    """Probe the store and tell.

    `unhealthy`: the store can't be read. `degraded`: it is slow to answer, or can be read but the last call failed.
    """
    status, issues = await _store_health(service)
    now = datetime.now(UTC).isoformat()
    return {
        "status": status,
        "processor_status": "healthy" if status == "healthy" else "degraded",
        "service_name": service.settings.service_name,
        "uptime_seconds": service.uptime(),
        "issues": issues,
        "metrics_collected": service.requests,
        "last_collection": now,
        "active_sessions": service.sessions.count(),
        "timestamp": now,
    }


async def _store_health(service: SessionService) -> tuple[str, list[str]]:
    try:
        await service.gateway.look()
    except TimeoutError:
        return "degraded", [f"the store has not answered for {PROBE_SECONDS:g} s"]
    except WorkError as error:
        return "unhealthy", [f"the store can't be read: {error}"]
    if service.gateway.failure is not None:
        return "degraded", [f"the last call of the store failed: {service.gateway.failure}"]
    return "healthy", []


_RETRY_SECONDS = 10
"""Sessions are looked through that often, and some may be over then."""

Model = TypeVar("Model", bound=BaseModel)
log = logging.getLogger(__name__)


def install_errors(app: FastAPI) -> None:
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


def serve(*, host: str, port: int, store_uri: str, settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT; see `shardwise_jobs.services.run.serve`."""
    run.log_to_stderr(settings.log_level)
    limits = run.limits_from(os.environ)
    service = SessionService(gateway=open_gateway(uri=store_uri, settings=settings), settings=settings)
    app = create_app(service, threads=limits.requests)
    run.serve(app, host=host, port=port, limits=limits, access_log=settings.log_level == "DEBUG")
