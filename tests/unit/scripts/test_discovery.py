"""A search finds the same scripts in the same order wherever it is made, enters no wrong folder and runs nothing."""

from __future__ import annotations

import os
import random
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardwise_jobs.engines.scripts.discovery.search import SKIPPED_NAMES, Found, discover
from shardwise_jobs.engines.scripts.model.options import SuiteOptions
from shardwise_jobs.engines.scripts.model.validation_errors import InvalidSuite
from tests.support.examples import examples
from tests.support.suites import plant, plant_loop, plant_many


def grow(tree: Path, *paths: str) -> Path:
    for path in paths:
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        (tree / path).write_text("")
    return tree


def search(tree: Path, **values: Any) -> Found:
    return discover(tree, options=SuiteOptions.of(values))


def names(tree: Path, **values: Any) -> list[str]:
    found = search(tree, **values)
    assert found.warnings == ()
    return [*found.scripts]


def test_python_files_that_begin_with_train_are_found_in_the_order_of_their_paths(tmp_path: Path) -> None:
    grow(tmp_path, "train_b.py", "a/train_z.py", "a/b/train_y.py", "train_a.py", "trainer.py", "train_a.txt", "x.py")
    assert names(tmp_path) == ["a/b/train_y.py", "a/train_z.py", "train_a.py", "train_b.py"]


@examples(40)
@given(
    paths=st.lists(
        st.tuples(
            st.sampled_from(["", "a/", "a/b/", "training_x/", "train/", "z/"]),
            st.from_regex(r"[a-zA-Z_]{1,6}", fullmatch=True),
        ),
        unique=True,
        max_size=12,
    ),
    seed=st.integers(),
)
def test_neither_the_order_of_making_nor_of_the_roots_shows(paths: list[tuple[str, str]], seed: int) -> None:
    scripts = sorted({f"{folder}train_{name}.py" for folder, name in paths})
    shuffled = random.Random(seed).sample(scripts, len(scripts))
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
        assert names(grow(Path(one), *scripts)) == names(grow(Path(other), *shuffled)) == scripts
        roots = sorted({path.partition("/")[0] for path in scripts if "/" in path})
        assert names(Path(one), roots=roots[::-1] or ["."]) == [path for path in scripts if "/" in path or not roots]


@pytest.mark.parametrize("name", sorted(SKIPPED_NAMES))
def test_these_folders_are_never_entered(tmp_path: Path, name: str) -> None:
    grow(tmp_path, f"{name}/train_a.py", f"deep/{name}/train_b.py", f"{name}x/train_c.py")
    assert names(tmp_path) == [f"{name}x/train_c.py"]


def test_the_skipped_folders_are_those_of_the_original() -> None:
    spelled = ".git __pycache__ venv env .venv build dist .mypy_cache .pytest_cache .idea .vscode node_modules"
    assert sorted(SKIPPED_NAMES) == sorted(spelled.split())


def test_old_copies_at_the_top_are_skipped_by_whole_names(tmp_path: Path) -> None:
    grow(tmp_path, "training/train_a.py", "training/deep/train_b.py", "files/training/train_c.py")
    grow(tmp_path, "training_x/train_d.py", "files/training_x/train_e.py", "files/train_f.py")
    grow(tmp_path, "src/aimedres/training/train_g.py", "deep/files/training/train_h.py")
    assert names(tmp_path) == [
        "deep/files/training/train_h.py",
        "files/train_f.py",
        "files/training_x/train_e.py",
        "src/aimedres/training/train_g.py",
        "training_x/train_d.py",
    ]


@pytest.mark.parametrize("root", ["training", "files/training", "training/deep"])
def test_a_skipped_folder_is_looked_into_when_it_is_asked_for(tmp_path: Path, root: str) -> None:
    grow(tmp_path, f"{root}/train_a.py")
    assert names(tmp_path, roots=[root]) == [f"{root}/train_a.py"]


def test_a_root_above_a_skipped_folder_does_not_ask_for_it(tmp_path: Path) -> None:
    grow(tmp_path, "files/training/train_a.py", "files/train_b.py", "src/training/train_c.py")
    assert names(tmp_path, roots=["files", "src"]) == ["files/train_b.py", "src/training/train_c.py"]


def test_the_kubelets_versions_of_a_mounted_config_map_are_not_found_again(tmp_path: Path) -> None:
    grow(tmp_path, "..2026_11_22_10_00_00.123/train_a.py")
    (tmp_path / "..data").symlink_to("..2026_11_22_10_00_00.123")
    (tmp_path / "train_a.py").symlink_to("..data/train_a.py")
    assert names(tmp_path) == ["train_a.py"]


class TestPatterns:
    def test_given_ones_replace_the_default(self, tmp_path: Path) -> None:
        grow(tmp_path, "train_a.py", "fit_b.py")
        assert names(tmp_path, include_patterns=["fit_*.py"]) == ["fit_b.py"]

    def test_extra_ones_come_beside_it(self, tmp_path: Path) -> None:
        grow(tmp_path, "train_a.py", "b_trainer.py", "c.py")
        assert names(tmp_path, extra_include_patterns=["*trainer.py"]) == ["b_trainer.py", "train_a.py"]

    def test_only_python_files_are_found_whatever_the_pattern(self, tmp_path: Path) -> None:
        grow(tmp_path, "train_a.py", "train_a.pyc", "train_a.sh", "train_a.PY")
        assert names(tmp_path, include_patterns=["*"]) == ["train_a.py"]

    def test_they_mind_the_case(self, tmp_path: Path) -> None:
        grow(tmp_path, "Train_a.py")
        assert names(tmp_path) == []


class TestExclusion:
    def test_the_expression_is_searched_anywhere_in_the_path(self, tmp_path: Path) -> None:
        grow(tmp_path, "old/train_a.py", "new/train_b.py", "new/train_cold.py")
        assert names(tmp_path, exclude_regex="old") == ["new/train_b.py"]
        assert names(tmp_path, exclude_regex=r"/train_[ab]\.py$") == ["new/train_cold.py"]

    def test_the_path_begins_with_the_roots_own_name(self, tmp_path: Path) -> None:
        grow(tmp_path / "repo", "old/train_a.py", "new/train_b.py")
        assert names(tmp_path / "repo", exclude_regex="^repo/old") == ["new/train_b.py"]
        assert names(tmp_path / "repo", exclude_regex="^old", roots=["old", "new"]) == ["new/train_b.py"]


class TestLimit:
    def test_the_first_ones_by_path_are_kept(self, tmp_path: Path) -> None:
        grow(tmp_path, "train_c.py", "b/train_x.py", "a/train_y.py")
        assert names(tmp_path, discovery_limit=2) == ["a/train_y.py", "b/train_x.py"]

    def test_excluded_ones_do_not_count(self, tmp_path: Path) -> None:
        grow(tmp_path, "train_a.py", "train_b.py", "train_c.py")
        assert names(tmp_path, discovery_limit=2, exclude_regex="_a") == ["train_b.py", "train_c.py"]


class TestRoots:
    def test_several_are_looked_into_and_what_two_hold_is_found_once(self, tmp_path: Path) -> None:
        grow(tmp_path, "a/train_x.py", "a/b/train_y.py", "c/train_z.py")
        assert names(tmp_path, roots=["a", "a/b", str(tmp_path / "a")]) == ["a/b/train_y.py", "a/train_x.py"]

    @pytest.mark.parametrize("root", ["..", "../other", "{outside}", "out"])
    def test_one_that_is_not_within_the_tree_is_an_error(self, tmp_path: Path, root: str) -> None:
        tree, outside = tmp_path / "tree", tmp_path / "other"
        grow(tree, "train_a.py")
        grow(outside, "train_b.py")
        (tree / "out").symlink_to(outside)
        with pytest.raises(InvalidSuite, match=r"^roots: .*: is not within the tree "):
            names(tree, roots=[root.format(outside=outside)])

    def test_a_neighbour_with_a_longer_name_is_not_within(self, tmp_path: Path) -> None:
        grow(tmp_path, "tree/train_a.py", "tree2/train_b.py")
        with pytest.raises(InvalidSuite, match="is not within the tree"):
            names(tmp_path / "tree", roots=["../tree2"])

    def test_one_that_is_not_there_or_no_folder_is_an_error(self, tmp_path: Path) -> None:
        grow(tmp_path, "train_a.py")
        with pytest.raises(InvalidSuite, match=r"^roots: nowhere: No such file or directory"):
            names(tmp_path, roots=["nowhere"])
        with pytest.raises(InvalidSuite, match=r"^roots: train_a\.py: is not a folder"):
            names(tmp_path, roots=["train_a.py"])

    def test_so_is_a_link_to_itself(self, tmp_path: Path) -> None:
        (tmp_path / "round").symlink_to("round")
        with pytest.raises(InvalidSuite, match=r"^roots: round: "):
            names(tmp_path, roots=["round"])

    def test_the_tree_must_be_there_too(self, tmp_path: Path) -> None:
        with pytest.raises(InvalidSuite, match="nowhere: No such file or directory"):
            names(tmp_path / "nowhere")


def test_a_link_back_up_the_tree_is_not_followed(tmp_path: Path) -> None:
    plant(tmp_path / "a", "ok")
    plant_loop(tmp_path)
    plant_loop(tmp_path / "a")
    assert names(tmp_path) == ["a/train_ok.py"]


def test_a_linked_tree_and_its_target_are_the_same(tmp_path: Path) -> None:
    grow(tmp_path / "repo", "a/train_x.py")
    (tmp_path / "link").symlink_to("repo")
    assert names(tmp_path / "link") == names(tmp_path / "link", roots=["a"]) == ["a/train_x.py"]


def test_200_scripts_are_found(tmp_path: Path) -> None:
    plant_many(tmp_path)
    found = names(tmp_path)
    assert len(found) == 200
    assert found == sorted(found)


def test_a_name_with_blanks_is_a_name(tmp_path: Path) -> None:
    plant(tmp_path / "my scripts", "with blanks")
    assert names(tmp_path) == ["my scripts/train_with blanks.py"]


def test_a_folder_that_is_called_like_a_script_is_none(tmp_path: Path) -> None:
    grow(tmp_path, "train_folder.py/train_a.py")
    assert names(tmp_path) == ["train_folder.py/train_a.py"]


@pytest.mark.parametrize("name", [b"train_caf\xe9.py", b"train_a\nb.py"])
def test_a_name_that_is_not_plain_text_is_left_out_with_a_warning(tmp_path: Path, name: bytes) -> None:
    (Path(os.fsdecode(bytes(tmp_path) + b"/" + name))).touch()
    grow(tmp_path, "train_ok.py")
    found = search(tmp_path)
    assert found.scripts == ("train_ok.py",)
    [warning] = found.warnings
    assert "is left out, its name is not plain text" in warning
    assert warning.isprintable()


def test_warnings_come_in_order_and_once_however_many_roots_meet_them(tmp_path: Path) -> None:
    grow(tmp_path, *(f"a/train_{name}\n.py" for name in "bdca"))
    warnings = search(tmp_path, roots=["a", "."]).warnings
    assert [warning[:12] for warning in warnings] == [f"'a/train_{name}\\n" for name in "abcd"]


@contextmanager
def as_somebody() -> Iterator[Path]:
    """A folder of somebody whom permissions bind, and the right to be that somebody for a while."""
    nobody = 65534
    with tempfile.TemporaryDirectory() as folder:
        if os.geteuid() != 0:
            yield Path(folder)
            return
        os.chown(folder, nobody, nobody)
        os.seteuid(nobody)
        try:
            yield Path(folder)
        finally:
            os.seteuid(0)


def test_a_folder_that_may_not_be_looked_into_is_passed_over_with_a_warning() -> None:
    with as_somebody() as tree:
        grow(tree, "train_a.py", "closed/train_b.py")
        (tree / "closed").chmod(0)
        try:
            found = search(tree)
        finally:
            (tree / "closed").chmod(0o700)
    assert found == Found(scripts=("train_a.py",), warnings=("'closed': can't be looked into: Permission denied",))


def test_nothing_found_is_run_or_imported(tmp_path: Path) -> None:
    (tmp_path / "train_trap.py").write_text(f"open({str(tmp_path / 'trace')!r}, 'w')")
    before = set(sys.modules)
    assert names(tmp_path) == ["train_trap.py"]
    assert not (tmp_path / "trace").exists()
    assert "train_trap" not in set(sys.modules) - before
