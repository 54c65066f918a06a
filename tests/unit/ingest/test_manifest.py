"""What an IngestRun's manifest may say, and the words for what it may not."""

from __future__ import annotations

from pathlib import Path

import pytest

from shardwise_api.ingest import OnTmdFailure
from shardwise_api.manifest import resolve_paths
from shardwise_api.runs import IngestRun
from tests.support.manifests import INGEST, complaints, parse


@pytest.mark.parametrize("workers", [0, -3])
def test_no_workers_is_said_in_the_words_that_people_know(workers: int) -> None:
    assert complaints(INGEST, f"workers={workers}") == ["spec.workers: max_workers must be greater than 0"]


def test_a_pool_without_connections_is_refused() -> None:
    (said,) = complaints(INGEST, "store.poolSize=0")
    assert said.startswith("spec.store.poolSize: ")


def test_a_server_for_a_backend_that_asks_none_is_refused_instead_of_ignored() -> None:
    assert complaints(INGEST, "tmd.url=http://ollama:11434") == [
        "spec.tmd.backend: url and model are of backend ollama; this one asks no server"
    ]


def test_a_password_for_the_llm_is_refused_in_words_that_name_a_way_out() -> None:
    ollama = "tmd={{backend: ollama, url: 'http://{}', model: tiny}}"
    (refused,) = complaints(INGEST, ollama.format("user:secret@ollama:11434"))
    assert refused.startswith("spec.tmd.url: a password or key does not belong in a manifest: put the server")
    assert "SHARDWISE_URL_CREDENTIALS" in refused
    assert isinstance(parse(INGEST, ollama.format("ollama:11434/a:b@c")), IngestRun)


def test_what_becomes_of_an_llms_failures_is_fail_unless_said_and_nothing_of_a_backend_that_asks_none() -> None:
    run = parse(INGEST)
    assert isinstance(run, IngestRun)
    assert run.spec.tmd.on_tmd_failure is OnTmdFailure.FAIL
    ollama = "tmd={backend: ollama, url: 'http://ollama:11434', model: tiny, onTmdFailure: Embedded}"
    asked = parse(INGEST, ollama)
    assert isinstance(asked, IngestRun)
    assert asked.spec.tmd.on_tmd_failure is OnTmdFailure.EMBEDDED
    for backend in ("embedded", "client"):
        (said,) = complaints(INGEST, f"tmd={{backend: {backend}, onTmdFailure: Embedded}}")
        assert said.startswith("spec.tmd.onTmdFailure: Embedded is of backend ollama")


def test_an_embedding_model_goes_with_the_library_that_loads_it() -> None:
    words = "spec.embedding.model: backend sentence-transformers needs a model, and onnx has one of its own"
    assert complaints(INGEST, "embedding.model=m") == [words]
    assert complaints(INGEST, "embedding.backend=sentence-transformers") == [words]


@pytest.mark.parametrize(
    ("model", "expected"),
    [("./gtr", "{base}/gtr"), ("org/gtr", "org/gtr"), ("/models/gtr", "/models/gtr")],
)
def test_an_embedding_models_folder_is_relative_to_the_manifest_and_a_name_is_no_folder(
    tmp_path: Path, model: str, expected: str
) -> None:
    run = parse(INGEST, f"embedding={{backend: sentence-transformers, model: {model}}}")
    resolved = resolve_paths(run, base=tmp_path)
    assert isinstance(resolved, IngestRun)
    assert resolved.spec.embedding.model == expected.format(base=tmp_path)
