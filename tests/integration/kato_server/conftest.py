"""One server for all tests that don't stop or upset it; they keep apart by their nodes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.kato_server import KatoServer, Wire, kato_server


@pytest.fixture(scope="package")
def store_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shared server's store, for tests that look into it from outside."""
    return tmp_path_factory.mktemp("kato") / "patterns.db"


@pytest.fixture(scope="package")
def server(store_file: Path) -> Iterator[KatoServer]:
    """The shared server."""
    with kato_server(store_uri=f"sqlite:///{store_file}") as running:
        yield running


@pytest.fixture
def wire(server: KatoServer) -> Iterator[Wire]:
    """A client of the shared server."""
    with httpx.Client(base_url=server.url, timeout=30) as http:
        yield Wire(http)
