"""From a manifest's blocks to what does the work: the embedder, whoever gives codes, the store.

Heavy libraries are imported when a part is opened, so that a manifest that needs none of them asks for none.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from shardwise.engine.errors import BadConfiguration
from shardwise.engine.pod import in_pod, mount_hint
from shardwise_api.ingest import Embedding, EmbeddingBackendKind, IngestStore, OnTmdFailure, TmdBackendKind
from shardwise_api.runs import IngestRunSpec
from shardwise_api.wire import Environment

from .embed.base import Embedder
from .stores import RowStore, open_store, sqlite_path
from .tmd.base import ClientTmd, TmdBackend
from .tmd.embedded import EmbeddedTmd

STORE_FIELD = "spec.store"


@contextmanager
def opened_embedder(embedding: Embedding) -> Iterator[Embedder]:
    """Open the embedder that the manifest names. Raises as its class does: BadConfiguration, Unavailable."""
    with closing(open_embedder(embedding)) as embedder:
        yield embedder


def open_embedder(embedding: Embedding) -> Embedder:
    """Return the embedder that the manifest names; raises as `opened_embedder`."""
    if embedding.backend is EmbeddingBackendKind.SENTENCE_TRANSFORMERS:
        from .embed.sentence_transformers import SentenceTransformersEmbedder

        assert embedding.model is not None
        return SentenceTransformersEmbedder(embedding.model)
    from .embed.onnx import OnnxEmbedder
    from .embed.onnx_model import FOLDER_VARIABLE

    named = os.environ.get(FOLDER_VARIABLE)
    return OnnxEmbedder(Path(named) if named else None)


def open_backend(spec: IngestRunSpec, *, embedder: Embedder) -> TmdBackend:
    """Return whoever gives the codes; it belongs to the event loop that uses it first, where it is closed.

    Raises:
        BadConfiguration: it can't be made of what the manifest says.
    """
    match spec.tmd.backend:
        case TmdBackendKind.EMBEDDED:
            return EmbeddedTmd(embedder)
        case TmdBackendKind.CLIENT:
            return ClientTmd()
        case TmdBackendKind.OLLAMA:
            from .tmd.ollama import OllamaTmd

            assert spec.tmd.url is not None
            assert spec.tmd.model is not None
            return OllamaTmd(
                endpoint=spec.tmd.url,
                model=spec.tmd.model,
                workers=spec.workers,
                timeout_seconds=spec.tmd.timeout_seconds,
                retries=spec.tmd.retries,
            )


def open_fallback(spec: IngestRunSpec, *, embedder: Embedder) -> EmbeddedTmd | None:
    """Return who gives codes to the texts that the LLM has none for, None when those have failed."""
    return EmbeddedTmd(embedder) if spec.tmd.on_tmd_failure is OnTmdFailure.EMBEDDED else None


async def check_backend(spec: IngestRunSpec, *, load: bool) -> None:
    """See that a server that gives codes is there and has the model; `load` has it loaded.

    Raises:
        Unavailable: it can't be reached.
        BadConfiguration: it has no such model, or is no such server.
    """
    if spec.tmd.backend is not TmdBackendKind.OLLAMA:
        return
    from .tmd.ollama import OllamaTmd

    assert spec.tmd.url is not None
    assert spec.tmd.model is not None
    backend = OllamaTmd(
        endpoint=spec.tmd.url,
        model=spec.tmd.model,
        timeout_seconds=spec.tmd.timeout_seconds,
        retries=spec.tmd.retries,
    )
    try:
        await backend.check(load=load)
    finally:
        await backend.close()


def store_uri(store: IngestStore) -> str:
    """Return the URI of the manifest's store, from the environment when the manifest names a Secret.

    Raises:
        BadConfiguration: a Secret is named and the variable is not set, or an embedded store can't be written.
    """
    uri = store.uri or os.environ.get(Environment.STORE_URI)
    if not uri:
        raise BadConfiguration(
            f"{STORE_FIELD}.secretRef: there are no Secrets here; set {Environment.STORE_URI} to the URI"
        )
    if uri.startswith("sqlite:"):
        _require_writable(uri)
    return uri


def open_rows(store: IngestStore) -> RowStore:
    """Open the manifest's store; nothing is made yet. Raises as `store_uri`."""
    return open_store(store_uri(store), pool_size=store.pool_size)


def is_absent(store: IngestStore) -> bool:
    """Say whether the store is an embedded one that nobody has made: to look into it would make it."""
    uri = store_uri(store)
    return uri.startswith("sqlite:") and not sqlite_path(uri).exists()


def _require_writable(uri: str) -> None:
    path = sqlite_path(uri)
    if in_pod() and not path.is_absolute():
        raise BadConfiguration(f"{STORE_FIELD}.uri: {uri}{mount_hint(path, writable=True)}")
    place = next(parent for parent in (path, *path.absolute().parents) if parent.exists())
    if not os.access(place, os.W_OK):
        raise BadConfiguration(f"{STORE_FIELD}.uri: {uri}: {place} can't be written{mount_hint(path, writable=True)}")
