"""Texts asked of the tests' model server through the product's client, waiting for nothing between two tries."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from shardwise_jobs.engines.ingest.codes import Codes
from shardwise_jobs.engines.ingest.tmd import TmdAnswer, TmdFailure
from shardwise_jobs.engines.ingest.tmd.ollama import Backoff, OllamaTmd
from shardwise_jobs.engines.ingest.tmd.parser import prompt_for
from tests.support.ollama import words
from tests.support.ollama.process import OllamaProcess

MODEL = "tinyllama:1.1b"
NAME = "ollama-v1:tinyllama:1.1b"
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class NoWait(Backoff):
    """Waits for nothing, and remembers after how many failures it was asked."""

    asked: list[int] = field(default_factory=list)

    def seconds(self, *, failures: int, dice: random.Random) -> float:
        self.asked.append(failures)
        return 0.0


def backend_of(server: OllamaProcess, **options: Any) -> OllamaTmd:
    """Return a client of a server; `options` as `OllamaTmd` has them."""
    return OllamaTmd(**{"endpoint": server.url, "model": MODEL, "backoff": NoWait(), **options})


def with_backend(backend: OllamaTmd, story: Callable[[OllamaTmd], Awaitable[T]]) -> T:
    """Return what becomes of a story with a client, which is closed at its end."""

    async def told() -> T:
        try:
            return await story(backend)
        finally:
            await backend.close()

    return asyncio.run(told())


def codes_of(server: OllamaProcess, *texts: str, **options: Any) -> list[TmdAnswer | TmdFailure]:
    """Ask for codes."""
    return with_backend(backend_of(server, **options), lambda backend: backend.codes(texts))


def said(text: str) -> TmdAnswer:
    """Return what the server's model says of a text."""
    return TmdAnswer(codes=Codes(*words.codes(prompt_for(text))), confidence=None, backend=NAME)


def failure_of(found: Sequence[TmdAnswer | TmdFailure]) -> TmdFailure:
    """Return the only thing that was found, which is a failure told in one line."""
    (failure,) = found
    assert isinstance(failure, TmdFailure)
    assert "\n" not in failure.reason
    return failure


def texts(count: int) -> list[str]:
    """Return so many texts."""
    return [f"text number {number}" for number in range(count)]


def seeds(server: OllamaProcess) -> list[int]:
    """Return the seeds of all calls, in order."""
    return [call["seed"] for call in server.calls()]
