"""A model of eight numbers and one LLM for all tests; each test has a service of its own unless it changes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.ingest_service import IngestService, ingest_service


@pytest.fixture(scope="package")
def service(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[IngestService]:
    """A service without an LLM, for tests that keep apart by their data sets."""
    with ingest_service(model=model, folder=tmp_path_factory.mktemp("service")) as running:
        yield running
