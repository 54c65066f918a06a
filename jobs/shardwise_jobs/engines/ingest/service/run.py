"""From settings to a listening process: what can be wrong from the start ends it, what may be mended is said."""

from __future__ import annotations

import logging
import os

from shardwise.engine.pod import provide_home
from shardwise_api.ingest import Embedding, EmbeddingBackendKind, TmdBackendKind
from shardwise_jobs.http_server import run

from .. import factories
from ..stores import VectorModel
from .app import MAX_BODY_BYTES, MAX_VALUES, create_app
from .gateway import StoreGateway
from .llm import Llm, backend_without_llm
from .service import IngestService
from .settings import DEFAULT_ENDPOINT, Settings, without_effect

log = logging.getLogger(__name__)


def serve(*, host: str, port: int, settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT; see `shardwise_jobs.http_server.run.serve`.

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
    store = StoreGateway(uri, model=VectorModel(name=embedder.name, dimension=embedder.dimension))
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
