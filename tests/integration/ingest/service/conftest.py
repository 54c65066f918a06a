"""A model of eight numbers and one LLM for all tests; each test has a service of its own unless it changes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import tiny_model
from tests.support.ingest_service import IngestService, ingest_service
from tests.support.ollama.process import OllamaProcess, ollama


@pytest.fixture(scope="package")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An embedding model's folder."""
    return tiny_model.make(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="package")
def llm_server() -> Iterator[OllamaProcess]:
    """An LLM that answers at once."""
    with ollama() as process:
        yield process


@pytest.fixture
def llm(llm_server: OllamaProcess) -> OllamaProcess:
    """The same, with all that a test before did to it forgotten."""
    llm_server.reset()
    llm_server.settings(hold=False, latency_ms=0, parallel=10, max_queue=512)
    return llm_server


@pytest.fixture(scope="package")
def service(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[IngestService]:
    """A service without an LLM, for tests that keep apart by their data sets."""
    with ingest_service(model=model, folder=tmp_path_factory.mktemp("service")) as running:
        yield running
