"""The interface of whoever gives codes: an answer or a failure per text, never an invented code.

A failure must stay one: codes of 0, 0, 0 are a valid answer (Science, Fact Retrieval, Biochemical), so nobody could
tell them from a default later.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

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
