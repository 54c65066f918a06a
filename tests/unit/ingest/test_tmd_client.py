"""Codes that come with the chunk: nobody is asked about those, and whoever lacks them gets none."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from shardwise_jobs.engines.ingest.chunk import Chunk
from shardwise_jobs.engines.ingest.codes import Codes
from shardwise_jobs.engines.ingest.tmd import FailureCause, TmdAnswer, TmdBackend, TmdFailure
from shardwise_jobs.engines.ingest.tmd.base import ClientTmd, codes_of, given_codes

ASKED = TmdAnswer(codes=Codes(1, 2, 3), confidence=0.5, backend="other")


class _Other:
    """A backend that remembers what it was asked."""

    name = label = "other"

    def __init__(self) -> None:
        self.texts: list[str] = []

    async def codes(self, texts: Sequence[str]) -> list[TmdAnswer | TmdFailure]:
        self.texts += texts
        return [ASKED] * len(texts)

    async def close(self) -> None:
        pass


def _coded(text: str) -> Chunk:
    return Chunk(text=text, domain_code=0, task_code=0, modifier_code=0)


def test_given_codes_say_that_they_were_given() -> None:
    assert given_codes(_coded("a")) == TmdAnswer(codes=Codes(0, 0, 0), confidence=None, backend="client-provided")
    assert given_codes(Chunk(text="a", domain_code=0)) is None


def test_only_chunks_without_codes_are_asked_for_and_all_stay_in_order() -> None:
    other = _Other()
    chunks = [Chunk(text="a"), _coded("b"), Chunk(text="c"), _coded("d")]
    found = asyncio.run(codes_of(chunks, backend=other))
    assert other.texts == ["a", "c"]
    assert [answer.backend for answer in found if isinstance(answer, TmdAnswer)] == [
        "other",
        "client-provided",
        "other",
        "client-provided",
    ]


def test_a_chunk_without_codes_fails_where_senders_must_give_them() -> None:
    backend: TmdBackend = ClientTmd()
    good, bad = asyncio.run(codes_of([_coded("a"), Chunk(text="b", domain_code=1, task_code=1)], backend=backend))
    assert isinstance(good, TmdAnswer)
    assert isinstance(bad, TmdFailure)
    assert bad.cause is FailureCause.TEXT
    assert "needs domain_code, task_code and modifier_code" in bad.reason
