"""Servers and work for the tests of the Rest transport."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from shardwise.engine.files import OutputFolder
from shardwise_jobs.engines.kato.file_ledger import FileLedger
from tests.support.rest_work import (
    Served,
    Work,
    serving,
)


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(tmp_path_factory.mktemp("ours"), exact=True) as served:
        yield served


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(tmp_path_factory.mktemp("foreign"), exact=False) as served:
        yield served


@pytest.fixture(params=["ours", "foreign"])
def either(request: pytest.FixtureRequest) -> Served:
    served: Served = request.getfixturevalue(request.param)
    return served


@pytest.fixture
def new_work(tmp_path: Path) -> Callable[[Served], Work]:
    def make(served: Served) -> Work:
        run = uuid.uuid4().hex
        ledger = FileLedger(output=OutputFolder(str(tmp_path / run)), run=run)
        return Work(base=f"b{run[:12]}", run=run, ledger=ledger, store=served.store)

    return make
