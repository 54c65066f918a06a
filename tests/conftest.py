"""Real servers that tests share, one of each per test run; and no generated example is judged by its time."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from tests.support import mongo_server
from tests.support.require import missing

# A busy machine is no finding.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


@pytest.fixture(scope="session")
def mongo_uri(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A MongoDB-wire server with an empty store. Tests keep apart by the name of their service."""
    try:
        mongo_server.build()
    except mongo_server.ServerMissing as error:
        missing(f"the MongoDB-wire test server ({error})", mongo_server.HOW_TO_GET)
    with mongo_server.running(tmp_path_factory.mktemp("mongo") / "data") as uri:
        yield uri


@pytest.fixture
def memory_uris(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `memory://` stand for an object store; it is none of the schemes that are allowed by themselves."""
    monkeypatch.setenv("SHARDWISE_URI_SCHEMES", "memory")
