"""What a script takes: by its text as the original reads it, errors included, and by what its syntax tree declares."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from shardwise_jobs.engines.scripts.discovery.detect import (
    TEXT_CHARACTERS,
    Detected,
    UnreadableScript,
    detect,
    read_script,
)
from shardwise_jobs.engines.scripts.model.job import Option
from tests.support.suites import SCRIPTS

EVERY: set[Option] = {"output_dir", "epochs", "folds", "sample", "batch"}


def by_text(source: str | bytes) -> Detected:
    return detect(source if isinstance(source, bytes) else source.encode(), method="text")


def by_tree(source: str | bytes) -> Detected:
    return detect(source if isinstance(source, bytes) else source.encode(), method="ast")


def declaring(*spellings: str) -> str:
    lines = (f"parser.add_argument({spelling!r})" for spelling in spellings)
    return "\n".join(["import argparse", "parser = argparse.ArgumentParser()", *lines])


@pytest.mark.parametrize(
    ("spelling", "option"),
    [
        ("--epochs", "epochs"),
        ("--folds", "folds"),
        ("--sample", "sample"),
        ("--batch", "batch"),
        ("--batch-size", "batch"),
        ("--batch_size", "batch"),
        ("--output-dir", "output_dir"),
        ("--output_dir", "output_dir"),
    ],
)
class TestEachOption:
    def test_is_found_in_the_text_and_passed_in_its_standard_form(self, spelling: str, option: Option) -> None:
        found = by_text(f"x = '{spelling}'")
        assert found == Detected(options=frozenset({option}), method="text", spellings={})

    def test_is_found_by_its_declaration_in_its_exact_form(self, spelling: str, option: Option) -> None:
        found = by_tree(declaring(spelling))
        assert found == Detected(options=frozenset({option}), method="ast", spellings={option: spelling})


def test_text_is_compared_in_lower_case() -> None:
    assert by_text("# --EPOCHS").options == {"epochs"}
    assert by_tree(declaring("--EPOCHS")).options == set()


@pytest.mark.parametrize(
    ("source", "wrongly"),
    [
        ("# --epochs once was an option", "epochs"),
        (declaring("--batches"), "batch"),
        (declaring("--sample-rate"), "sample"),
        (declaring("--epochs-per-stage"), "epochs"),
        ('"""Takes no --folds."""', "folds"),
    ],
)
def test_the_text_errs_as_the_original_does_and_the_tree_does_not(source: str, wrongly: Option) -> None:
    assert by_text(source).options == {wrongly}
    assert by_tree(source) == Detected(options=frozenset(), method="ast")


def test_only_the_first_characters_of_the_text_are_read() -> None:
    within = "#" * (TEXT_CHARACTERS - len("--epochs")) + "--epochs"
    assert by_text(within).options == {"epochs"}
    assert by_text("#" + within).options == set()


def test_the_first_characters_are_characters_not_bytes_and_a_line_end_is_one() -> None:
    assert by_text("é" * (TEXT_CHARACTERS - len("--epochs")) + "--epochs").options == {"epochs"}
    assert by_text(b"\r\n" * (TEXT_CHARACTERS - len("--epochs")) + b"--epochs").options == {"epochs"}


def test_the_tree_is_read_to_its_end() -> None:
    assert by_tree("#" * TEXT_CHARACTERS + "\n" + declaring("--epochs")).options == {"epochs"}


def test_a_source_that_is_not_utf8_is_read_without_its_odd_bytes() -> None:
    assert by_text(SCRIPTS["not_utf8"]).options == {"epochs"}
    assert by_text(b"--ep\xe9ochs").options == {"epochs"}


def test_the_tree_honours_a_declared_encoding() -> None:
    assert by_tree(SCRIPTS["not_utf8"]) == Detected(options=frozenset(), method="ast")
    declared = "# -*- coding: latin-1 -*-\n# café\n" + declaring("--folds")
    assert by_tree(declared.encode("latin-1")).spellings == {"folds": "--folds"}


@pytest.mark.parametrize(
    "source",
    [
        pytest.param(b"print 'Python 2', '--epochs'", id="no valid Python"),
        pytest.param(b"# caf\xe9\nx = '--epochs'", id="another encoding than it says"),
        pytest.param(b"# coding: klingon\nx = '--epochs'", id="an encoding that nobody knows"),
        pytest.param(b"x = '--epochs'\0", id="a zero byte"),
        pytest.param(b"x = '--epochs' + " + b"(" * 5000 + b")" * 5000, id="too deep for the parser"),
        pytest.param(b"x = '--epochs'" + b" + 1" * 100_000, id="too deep to walk"),
        pytest.param(b"parser.add_argument('--epochs')\n" + b"#" * 4_000_000, id="too long"),
        pytest.param(b"for name in ['epochs']: parser.add_argument(f'--{name}')  # --epochs", id="made by a loop"),
        pytest.param(b"parser.add_argument(*names)  # --epochs", id="from a list"),
        pytest.param(b"parser.add_argument(NAME)  # --epochs", id="from a constant"),
    ],
)
def test_where_the_tree_does_not_show_all_the_text_decides_and_it_is_said(source: bytes) -> None:
    assert by_tree(source) == Detected(options=frozenset({"epochs"}), method="text")


def test_a_script_that_warns_when_it_is_parsed_is_read_quietly() -> None:
    assert by_tree("pattern = '\\d'\n" + declaring("--epochs")).method == "ast"


@pytest.mark.parametrize(
    ("source", "spellings"),
    [
        (declaring("--batch", "--batch-size"), {"batch": "--batch-size"}),
        (declaring("--batch", "--batch_size"), {"batch": "--batch_size"}),
        (declaring("--output_dir", "--output-dir"), {"output_dir": "--output-dir"}),
        ("parser.add_argument('-e', '--epochs', type=int)", {"epochs": "--epochs"}),
        ("group.add_argument('--folds', help='of --sample')", {"folds": "--folds"}),
        ("parser.add_argument('data'); parser.add_argument('--folds')", {"folds": "--folds"}),
        ("@click.option('--epochs', '-e', default=1)\ndef main(epochs): pass", {"epochs": "--epochs"}),
        ("@option('--sample/--no-sample')\ndef main(sample): pass", {"sample": "--sample"}),
        ("def main(n: int = typer.Option(1, '--batch-size')): pass", {"batch": "--batch-size"}),
        ("parser.add_option('--folds', type='int')", {"folds": "--folds"}),
        ("add_argument('--ep' 'ochs')", {"epochs": "--epochs"}),
        ("print('--epochs')", {}),
        ("(lambda: 0)()('--epochs')", {}),
        ("", {}),
    ],
)
def test_declarations_are_those_of_argparse_click_typer_and_optparse(source: str, spellings: dict[Option, str]) -> None:
    assert by_tree(source) == Detected(options=frozenset(spellings), method="ast", spellings=spellings)


def test_all_options_at_once() -> None:
    source = declaring("--output-dir", "--epochs", "--folds", "--sample", "--batch-size")
    assert by_text(source).options == EVERY
    assert by_tree(source).options == EVERY


def test_a_script_that_only_looks_dangerous_is_not_run(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    source = f"open({str(trace)!r}, 'w')\n" + declaring("--epochs")
    assert by_text(source).options == by_tree(source).options == {"epochs"}
    assert not trace.exists()


class TestReading:
    def test_a_script_that_is_not_there_has_no_content(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        (tmp_path / "train_gone.py").symlink_to("nowhere")
        assert read_script(tmp_path / "train_x.py", name="x") is None
        assert read_script(tmp_path / "file" / "train_x.py", name="x") is None
        assert read_script(tmp_path / "train_gone.py", name="x") is None

    def test_a_link_to_itself_can_not_be_read(self, tmp_path: Path) -> None:
        (tmp_path / "train_x.py").symlink_to("train_x.py")
        with pytest.raises(UnreadableScript, match=r"^a/train_x\.py: can't be read: Too many levels of symbolic links"):
            read_script(tmp_path / "train_x.py", name="a/train_x.py")

    @pytest.mark.parametrize("kind", ["folder", "pipe"])
    def test_what_is_no_file_is_refused_and_not_waited_for(self, tmp_path: Path, kind: str) -> None:
        path = tmp_path / "train_x.py"
        path.mkdir() if kind == "folder" else os.mkfifo(path)
        with pytest.raises(UnreadableScript, match="train_x: can't be read: it is not a regular file"):
            read_script(path, name="train_x")
