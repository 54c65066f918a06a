"""Where a run's patterns and its ledger are: a store that workers write, or a server with a ledger in the output.

The engine's three steps are the same for both; what differs is here.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from typing import Any, Protocol

from shardwise.engine.backoff import retrying
from shardwise.engine.errors import BadConfiguration
from shardwise.engine.identity import RunIdentity
from shardwise.engine.pod import in_pod, mount_hint
from shardwise.engine.worker import Context
from shardwise_api.kato import KatoEngine as KatoSpec
from shardwise_api.kato import Transport as TransportKind
from shardwise_api.wire import Environment

from .file_ledger import FileLedger
from .names import node_id
from .stores import KnowledgeBaseConfig, open_store, sqlite_path
from .stores.base import BlockRecord, PatternStore, StoreUnavailable
from .transport import DirectTransport, Guarantee, Transport


class Backend(Protocol):
    """One run's view of where its patterns are."""

    @property
    def guarantee(self) -> Guarantee:
        """What a crash at the worst moment can do."""

    @property
    def settings(self) -> dict[str, Any]:
        """Settings in effect, for the summary."""

    def check(self, *, config: KnowledgeBaseConfig, identity: RunIdentity) -> None:
        """Refuse a knowledge base or a run that was begun with other settings; write nothing."""

    def begin(self, *, config: KnowledgeBaseConfig, identity: RunIdentity) -> None:
        """Record what the run is, before its first block."""

    def transport(self, shard: int) -> AbstractContextManager[Transport]:
        """Open the way to commit one shard's blocks."""

    def ledger(self) -> Iterator[BlockRecord]:
        """Yield the run's committed blocks by shard, then block."""

    def frequencies(self, node: str) -> Iterator[tuple[str, int]]:
        """Yield (bare name, frequency) of a node of the knowledge base in order of name."""

    def finish(self, *, restarted: bool) -> list[str]:
        """Drop what only protected the run's writes, or was left by killed workers; no worker of it is left.

        `restarted` says whether workers are known to have been started again. Returns what people should be told.
        """


@contextmanager
def open_backend(context: Context, kato: KatoSpec) -> Iterator[Backend]:
    """Open the backend that the manifest names, and close it again."""
    if kato.transport is TransportKind.REST:
        from .rest_backend import RestBackend

        with closing(RestBackend(context=context, kato=kato)) as rest:
            yield rest
        return
    with closing(DirectBackend(run=context.document.uid, kato=kato)) as direct:
        yield direct


class DirectBackend:
    """A pattern store that the workers write themselves; it holds the ledger too."""

    guarantee: Guarantee = "ExactlyOnce"

    def __init__(self, *, run: str, kato: KatoSpec) -> None:
        self._run = run
        self._kato = kato
        self._uri = store_uri(kato)
        self._opened: PatternStore | None = None

    @property
    def settings(self) -> dict[str, Any]:
        """See `Backend.settings`."""
        return {"transport": "Direct", "store": self._uri.partition("://")[0]}

    @property
    def _store(self) -> PatternStore:
        if self._opened is None:
            _require_writable(self._uri)
            self._opened = retrying(lambda: open_store(self._uri), on=StoreUnavailable)
        return self._opened

    @property
    def _absent(self) -> bool:
        # Opening makes an embedded store, and a look must not leave one behind.
        return self._opened is None and self._uri.startswith("sqlite:") and not sqlite_path(self._uri).exists()

    def check(self, *, config: KnowledgeBaseConfig, identity: RunIdentity) -> None:
        """See `Backend.check`."""
        if self._absent:
            return
        name = self._kato.knowledge_base
        found = retrying(lambda: self._store.knowledge_base(name=name), on=StoreUnavailable)
        if found is not None and found != config:
            raise BadConfiguration(
                f"spec.engine.kato.knowledgeBase: {name!r} is in the store already, learned with {_told(found)}; this "
                f"manifest has {_told(config)}: use the same, or another knowledgeBase"
            )
        recorded = self._store.run_document(run=self._run)
        if recorded is not None:
            identity.require_same(recorded)

    def begin(self, *, config: KnowledgeBaseConfig, identity: RunIdentity) -> None:
        """See `Backend.begin`."""
        self._store.create_knowledge_base(name=self._kato.knowledge_base, config=config)
        self._store.record_run(run=self._run, document=identity.to_json())

    @contextmanager
    def transport(self, shard: int) -> Iterator[Transport]:
        """See `Backend.transport`."""
        yield DirectTransport(
            store=self._store,
            knowledge_base=self._kato.knowledge_base,
            node_names=tuple(node.name for node in self._kato.nodes),
            run=self._run,
            shard=shard,
        )

    def ledger(self) -> Iterator[BlockRecord]:
        """See `Backend.ledger`."""
        return iter(()) if self._absent else self._store.ledger(run=self._run)

    def frequencies(self, node: str) -> Iterator[tuple[str, int]]:
        """See `Backend.frequencies`."""
        return self._store.frequencies(node_id=node_id(self._kato.knowledge_base, node))

    def finish(self, *, restarted: bool) -> list[str]:
        """See `Backend.finish`."""
        nodes = [node_id(self._kato.knowledge_base, node.name) for node in self._kato.nodes]
        self._store.drop_markers(run=self._run, node_ids=nodes)
        return []

    def close(self) -> None:
        """Close the store, if it was opened."""
        if self._opened is not None:
            self._opened.close()


def _require_writable(uri: str) -> None:
    if not uri.startswith("sqlite:"):
        return
    path = sqlite_path(uri)
    if in_pod() and not path.is_absolute():
        raise BadConfiguration(f"spec.engine.kato.store.uri: {uri}{mount_hint(path, writable=True)}")
    place = next(parent for parent in (path, *path.absolute().parents) if parent.exists())
    if not os.access(place, os.W_OK):
        raise BadConfiguration(
            f"spec.engine.kato.store.uri: {uri}: {place} can't be written{mount_hint(path, writable=True)}"
        )


def run_ledger(context: Context) -> FileLedger:
    """Return the ledger in the run's output folder."""
    return FileLedger(output=context.output, run=context.document.uid)


def _told(config: KnowledgeBaseConfig) -> str:
    sizes = ", ".join(f"{node} {size}" for node, size in zip(config.nodes, config.chunk_sizes, strict=True))
    return f"chunk sizes {sizes}, tokenizer {config.tokenizer}, segmentation {config.segmentation}"


def store_uri(kato: KatoSpec) -> str:
    """Return the URI of the manifest's store, from the environment when the manifest names a Secret.

    Raises:
        BadConfiguration: a Secret is named and the variable is not set.
    """
    assert kato.store is not None
    uri = kato.store.uri or os.environ.get(Environment.STORE_URI)
    if not uri:
        raise BadConfiguration(
            f"spec.engine.kato.store.secretRef: there are no Secrets here; set {Environment.STORE_URI} to the URI"
        )
    return uri
