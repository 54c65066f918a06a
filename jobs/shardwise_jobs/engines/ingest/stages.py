"""What happens to some chunks before they are written: codes are asked for while vectors are computed.

Neither needs the other, except where the codes are made of the vectors. A chunk that gets no codes or no vector has
failed, with its reason; a server that is not to be had fails nobody's chunk, but the work as a whole.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from shardwise.engine.errors import BadConfiguration, Unavailable

from .chunk import Chunk
from .embed.base import Embedder, EmbeddingFailed, processors
from .phase_timer import Phase, PhaseTimer
from .tmd.base import FailureCause, TmdAnswer, TmdBackend, TmdFailure, codes_of, given_codes
from .tmd.embedded import EmbeddedTmd

T = TypeVar("T")
U = TypeVar("U")
Vector = NDArray[np.float32]
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Processed:
    """What became of a chunk."""

    answer: TmdAnswer
    vector: Vector
    """Of unit length, float32."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """Why nothing became of it, in one line."""

    reason: str


class Stages:
    """Codes and vectors for chunks, any number of calls at once, in one event loop. `close` it there."""

    def __init__(
        self,
        *,
        embedder: Embedder,
        backend: TmdBackend,
        fallback: EmbeddedTmd | None = None,
        clock: PhaseTimer | None = None,
    ) -> None:
        """Prepare. `fallback` gives codes to the texts that `backend` has none for; without it they have failed."""
        self._embedder = embedder
        self._backend = backend
        self._fallback = fallback
        self._clock = clock or PhaseTimer()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="vectors")
        # One call's texts after the other's: the first block is then soon done, and not all of them late.
        self._turn = asyncio.Lock()
        # A call on a thread can't be interrupted, so each has few texts; several per processor keep all of them busy.
        self._slice = max(16, 4 * processors())

    async def process(self, chunks: Sequence[Chunk]) -> list[Processed | Failed]:
        """Return what became of each chunk, in order.

        Raises:
            Unavailable: whoever gives codes can't be reached, after several tries.
            BadConfiguration: it refuses to be asked.
        """
        if not chunks:
            return []
        if isinstance(self._backend, EmbeddedTmd):
            vectors = await self._vectors(chunks)
            found = await self._of_vectors(chunks, vectors, backend=self._backend)
            return [_processed(answer, vector) for answer, vector in zip(found, vectors, strict=True)]
        answers, vectors = await _both(self._answers(chunks), self._vectors(chunks))
        if self._fallback is not None:
            answers = await self._instead(answers, vectors, fallback=self._fallback)
        return [_processed(answer, vector) for answer, vector in zip(answers, vectors, strict=True)]

    async def close(self) -> None:
        """Give back the thread, and what the backend holds."""
        self._thread.shutdown(wait=False, cancel_futures=True)
        await self._backend.close()

    async def _answers(self, chunks: Sequence[Chunk]) -> list[TmdAnswer | TmdFailure]:
        with self._clock.running(Phase.TMD):
            answers = await codes_of(chunks, backend=self._backend)
        for answer in answers:
            if isinstance(answer, TmdFailure) and answer.cause is FailureCause.REFUSED:
                raise BadConfiguration(f"spec.tmd: {answer.reason}")
        for answer in answers:
            if isinstance(answer, TmdFailure) and answer.cause is FailureCause.UNAVAILABLE:
                raise Unavailable(f"spec.tmd.url: {answer.reason}")
        return answers

    async def _of_vectors(
        self, chunks: Sequence[Chunk], vectors: Sequence[Vector | Failed], *, backend: EmbeddedTmd
    ) -> list[TmdAnswer | None]:
        def answer(chunk: Chunk, vector: Vector | Failed) -> TmdAnswer | None:
            if (given := given_codes(chunk)) is not None:
                return given
            return None if isinstance(vector, Failed) else backend.codes_of_vectors(vector[None, :])[0]

        def all_of_them() -> list[TmdAnswer | None]:
            return [answer(chunk, vector) for chunk, vector in zip(chunks, vectors, strict=True)]

        with self._clock.running(Phase.TMD):
            return await asyncio.get_running_loop().run_in_executor(self._thread, all_of_them)

    async def _instead(
        self,
        answers: Sequence[TmdAnswer | TmdFailure],
        vectors: Sequence[Vector | Failed],
        *,
        fallback: EmbeddedTmd,
    ) -> list[TmdAnswer | TmdFailure]:
        """Return the answers, those of the vectors where there was none."""

        def instead(answer: TmdAnswer | TmdFailure, vector: Vector | Failed) -> TmdAnswer | TmdFailure:
            if isinstance(answer, TmdAnswer) or isinstance(vector, Failed):
                return answer
            log.warning("codes of %s instead: %s", fallback.name, answer.reason)
            return fallback.codes_of_vectors(vector[None, :])[0]

        def all_of_them() -> list[TmdAnswer | TmdFailure]:
            return [instead(answer, vector) for answer, vector in zip(answers, vectors, strict=True)]

        if all(isinstance(answer, TmdAnswer) for answer in answers):
            return list(answers)
        with self._clock.running(Phase.TMD):
            return await asyncio.get_running_loop().run_in_executor(self._thread, all_of_them)

    async def _vectors(self, chunks: Sequence[Chunk]) -> list[Vector | Failed]:
        found: list[Vector | Failed] = []
        async with self._turn:
            with self._clock.running(Phase.EMBED):
                for at in range(0, len(chunks), self._slice):
                    texts = [chunk.text for chunk in chunks[at : at + self._slice]]
                    found += await asyncio.get_running_loop().run_in_executor(self._thread, self._embed, texts)
        return found

    def _embed(self, texts: Sequence[str]) -> list[Vector | Failed]:
        try:
            return list(self._embedder.embed(texts))
        except EmbeddingFailed as error:
            if len(texts) == 1:
                return [Failed(reason=f"embedding: {error}")]
        # One of them spoils it for all; alone, each shows whether it is the one.
        return [vector for text in texts for vector in self._embed([text])]


def _processed(answer: TmdAnswer | TmdFailure | None, vector: Vector | Failed) -> Processed | Failed:
    if isinstance(answer, TmdFailure):
        return Failed(reason=f"tmd: {answer.reason}")
    if isinstance(vector, Failed):
        return vector
    assert answer is not None
    return Processed(answer=answer, vector=vector)


async def _both(first: Coroutine[Any, Any, T], second: Coroutine[Any, Any, U]) -> tuple[T, U]:
    """Return what two coroutines return; when one fails, the other is given up before its error comes through."""
    tasks = asyncio.ensure_future(first), asyncio.ensure_future(second)
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
