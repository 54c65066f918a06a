"""Who gives the service's codes: an LLM's failure is the failure of the chunk that was asked for, never of the rest."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from shardwise.engine.errors import WorkError
from shardwise_api.ingest import TmdBackendKind
from shardwise_jobs.engines.ingest.embed.base import Embedder
from shardwise_jobs.engines.ingest.tmd.base import ClientTmd, FailureCause, TmdAnswer, TmdBackend, TmdFailure
from shardwise_jobs.engines.ingest.tmd.embedded import EmbeddedTmd
from shardwise_jobs.engines.ingest.tmd.ollama import OllamaTmd
from shardwise_jobs.engines.ingest.tmd.ollama_wire import normal_endpoint
from shardwise_jobs.services.gateway import PROBE_SECONDS

from .settings import DEFAULT_ENDPOINT, Settings


class PerChunk:
    """A `TmdBackend` whose failures each cost one chunk; many may use it, so it is closed by who made it."""

    def __init__(self, inner: TmdBackend) -> None:
        self._inner = inner
        self.name = inner.name
        self.label = inner.label

    async def codes(self, texts: Sequence[str]) -> list[TmdAnswer | TmdFailure]:
        """See `TmdBackend.codes`."""
        return [
            replace(answer, cause=FailureCause.TEXT) if isinstance(answer, TmdFailure) else answer
            for answer in await self._inner.codes(texts)
        ]

    async def close(self) -> None:
        """Nothing: see above."""


class Llm:
    """An LLM that is asked for codes, and looked after by a connection of its own, which never waits behind those."""

    def __init__(self, settings: Settings) -> None:
        endpoint = normal_endpoint(settings.endpoint or DEFAULT_ENDPOINT)
        self._asked = OllamaTmd(
            endpoint=endpoint,
            model=settings.model,
            workers=settings.workers,
            timeout_seconds=settings.timeout_seconds,
            retries=settings.retries,
        )
        self._watched = OllamaTmd(
            endpoint=endpoint, model=settings.model, workers=1, timeout_seconds=PROBE_SECONDS, retries=0
        )
        self.endpoint = self._asked.label.removeprefix("ollama:")
        self.backend = PerChunk(self._asked)

    async def issue(self) -> str | None:
        """Return what keeps it from being asked now, None when nothing does."""
        try:
            await asyncio.wait_for(self._watched.check(load=False), PROBE_SECONDS)
        except TimeoutError:
            return f"the LLM at {self.endpoint} has not answered for {PROBE_SECONDS:g} s"
        except WorkError as error:
            return f"the LLM can't be asked: {error}"
        return None

    async def close(self) -> None:
        """Close all connections."""
        await self._asked.close()
        await self._watched.close()


def backend_without_llm(kind: TmdBackendKind, *, embedder: Embedder) -> TmdBackend:
    """Return whoever gives codes in this process."""
    return EmbeddedTmd(embedder) if kind is TmdBackendKind.EMBEDDED else ClientTmd()
