"""The ledger in files: what was committed is found again, whatever else lies in the same output folder."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from shardwise.engine.files import OutputFolder
from shardwise_jobs.engines.kato.file_ledger import FileLedger
from shardwise_jobs.engines.kato.stores.base import BlockRecord

pytestmark = pytest.mark.usefixtures("memory_uris")


def _record(*, run: str = "run-a", shard: int = 0, block: int = 0, reason: str = "") -> BlockRecord:
    failures = ((7, reason),) if reason else ()
    return BlockRecord(
        run=run, shard=shard, block=block, done=3, failed=len(failures), skipped=1, uncertain=2, learns=(9, 2),
        failures=failures,
    )  # fmt: skip


@pytest.fixture(params=["disk", "memory"])
def output(request: pytest.FixtureRequest, tmp_path: Path) -> OutputFolder:
    return OutputFolder(str(tmp_path) if request.param == "disk" else f"memory://{uuid.uuid4().hex}")


def test_a_new_ledger_is_empty(output: OutputFolder) -> None:
    ledger = FileLedger(output=output, run="run-a")
    assert ledger.last_block(0) == -1
    assert ledger.records(0) == []
    assert list(ledger.all_records(shards=3)) == []
    assert ledger.begun_block(0) is None


def test_rows_are_found_again_by_shard_and_block(output: OutputFolder) -> None:
    rows = [_record(shard=shard, block=block) for shard in (0, 2) for block in (0, 1)]
    for row in rows:
        FileLedger(output=output, run="run-a").append(row)
    again = FileLedger(output=output, run="run-a")
    assert list(again.all_records(shards=3)) == rows
    assert [again.last_block(shard) for shard in range(3)] == [1, -1, 1]


@example(reason="next line \x85, line separator \u2028, paragraph separator \u2029")
@given(reason=st.text(min_size=1, alphabet=st.characters(exclude_categories=["Cs"])))
def test_a_reason_may_hold_any_character(reason: str) -> None:
    output = OutputFolder(f"memory://{uuid.uuid4().hex}")
    ledger = FileLedger(output=output, run="run-a")
    rows = [_record(block=0, reason=reason), _record(block=1, reason=reason)]
    for row in rows:
        ledger.append(row)
    assert ledger.records(0) == rows


def test_runs_that_share_an_output_folder_do_not_lose_each_other_s_rows(output: OutputFolder) -> None:
    first, second = FileLedger(output=output, run="run-a"), FileLedger(output=output, run="run-b")
    first.append(_record(block=0))
    first.announce(shard=0, block=1)
    second.append(_record(run="run-b", block=0))
    second.append(_record(run="run-b", block=1))
    second.announce(shard=0, block=2)
    assert first.records(0) == [_record(block=0)]
    assert first.begun_block(0) == 1
    assert second.last_block(0) == 1


def test_an_announced_block_is_in_doubt_until_its_row_is_there(output: OutputFolder) -> None:
    ledger = FileLedger(output=output, run="run-a")
    ledger.announce(shard=3, block=0)
    assert ledger.begun_block(3) == 0
    assert ledger.begun_block(2) is None
    ledger.append(_record(shard=3, block=0))
    assert ledger.begun_block(3) is None
    ledger.announce(shard=3, block=1)
    assert FileLedger(output=output, run="run-a").begun_block(3) == 1
