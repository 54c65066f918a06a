"""The command line of a job, word by word as the original builds it."""

from __future__ import annotations

import shlex
from typing import Any

import pytest

from shardwise_jobs.engines.scripts.discovery.config import canonical_jobs
from shardwise_jobs.engines.scripts.model.command import command_of, portable
from shardwise_jobs.engines.scripts.model.job import SuiteJob
from shardwise_jobs.engines.scripts.model.options import SuiteOptions

CANONICAL = {job.id: job for job in canonical_jobs()}
BARE: dict[str, Any] = {
    "use_output_dir": False,
    "supports_epochs": False,
    "supports_folds": False,
    "supports_sample": False,
    "supports_batch": False,
}
TRAIN_MODEL = SuiteJob(
    id="train_model", name="Model", script="mlops/pipelines/train_model.py", output="model_results", **BARE
)


def job(**values: Any) -> SuiteJob:
    return SuiteJob(id="j", name="J", script="j.py", output="o", **values)


def line(job: SuiteJob, **values: Any) -> str:
    options = SuiteOptions.of(values)
    return shlex.join(command_of(job, options=options, interpreter="python", output_base="/repo/results"))


@pytest.mark.parametrize(
    ("job", "expected"),
    [
        (
            CANONICAL["als"],
            "python src/aimedres/training/train_als.py --output-dir /repo/results/als_comprehensive_results "
            "--epochs 50 --folds 5 --batch-size 128 --dataset-choice als-progression --x",
        ),
        (
            CANONICAL["brain_mri"],
            "python src/aimedres/training/train_brain_mri.py "
            "--output-dir /repo/results/brain_mri_comprehensive_results --epochs 50 --x",
        ),
        (TRAIN_MODEL, "python mlops/pipelines/train_model.py --x"),
    ],
    ids=["als", "brain_mri", "train_model"],
)
def test_the_originals_example_is_met_to_the_letter(job: SuiteJob, expected: str) -> None:
    assert line(job, epochs=50, folds=5, batch=128, extra_args=["--x"]) == expected


@pytest.mark.parametrize(
    ("option", "flag", "support"),
    [
        ("epochs", "--epochs", "supports_epochs"),
        ("folds", "--folds", "supports_folds"),
        ("sample", "--sample", "supports_sample"),
        ("batch", "--batch-size", "supports_batch"),
    ],
)
class TestEachSharedOption:
    def test_is_passed_to_a_script_that_takes_it(self, option: str, flag: str, support: str) -> None:
        assert line(job(**{**BARE, support: True}), **{option: 7}) == f"python j.py {flag} 7"

    def test_is_not_passed_to_one_that_does_not(self, option: str, flag: str, support: str) -> None:
        assert line(job(**BARE), **{option: 7}) == "python j.py"

    def test_is_not_passed_without_a_value(self, option: str, flag: str, support: str) -> None:
        assert line(job(**{**BARE, support: True})) == "python j.py"

    def test_is_beaten_by_the_jobs_own_value(self, option: str, flag: str, support: str) -> None:
        own = job(**{**BARE, support: True}, args={option: 3})
        assert line(own, **{option: 7}) == line(own) == f"python j.py {flag} 3"

    def test_is_kept_from_a_script_that_does_not_take_it_in_its_args_too(
        self, option: str, flag: str, support: str
    ) -> None:
        assert line(job(**BARE, args={option: 3, "x": 1}), **{option: 7}) == "python j.py --x 1"

    def test_is_passed_as_the_script_spells_it(self, option: str, flag: str, support: str) -> None:
        own = job(**{**BARE, support: True}, spellings={option: "--own"})
        assert line(own, **{option: 7}) == "python j.py --own 7"


def test_the_order_is_output_epochs_folds_sample_batch_args_and_extra_ones() -> None:
    everything = job(args={"z": 1, "batch": 5, "a": 2})
    assert line(everything, sample=4, folds=3, epochs=2, extra_args=["--z", "a b", ""]) == (
        "python j.py --output-dir /repo/results/o --epochs 2 --folds 3 --sample 4 --batch-size 5 --z 1 --a 2 "
        "--z 'a b' ''"
    )


@pytest.mark.parametrize("name", ["batch", "batch_size", "batch-size"])
def test_the_batch_size_in_args_beats_the_suites_by_any_of_its_names(name: str) -> None:
    own = job(**{**BARE, "supports_batch": True}, args={name: 5})
    assert line(own, batch=128) == "python j.py --batch-size 5"


def test_the_output_option_is_passed_as_the_script_spells_it() -> None:
    own = job(**{**BARE, "use_output_dir": True}, spellings={"output_dir": "--output_dir"})
    assert line(own) == "python j.py --output_dir /repo/results/o"


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ({"data_path": "x"}, "--data-path x"),
        ({"data-path": "x y"}, "--data-path 'x y'"),
        ({"quick": True}, "--quick"),
        ({"quick": False}, ""),
        ({"rate": 0.5}, "--rate 0.5"),
        ({"rate": 1e-5}, "--rate 1e-05"),
        ({"layers": 0}, "--layers 0"),
        ({"name": ""}, "--name ''"),
        ({"answer": "true"}, "--answer true"),
        ({"b": 1, "a": 2}, "--b 1 --a 2"),
    ],
)
def test_other_args_become_options(args: dict[str, Any], words: str) -> None:
    assert line(job(**BARE, args=args)) == f"python j.py {words}".strip()


def test_nothing_is_read_by_a_shell() -> None:
    hostile = SuiteJob(id="j", name="J", script="my $(touch x).py", output="o; rm -rf .", args={"a": "`id`"})
    options = SuiteOptions.of({})
    assert command_of(hostile, options=options, interpreter="/usr/bin/my python", output_base="/out put/") == [
        "/usr/bin/my python",
        "my $(touch x).py",
        "--output-dir",
        "/out put/o; rm -rf .",
        "--a",
        "`id`",
    ]


class TestPortable:
    def test_two_machines_have_the_same_command(self) -> None:
        options = SuiteOptions.of({"epochs": 3, "extra_args": ["/repo/results/o", "/usr/bin/python3"]})
        here = command_of(job(), options=options, interpreter="/usr/bin/python3", output_base="/repo/results")
        there = command_of(job(), options=options, interpreter="/opt/python", output_base="/output/results/")
        assert portable(here, job=job()) == portable(there, job=job())
        assert portable(here, job=job()) == [
            *("python", "j.py", "--output-dir", "{output}/o", "--epochs", "3"),
            *("/repo/results/o", "/usr/bin/python3"),
        ]

    def test_a_job_without_output_keeps_its_words(self) -> None:
        bare = job(**BARE)
        options = SuiteOptions.of({"extra_args": ["--a", "b"]})
        command = command_of(bare, options=options, interpreter="x", output_base="/r")
        assert portable(command, job=bare) == ["python", "j.py", "--a", "b"]

    def test_no_command_stays_none(self) -> None:
        assert portable([], job=job()) == []

    def test_what_is_given_is_not_changed(self) -> None:
        command = command_of(job(), options=SuiteOptions.of({}), interpreter="x", output_base="/r")
        before = [*command]
        portable(command, job=job())
        assert command == before
