"""The interface of whoever gives codes: an answer or a failure per text, never an invented code.

A failure must stay one: codes of 0, 0, 0 are a valid answer (Science, Fact Retrieval, Biochemical), so nobody could
tell them from a default later. Where codes came with the chunk, whoever sent all three has decided, and nobody else is
asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from shardwise_jobs.engines.ingest.chunk import Chunk
from shardwise_jobs.engines.ingest.codes import Codes


class FailureCause(Enum):
    """What a failure says about another try."""

    TEXT = "Text"
    """This text gets no usable codes, however often it is asked for: the chunk has failed."""
    REFUSED = "Refused"
    """The server understood and said no (an unknown model, a bad request): every text would be refused alike."""
    UNAVAILABLE = "Unavailable"
    """The server was not to be had, after several tries: says nothing about the text, and may be over later."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TmdAnswer:
    """The codes of a text."""

    codes: Codes
    confidence: float | None
    """How sure the backend is, in its own measure; None where it has none (an LLM, a sender)."""
    backend: str
    """Who said so, with its version and model but not its address: stored with the row, a part of the run's digest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TmdFailure:
    """Why a text has no codes."""

    reason: str
    """In one line."""
    cause: FailureCause


class TmdBackend(Protocol):
    """Gives codes."""

    @property
    def name(self) -> str:
        """What `TmdAnswer.backend` says."""

    @property
    def label(self) -> str:
        """How the service's answers call it."""

    async def codes(self, texts: Sequence[str]) -> list[TmdAnswer | TmdFailure]:
        """Return an answer or a failure per text, in order. May be called again while a call is under way."""

    async def close(self) -> None:
        """Give back connections and memory."""


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
