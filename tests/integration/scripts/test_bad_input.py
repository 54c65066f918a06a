"""What can't work is said at once, in words that name it, with the exit status of the original, and starts nothing."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.support.suites import plant, run_suite, statuses_in
from tests.support.worker import AS_NOBODY

JOB = "{name: Mine, script: train_no_options.py, output: mine}"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--max-workers", "0"], "max_workers must be greater than 0"),
        (["--max-workers", "many"], "'many' is not a valid integer"),
        (["--retries", "-1"], "retries must be 0 or greater"),
        (["--timeout-seconds", "0"], "timeout_seconds must be greater than 0"),
        (["--retry-backoff", "0.5"], "retry_backoff must be 1 or greater"),
        (["--exclude-regex", "("], "exclude_regex is not a regular expression"),
        (["--only", "nobody"], "only: no job has such an id (nobody); known are train_no_options"),
        (["--extra-arg"], "'--extra-arg' requires an argument"),
        (["--logs-dir", "--dry-run"], "'--logs-dir' requires an argument, not the option '--dry-run'"),
        (["--exclude-regex", "--dry-run", "--list"], "'--exclude-regex' requires an argument"),
        (["--workers", "3"], "No such option"),
        (["--config", "none.yaml"], "none.yaml: No such file or directory"),
        (["--config", "broken.yaml"], "broken.yaml"),
        (["--config", "twice.yaml"], "the id 'mine' is given twice"),
        (["--config", "typo.yaml"], "jobs[0].optoinal is not known; did you mean optional?"),
        (["--discover-root", ".."], "is not within the tree"),
        (["--root", "nowhere"], "--root: nowhere: No such file or directory"),
        (["--root", "train_no_options.py"], "--root: train_no_options.py: is not a folder"),
        (["--interpreter", "python9"], "interpreter: python9: no such program"),
        (["--interpreter", "./train_no_options.py"], "interpreter: ./train_no_options.py: no such program"),
        (["--logs-dir", "train_no_options.py"], "logs_dir: "),
        (["--summary-dir", "train_no_options.py/x"], "summary_dir: "),
        (["--base-output-dir", "train_no_options.py"], "base_output_dir: "),
    ],
)
def test_bad_configuration_ends_with_2_before_anything_starts(tmp_path: Path, words: list[str], said: str) -> None:
    plant(tmp_path, "no_options")
    (tmp_path / "broken.yaml").write_text("jobs: [")
    (tmp_path / "twice.yaml").write_text(f"jobs: [{JOB}, {JOB}]")
    (tmp_path / "typo.yaml").write_text(f"jobs: [{JOB[:-1]}, optoinal: true}}]")

    done = run_suite(tmp_path, *words)

    assert done.code == 2
    assert said in done.err
    assert "Traceback" not in done.err
    assert not list(tmp_path.rglob("run_*.log"))


def test_an_unknown_id_beside_a_known_one_is_only_told(tmp_path: Path) -> None:
    plant(tmp_path, "no_options", "bad")

    done = run_suite(tmp_path, "--only", "train_no_options", "train_bat")

    assert done.code == 0
    assert "only: no job has the id 'train_bat'; did you mean train_bad?" in done.err
    assert statuses_in(tmp_path) == {"train_no_options": "SUCCESS"}


def test_nothing_selected_is_told_and_leaves_no_summary(tmp_path: Path) -> None:
    plant(tmp_path, "bad")

    done = run_suite(tmp_path, "--exclude", "train_bad")

    assert done.code == 0
    assert "nothing is selected" in done.err
    assert done.out == ""
    assert not (tmp_path / "summaries").exists()


def test_nothing_selected_is_a_summary_of_nothing_for_a_program_that_reads_it(tmp_path: Path) -> None:
    plant(tmp_path, "bad")

    done = run_suite(tmp_path, "--exclude", "train_bad", "-o", "json")

    assert done.code == 0
    summary = json.loads(done.out)
    assert (summary["jobs"], summary["exit_status"]) == ([], 0)
    assert not (tmp_path / "summaries").exists()


def test_nothing_found_is_an_error_of_its_own_when_asked_for(tmp_path: Path) -> None:
    done = run_suite(tmp_path, "--strict-discovery")

    assert done.code == 3
    assert "strict_discovery" in done.err


def test_workers_without_parallel_are_told_to_do_nothing(tmp_path: Path) -> None:
    plant(tmp_path, "no_options")

    done = run_suite(tmp_path, "--max-workers", "6")

    assert done.code == 0
    assert "--parallel is what asks for more" in done.err


def test_built_in_jobs_that_are_not_there_fail_and_say_so(tmp_path: Path) -> None:
    done = run_suite(tmp_path, "--only", "als", built_in=True)

    assert done.code == 1
    assert "als: script not found: src/aimedres/training/train_als.py" in done.err
    assert "--no-default-jobs leaves them out" in done.err
    assert statuses_in(tmp_path) == {"als": "FAILED"}


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody who may not")
def test_what_may_not_be_written_is_told_early(tmp_path: Path) -> None:
    plant(tmp_path, "no_options")

    done = run_suite(tmp_path, prefix=AS_NOBODY)

    assert done.code == 2
    assert "logs_dir: " in done.err
    assert "Permission denied" in done.err
