"""Codes by the real embedding model: about what a reader would say, and the same from any number of threads."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from shardwise.engine.errors import WorkError
from shardwise_jobs.engines.ingest.codes import DOMAINS
from shardwise_jobs.engines.ingest.embed.onnx import OnnxEmbedder
from shardwise_jobs.engines.ingest.embed.onnx_model import HOW_TO_GET
from shardwise_jobs.engines.ingest.tmd import TmdAnswer, TmdFailure
from shardwise_jobs.engines.ingest.tmd.embedded import EmbeddedTmd
from tests.support.minilm import model_folder
from tests.support.require import missing

SENTENCES = {
    "Science": "Photosynthesis turns light into chemical energy in plants.",
    "Mathematics": "The integral of a continuous function over a compact interval exists.",
    "Technology": "The new phone has a faster chip and a better screen.",
    "Engineering": "The bridge's steel beams must bear the load of the wind.",
    "Medicine": "The patient was given antibiotics against the infection.",
    "Psychology": "Children form attachments to their parents and fear being alone.",
    "Philosophy": "Kant held that we can't know things in themselves.",
    "History": "The Roman empire fell in the fifth century.",
    "Literature": "The novel's narrator tells of her childhood in verse and prose.",
    "Art": "The painter mixed oil colours for the fresco.",
    "Economics": "Inflation rose as the central bank lowered interest rates.",
    "Law": "The court held the contract void for lack of consent.",
    "Politics": "The parliament voted on the bill after the election.",
    "Education": "Pupils learn to read at primary school with their teacher.",
    "Environment": "Deforestation and emissions warm the climate and endanger species.",
    "Software": "The compiler reports a syntax error in the source code.",
}


def _embedder(threads: int) -> OnnxEmbedder:
    try:
        return OnnxEmbedder(model_folder(), threads=threads)
    except WorkError as error:
        missing(f"the embedding model ({error})", HOW_TO_GET)


@pytest.fixture(scope="module")
def embedder() -> Iterator[OnnxEmbedder]:
    embedder = _embedder(2)
    yield embedder
    embedder.close()


@pytest.fixture(scope="module")
def backend(embedder: OnnxEmbedder) -> EmbeddedTmd:
    return EmbeddedTmd(embedder)


def _answers(backend: EmbeddedTmd, *texts: str) -> list[TmdAnswer | TmdFailure]:
    return asyncio.run(backend.codes(texts))


def test_most_sentences_are_in_the_domain_a_reader_would_name(backend: EmbeddedTmd) -> None:
    answers = [answer for answer in _answers(backend, *SENTENCES.values()) if isinstance(answer, TmdAnswer)]
    right = [answer.codes.names[0] == domain for answer, domain in zip(answers, SENTENCES, strict=True)]
    assert SENTENCES.keys() == set(DOMAINS)
    assert sum(right) >= 14


def test_answers_depend_on_the_text_alone(backend: EmbeddedTmd, embedder: OnnxEmbedder) -> None:
    texts = list(SENTENCES.values())
    together = _answers(backend, *texts)
    assert together == [_answers(backend, text)[0] for text in texts]
    assert together == backend.codes_of_vectors(embedder.embed(texts))
    alone = _embedder(1)
    try:
        assert together == _answers(EmbeddedTmd(alone), *texts)
    finally:
        alone.close()


def test_the_stored_name_tells_the_model(backend: EmbeddedTmd, embedder: OnnxEmbedder) -> None:
    assert backend.name == f"embedded-v1:{embedder.name}"
