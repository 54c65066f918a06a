"""Command lines as people wrote them for the original: lists, and options cut short."""

from __future__ import annotations

import pytest

from shardwise_jobs.engines.scripts.cli import suite
from shardwise_jobs.engines.scripts.terminal.words import as_click_reads


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
        ("--only", "--only"),
    ],
)
def test_words_become_those_that_click_reads(written: str, read: str) -> None:
    assert as_click_reads(written.split(), parameters=suite.params) == read.split()
