"""A KATO server as backend: it learns, while the ledger lies in the run's output folder."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

from shardwise.engine.errors import BadConfiguration
from shardwise.engine.identity import RunIdentity
from shardwise.engine.worker import Context
from shardwise_api.kato import KatoEngine as KatoSpec
from shardwise_api.uris import redacted

from .backends import store_uri
from .client import KatoClient
from .file_ledger import FileLedger
from .http import KatoError
from .names import node_id
from .rest import NEEDED_EXTENSIONS, RestTransport
from .stores import KnowledgeBaseConfig, open_store
from .stores.base import BlockRecord
from .transport import Guarantee, Transport

LISTING = "list-patterns"
SESSIONS = "list-sessions"
log = logging.getLogger(__name__)


class RestBackend:
    """See `backends.Backend`."""

    def __init__(self, *, context: Context, kato: KatoSpec) -> None:
        assert kato.server is not None
        self._kato = kato
        self._server = kato.server
        self._run = context.document.uid
        sharding = context.document.spec["sharding"]
        self._shards: int = sharding["shards"]
        self._parallelism: int = sharding.get("parallelism", self._shards)
        self._folder = context.output.child("ledger")
        self._files = FileLedger(output=context.output, run=self._run)
        self._status: dict[str, Any] | None = None

    def _server_status(self) -> dict[str, Any]:
        if self._status is None:
            with closing(self._client()) as client:
                self._status = client.get_status()
        return self._status

    def _client(self) -> KatoClient:
        return KatoClient(
            base_url=self._server.url,
            node_id=node_id(self._kato.knowledge_base, self._kato.nodes[0].name),
            timeout_seconds=self._server.request_timeout_seconds,
        )

    @property
    def _extensions(self) -> list[str]:
        return list(self._server_status().get("extensions", []))

    @property
    def guarantee(self) -> Guarantee:
        """See `Backend.guarantee`: only a server that guards its writes can promise more than at least once."""
        return "ExactlyOnce" if NEEDED_EXTENSIONS.issubset(self._extensions) else "AtLeastOnce"

    @property
    def settings(self) -> dict[str, Any]:
        """See `Backend.settings`: ours, and what the server says of its own."""
        return {
            "transport": "Rest",
            "node0BatchSize": self._server.node0_batch_size,
            "requestTimeoutSeconds": self._server.request_timeout_seconds,
            "connectionPoolSize": self._server.connection_pool_size,
            "sessionTTLSeconds": self._server.session_ttl_seconds,
            "server": self._server_status().get("settings", {}),
        }

    def check(self, *, config: KnowledgeBaseConfig, identity: RunIdentity) -> None:
        """See `Backend.check`; a server keeps no record of chunk sizes, so only the run itself is compared."""
        if LISTING not in self._extensions and self._kato.store is None:
            raise BadConfiguration(
                f"spec.engine.kato.store: the server at {redacted(self._server.url)} can't list its patterns, so the "
                "digest has to be read from its database: name it, as store: {uri: 'mongodb://…'}"
            )
        recorded = self._folder.read_text(self._identity_file)
        if recorded is not None:
            identity.require_same(recorded)

    def begin(self, *, config: KnowledgeBaseConfig, identity: RunIdentity) -> None:
        """See `Backend.begin`."""
        if self._folder.read_text(self._identity_file) is None:
            self._folder.write_text(self._identity_file, identity.to_json())

    @property
    def _identity_file(self) -> str:
        return f"{self._run}.json"

    def _guard_run(self) -> str:
        """Return what the server's guards know this run by: its uid and all that its block numbers rest on.

        The guards outlive the output folder. Should that be lost, the same run is known by them and counts once; one
        that is cut otherwise by now has other blocks under the same numbers, and must not be taken for it.
        """
        recorded = self._folder.read_text(self._identity_file) or ""
        return str(uuid.uuid5(uuid.NAMESPACE_OID, f"{self._run} {recorded}"))

    @contextmanager
    def transport(self, shard: int) -> Iterator[Transport]:
        """See `Backend.transport`; the sessions are deleted whatever happens."""
        with closing(
            RestTransport(
                server=self._server,
                knowledge_base=self._kato.knowledge_base,
                chunk_sizes=tuple(node.chunk_size for node in self._kato.nodes),
                run=self._run,
                shard=shard,
                ledger=self._files,
                guard_run=self._guard_run(),
                sole_writer=self._parallelism == 1,
            )
        ) as transport:
            yield transport

    def ledger(self) -> Iterator[BlockRecord]:
        """See `Backend.ledger`."""
        return self._files.all_records(shards=self._shards)

    def frequencies(self, node: str) -> Iterator[tuple[str, int]]:
        """See `Backend.frequencies`: from the server when it lists them, else from its database."""
        kato_node = node_id(self._kato.knowledge_base, node)
        if self._kato.store is not None:
            with closing(open_store(store_uri(self._kato), read_only=True)) as store:
                yield from store.frequencies(node_id=kato_node)
            return
        with closing(self._client()) as client:
            yield from client.frequencies(kato_node)

    def finish(self, *, restarted: bool) -> list[str]:
        """See `Backend.finish`: killed workers may have left sessions. The guards are the server's, and small."""
        if SESSIONS not in self._extensions:
            if not restarted:
                return []
            return [
                "workers were started again, and the server can't tell which sessions are theirs: those of the killed "
                f"ones end by themselves, {self._server.session_ttl_seconds} s after their last use"
            ]
        nodes = [node_id(self._kato.knowledge_base, node.name) for node in self._kato.nodes]
        try:
            with closing(self._client()) as client:
                left = client.delete_sessions_of(self._run, node_ids=nodes)
        except KatoError as error:
            log.warning("sessions of killed workers are left to their time to live: %s", error)
            return []
        if left:
            log.info("deleted %d sessions that killed workers had left", left)
        return []

    def close(self) -> None:
        """Nothing is held open between calls."""
