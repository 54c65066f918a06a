"""The command line of the original, used as people use it: what comes out, on screen and in files."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.support.suites import plant, plant_copies, plant_loop, plant_many, run_suite, statuses_in, summary_in

ARGUMENTS_OF_THE_ORIGINAL = [
    "config", "epochs", "folds", "sample", "batch", "only", "exclude", "list", "dry_run", "parallel", "max_workers",
    "retries", "extra_arg", "base_output_dir", "logs_dir", "summary_dir",
]  # fmt: skip


def test_a_suite_leaves_logs_a_summary_and_an_exit_status(tmp_path: Path) -> None:
    plant(tmp_path / "models", "ok", "flaky", "bad")

    done = run_suite(tmp_path, "--parallel", "--retries", "1", "--retry-delay-seconds", "0", "--epochs", "3")

    assert done.code == 1
    assert "train_bad" in done.out
    assert "2 success, 1 failed" in done.out
    summary = summary_in(tmp_path)
    assert [(job["id"], job["status"], job["attempts"], job["error"]) for job in summary["jobs"]] == [
        ("train_bad", "FAILED", 2, "Non-zero exit code: 3"),
        ("train_flaky", "SUCCESS", 2, None),
        ("train_ok", "SUCCESS", 1, None),
    ]
    assert summary["jobs"][2]["command"][1:] == [
        "models/train_ok.py", "--output-dir", f"{tmp_path}/results/ok_results", "--epochs", "3",
    ]  # fmt: skip
    assert summary["counts"] == {"success": 2, "failed": 1, "skipped": 0, "interrupted": 0}
    assert summary["exit_status"] == 1
    assert list(summary["arguments"])[: len(ARGUMENTS_OF_THE_ORIGINAL)] == ARGUMENTS_OF_THE_ORIGINAL
    assert json.loads((tmp_path / "results" / "ok_results" / "metrics.json").read_text()) == {"epochs": 3}


def test_names_of_files_are_those_of_the_original(tmp_path: Path) -> None:
    plant(tmp_path, "no_options")

    assert run_suite(tmp_path).code == 0

    names = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())
    patterns = (
        r"logs/orchestrator\.log",
        r"logs/train_no_options/run_\d{8}_\d{6}\.log",
        r"summaries/training_summary_\d{8}_\d{6}_[0-9a-f-]{36}\.json",
        r"train_no_options\.py",
    )
    assert len(names) == len(patterns)
    for name, pattern in zip(names, patterns, strict=True):
        assert re.fullmatch(pattern, name)
    line = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d \| [A-Z]+ \| \w+ \| \S.*"
    for written in (tmp_path / "logs" / "orchestrator.log").read_text().splitlines():
        assert re.fullmatch(line, written)
    first, *rest = (tmp_path / summary_in(tmp_path)["jobs"][0]["log_path"]).read_text().splitlines()
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d \| INFO \| Command: \S+ train_no_options\.py", first)
    assert rest == ["nothing to choose"]


@pytest.mark.parametrize(
    ("words", "selected"),
    [
        (["--only", "train_a", "TRAIN_C"], ["train_a", "train_c"]),
        (["--exclude", "train_a", "train_b"], ["train_c", "train_ok"]),
        (["--only", "train_a", "train_b", "--exclude", "train_b"], ["train_a"]),
        (["--discover-root", "more", "other"], ["train_c", "train_ok"]),
        (["--include-pattern", "fit_*.py"], ["fit_d", "train_a", "train_b", "train_c", "train_ok"]),
        (["--only-pattern", "fit_*.py"], ["fit_d"]),
        (["--exclude-regex", r"more/|_b\."], ["train_a", "train_ok"]),
        (["--discovery-limit", "1"], ["train_c"]),
    ],
)
def test_scripts_are_chosen_as_with_the_original(tmp_path: Path, words: list[str], selected: list[str]) -> None:
    plant_copies(tmp_path, "no_options", "a", "b")
    plant_copies(tmp_path / "more", "no_options", "c")
    plant(tmp_path / "other", "ok")
    (tmp_path / "fit_d.py").write_text("print()")
    plant_loop(tmp_path)

    done = run_suite(tmp_path, "--list", "-o", "json", *words)

    assert done.code == 0, done.err
    assert sorted(job["id"] for job in json.loads(done.out)) == selected
    assert not (tmp_path / "logs").exists()


def test_lists_may_be_empty_as_with_the_original(tmp_path: Path) -> None:
    plant_copies(tmp_path, "no_options", "a", "b")

    done = run_suite(tmp_path, "--exclude", "--only", "--discover-root", "--dry-run")

    assert done.code == 0, done.err
    assert statuses_in(tmp_path) == {"train_a": "SKIPPED", "train_b": "SKIPPED"}


def test_options_reach_the_scripts_that_take_them_and_extra_words_all(tmp_path: Path) -> None:
    plant(tmp_path, "ok", "no_options", "own_spelling")

    words = [
        "--epochs",
        "50",
        "--folds=5",
        "--batch",
        "128",
        "--extra-arg=--verbose",
        "--extra-arg",
        "--early-stopping",
    ]
    done = run_suite(tmp_path, "--dry-run", "--detect", "ast", "--parallel", "--max-w", "6", *words)

    assert done.code == 0
    extra = ["--verbose", "--early-stopping"]
    results = tmp_path / "results"
    assert {job["id"]: job["command"][1:] for job in summary_in(tmp_path)["jobs"]} == {
        "train_no_options": ["train_no_options.py", *extra],
        "train_ok": ["train_ok.py", "--output-dir", f"{results}/ok_results", "--epochs", "50", *extra],
        "train_own_spelling": [
            *("train_own_spelling.py", "--output_dir", f"{results}/own_spelling_results", "--batch", "128", *extra)
        ],
    }
    assert "train_ok.py --output-dir" in done.out
    assert not results.exists()
    assert [path.name for path in (tmp_path / "logs").iterdir()] == ["orchestrator.log"]


def test_the_built_in_jobs_are_there_unless_told_otherwise(tmp_path: Path) -> None:
    plant_copies(tmp_path / "src" / "aimedres" / "training", "ok", "als", "diabetes")

    done = run_suite(tmp_path, "--only", "als", "diabetes", "--epochs", "2", built_in=True)

    assert done.code == 1
    # The built-in job passes --dataset-choice, which this script does not know.
    assert statuses_in(tmp_path) == {"als": "FAILED", "diabetes": "SUCCESS"}


def test_jobs_of_a_config_run_beside_those_found(tmp_path: Path) -> None:
    plant(tmp_path, "ok", "comment_only")
    (tmp_path / "jobs.yaml").write_text(
        "jobs:\n- {name: Mine, script: train_comment_only.py, output: mine, optional: true,"
        " use_output_dir: false, args: {learning_rate: 0.1, quiet: true, loud: false}}\n"
    )

    done = run_suite(tmp_path, "--config", "jobs.yaml", "-o", "json")

    assert done.code == 0
    summary = json.loads(done.out)
    assert summary == summary_in(tmp_path)
    mine = summary["jobs"][0]
    assert (mine["id"], mine["status"]) == ("mine", "SUCCESS")
    assert mine["command"][1:] == ["train_comment_only.py", "--learning-rate", "0.1", "--quiet"]


def test_partial_success_is_a_success_when_it_is_allowed(tmp_path: Path) -> None:
    plant(tmp_path, "bad", "no_options")

    assert run_suite(tmp_path, "--allow-partial-success").code == 0
    assert statuses_in(tmp_path) == {"train_bad": "FAILED", "train_no_options": "SUCCESS"}


def test_a_time_limit_is_a_failure(tmp_path: Path) -> None:
    plant(tmp_path, "waiting")

    assert run_suite(tmp_path, "--timeout-seconds", "0.5").code == 1
    assert statuses_in(tmp_path) == {"train_waiting": "TIMEOUT"}


def test_everything_printed_is_seen_when_asked_for(tmp_path: Path) -> None:
    plant(tmp_path, "binary")

    done = run_suite(tmp_path, "--verbose")

    assert "[train_binary] caf\N{REPLACEMENT CHARACTER}" in done.err
    assert "\x1b" not in done.err


def test_another_interpreter_runs_the_scripts(tmp_path: Path) -> None:
    (tmp_path / "train_shell.py").write_text("echo $0")

    assert run_suite(tmp_path, "--interpreter", "sh").code == 0
    assert summary_in(tmp_path)["jobs"][0]["command"] == ["sh", "train_shell.py"]


@pytest.mark.parametrize(("places", "taken"), [(["."], "."), (["tree"], "tree"), ([".", "tree"], ".")])
def test_an_interpreter_by_its_path_is_looked_for_here_and_then_in_the_tree(
    tmp_path: Path, places: list[str], taken: str
) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "train_shell.py").write_text("echo $1")
    for place in places:
        program = tmp_path / place / "bin" / "shell"
        program.parent.mkdir()
        program.write_text(f'#!/bin/sh\nexec sh "$1" "by that of {place}"\n')
        program.chmod(0o755)

    done = run_suite(tmp_path, "--root", "tree", "--interpreter", "bin/shell")

    assert done.code == 0, done.err
    assert f"by that of {taken}" in (tree / summary_in(tree)["jobs"][0]["log_path"]).read_text()


def test_two_hundred_scripts_run_in_the_order_of_their_paths(tmp_path: Path) -> None:
    plant_many(tmp_path, 200)

    assert run_suite(tmp_path, "--parallel", "--max-workers", "8").code == 0
    assert statuses_in(tmp_path) == {f"train_{number:03}": "SUCCESS" for number in range(200)}


def test_parallel_and_sequential_runs_have_one_digest(tmp_path: Path) -> None:
    digests = set()
    for place, words in (("one", []), ("other", ["--parallel", "--max-workers", "3"])):
        tree = plant(tmp_path / place, "ok", "bad", "kills_itself", "no_options")
        run_suite(tree, "--epochs", "2", *words)
        digests.add(summary_in(tree)["digest"])

    assert len(digests) == 1
