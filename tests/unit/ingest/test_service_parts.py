"""What the service puts around the parts of a run: calls of one text, failures of one chunk, an index's model."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import numpy as np
import pytest

from shardwise_api.ingest import Embedding, EmbeddingBackendKind
from shardwise_jobs.engines.ingest.chunk import IngestRequest
from shardwise_jobs.engines.ingest.cli import _embedding
from shardwise_jobs.engines.ingest.codes import Codes
from shardwise_jobs.engines.ingest.embed.base import Vectors
from shardwise_jobs.engines.ingest.tmd import FailureCause, TmdAnswer, TmdFailure
from shardwise_jobs.services.ingest.llm import PerChunk
from shardwise_jobs.services.ingest.service import OneCallEach, RequestChunks


class Lengths:
    """A text's vector is its length, and every call is remembered."""

    name = "test:lengths"
    dimension = 1

    def __init__(self) -> None:
        self.calls: list[list[str]] = []

    def embed(self, texts: Sequence[str]) -> Vectors:
        self.calls.append(list(texts))
        return np.array([[len(text)] for text in texts], dtype=np.float32)

    def close(self) -> None:
        self.calls.append(["closed"])


def test_one_call_each_makes_the_same_vectors_in_as_many_calls() -> None:
    inner = Lengths()
    each = OneCallEach(inner)
    assert each.embed(["a", "bc", "def"]).tolist() == inner.embed(["a", "bc", "def"]).tolist()
    assert inner.calls == [["a"], ["bc"], ["def"], ["a", "bc", "def"]]
    assert (each.name, each.dimension) == (inner.name, inner.dimension)
    each.close()
    assert inner.calls[-1] == ["closed"]


class Fails:
    """Answers the first text, and fails each of the others for a cause of its own."""

    name = label = "test"
    closed = False

    async def codes(self, texts: Sequence[str]) -> list[TmdAnswer | TmdFailure]:
        answer = TmdAnswer(codes=Codes(1, 2, 3), confidence=None, backend=self.name)
        return [answer, *(TmdFailure(reason=cause.value, cause=cause) for cause in FailureCause)]

    async def close(self) -> None:
        self.closed = True


def test_a_failure_of_the_llm_keeps_its_reason_and_is_its_texts_own() -> None:
    async def story() -> None:
        inner = Fails()
        shared = PerChunk(inner)
        first, *failures = await shared.codes(["a"] * 4)
        assert isinstance(first, TmdAnswer)
        assert [vars_of(failure) for failure in failures] == [
            (cause.value, FailureCause.TEXT) for cause in FailureCause
        ]
        await shared.close()
        assert not inner.closed

    asyncio.run(story())


def vars_of(failure: TmdAnswer | TmdFailure) -> tuple[str, FailureCause]:
    assert isinstance(failure, TmdFailure)
    return failure.reason, failure.cause


def test_a_part_of_a_requests_items_is_the_same_as_in_the_whole() -> None:
    texts = ["a", "b", " ", "a", "c"]
    request = IngestRequest.model_validate({"chunks": [{"text": text} for text in texts]})
    entries = list(RequestChunks(request).entries(range(5)))
    assert [entry.item for entry in entries] == [0, 1, 2, 3, 4]
    assert [entry.duplicate for entry in entries] == [False, False, False, True, False]
    assert [entry.failure for entry in entries] == [None, None, "text: is blank", None, None]
    assert list(RequestChunks(request).entries(range(1, 5, 3))) == [entries[1], entries[4]]


@pytest.mark.parametrize(
    ("summary", "made_with", "model", "wanted"),
    [
        ({}, "onnx:all-MiniLM-L6-v2@1", None, Embedding()),
        ({}, "sentence-transformers:org/gtr", None, "org/gtr"),
        ({}, "sentence-transformers:org/gtr@0123456789ab", None, "org/gtr"),
        ({}, "sentence-transformers:fine@tuned@0123456789ab", None, "fine@tuned"),
        ({}, "sentence-transformers:gtr@0123456789ab", "/models/gtr", "/models/gtr"),
        ({"embedding": {"backend": "sentence-transformers", "model": "a"}}, "sentence-transformers:b", None, "a"),
    ],
)
def test_an_index_without_a_run_says_itself_which_model_embeds_a_question(
    summary: dict[str, object], made_with: str, model: str | None, wanted: Embedding | str
) -> None:
    if isinstance(wanted, str):
        wanted = Embedding(backend=EmbeddingBackendKind.SENTENCE_TRANSFORMERS, model=wanted)
    assert _embedding(summary, made_with=made_with, model=model) == wanted
