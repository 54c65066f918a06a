"""Command lines as people wrote them for the original: lists, and options cut short."""

from __future__ import annotations

import click
import pytest

from shardwise_jobs.engines.scripts.cli import suite
from shardwise_jobs.engines.scripts.terminal.argv_compat import as_click_reads


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("--only als parkinsons --parallel", "--only als --only parkinsons --parallel"),
        ("--only a --only b c", "--only a --only b --only c"),
        ("--only=a b", "--only=a --only b"),
        ("--exclude a b --epochs 5", "--exclude a --exclude b --epochs 5"),
        ("--discover-root src lib", "--discover-root src --discover-root lib"),
        ("--max-w 6 --no-auto", "--max-workers 6 --no-auto-discover"),
        ("--max-w=6", "--max-workers=6"),
        ("--retr 1 --retry-d 5", "--retries 1 --retry-delay-seconds 5"),
        ("--discover x", "--discover x"),
        ("--dry", "--dry-run"),
        ("--extra-arg --epo --only a b", "--extra-arg --epo --only a --only b"),
        ("--extra-arg=--only a", "--extra-arg=--only a"),
        ("--parallel a", "--parallel a"),
        ("-o json --only a b", "-o json --only a --only b"),
        ("--only", ""),
        ("--exclude --dry-run", "--dry-run"),
        ("--exclude --only a --discover-root", "--only a"),
        ("--only= --dry", "--only= --dry-run"),
        ("--only -x", "-x"),
        ("--extra-arg --dry-run", "--extra-arg --dry-run"),
        ("--exclude-regex -old", "--exclude-regex -old"),
        ("--exclude-regex=--list", "--exclude-regex=--list"),
        ("--logs-dir", "--logs-dir"),
    ],
)
def test_words_become_those_that_click_reads(written: str, read: str) -> None:
    assert as_click_reads(written.split(), parameters=suite.params) == read.split()


@pytest.mark.parametrize(
    ("written", "lacking", "following"),
    [
        ("--logs-dir --dry-run", "--logs-dir", "--dry-run"),
        ("--exclude-regex --dry --list", "--exclude-regex", "--dry"),
        ("--logs --epochs=5", "--logs-dir", "--epochs=5"),
        ("--interpreter -o json", "--interpreter", "-o"),
        ("-o --only a", "-o", "--only"),
    ],
)
def test_an_option_is_no_value_of_the_one_before_it(written: str, lacking: str, following: str) -> None:
    with pytest.raises(click.UsageError, match=rf"'{lacking}' requires an argument, not the option '{following}'"):
        as_click_reads(written.split(), parameters=suite.params)
