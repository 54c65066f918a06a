"""Real servers that tests share, one of each per test run; and how many examples randomized tests try."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests.support import mongo_server
from tests.support.examples import OF_HYPOTHESIS, examples
from tests.support.require import missing

settings.register_profile("shardwise", examples(OF_HYPOTHESIS))
settings.load_profile("shardwise")


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
