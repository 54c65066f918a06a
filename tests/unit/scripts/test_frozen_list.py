"""What was frozen is what runs: a changed tree gives no index another script, and a changed file is noticed."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from shardwise.engine.errors import BadConfiguration
from shardwise.engine.files import OutputFolder
from shardwise_jobs.engines.scripts.discovery.detect import UnreadableScript
from shardwise_jobs.engines.scripts.discovery.frozen_list import FILE, FrozenSuite, freeze, read_frozen, script_sha256
from shardwise_jobs.engines.scripts.discovery.selection import Selection, select
from shardwise_jobs.engines.scripts.model.job import SuiteJob
from shardwise_jobs.engines.scripts.model.options import SuiteOptions
from shardwise_jobs.engines.scripts.model.validation_errors import InvalidSuite
from tests.support.suites import SCRIPTS, plant

WRITTEN: dict[str, Any] = {"name": "W", "script": "train_ok.py", "output": "w", "args": {"a": 1, "b": 1.0, "c": True}}


def frozen(tree: Path, *, run_uid: str = "uid-1", **values: Any) -> FrozenSuite:
    options = SuiteOptions.of({"default_jobs": False, **values})
    return freeze(tree, select(tree, options), options=options, run_uid=run_uid)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return plant(tmp_path / "tree", "ok", "bad", "own_spelling")


@pytest.fixture
def folder(tmp_path: Path) -> OutputFolder:
    return OutputFolder(str(tmp_path / "output"))


def test_an_index_is_a_place_in_the_selection(tree: Path) -> None:
    suite = frozen(tree)
    assert [suite.job(index).id for index in range(3)] == ["train_bad", "train_ok", "train_own_spelling"]


@pytest.mark.parametrize("index", [-1, 3])
def test_an_index_that_no_job_has_is_an_error(tree: Path, index: int) -> None:
    with pytest.raises(InvalidSuite, match=rf"^index {index}: this suite has 3 jobs, counted from 0$"):
        frozen(tree).job(index)


def test_a_frozen_job_is_a_job_and_knows_its_scripts_content(tree: Path) -> None:
    selection = select(tree, SuiteOptions.of({"default_jobs": False}))
    [_, ok, _] = frozen(tree).jobs
    assert isinstance(ok, SuiteJob)
    assert SuiteJob(**ok.model_dump(exclude={"script_sha256"})) == selection.jobs[1]
    assert ok.script_sha256 == hashlib.sha256(SCRIPTS["ok"]).hexdigest()


def test_a_script_that_is_not_there_has_no_sha256(tree: Path) -> None:
    [job, *_] = frozen(tree, jobs=[{"name": "G", "script": "gone.py", "output": "g"}]).jobs
    assert (job.id, job.script_sha256) == ("g", None)


def test_a_script_that_became_unreadable_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "train_x.py").symlink_to("train_x.py")
    with pytest.raises(UnreadableScript, match=r"^train_x\.py: can't be read"):
        script_sha256(tmp_path, "train_x.py")


def test_it_is_read_as_it_was_written(tree: Path, folder: OutputFolder) -> None:
    suite = frozen(
        tree,
        jobs=[WRITTEN],
        only=["w", "train_bad", "nobody"],
        detect="ast",
        epochs=3,
        exclude_regex="x$",
        timeout_seconds=1.5,
        extra_args=["--é"],
    )
    assert suite.warnings
    assert suite.keep(folder) is suite
    again = read_frozen(folder, run_uid="uid-1")
    assert again == suite
    assert again.digest == suite.digest
    assert [type(value) for value in again.job(0).args.values()] == [int, float, bool]


def test_that_nothing_was_found_is_kept_too(tmp_path: Path, folder: OutputFolder) -> None:
    suite = frozen(tmp_path, strict_discovery=True)
    suite.keep(folder)
    again = read_frozen(folder, run_uid="uid-1")
    assert again is not None
    assert again.nothing_discovered


def test_what_was_frozen_first_stays_when_the_tree_changes(tree: Path, folder: OutputFolder) -> None:
    first = frozen(tree)
    first.keep(folder)
    plant(tree, "binary")
    (tree / "train_bad.py").unlink()
    later = frozen(tree)
    assert later.job(0).id != first.job(0).id
    assert later.keep(folder) == first
    assert read_frozen(folder, run_uid="uid-1") == first


def test_another_run_with_the_same_output_freezes_its_own(tree: Path, folder: OutputFolder) -> None:
    frozen(tree).keep(folder)
    assert read_frozen(folder, run_uid="uid-2") is None
    other = frozen(tree, run_uid="uid-2")
    assert other.keep(folder) is other
    assert read_frozen(folder, run_uid="uid-2") == other


def test_nothing_frozen_is_none(folder: OutputFolder) -> None:
    assert read_frozen(folder, run_uid="uid-1") is None


@pytest.mark.parametrize(
    "change",
    [
        lambda suite: suite["jobs"].reverse(),
        lambda suite: suite["jobs"][0].update(script="train_ok.py"),
        lambda suite: suite["jobs"][0].update(script_sha256="0" * 64),
        lambda suite: suite["options"].update(epochs=9),
        lambda suite: suite.update(run_uid="uid-2"),
    ],
)
def test_a_change_by_hand_is_refused(tree: Path, folder: OutputFolder, change: Any) -> None:
    frozen(tree).keep(folder)
    document = json.loads(folder.read_text(FILE) or "")
    change(document["suite"])
    folder.write_text(FILE, json.dumps(document))
    with pytest.raises(BadConfiguration, match="was changed after it had been frozen; indexes would not mean the same"):
        read_frozen(folder, run_uid="uid-1")


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"suite": {}, "digest": ""}', '{"suite": 3}', "\ud800"])
def test_what_is_no_frozen_suite_is_refused_by_its_place(folder: OutputFolder, text: str) -> None:
    folder.write_bytes(FILE, text.encode("utf-8", "surrogatepass"))
    with pytest.raises(BadConfiguration, match=r"output/suite\.json: is no frozen suite: "):
        read_frozen(folder, run_uid="uid-1")


def test_the_digest_is_over_content_not_over_the_tree_s_place(tree: Path, tmp_path: Path) -> None:
    copy = plant(tmp_path / "elsewhere" / "tree", "own_spelling", "bad", "ok")
    assert frozen(copy).digest == frozen(tree).digest
    (copy / "train_ok.py").write_text("# another")
    assert frozen(copy).digest != frozen(tree).digest


def test_an_empty_selection_can_be_frozen(tree: Path) -> None:
    suite = freeze(tree, Selection(jobs=()), options=SuiteOptions.of({}), run_uid="u")
    assert suite.jobs == ()
