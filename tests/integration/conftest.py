"""One PostgreSQL for all tests that need one; no test sees what another did to it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support import postgres_server
from tests.support.postgres_server import PostgresServer
from tests.support.require import missing


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A server that tests may restart and kill."""
    try:
        postgres_server.programs()
    except postgres_server.ServerMissing as error:
        missing(f"PostgreSQL ({error})", postgres_server.HOW_TO_GET)
    with postgres_server.running() as server:
        yield server
