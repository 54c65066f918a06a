"""The summary has the original's keys in the original's order, then ours, and appears whole or not at all."""

from __future__ import annotations

import json
import re
import sys
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from shardwise.engine.files import OutputFolder
from shardwise_jobs.engines.scripts.model.command import command_of
from shardwise_jobs.engines.scripts.model.job import SuiteJob
from shardwise_jobs.engines.scripts.model.options import SuiteOptions
from shardwise_jobs.engines.scripts.model.records import AttemptRecord, JobRecord, Status, SuiteExit, record_of
from shardwise_jobs.engines.scripts.model.summary import digest_of, summary_name, summary_of, write_summary
from shardwise_jobs.engines.scripts.model.validation_errors import InvalidSuite

BEGAN = datetime(2026, 11, 21, 22, 59, 36, 355752, tzinfo=UTC)
ENDED = datetime(2026, 11, 21, 22, 59, 38, 987870, tzinfo=UTC)
OPTIONS = SuiteOptions.of(
    {"epochs": 3, "parallel": True, "max_workers": 2, "retries": 1, "default_jobs": False, "roots": ["t"]}
)
BARE: dict[str, Any] = {
    "supports_folds": False,
    "supports_sample": False,
    "supports_batch": False,
    "detect_method": "text",
}


def record(name: str, *attempts: tuple[Status, int, float], takes_options: bool = False) -> JobRecord:
    job = SuiteJob(
        id=f"train_{name}",
        name=name.title(),
        script=f"t/train_{name}.py",
        output=f"{name}_results",
        use_output_dir=takes_options,
        supports_epochs=takes_options,
        **BARE,
    )
    return record_of(
        job,
        command=command_of(job, options=OPTIONS, interpreter="python3", output_base="/repo/results"),
        attempts=[
            AttemptRecord(
                number=number,
                status=status,
                exit_code=code,
                error=None if code == 0 else f"Non-zero exit code: {code}",
                start_time="2026-11-21T22:59:36.371278+00:00",
                end_time="2026-11-21T22:59:36.615131+00:00",
                duration_sec=seconds,
            )
            for number, (status, code, seconds) in enumerate(attempts, start=1)
        ],
    )


RECORDS = [
    record("ok", (Status.SUCCESS, 0, 0.24), takes_options=True),
    record("flaky", (Status.FAILED, 7, 0.05), (Status.SUCCESS, 0, 0.06)),
    record("bad", (Status.FAILED, 3, 0.2), (Status.FAILED, 3, 0.19)),
]


def summary(**changes: Any) -> dict[str, Any]:
    values: dict[str, Any] = {
        "run_uid": "0b1c",
        "start_time": BEGAN,
        "end_time": ENDED,
        "working_directory": "/repo",
        "arguments": OPTIONS.arguments(),
        "exit_status": SuiteExit.MANDATORY_JOB_FAILED,
        "python": "3.11.7 (main)\n[GCC 12.2.0]",
    }
    return summary_of(RECORDS, **{**values, **changes})


class TestWorkedExample:
    def test_the_originals_keys_come_first_in_its_order(self) -> None:
        assert [*summary()] == [
            *("pipeline", "start_time_utc", "end_time_utc", "duration_sec", "git_commit", "python"),
            *("working_directory", "gpu_info", "arguments", "jobs"),
            *("schema_version", "run_uid", "exit_status", "counts", "wall_speedup", "digest"),
        ]

    def test_values_at_the_top_are_those_of_the_example(self) -> None:
        said = summary()
        assert {key: said[key] for key in [*said][:8]} == {
            "pipeline": "AiMedRes Medical AI Training",
            "start_time_utc": "2026-11-21T22:59:36.355752+00:00",
            "end_time_utc": "2026-11-21T22:59:38.987870+00:00",
            "duration_sec": 2.632118,
            "git_commit": None,
            "python": "3.11.7 (main) [GCC 12.2.0]",
            "working_directory": "/repo",
            "gpu_info": {"framework": None, "cuda_available": False, "device_count": 0, "devices": []},
        }

    def test_arguments_are_those_of_the_example(self) -> None:
        expected: dict[str, Any] = {
            "config": None,
            "epochs": 3,
            "folds": None,
            "sample": None,
            "batch": None,
            "only": [],
            "exclude": [],
            "list": False,
            "dry_run": False,
            "parallel": True,
            "max_workers": 2,
            "retries": 1,
            "extra_arg": [],
            "base_output_dir": "results",
            "logs_dir": "logs",
            "summary_dir": "summaries",
            "no_default_jobs": True,
        }
        arguments = summary()["arguments"]
        assert {key: arguments[key] for key in expected} == expected
        assert [key for key in arguments if key in expected] == [*expected]

    def test_a_jobs_keys_are_those_of_the_example_then_ours(self) -> None:
        for job in summary()["jobs"]:
            assert [*job] == [
                *("id", "name", "status", "attempts", "start_time", "end_time", "duration_sec", "optional"),
                *("use_output_dir", "supports_epochs", "supports_folds", "supports_sample", "supports_batch"),
                *("command", "error"),
                *("script", "output", "detect_method", "aliases", "exit_code", "reason", "pod", "node"),
                *("log_path", "log_sha256", "attempts_detail"),
            ]

    def test_its_first_job_is_that_of_the_example(self) -> None:
        [ok, _, _] = summary()["jobs"]
        assert {key: ok[key] for key in [*ok][:15]} == {
            "id": "train_ok",
            "name": "Ok",
            "status": "SUCCESS",
            "attempts": 1,
            "start_time": "2026-11-21T22:59:36.371278+00:00",
            "end_time": "2026-11-21T22:59:36.615131+00:00",
            "duration_sec": 0.24,
            "optional": False,
            "use_output_dir": True,
            "supports_epochs": True,
            "supports_folds": False,
            "supports_sample": False,
            "supports_batch": False,
            "command": ["python3", "t/train_ok.py", "--output-dir", "/repo/results/ok_results", "--epochs", "3"],
            "error": None,
        }

    def test_the_others_differ_by_the_error_of_a_success_alone(self) -> None:
        [_, flaky, bad] = summary()["jobs"]
        keys = ("id", "status", "attempts", "duration_sec", "command", "error")
        assert [flaky[key] for key in keys] == [
            *("train_flaky", "SUCCESS", 2, 0.06, ["python3", "t/train_flaky.py"], None),
        ]
        assert [bad[key] for key in keys] == [
            *("train_bad", "FAILED", 2, 0.19, ["python3", "t/train_bad.py"], "Non-zero exit code: 3"),
        ]
        assert [attempt["exit_code"] for attempt in flaky["attempts_detail"]] == [7, 0]


def test_our_keys_say_the_outcome() -> None:
    said = summary()
    assert said["exit_status"] == 1
    assert said["counts"] == {"success": 2, "failed": 1, "skipped": 0, "interrupted": 0}
    assert said["wall_speedup"] == round((0.24 + 0.06 + 0.19) / 2.632118, 3)
    assert said["digest"] == digest_of(RECORDS)
    assert (said["schema_version"], said["run_uid"]) == (1, "0b1c")


def test_a_summary_of_a_run_that_goes_on_has_no_exit_status() -> None:
    assert summary(exit_status=None)["exit_status"] is None


def test_a_run_of_no_time_has_no_speedup() -> None:
    assert summary(end_time=BEGAN)["wall_speedup"] is None


def test_times_are_utc_wherever_it_is_written() -> None:
    there = timezone(timedelta(hours=5, minutes=30))
    moved = summary(start_time=BEGAN.astimezone(there), end_time=ENDED.astimezone(there))
    assert moved == summary()


def test_python_is_this_one_unless_told() -> None:
    assert summary(python=None)["python"] == sys.version.replace("\n", " ")


class TestFile:
    def test_its_name_says_when_the_run_began_and_which_it_was(self) -> None:
        assert summary_name(start_time=BEGAN, run_uid="0b1c") == "training_summary_20261121_225936_0b1c.json"
        assert summary_name(start_time=BEGAN, run_uid="other") != summary_name(start_time=BEGAN, run_uid="0b1c")

    def test_its_time_is_in_utc(self) -> None:
        there = timezone(timedelta(hours=5, minutes=30))
        here = summary_name(start_time=BEGAN, run_uid="0b1c")
        assert summary_name(start_time=BEGAN.astimezone(there), run_uid="0b1c") == here

    def test_a_uid_can_not_lead_out_of_the_folder(self) -> None:
        assert summary_name(start_time=BEGAN, run_uid="../x y") == "training_summary_20261121_225936_..-x-y.json"

    def test_it_is_written_where_it_is_asked_for_and_nothing_is_left_beside_it(self, tmp_path: Path) -> None:
        path = Path(write_summary(tmp_path / "summaries", summary()))
        assert [*(tmp_path / "summaries").iterdir()] == [path]
        assert json.loads(path.read_text()) == json.loads(json.dumps(summary()))
        assert [*json.loads(path.read_text())] == [*summary()]

    def test_written_again_it_replaces_what_was_there(self, tmp_path: Path) -> None:
        first = write_summary(tmp_path, summary(exit_status=None))
        assert write_summary(tmp_path, summary()) == first
        assert json.loads(Path(first).read_text())["exit_status"] == 1
        assert len([*tmp_path.iterdir()]) == 1

    def test_an_output_folder_gives_its_uri(self, tmp_path: Path) -> None:
        uri = write_summary(OutputFolder(f"file://{tmp_path}/out"), summary())
        assert uri == f"file://{tmp_path}/out/training_summary_20261121_225936_0b1c.json"
        assert json.loads(Path(uri.removeprefix("file://")).read_text())["run_uid"] == "0b1c"

    def test_a_folder_that_can_not_be_written_is_an_error_by_name(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(InvalidSuite, match=r"^summary_dir: .*/file/training_summary_.*: (Not a|File exists)"):
            write_summary(tmp_path / "file", summary())

    def test_its_name_is_that_of_the_specification(self, tmp_path: Path) -> None:
        name = Path(write_summary(tmp_path, summary())).name
        assert re.fullmatch(r"training_summary_\d{8}_\d{6}_[0-9a-z]+\.json", name)
