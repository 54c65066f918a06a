"""The routes: HTTP in, a call of the service, JSON out.

Calls that change a session, or need the store, run in threads, for they may wait for a lock or for the store; all
others only read memory and are answered at once, so that a slow store never keeps the server from answering.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Annotated, Any

import anyio.to_thread
from fastapi import APIRouter, Body, FastAPI, HTTPException, Query, Response
from fastapi.responses import StreamingResponse
from starlette.types import ASGIApp

from shardwise_jobs.http_server.wire import JsonRoute, answer

from . import errors, health
from .models import ExtendedSequence, Genes, NewSession, Observed, PlainSequence, SequenceBatch, SessionConfig, Ttl
from .service import VERSION, SessionService
from .sessions import SessionNotFound
from .wire import Headers

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
    errors.install(app)
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
            raise errors.detailed_not_found(error) from None

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
        config = errors.checked(SessionConfig, {} if change is None else change, location=location)
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
        change = errors.checked(SessionConfig, body.genes, location=("body", "genes"))
        return answer(service.update_genes(node_id, change))

    return router


def _server_routes(service: SessionService) -> APIRouter:
    router = APIRouter()

    @router.get("/health")
    async def health_check() -> Response:
        return answer(await health.health(service))

    @router.get("/status")
    @router.get("/")
    async def status() -> Response:
        return answer(service.overview())

    return router
