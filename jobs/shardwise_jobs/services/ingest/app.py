"""The routes: HTTP in, a call of the service, JSON out; and from settings to a listening process.

What can be wrong from the start ends it, what may be mended is said.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any

from fastapi import APIRouter, FastAPI, HTTPException, Response
from fastapi import Request as HttpRequest
from fastapi.responses import JSONResponse

from shardwise.engine.errors import WorkError
from shardwise.engine.pod import provide_home
from shardwise_api.ingest import Embedding, EmbeddingBackendKind, TmdBackendKind
from shardwise_jobs.engines.ingest import factories
from shardwise_jobs.engines.ingest.stores import VectorModel
from shardwise_jobs.services import run
from shardwise_jobs.services.wire import JsonRoute, answer, install_refusals

from .gateway import RowGateway
from .llm import Llm, backend_without_llm
from .models import Answer, Health, Info, Problem, Request, Stats
from .service import IngestService
from .settings import DEFAULT_ENDPOINT, Settings, without_effect

MAX_BODY_BYTES = 64 << 20
"""Of a request, unless set. All of it is in memory, several times over."""
MAX_VALUES = 250_000
"""In a request, unless set: the smallest chunks have two each, and take some kilobytes of memory."""
log = logging.getLogger(__name__)


def create_app(service: IngestService) -> FastAPI:
    """Return the application over a service, which it closes at its end."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await service.start()
        yield
        await service.close()

    app = FastAPI(
        title="Shardwise ingestion",
        summary="Chunks of text to codes, vectors and rows.",
        version=version("shardwise"),
        lifespan=lifespan,
        redoc_url=None,
    )
    install_refusals(app)

    @app.exception_handler(WorkError)
    async def store_failed(request: HttpRequest, error: WorkError) -> Response:
        # One line instead of a traceback: it is the store that is ill, not this code.
        log.warning("%s %s: %s", request.method, request.url.path, error)
        return JSONResponse({"detail": str(error)}, status_code=503)

    app.include_router(_routes(service))
    return app


def _routes(service: IngestService) -> APIRouter:
    router = APIRouter(route_class=JsonRoute)
    unavailable: dict[int | str, dict[str, Any]] = {
        503: {"model": Problem, "description": "The store can't be used now. Nothing was written: send it again."}
    }
    too_long: dict[int | str, dict[str, Any]] = {
        413: {
            "model": Problem,
            "description": f"The body is longer than {MAX_BODY_BYTES} bytes.",
        }
    }

    @router.get("/", response_model=Info)
    async def info() -> Response:
        """What is in force."""
        return answer(service.info())

    @router.post("/ingest", response_model=Answer, responses=unavailable | too_long)
    async def ingest(body: Request) -> Response:
        """Turn chunks into rows. A chunk that fails has `success` false and costs none of the others.

        Chunks that are rows already are not worked again, so a request may be repeated.
        """
        try:
            return answer(await service.ingest(body))
        except asyncio.CancelledError:
            # By the server, whose time for its end is over.
            raise HTTPException(503, "The service ended before this request did; send it again") from None

    @router.get("/health", response_model=Health)
    async def health() -> Response:
        """How the store, the embedding model and the LLM are; always 200."""
        return answer(await service.health())

    @router.get("/stats", response_model=Stats, responses=unavailable)
    async def stats() -> Response:
        """How many chunks there were so far, those before a restart included."""
        return answer(await service.stats())

    return router


def serve(*, host: str, port: int, settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT; see `shardwise_jobs.services.run.serve`.

    Raises:
        WorkError: a setting, the model, the store or the address can't be used.
    """
    run.log_to_stderr()
    # A line per question would be most of the log.
    logging.getLogger("httpx").setLevel(logging.WARNING)
    provide_home()
    for line in without_effect(os.environ):
        log.warning("%s", line)
    limits = run.limits_from(os.environ, body_bytes=MAX_BODY_BYTES, values=MAX_VALUES)
    run.serve(create_app(open_service(settings)), host=host, port=port, limits=limits)


def open_service(settings: Settings) -> IngestService:
    """Return a service as the settings say. Raises as `serve`."""
    uri = settings.store_uri
    llm = Llm(settings) if settings.backend is TmdBackendKind.OLLAMA else None
    embedder = factories.open_embedder(_embedding(settings.embedding_model))
    backend = backend_without_llm(settings.backend, embedder=embedder) if llm is None else llm.backend
    store = RowGateway(uri, model=VectorModel(name=embedder.name, dimension=embedder.dimension))
    log.info("rows go to the %s, vectors are of %s", store.where, embedder.name)
    if llm is not None:
        log.info("codes by %s at %s, %d questions at once", settings.model, llm.endpoint, settings.workers)
    else:
        log.info("codes by %s, without an LLM; --tmd ollama asks one, at %s by default", backend.name, DEFAULT_ENDPOINT)
    return IngestService(settings=settings, embedder=embedder, backend=backend, llm=llm, store=store)


def _embedding(model: str | None) -> Embedding:
    if model is None:
        return Embedding()
    return Embedding(backend=EmbeddingBackendKind.SENTENCE_TRANSFORMERS, model=model)
