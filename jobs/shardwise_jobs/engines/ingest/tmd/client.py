"""Codes that came with the chunk: whoever sent all three has decided, and nobody else is asked."""

from __future__ import annotations

from collections.abc import Sequence

from shardwise_jobs.engines.ingest.chunk import Chunk

from .base import FailureCause, TmdAnswer, TmdBackend, TmdFailure

CLIENT = "client-provided"
"""What rows and the service's answers say of such codes."""


class ClientTmd:
    """For runs in which every chunk must bring its codes: those that are left to ask for have failed."""

    name = CLIENT
    label = CLIENT

    async def codes(self, texts: Sequence[str]) -> list[TmdAnswer | TmdFailure]:
        """Return failures only."""
        failure = TmdFailure(
            reason="the chunk has no codes; backend client needs domain_code, task_code and modifier_code",
            cause=FailureCause.TEXT,
        )
        return [failure] * len(texts)

    async def close(self) -> None:
        """There is nothing to give back."""


def given_codes(chunk: Chunk) -> TmdAnswer | None:
    """Return the codes a chunk brought, None unless all three are there."""
    return None if chunk.codes is None else TmdAnswer(codes=chunk.codes, confidence=None, backend=CLIENT)


async def codes_of(chunks: Sequence[Chunk], *, backend: TmdBackend) -> list[TmdAnswer | TmdFailure]:
    """Return an answer or a failure per chunk, in order; the backend is asked for those without codes of their own."""
    given = [given_codes(chunk) for chunk in chunks]
    asked = iter(await backend.codes([chunk.text for chunk, own in zip(chunks, given, strict=True) if own is None]))
    return [next(asked) if own is None else own for own in given]
