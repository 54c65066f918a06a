"""One LLM and one small model for the tests of ingestion; no test sees what another did to them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import tiny_model
from tests.support.ollama.process import OllamaProcess, ollama


@pytest.fixture(scope="package")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an embedding model of eight numbers."""
    return tiny_model.make(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="package")
def llm_server() -> Iterator[OllamaProcess]:
    """An LLM that answers at once."""
    with ollama() as process:
        yield process


@pytest.fixture
def llm(llm_server: OllamaProcess) -> Iterator[OllamaProcess]:
    """The same, with all that a test before did to it forgotten."""
    llm_server.settings(hold=False, latency_ms=0, thinking="", shows=True, parallel=10, max_queue=512)
    llm_server.wait(in_flight=0)
    llm_server.reset()
    yield llm_server
    llm_server.reset()


@pytest.fixture(params=["sqlite", "postgresql"])
def uri(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty store of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'rows.db'}"
    made: str = request.getfixturevalue("postgres").new_database()
    return made
