"""The real model: right numbers, and a text's vector that depends on nothing but the text, bit for bit."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer

from shardwise.engine.errors import BadConfiguration, WorkError
from shardwise_jobs.engines.ingest.embed import onnx_model
from shardwise_jobs.engines.ingest.embed.base import Embedder
from shardwise_jobs.engines.ingest.embed.onnx import OnnxEmbedder
from tests.support import minilm, tiny_model
from tests.support.require import missing

TEXTS = [
    "The weather is lovely today.",
    "It's so sunny outside!",
    "He drove to the stadium.",
    "a",
    "日本語 and émigré naïveté 😀, punctuation?! [MASK]",
    "word " * 600,
    *(f"Sentence number {number} " + "is about neighbours " * number for number in range(20)),
]
SHORT = [*TEXTS[:5], TEXTS[15]]


@pytest.fixture(scope="module")
def folder() -> Path:
    try:
        return minilm.model_folder()
    except WorkError as error:
        missing(f"the embedding model ({error})", onnx_model.HOW_TO_GET)


@pytest.fixture(scope="module")
def package() -> Path:
    try:
        return minilm.package_folder()
    except WorkError as error:
        missing(f"the embedding model's weights ({error})", "They come from a package index.")


@pytest.fixture(scope="module")
def embedder(folder: Path) -> Iterator[Embedder]:
    opened = OnnxEmbedder(folder, threads=2)
    yield opened
    opened.close()


def test_vectors_are_those_of_the_same_network_in_numpy(embedder: Embedder, folder: Path, package: Path) -> None:
    tokenizer = Tokenizer.from_file(str(folder / onnx_model.TOKENIZER_FILE))
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_length=256)
    reference = minilm.Reference(package)
    wanted = np.stack([reference.embed(tokenizer.encode(text).ids) for text in SHORT])
    assert np.abs(embedder.embed(SHORT) - wanted).max() < 1e-6


def test_similarities_are_those_the_model_is_known_for(embedder: Embedder) -> None:
    # The three sentences and the figures of the sentence-transformers quickstart.
    vectors = embedder.embed(TEXTS[:3]).astype(np.float64)
    assert vectors @ vectors.T == pytest.approx(
        np.array([[1.0, 0.6660, 0.1046], [0.6660, 1.0, 0.1411], [0.1046, 0.1411, 1.0]]), abs=6e-5
    )


def test_vectors_are_of_unit_length_and_as_wide_as_said(embedder: Embedder) -> None:
    vectors = embedder.embed(TEXTS)
    assert vectors.shape == (len(TEXTS), embedder.dimension)
    assert vectors.dtype == np.float32
    assert np.linalg.norm(vectors.astype(np.float64), axis=1) == pytest.approx(np.ones(len(TEXTS)), abs=1e-6)
    assert embedder.embed([]).shape == (0, embedder.dimension)


def test_a_vector_does_not_depend_on_its_neighbours(embedder: Embedder) -> None:
    together = embedder.embed(TEXTS)
    for number, text in enumerate(TEXTS):
        assert embedder.embed([text])[0].tobytes() == together[number].tobytes()
    assert embedder.embed(TEXTS[::-1])[::-1].tobytes() == together.tobytes()


def test_a_padded_batch_is_the_same_but_for_its_last_bits(folder: Path, embedder: Embedder) -> None:
    opened = OnnxEmbedder(folder, threads=1)
    padded = opened.embed_padded(SHORT)
    opened.close()
    assert np.abs(padded - embedder.embed(SHORT)).max() < 1e-6


@pytest.mark.parametrize("threads", [1, 3])
def test_a_vector_does_not_depend_on_the_number_of_threads(folder: Path, embedder: Embedder, threads: int) -> None:
    other = OnnxEmbedder(folder, threads=threads)
    assert other.embed(TEXTS).tobytes() == embedder.embed(TEXTS).tobytes()
    other.close()


def test_a_vector_does_not_depend_on_who_else_asks(embedder: Embedder) -> None:
    alone = embedder.embed(TEXTS)
    with ThreadPoolExecutor(4) as pool:
        assert all(found.tobytes() == alone.tobytes() for found in pool.map(embedder.embed, [TEXTS] * 4))


def test_a_vector_is_the_same_in_another_process(folder: Path, embedder: Embedder) -> None:
    program = (
        "import sys, pathlib; from shardwise_jobs.engines.ingest.embed.onnx import OnnxEmbedder; "
        "opened = OnnxEmbedder(pathlib.Path(sys.argv[1])); print(opened.embed([sys.argv[2]]).tobytes().hex())"
    )
    command = [sys.executable, "-c", program, str(folder), TEXTS[0]]
    found = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    assert found == embedder.embed(TEXTS[:1]).tobytes().hex()


def test_what_comes_after_256_tokens_is_cut(embedder: Embedder) -> None:
    # Two tokens are the model's own marks.
    assert embedder.embed(["word " * 254]).tobytes() == embedder.embed(["word " * 254 + "and more"]).tobytes()
    assert embedder.embed(["word " * 253]).tobytes() != embedder.embed(["word " * 254]).tobytes()


def test_the_name_tells_the_weights(embedder: Embedder) -> None:
    assert embedder.name == "onnx:all-MiniLM-L6-v2@53aa51172d14.1"


def test_the_same_weights_make_the_same_graph(folder: Path, package: Path, tmp_path: Path) -> None:
    card = onnx_model.build(package, folder=tmp_path / "again")
    assert card == onnx_model.read_card(folder)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again"]
    assert (tmp_path / "again" / onnx_model.GRAPH_FILE).read_bytes() == (folder / onnx_model.GRAPH_FILE).read_bytes()


def test_a_folder_that_is_there_is_not_made_again(folder: Path, package: Path) -> None:
    before = (folder / onnx_model.GRAPH_FILE).stat()
    onnx_model.build(package, folder=folder)
    assert (folder / onnx_model.GRAPH_FILE).stat() == before


def test_other_weights_are_refused_with_both_digests(package: Path, tmp_path: Path) -> None:
    for name in ("model.safetensors", "tokenizer.json"):
        (tmp_path / name).write_bytes((package / name).read_bytes())
    with (tmp_path / "model.safetensors").open("r+b") as stream:
        stream.seek(1_000_000)
        stream.write(b"\x01")
    with pytest.raises(BadConfiguration, match=r"sha256 is [0-9a-f]{64}, that of all-MiniLM-L6-v2 is 53aa51172d14"):
        onnx_model.build(tmp_path, folder=tmp_path / "made")
    assert not (tmp_path / "made").exists()


def test_a_folder_without_a_model_is_bad_configuration(tmp_path: Path) -> None:
    with pytest.raises(BadConfiguration, match="No such file"):
        OnnxEmbedder(tmp_path)


@pytest.mark.parametrize("how", ["broken", "another"])
def test_a_graph_that_is_not_its_card_s_is_refused_with_both_digests(folder: Path, tmp_path: Path, how: str) -> None:
    for name in (onnx_model.CARD_FILE, onnx_model.TOKENIZER_FILE):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    # The other one opens, and would give vectors of its own under this one's name.
    other = tiny_model.make(tmp_path / "other") / onnx_model.GRAPH_FILE
    (tmp_path / onnx_model.GRAPH_FILE).write_bytes(b"no graph" if how == "broken" else other.read_bytes())
    known = onnx_model.read_card(folder).graph_sha256
    with pytest.raises(BadConfiguration, match=rf"model\.onnx is [0-9a-f]{{64}}, card\.json says {known}; remove"):
        OnnxEmbedder(tmp_path)


def test_a_graph_that_the_runtime_refuses_is_bad_configuration(folder: Path, tmp_path: Path) -> None:
    graph = b"no graph"
    card = replace(onnx_model.read_card(folder), graph_sha256=hashlib.sha256(graph).hexdigest())
    (tmp_path / onnx_model.GRAPH_FILE).write_bytes(graph)
    (tmp_path / onnx_model.CARD_FILE).write_text(card.to_json())
    with pytest.raises(BadConfiguration, match=f"embedding model {tmp_path}"):
        OnnxEmbedder(tmp_path)
