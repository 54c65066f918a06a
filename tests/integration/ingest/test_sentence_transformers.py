"""The same model by sentence-transformers, for real: the same numbers, and the same promise of the same bits.

It brings torch, which is big: where it is not installed these tests do not run.
"""

from __future__ import annotations

import importlib.util
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from shardwise.engine.errors import BadConfiguration, WorkError
from shardwise_jobs.engines.ingest.embed import onnx_model
from shardwise_jobs.engines.ingest.embed.base import Embedder
from shardwise_jobs.engines.ingest.embed.onnx import OnnxEmbedder
from shardwise_jobs.engines.ingest.embed.sentence_transformers import SentenceTransformersEmbedder, model_of
from tests.support import minilm
from tests.support.require import missing

TEXTS = [
    "DNA replication copies genetic information.",
    "a",
    "日本語 and émigré naïveté 😀",
    "word " * 600,
    *(f"Sentence number {number} " + "is about neighbours " * number for number in range(8)),
]
_INSTALLED = importlib.util.find_spec("sentence_transformers") is not None


@pytest.fixture(scope="module")
def package() -> Path:
    try:
        return minilm.package_folder()
    except WorkError as error:
        missing(f"the embedding model's weights ({error})", onnx_model.HOW_TO_GET)


@pytest.fixture(scope="module")
def embedder(package: Path) -> Iterator[Embedder]:
    if not _INSTALLED:
        pytest.skip("NOT RUN: sentence-transformers is missing. Run make test-sentence-transformers")
    opened = SentenceTransformersEmbedder(str(package), threads=2)
    yield opened
    opened.close()


def test_vectors_are_those_of_the_graph(embedder: Embedder) -> None:
    graph = OnnxEmbedder(minilm.model_folder(), threads=2)
    assert np.abs(embedder.embed(TEXTS) - graph.embed(TEXTS)).max() < 1e-6
    graph.close()


def test_a_vector_does_not_depend_on_its_neighbours(embedder: Embedder) -> None:
    together = embedder.embed(TEXTS)
    assert together.shape == (len(TEXTS), embedder.dimension)
    assert together.dtype == np.float32
    for number, text in enumerate(TEXTS):
        assert embedder.embed([text])[0].tobytes() == together[number].tobytes()


def test_a_vector_does_not_depend_on_the_number_of_threads(embedder: Embedder, package: Path) -> None:
    alone = SentenceTransformersEmbedder(str(package), threads=1)
    assert alone.embed(TEXTS).tobytes() == embedder.embed(TEXTS).tobytes()
    alone.close()


def test_the_name_tells_the_weights_and_not_where_they_lie(embedder: Embedder, package: Path, tmp_path: Path) -> None:
    copy = tmp_path / package.name
    shutil.copytree(package, copy)
    names = [embedder.name]
    for change in (b"", b"\x01"):
        with (copy / "model.safetensors").open("r+b") as stream:
            # Within the numbers of a weight, which stay finite.
            stream.seek(1_000_000)
            stream.write(change)
        opened = SentenceTransformersEmbedder(str(copy), threads=1)
        names.append(opened.name)
        opened.close()
    assert names[0] == names[1]
    assert names[1] != names[2]
    assert {model_of(name) for name in names} == {package.name}
    assert re.fullmatch(r"sentence-transformers:.+@[0-9a-f]{12}", names[0])


@pytest.mark.skipif(_INSTALLED, reason="sentence-transformers is installed")
def test_without_the_extra_it_says_what_to_install() -> None:
    with pytest.raises(BadConfiguration, match=r"pip install 'shardwise\[sentence-transformers\]'"):
        SentenceTransformersEmbedder("sentence-transformers/gtr-t5-base")


def test_a_folder_without_a_model_is_bad_configuration(tmp_path: Path) -> None:
    with pytest.raises(BadConfiguration):
        SentenceTransformersEmbedder(str(tmp_path))
