"""The steps of a suite as pods take them: a list that stays, one attempt per worker, a verdict from the records."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from shardwise_api.wire import MAX_TERMINATION_MESSAGE_BYTES, ExitCode, RunResult, Step, WorkerExit, WorkResult
from tests.support import suites
from tests.support.suite_pods import SuitePods, new_suite, prepared
from tests.support.worker import terminate


@pytest.fixture
def suite(tmp_path: Path) -> SuitePods:
    return new_suite(tmp_path)


class TestThePrepareStep:
    def test_finds_the_scripts_and_tells_what_they_are_called(self, suite: SuitePods) -> None:
        prepared(suite, "ok", "bad")

        assert suite.prepared is not None
        assert suite.prepared.items_total == 2
        assert suite.prepared.details["ids"] == ["train_bad", "train_ok"]
        assert [job["status"] for job in suite.summary["jobs"]] == ["PENDING", "PENDING"]

    def test_freezes_which_index_is_which_for_good(self, suite: SuitePods) -> None:
        prepared(suite, "ok", "bad")
        before = suite.prepared
        # In front of both, and one of them gone.
        (suite.tree / "train_aaa.py").write_text("print('new')")
        (suite.tree / "train_bad.py").unlink()

        again = suite.prepare()

        assert again.code == 0, again
        assert before is not None
        assert suite.prepared is not None
        assert suite.prepared.input_fingerprint == before.input_fingerprint
        (warning,) = suite.prepared.details["warnings"]
        assert warning.startswith("1 new, 1 gone, 0 changed since the list was frozen; ")
        assert suite.summary["warnings"] == [warning]
        assert (suite.index("train_bad"), suite.index("train_ok")) == (0, 1)

    def test_of_another_run_begins_anew_beside_it(self, suite: SuitePods) -> None:
        prepared(suite, "ok")
        suite.uid = "another"
        prepared(suite, "bad")

        assert suite.prepared is not None
        assert suite.prepared.items_total == 2
        assert len([*suite.output.glob("records/*/suite.json")]) == 2

    def test_refuses_to_go_on_with_other_scripts_or_commands_but_takes_other_patience(self, suite: SuitePods) -> None:
        prepared(suite, "ok")
        suite.settings.update(maxWorkers=1, retries=3, timeoutSeconds=5)
        assert suite.prepare().code == 0
        suite.settings["epochs"] = 7

        ended = suite.prepare()

        assert ended.code == 2
        assert "epochs: None then, 7 now" in ended.failure.message
        assert "another metadata.name" in ended.failure.message

    def test_has_a_short_word_for_many_scripts(self, suite: SuitePods) -> None:
        suites.plant_many(suite.tree, 1000)

        ended = suite.prepare()

        assert ended.code == 0, ended
        assert suite.prepared is not None
        assert suite.prepared.items_total == 1000
        assert len(ended.message.encode()) <= MAX_TERMINATION_MESSAGE_BYTES

    @pytest.mark.parametrize(
        ("settings", "reason", "says"),
        [
            ({"strictDiscovery": True}, "NothingDiscovered", "no script was found or named"),
            ({}, "NothingDiscovered", "or useDefaultJobs for the seven of the original"),
            ({"excludeRegex": "("}, "InvalidSpec", "spec.engine.scripts: exclude_regex"),
            ({"only": ["nobody"], "useDefaultJobs": True}, "InvalidSpec", "only: no job has such an id"),
            ({"source": "/nowhere"}, "InvalidSpec", "spec.engine.scripts.source: /nowhere: there is no such folder"),
            ({"roots": ["nowhere"]}, "InvalidSpec", "nowhere"),
            ({"interpreter": "no-such-program"}, "InvalidSpec", "spec.engine.scripts.interpreter: no-such-program"),
            ({"baseOutputDir": "/proc/nowhere"}, "InvalidSpec", "spec.engine.scripts.baseOutputDir: /proc/nowhere"),
            (
                {"jobs": [{"name": "A", "script": "../a.py", "output": "a"}]},
                "InvalidSpec",
                "spec.engine.scripts: jobs[0].script",
            ),
        ],
        ids=lambda value: next(iter(value), "nothing") if isinstance(value, dict) else "",
    )
    def test_says_early_what_can_not_work(
        self, suite: SuitePods, settings: dict[str, Any], reason: str, says: str
    ) -> None:
        suite.settings.update(settings)

        ended = suite.prepare()

        assert (ended.code, ended.failure.reason) == (2, reason), ended
        assert says in ended.failure.message

    def test_looks_for_an_interpreters_path_where_its_scripts_will(self, suite: SuitePods) -> None:
        suite.settings["interpreter"] = "bin/python"
        suites.plant(suite.tree, "no_options")
        for folder in (suite.folder, suite.tree):
            # First beside the tree, where this step happens to run.
            (folder / "bin").mkdir()
            (folder / "bin/python").symlink_to(sys.executable)
            ended = suite.prepare()
            if folder is suite.folder:
                assert (ended.code, ended.failure.reason) == (2, "InvalidSpec")
                assert "spec.engine.scripts.interpreter: bin/python: no such program" in ended.failure.message
                assert f"looked for in the tree, {suite.tree}" in ended.failure.message

        assert ended.code == 0, ended
        assert suite.work("train_no_options").code == 0

    def test_of_nothing_selected_leaves_a_suite_that_is_well(self, suite: SuitePods) -> None:
        suite.settings["exclude"] = ["train_ok"]
        prepared(suite, "ok")
        assert suite.prepared is not None
        assert suite.prepared.items_total == 0

        result = suite.finalize()

        assert result.suite is not None
        assert (result.suite.exit_status, result.suite.counts.total) == (0, 0)
        assert "nothing was selected, so nothing ran" in result.warnings


class TestAWorker:
    def test_runs_its_script_and_writes_down_how_it_ended(self, suite: SuitePods) -> None:
        suite.settings["epochs"] = 3
        prepared(suite, "ok")

        ended = suite.work("train_ok")

        assert ended.code == 0, ended
        assert "epoch 3/3" in ended.log
        said = suite.said_of("train_ok")
        assert (said["status"], said["attempts"], said["exit_code"], said["error"]) == ("SUCCESS", 1, 0, None)
        assert (said["pod"], said["node"]) == ("run-work-0", "node7")
        results = suite.output / "results" / "ok_results"
        assert said["command"][1:] == ["train_ok.py", "--output-dir", str(results), "--epochs", "3"]
        assert json.loads((results / "metrics.json").read_text()) == {"epochs": 3}
        first, *rest = suite.log_of("train_ok").splitlines()
        assert "| INFO | Command: " in first
        assert rest == ["epoch 1/3", "epoch 2/3", "epoch 3/3"]

    def test_gives_its_script_nothing_that_was_meant_for_itself(self, suite: SuitePods) -> None:
        (suite.tree / "train_a.py").write_text("import os; print(sorted(os.environ), os.getcwd())")
        prepared(suite)

        suite.work("train_a")

        log = suite.log_of("train_a")
        assert "SHARDWISE" not in log
        assert "JOB_COMPLETION_INDEX" not in log
        assert str(suite.tree) in log

    @pytest.mark.parametrize(("code", "seen"), [(3, 3), (2, 2), (255, 255), (66, 1), (75, 1), (143, 1)])
    def test_leaves_with_its_scripts_exit_code_unless_a_job_would_misread_it(
        self, suite: SuitePods, code: int, seen: int
    ) -> None:
        (suite.tree / "train_a.py").write_text(f"raise SystemExit({code})")
        prepared(suite)

        ended = suite.work("train_a")

        assert (ended.code, ended.failure.reason) == (seen, "ScriptFailed")
        assert ended.failure.message == f"train_a: Non-zero exit code: {code}"
        assert (suite.said_of("train_a")["status"], suite.said_of("train_a")["exit_code"]) == ("FAILED", code)

    def test_goes_on_where_the_attempts_before_it_ended(self, suite: SuitePods) -> None:
        prepared(suite, "flaky")

        assert [suite.work("train_flaky").code for _ in range(3)] == [7, 0, 0]

        said = suite.said_of("train_flaky")
        assert (said["status"], said["attempts"], said["error"]) == ("SUCCESS", 2, None)
        assert [attempt["status"] for attempt in said["attempts_detail"]] == ["FAILED", "SUCCESS"]
        log = suite.log_of("train_flaky")
        assert log.count("Command: ") == 2
        assert "attempt 1" in log
        assert "attempt 2" in log

    def test_says_that_a_script_has_changed_and_runs_it_at_its_index(self, suite: SuitePods) -> None:
        prepared(suite, "bad", "ok")
        (suite.tree / "train_aaa.py").write_text("print('in front of all')")
        (suite.tree / "train_bad.py").write_text("print('mended')")

        assert suite.work("train_bad").code == 0

        assert "mended" in suite.log_of("train_bad")
        assert suite.work("train_ok").code == 0
        (warning,) = suite.summary["warnings"]
        assert warning.startswith("train_bad: train_bad.py has changed since the list was frozen")
        assert [job["id"] for job in suite.summary["jobs"]] == ["train_bad", "train_ok"]

    def test_whose_script_is_gone_fails_that_one_alone(self, suite: SuitePods) -> None:
        prepared(suite, "bad", "ok")
        (suite.tree / "train_ok.py").unlink()

        ended = suite.work("train_ok")

        assert (ended.code, ended.failure.reason) == (ExitCode.NO_SCRIPT, "ScriptNotFound")
        assert ended.failure.message == "train_ok: Script not found: train_ok.py"
        said = suite.said_of("train_ok")
        assert (said["status"], said["attempts"], said["error"]) == ("FAILED", 0, "Script not found: train_ok.py")
        assert suite.work("train_bad").code == 3

    def test_ends_a_script_that_takes_too_long(self, suite: SuitePods) -> None:
        suite.settings["timeoutSeconds"] = 1
        prepared(suite, "waiting")

        ended = suite.work("train_waiting")

        assert (ended.code, ended.failure.reason) == (1, "Timeout")
        assert suite.said_of("train_waiting")["status"] == "TIMEOUT"

    def test_that_is_asked_to_stop_lets_its_script_end(self, suite: SuitePods) -> None:
        prepared(suite, "waiting")
        process = suite.start(Step.WORK)
        suites.wait_ready(suite.tree, "waiting")
        terminate(process)
        suites.let_go(suite.tree, "waiting")

        ended = suite.end(process)

        assert ended.code == 0, ended
        assert "went on" in suite.log_of("train_waiting")

    def test_shows_what_nobody_has_begun_as_interrupted_when_it_is_asked_to_stop(self, suite: SuitePods) -> None:
        suite.settings["graceSeconds"] = 0
        prepared(suite, "bad", "ok", "waiting")
        suite.work("train_bad")
        process = suite.start(Step.WORK, shard=suite.index("train_waiting"))
        suites.wait_ready(suite.tree, "waiting")
        terminate(process)
        suite.end(process)

        assert [job["status"] for job in suite.summary["jobs"]] == ["FAILED", "INTERRUPTED", "INTERRUPTED"]
        said = suite.said_of("train_ok")
        assert (said["attempts"], said["error"]) == (0, "Not started: the run was interrupted")
        assert (suite.summary["exit_status"], suite.summary["counts"]["interrupted"]) == (130, 2)
        # It is what was shown, and not recorded: the run that goes on begins with it as with any other.
        assert suite.prepare().code == 0
        assert suite.said_of("train_ok")["status"] == "PENDING"
        assert suite.work("train_ok").code == 0
        assert suite.said_of("train_ok")["attempts"] == 1

    @pytest.mark.parametrize("name", ["waiting", "waits_for_child", "ignores_sigterm"])
    def test_stops_a_script_that_goes_on_beyond_its_grace(self, suite: SuitePods, name: str) -> None:
        suite.settings["graceSeconds"] = 0
        prepared(suite, name)
        process = suite.start(Step.WORK)
        pid = suites.wait_ready(suite.tree, name)
        terminate(process)

        ended = suite.end(process)

        assert (ended.code, ended.failure.reason) == (143, "Interrupted")
        assert suite.said_of(f"train_{name}")["status"] == "INTERRUPTED"
        assert suite.summary["exit_status"] == 130
        assert not suites.alive(pid)

    def test_goes_on_after_it_was_stopped(self, suite: SuitePods) -> None:
        suite.settings["graceSeconds"] = 0
        prepared(suite, "waiting")
        process = suite.start(Step.WORK)
        suites.wait_ready(suite.tree, "waiting")
        terminate(process)
        suite.end(process)
        suites.let_go(suite.tree, "waiting")

        assert suite.work("train_waiting").code == 0

        said = suite.said_of("train_waiting")
        assert [attempt["status"] for attempt in said["attempts_detail"]] == ["INTERRUPTED", "SUCCESS"]
        assert suite.finalize().suite == suite.finalize().suite

    def test_refuses_another_list_than_was_frozen(self, suite: SuitePods) -> None:
        prepared(suite, "ok")
        (frozen,) = suite.output.glob("records/*/suite.json")
        frozen.write_text(frozen.read_text().replace("train_ok.py", "train_no.py"))

        ended = suite.work("train_ok")

        assert ended.code == 2
        assert "was changed after it had been frozen" in ended.failure.message


class TestTheFinalizeStep:
    def test_judges_what_the_records_say(self, suite: SuitePods) -> None:
        prepared(suite, "ok", "bad")
        suite.work("train_ok")
        suite.work("train_bad")

        result = suite.finalize(WorkResult(seconds=9, workers=2, done=1, failed_shards="0"))

        assert result.suite is not None
        assert result.suite.exit_status == 1
        assert result.suite.message == "1 of 2 mandatory jobs did not succeed: train_bad (exit code 3)"
        assert [line.split(" ")[0::4] for line in result.suite.jobs] == [
            ["FAILED", "train_bad"],
            ["SUCCESS", "train_ok"],
        ]
        assert (result.items.done, result.items.failed) == (1, 1)
        assert (suite.summary["exit_status"], suite.summary["digest"]) == (1, result.digest)

    def test_is_well_with_a_failed_script_that_may_fail(self, suite: SuitePods) -> None:
        suite.settings["allowPartialSuccess"] = True
        prepared(suite, "bad")
        suite.work("train_bad")

        result = suite.finalize()

        assert result.suite is not None
        assert (result.suite.exit_status, result.suite.counts.failed) == (0, 1)

    def test_tells_how_a_worker_that_left_no_word_ended(self, suite: SuitePods) -> None:
        prepared(suite, "ok", "waiting")
        suite.work("train_ok")
        process = suite.start(Step.WORK, shard=suite.index("train_waiting"))
        suites.wait_ready(suite.tree, "waiting")
        process.kill()
        suite.end(process)
        end = WorkerExit(shard=suite.index("train_waiting"), exit_code=137, reason="OOMKilled")

        result = suite.finalize(WorkResult(seconds=9, workers=2, done=1, failed_shards="1", ends=[end]))

        said = suite.said_of("train_waiting")
        assert (said["status"], said["exit_code"], said["reason"]) == ("FAILED", 137, "OOMKilled")
        assert said["error"] == "Killed by the kernel: out of memory (exit code 137)"
        assert (said["attempts"], said["attempts_detail"][0]["status"]) == (1, "FAILED")
        assert result.suite is not None
        assert result.suite.message.endswith("train_waiting (OOMKilled)")

    def test_says_of_one_that_nobody_saw_end_that_the_runner_failed(self, suite: SuitePods) -> None:
        prepared(suite, "ok")

        result = suite.finalize(WorkResult(seconds=9, workers=2, done=1, failed_shards="0"))

        said = suite.said_of("train_ok")
        assert (said["status"], said["reason"]) == ("ERROR", "WorkerLost")
        assert result.suite is not None
        assert result.suite.exit_status == 1

    def test_of_a_dry_run_lists_the_commands_and_starts_nothing(self, suite: SuitePods) -> None:
        suite.settings["dryRun"] = True
        prepared(suite, "ok", "bad")

        result = suite.finalize()

        assert result.suite is not None
        assert (result.suite.exit_status, result.suite.counts.skipped) == (0, 2)
        assert [job["status"] for job in suite.summary["jobs"]] == ["SKIPPED", "SKIPPED"]
        assert suite.said_of("train_bad")["command"][1:] == ["train_bad.py"]
        assert not (suite.output / "results").exists()
        assert not (suite.output / "logs").exists()

    def test_has_room_in_its_message_whatever_the_number_of_scripts(self, suite: SuitePods) -> None:
        suite.settings["dryRun"] = True
        suites.plant_many(suite.tree, 300)
        prepared(suite)

        ended = suite.run(Step.FINALIZE)

        result = RunResult.model_validate_json(ended.message)
        assert len(ended.message.encode()) <= MAX_TERMINATION_MESSAGE_BYTES
        assert result.suite is not None
        assert result.suite.counts.total == 300
        assert 50 < len(result.suite.jobs) < 300

    def test_has_the_same_digest_wherever_the_output_is(self, suite: SuitePods, tmp_path: Path) -> None:
        prepared(suite, "ok")
        suite.work("train_ok")
        before = suite.finalize()
        suite.manifest["spec"]["output"]["uri"] = (tmp_path / "elsewhere").as_uri()
        suite.uid = "another"
        prepared(suite)
        assert suite.run(Step.WORK).code == 0

        assert suite.finalize().digest == before.digest
