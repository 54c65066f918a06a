"""The real operator with a run of many shards, on a real control plane with fake nodes.

`make bench-operator` does the same, and measures it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from benchmarks.operator_figures import calls, most_within

from tests.cluster import builds
from tests.cluster.errors import ClusterError
from tests.cluster.fake_nodes import PROGRAMS, FakeNodes, fake_nodes
from tests.support.fake_operator import (
    CONFIG_MAPS,
    OPERATOR_USER,
    RUNS,
    Operator,
    Seen,
    follow,
    items_of,
    manifest,
    operator_beside,
)
from tests.support.require import missing

SHARDS = 1_000
# The first time builds programs, which takes minutes.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def control_plane() -> Iterator[FakeNodes]:
    try:
        builds.ensure(PROGRAMS)
    except ClusterError as error:
        missing(f"a control plane ({error})", "Run the tests by `make test`, or install Go 1.26 or newer.")
    with fake_nodes() as here:
        yield here


@pytest.fixture(scope="module")
def operator(control_plane: FakeNodes) -> Iterator[Operator]:
    with operator_beside(control_plane) as started:
        yield started


@pytest.fixture(scope="module")
def run(control_plane: FakeNodes, operator: Operator) -> Seen:
    return follow(control_plane, path=RUNS, body=manifest("many", shards=SHARDS), seconds=300)


def test_every_shard_is_worked_on_and_the_run_completes(run: Seen) -> None:
    status = run.body["status"]
    assert status["phase"] == "Complete"
    assert status["shards"]["completedIndexes"] == f"0-{SHARDS - 1}"
    assert status["result"]["digest"] == "sha256:nothing"


def test_each_shard_is_counted_once(control_plane: FakeNodes, run: Seen) -> None:
    name = run.body["metadata"]["name"]
    document = json.loads(control_plane.call("GET", f"{CONFIG_MAPS}/{name}-finalize")["data"]["run.json"])
    assert document["worked"]["done"] == items_of(SHARDS)


def test_its_status_stays_small_all_the_time(run: Seen) -> None:
    assert 0 < run.largest_status_bytes < 100 * 1024


def test_no_second_has_two_status_updates(control_plane: FakeNodes, run: Seen) -> None:
    lines = control_plane.folders.audit_log.read_text(encoding="utf-8").splitlines()
    updates = [call.at for call in calls(lines, user=OPERATOR_USER) if call.what == "update trainingruns/status"]
    assert len(updates) > 1
    assert most_within(updates) == 1
