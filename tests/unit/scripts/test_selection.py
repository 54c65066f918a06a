"""What a suite runs: found, merged and filtered, in the same order every time, and refused early if it can't be."""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from shardwise_jobs.engines.scripts.discovery.config import canonical_jobs
from shardwise_jobs.engines.scripts.discovery.detect import UnreadableScript
from shardwise_jobs.engines.scripts.discovery.selection import Selection, select
from shardwise_jobs.engines.scripts.model.job import SuiteJob
from shardwise_jobs.engines.scripts.model.options import SuiteOptions
from shardwise_jobs.engines.scripts.model.validation_errors import InvalidSuite
from tests.support.suites import plant, plant_loop, plant_many

OTHERS = ("mlops/pipelines/train_model.py", "mlops/pipelines/train_baseline_models.py")


def selected(tree: Path, *, default_jobs: bool = False, **values: Any) -> Selection:
    return select(tree, SuiteOptions.of({"default_jobs": default_jobs, **values}))


def ids(tree: Path, **values: Any) -> list[str]:
    selection = selected(tree, **values)
    assert selection.warnings == ()
    return [job.id for job in selection.jobs]


def refusal(tree: Path, **values: Any) -> str:
    with pytest.raises(InvalidSuite) as caught:
        selected(tree, **values)
    assert caught.value.exit_code == 2
    return str(caught.value)


@pytest.fixture
def original(tmp_path: Path) -> Path:
    """The original's tree, as far as a suite sees it."""
    tree = tmp_path / "repo"
    for script in (*(job.script for job in canonical_jobs()), *OTHERS, "scripts/train_alzheimers_structured.py"):
        (tree / script).parent.mkdir(parents=True, exist_ok=True)
        (tree / script).write_text("" if script in OTHERS else "# --output-dir --epochs")
    return tree


class TestFound:
    def test_a_script_becomes_a_job_by_its_name_and_its_text(self, tmp_path: Path) -> None:
        plant(tmp_path / "a", "ok", "with blanks", "no_options")
        assert selected(tmp_path).jobs == (
            SuiteJob(
                id="train_no_options",
                name="No Options",
                script="a/train_no_options.py",
                output="no_options_results",
                use_output_dir=False,
                supports_epochs=False,
                supports_folds=False,
                supports_sample=False,
                supports_batch=False,
                detect_method="text",
            ),
            SuiteJob(
                id="train_ok",
                name="Ok",
                script="a/train_ok.py",
                output="ok_results",
                supports_folds=False,
                supports_sample=False,
                supports_batch=False,
                detect_method="text",
            ),
            SuiteJob(
                id="train_with_blanks",
                name="With Blanks",
                script="a/train_with blanks.py",
                output="with blanks_results",
                use_output_dir=False,
                supports_epochs=False,
                supports_folds=False,
                supports_sample=False,
                supports_batch=False,
                detect_method="text",
            ),
        )

    def test_the_syntax_tree_gives_the_spelling(self, tmp_path: Path) -> None:
        plant(tmp_path, "own_spelling", "comment_only")
        [comment, spelling] = selected(tmp_path, detect="ast").jobs
        assert spelling.spellings == {"output_dir": "--output_dir", "batch": "--batch"}
        assert (spelling.detect_method, spelling.supports_batch, spelling.use_output_dir) == ("ast", True, True)
        assert (comment.supports_epochs, comment.spellings) == (False, {})

    def test_a_comment_counts_in_the_text(self, tmp_path: Path) -> None:
        plant(tmp_path, "comment_only", "not_utf8")
        assert [job.supports_epochs for job in selected(tmp_path).jobs] == [True, True]

    def test_none_is_optional_unless_asked_for(self, original: Path) -> None:
        assert not any(job.optional for job in selected(original).jobs)

    def test_asked_for_it_depends_on_the_output_option_and_the_place(self, original: Path) -> None:
        (original / "mlops" / "train_with_output.py").write_text("# --output-dir")
        (original / "train_without_output.py").write_text("")
        optional = {job.id for job in selected(original, mark_discovered_optional=True).jobs if job.optional}
        assert optional == {
            "train_model",
            "train_baseline_models",
            "train_alzheimers_structured",
            "train_with_output",
            "train_without_output",
        }

    def test_discovery_can_be_turned_off(self, original: Path) -> None:
        only_built_in = select(original, SuiteOptions.of({"auto_discover": False}))
        assert only_built_in.jobs == canonical_jobs()

    @pytest.mark.parametrize("detect", ["text", "ast"])
    def test_nothing_is_run(self, tmp_path: Path, detect: str) -> None:
        (tmp_path / "train_trap.py").write_text(f"open({str(tmp_path / 'trace')!r}, 'w')")
        assert ids(tmp_path, detect=detect) == ["train_trap"]
        assert not (tmp_path / "trace").exists()

    def test_a_name_that_is_too_long_for_an_id_is_left_out_with_a_warning(self, tmp_path: Path) -> None:
        (tmp_path / f"train_{'x' * 240}.py").touch()
        plant(tmp_path, "ok")
        selection = selected(tmp_path)
        assert [job.id for job in selection.jobs] == ["train_ok"]
        assert "is left out: id must have 1 to 200 characters" in selection.warnings[0]


class TestOriginalsTree:
    def test_seven_and_three_are_ten(self, original: Path) -> None:
        assert ids(original, default_jobs=True) == [
            *(job.id for job in canonical_jobs()),
            "train_baseline_models",
            "train_model",
            "train_alzheimers_structured",
        ]

    @pytest.mark.parametrize(
        ("choice", "expected"),
        [
            ({"only": ["als", "alzheimers"]}, ["als", "alzheimers"]),
            ({"only": ["parkinsons", "als"]}, ["als", "parkinsons"]),
            ({"only": ["ALS"]}, ["als"]),
            ({"only": ["train_als"]}, ["als"]),
            (
                {"exclude": ["train_baseline_models", "train_model", "train_alzheimers_structured"]},
                [job.id for job in canonical_jobs()],
            ),
            ({"only": ["als", "diabetes"], "exclude": ["Train_ALS"]}, ["diabetes"]),
        ],
    )
    def test_ids_choose_jobs_in_any_case_and_by_the_name_of_the_file(
        self, original: Path, choice: dict[str, Any], expected: list[str]
    ) -> None:
        assert ids(original, default_jobs=True, **choice) == expected


class TestChoice:
    def test_an_unknown_id_is_a_warning(self, tmp_path: Path) -> None:
        plant(tmp_path, "ok", "bad")
        selection = selected(tmp_path, only=["train_ok", "train_badd"], exclude=["nobody"])
        assert [job.id for job in selection.jobs] == ["train_ok"]
        assert selection.warnings == (
            "only: no job has the id 'train_badd'; did you mean train_bad?",
            "exclude: no job has the id 'nobody'",
        )

    def test_only_unknown_ids_are_an_error_that_names_the_known(self, tmp_path: Path) -> None:
        plant(tmp_path, "ok", "bad")
        assert refusal(tmp_path, only=["als", "x"]) == (
            "only: no job has such an id (als, x); known are train_bad, train_ok"
        )

    def test_of_many_known_ones_the_first_are_named(self, tmp_path: Path) -> None:
        plant_many(tmp_path)
        assert refusal(tmp_path, only=["x"]).endswith("train_018, train_019 and 180 more")

    def test_everything_excluded_is_a_warning(self, tmp_path: Path) -> None:
        plant(tmp_path, "ok")
        for only in ([], ["train_ok"]):
            selection = selected(tmp_path, only=only, exclude=["train_ok"])
            assert selection == Selection(jobs=(), warnings=("nothing is selected: exclude leaves no job",))

    def test_an_id_goes_before_a_name_of_another_job(self, tmp_path: Path) -> None:
        plant(tmp_path, "ok", "bad")
        jobs = [
            {"id": "mine", "name": "A", "script": "train_ok.py", "output": "a"},
            {"id": "train_ok", "name": "B", "script": "train_bad.py", "output": "b"},
        ]
        assert ids(tmp_path, jobs=jobs, only=["train_ok"]) == ["train_ok"]


class TestNothingAtAll:
    def test_the_built_in_jobs_are_taken_with_a_warning(self, tmp_path: Path) -> None:
        selection = selected(tmp_path)
        assert selection.jobs == canonical_jobs()
        assert selection.warnings[0] == (
            "no job was given or found, so the built-in ones are taken (strict_discovery makes it an error)"
        )
        assert not selection.nothing_discovered

    def test_strict_discovery_says_so(self, tmp_path: Path) -> None:
        assert selected(tmp_path, strict_discovery=True) == Selection(jobs=(), nothing_discovered=True)

    def test_strict_discovery_is_content_with_a_written_job(self, tmp_path: Path) -> None:
        plant(tmp_path, "ok")
        written = [{"name": "A", "script": "train_ok.py", "output": "a"}]
        assert ids(tmp_path, strict_discovery=True, auto_discover=False, jobs=written) == ["a"]

    def test_built_in_jobs_are_something(self, original: Path) -> None:
        assert not selected(original, default_jobs=True, auto_discover=False, strict_discovery=True).nothing_discovered


class TestWritten:
    def test_those_of_the_file_come_before_those_given_directly(self, tmp_path: Path) -> None:
        plant(tmp_path, "ok", "bad", "slow")
        path = tmp_path / "jobs.yaml"
        path.write_text(yaml.safe_dump({"jobs": [{"name": "F", "script": "train_slow.py", "output": "f"}]}))
        direct = [{"name": "D", "script": "train_bad.py", "output": "d"}]
        assert ids(tmp_path, config=str(path), jobs=direct) == ["f", "d", "train_ok"]

    def test_a_file_does_not_replace_the_built_in_ones(self, original: Path) -> None:
        path = original / "jobs.yaml"
        path.write_text(yaml.safe_dump({"jobs": [{"name": "Mine", "script": OTHERS[0], "output": "m"}]}))
        assert ids(original, config=str(path), default_jobs=True)[:3] == ["mine", "als", "alzheimers"]

    def test_the_same_id_in_both_is_an_error(self, tmp_path: Path) -> None:
        path = tmp_path / "jobs.yaml"
        path.write_text(yaml.safe_dump({"jobs": [{"name": "A", "script": "x.py", "output": "f"}]}))
        said = refusal(tmp_path, config=str(path), jobs=[{"name": "a", "script": "y.py", "output": "d"}])
        assert said == "jobs: the id 'a' is given twice, for x.py and y.py; give one of them an id of its own"

    def test_a_broken_file_and_one_that_is_not_there_are_errors(self, tmp_path: Path) -> None:
        path = tmp_path / "jobs.yaml"
        assert refusal(tmp_path, config=str(path)) == f"config: {path}: No such file or directory"
        path.write_text("jobs:\n  - [")
        assert refusal(tmp_path, config=str(path)).startswith(f"config: {path}, line 2, column ")

    def test_its_warnings_are_told(self, tmp_path: Path) -> None:
        plant(tmp_path, "ok")
        path = tmp_path / "jobs.yaml"
        path.write_text("jobs: []\nabout: us\n")
        [warning] = selected(tmp_path, config=str(path)).warnings
        assert "about: passed over" in warning

    def test_a_value_that_reaches_no_script_is_a_warning(self, tmp_path: Path) -> None:
        plant(tmp_path, "ok")
        args = {"epochs": 1, "folds": 2, "sample": 3, "batch": 4}
        job = {"name": "A", "script": "train_ok.py", "output": "a", "args": args}
        for name in args:
            unsupported = [{**job, f"supports_{name}": False}]
            assert selected(tmp_path, jobs=unsupported).warnings == (
                f"a: args.{name} is not passed, since supports_{name} is false",
            )

    def test_two_that_write_to_one_folder_are_a_warning(self, tmp_path: Path) -> None:
        plant(tmp_path, "ok")
        jobs = [{"name": name, "script": "train_ok.py", "output": "same"} for name in ("A", "B")]
        assert selected(tmp_path, jobs=jobs).warnings == ("a and b write to the same output folder same",)
        jobs[1]["use_output_dir"] = False  # type: ignore[assignment]
        assert selected(tmp_path, jobs=jobs).warnings == ()


class TestScriptsThatCanNotRun:
    def test_one_that_is_not_there_stays_with_a_warning(self, tmp_path: Path) -> None:
        plant(tmp_path, "ok")
        selection = selected(tmp_path, jobs=[{"name": "Gone", "script": "gone.py", "output": "g"}])
        assert [job.id for job in selection.jobs] == ["gone", "train_ok"]
        assert selection.warnings == ("gone: script not found: gone.py; this job will fail",)

    def test_so_does_a_link_to_nowhere(self, tmp_path: Path) -> None:
        (tmp_path / "train_gone.py").symlink_to("nowhere")
        selection = selected(tmp_path)
        assert [job.id for job in selection.jobs] == ["train_gone"]
        assert selection.warnings == ("train_gone: script not found: train_gone.py; this job will fail",)

    @pytest.mark.parametrize("kind", ["found", "written"])
    @pytest.mark.parametrize("detect", ["text", "ast"])
    def test_one_that_can_not_be_read_is_an_error(self, tmp_path: Path, kind: str, detect: str) -> None:
        plant(tmp_path, "ok")
        path = tmp_path / ("train_round.py" if kind == "found" else "round.py")
        path.symlink_to(path)
        jobs = [] if kind == "found" else [{"name": "R", "script": "round.py", "output": "r"}]
        assert refusal(tmp_path, detect=detect, jobs=jobs) == (
            f"{path.name}: can't be read: Too many levels of symbolic links; mend this, or leave it out by exclude or "
            "exclude_regex"
        )

    @pytest.mark.parametrize(
        "choice", [{"exclude": ["train_round"]}, {"only": ["train_ok"]}, {"exclude_regex": "round"}]
    )
    def test_unless_it_is_left_out(self, tmp_path: Path, choice: dict[str, Any]) -> None:
        plant(tmp_path, "ok")
        (tmp_path / "train_round.py").symlink_to("train_round.py")
        assert ids(tmp_path, **choice) == ["train_ok"]

    def test_all_of_them_are_named_in_one_error(self, tmp_path: Path) -> None:
        for number in range(25):
            os.mkfifo(tmp_path / f"train_{number:02}.py")
        with pytest.raises(UnreadableScript) as caught:
            selected(tmp_path)
        said = str(caught.value)
        assert "train_00.py" in said
        assert "train_19.py" in said
        assert "train_20.py" not in said
        assert "(and 5 more)" in said

    def test_a_folder_that_is_written_down_as_a_script_is_an_error(self, tmp_path: Path) -> None:
        (tmp_path / "folder").mkdir()
        said = refusal(tmp_path, jobs=[{"name": "F", "script": "folder", "output": "f"}])
        assert said.startswith("folder: can't be read: it is not a regular file")


def test_the_same_tree_made_in_any_order_gives_the_same_selection(tmp_path: Path) -> None:
    one, other = tmp_path / "one" / "tree", tmp_path / "other" / "tree"
    plant_many(one, 50)
    plant(one, "ok", "own_spelling", "with blanks")
    plant_loop(one)
    other.mkdir(parents=True)
    paths = [path for path in one.rglob("*") if path.is_file() and not path.is_symlink()]
    for path in random.Random(7).sample(paths, len(paths)):
        target = other / path.relative_to(one)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    first, second = selected(one, detect="ast"), selected(other, detect="ast")
    assert len(first.jobs) == 53
    assert first == second


def test_200_scripts_are_200_jobs(tmp_path: Path) -> None:
    plant_many(tmp_path)
    assert ids(tmp_path) == [f"train_{number:03}" for number in range(200)]


def test_the_selection_does_not_depend_on_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(tmp_path / "tree" / "a", "ok")
    before = selected(tmp_path / "tree", roots=["a"])
    monkeypatch.chdir("/")
    assert selected(tmp_path / "tree", roots=["a"]) == before
