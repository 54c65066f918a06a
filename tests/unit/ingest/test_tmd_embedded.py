"""Codes without an LLM: the nearest labels, the same in any company, and how narrow the choice was."""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from shardwise_jobs.engines.ingest.codes import DOMAINS, LABELS, MODIFIERS, TASKS
from shardwise_jobs.engines.ingest.embed.base import Embedder, Vectors, unit
from shardwise_jobs.engines.ingest.tmd import TmdAnswer, TmdBackend
from shardwise_jobs.engines.ingest.tmd.embedded import PHRASES, EmbeddedTmd

DIMENSION = 512


class WordsEmbedder:
    """Adds up a fixed direction per word: texts that share words lie near to each other."""

    name = "words-512"
    dimension = DIMENSION

    def __init__(self) -> None:
        self.threads: set[int] = set()
        self.texts: list[str] = []

    def embed(self, texts: Sequence[str]) -> Vectors:
        self.texts += texts
        self.threads.add(threading.get_ident())
        return np.stack([unit(self._one(text)) for text in texts])

    def close(self) -> None:
        pass

    def _one(self, text: str) -> Vectors:
        vector = np.zeros(DIMENSION, dtype=np.float32)
        for word in text.lower().replace(".", "").split():
            seed = int.from_bytes(hashlib.sha256(word.encode()).digest()[:8], "big")
            vector += np.random.default_rng(seed).standard_normal(DIMENSION).astype(np.float32)
        return vector


@pytest.fixture(scope="module")
def backend() -> EmbeddedTmd:
    return EmbeddedTmd(WordsEmbedder())


def _answers(backend: TmdBackend, *texts: str) -> list[TmdAnswer]:
    found = [answer for answer in asyncio.run(backend.codes(texts)) if isinstance(answer, TmdAnswer)]
    assert len(found) == len(texts)
    return found


@pytest.mark.parametrize("domain", DOMAINS)
def test_a_text_that_names_a_domain_is_in_it(backend: EmbeddedTmd, domain: str) -> None:
    (answer,) = _answers(backend, f"{domain} {domain} {domain}")
    assert answer.codes.names[0] == domain


@pytest.mark.parametrize("task", TASKS)
def test_a_text_that_names_a_task_has_it(backend: EmbeddedTmd, task: str) -> None:
    assert _answers(backend, f"{task} {task}")[0].codes.names[1] == task


@pytest.mark.parametrize("modifier", MODIFIERS)
def test_a_text_that_names_a_modifier_has_it(backend: EmbeddedTmd, modifier: str) -> None:
    assert _answers(backend, f"{modifier} {modifier}")[0].codes.names[2] == modifier


def test_the_confidence_is_the_smallest_lead_over_the_next_label(backend: EmbeddedTmd) -> None:
    embedder = WordsEmbedder()
    for text in ("software for the law of causal inference", "nothing that any label says"):
        vector = embedder.embed([text])[0].astype(np.float64)
        leads = []
        for field, labels in LABELS.items():
            names = [PHRASES[field].format(label=label.lower()) for label in labels]
            *_, second, first = sorted(float(row.astype(np.float64) @ vector) for row in embedder.embed(names))
            leads.append(first - second)
        (answer,) = _answers(backend, text)
        assert answer.confidence == pytest.approx(min(leads), abs=1e-12)


def test_a_text_has_the_same_answer_in_any_company(backend: EmbeddedTmd) -> None:
    texts = [f"text number {number} about {domain}" for number, domain in enumerate(DOMAINS)]
    together = _answers(backend, *texts)
    assert together == [_answers(backend, text)[0] for text in texts]
    assert together == _answers(backend, *reversed(texts))[::-1]


def test_vectors_that_are_there_already_give_the_same_answers(backend: EmbeddedTmd) -> None:
    texts = ["a law of mathematics", "a story about art"]
    assert backend.codes_of_vectors(WordsEmbedder().embed(texts)) == _answers(backend, *texts)


def test_answers_say_who_spoke_with_version_and_model(backend: EmbeddedTmd) -> None:
    (answer,) = _answers(backend, "a text")
    assert answer.backend == backend.name == "embedded-v1:words-512"


def test_no_texts_need_no_model(backend: EmbeddedTmd) -> None:
    assert asyncio.run(backend.codes([])) == []


def test_embedding_leaves_the_event_loop_to_others() -> None:
    embedder = WordsEmbedder()
    _answers(EmbeddedTmd(embedder), "a text")
    assert embedder.threads
    assert threading.get_ident() not in embedder.threads


def test_labels_are_embedded_with_the_first_text_and_once() -> None:
    embedder = WordsEmbedder()
    backend = EmbeddedTmd(embedder)
    assert embedder.texts == []
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(backend.codes_of_vectors, [WordsEmbedder().embed(["a text"])] * 8))
    assert len(embedder.texts) == sum(map(len, LABELS.values()))
    assert found == [found[0]] * 8


def test_the_fake_keeps_the_interface() -> None:
    embedder: Embedder = WordsEmbedder()
    assert embedder.embed(["a", "b"]).shape == (2, embedder.dimension)
