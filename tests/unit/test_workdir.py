"""A work directory belongs to one runner at a time, and the next one finds what the last one left."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from shardwise_api.status import Condition, ConditionType, Failure, Phase, RunStatus
from shardwise_api.wire import ItemCounts, PrepareResult, ProgressReport, RunDocument, Step
from shardwise_cli.local.runner import identity_of
from shardwise_cli.local.workdir import Busy, IdentityChanged, StatusUnreadable, Workdir
from tests.support.manifests import KATO, parse

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


def _report(shard: int, *, run: str = "run-a", done: int = 1) -> ProgressReport:
    return ProgressReport(run=run, shard=shard, attempt_started=NOW, time=NOW, items=ItemCounts(done=done))


def _put(workdir: Workdir, report: ProgressReport) -> None:
    (workdir.progress / f"shard-{report.shard}.json").write_text(report.model_dump_json(by_alias=True))


def test_two_runners_do_not_work_in_one_directory(tmp_path: Path) -> None:
    path = tmp_path / "new" / "dir"
    with Workdir(path).locked():
        with pytest.raises(Busy, match=r"another `shardwise run` works in .*new/dir"), Workdir(path).locked():
            pass
        with Workdir(tmp_path / "other").locked():
            pass
    with Workdir(path).locked():
        pass


def test_a_runner_of_another_process_is_noticed_and_its_death_too(tmp_path: Path) -> None:
    script = (
        "import sys, pathlib\nfrom shardwise_cli.local.workdir import Workdir\n"
        "with Workdir(pathlib.Path(sys.argv[1])).locked():\n print('locked', flush=True)\n sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"locked\n"
        with pytest.raises(Busy), Workdir(tmp_path).locked():
            pass
        other.kill()
    with Workdir(tmp_path).locked():
        pass


def test_a_status_is_found_again_as_it_was_written(tmp_path: Path) -> None:
    workdir = Workdir(tmp_path)
    assert workdir.status() is None
    status = RunStatus(
        phase=Phase.SUSPENDED,
        start_time=NOW,
        conditions=[
            Condition(type=ConditionType.SUSPENDED, status="True", reason="Interrupted", last_transition_time=NOW)
        ],
        failures=[Failure(shard=1, exit_code=137, reason="Killed", message="naïve 日本")],
    )
    workdir.write_status(RunStatus())
    workdir.write_status(status)
    assert Workdir(tmp_path).status() == status
    assert [path.name for path in tmp_path.iterdir()] == ["status.json"]


def test_each_step_has_a_document_of_its_own(tmp_path: Path) -> None:
    workdir = Workdir(tmp_path)
    document = RunDocument(uid="u", name="n", kind="TrainingRun", spec={"shards": 1})
    paths = {workdir.write_document(step, document) for step in Step}
    assert len(paths) == 3
    assert all(RunDocument.model_validate_json(path.read_bytes()) == document for path in paths)


def test_logs_and_results_have_places_of_their_own(tmp_path: Path) -> None:
    workdir = Workdir(tmp_path)
    logs = {workdir.log(step, index, attempt) for step in Step for index in (0, 1) for attempt in (1, 2)}
    assert workdir.log(Step.WORK, 3, 2).name == "shard-3-attempt-2.log"
    assert workdir.log(Step.PREPARE, 0, 1).name == "prepare-attempt-1.log"
    assert len(logs) == 2 * 2 + 2 + 2
    results = {workdir.termination_log(step, index) for step in Step for index in range(3)}
    assert len(results) == 9
    assert all(path.parent.is_dir() for path in logs | results)


def test_the_last_report_of_each_shard_of_the_run_is_read(tmp_path: Path) -> None:
    workdir = Workdir(tmp_path)
    workdir.clear_progress()
    assert workdir.reports("run-a") == {}
    for report in (_report(0), _report(1), _report(1, done=5), _report(2, run="run-b")):
        _put(workdir, report)
    assert workdir.reports("run-a") == {0: _report(0), 1: _report(1, done=5)}


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"[]", b'{"run": "run-a"}'])
def test_a_report_that_cannot_be_read_is_passed_over(content: bytes, tmp_path: Path) -> None:
    workdir = Workdir(tmp_path)
    workdir.clear_progress()
    _put(workdir, _report(0))
    (workdir.progress / "shard-1.json").write_bytes(content)
    assert workdir.reports("run-a") == {0: _report(0)}


def test_reports_of_an_earlier_start_are_forgotten(tmp_path: Path) -> None:
    workdir = Workdir(tmp_path)
    workdir.clear_progress()
    _put(workdir, _report(0))
    workdir.clear_progress()
    assert workdir.reports("run-a") == {}


@pytest.mark.parametrize("left", [b"", b"{", b"[]", b'{"phase": "Nowhere"}'])
def test_a_status_that_is_none_is_told_and_not_taken_for_no_run(left: bytes, tmp_path: Path) -> None:
    (tmp_path / "status.json").write_bytes(left)
    with pytest.raises(StatusUnreadable, match=r"status\.json is damaged"):
        Workdir(tmp_path).status()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ("sharding.shards=2", "spec.sharding.shards: 4 then, 2 now"),
        ("sharding.strategy=Chunked", "spec.sharding.strategy: RoundRobin then, Chunked now"),
        ("blockSize=7", "spec.blockSize: 50 then, 7 now"),
    ],
)
def test_no_engine_s_run_goes_on_with_other_blocks(change: str, named: str, tmp_path: Path) -> None:
    def identity(*changes: str, fingerprint: str = "sha256:a") -> dict[str, object]:
        run = parse(KATO, "sharding.shards=4", "blockSize=50", *changes)
        prepared = PrepareResult(items_total=100, input_fingerprint=fingerprint)
        document = RunDocument(uid="u", name="n", kind=run.kind, spec=run.spec_document(), prepared=prepared)
        return identity_of(run, document)

    workdir = Workdir(tmp_path)
    workdir.require_identity(identity())
    workdir.require_identity(identity("sharding.parallelism=2"))
    with pytest.raises(IdentityChanged, match=named):
        workdir.require_identity(identity(change))
    with pytest.raises(IdentityChanged, match="input: sha256:a then, sha256:b now"):
        workdir.require_identity(identity(fingerprint="sha256:b"))
    workdir.require_identity(identity())
