"""The self-test passes where the suite works, and fails where it does not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from shardwise_jobs.engines.scripts.running import runner
from shardwise_jobs.engines.scripts.terminal import self_test
from tests.support.suites import run_suite


def test_it_passes_here_and_leaves_nothing(tmp_path: Path) -> None:
    done = run_suite(tmp_path, "--self-test")

    assert done.code == 0, done.out
    assert "PASS" in done.out
    assert "FAIL" not in done.out.replace("FAILED", "")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("broken", "says"),
    [
        (lambda patch: patch.setattr(runner, "_problem_of", lambda script: "broken"), "a failure stops no other"),
        (lambda patch: patch.setattr(self_test, "_WORKERS", 2), "at once"),
        (lambda patch: patch.setattr(self_test, "_MIXED", {**self_test._MIXED, "bad": "print(1)"}), "exit status 1"),
    ],
    ids=["no script starts", "too few workers", "nothing fails"],
)
def test_it_fails_where_something_is_broken(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    broken: Callable[[pytest.MonkeyPatch], None],
    says: str,
) -> None:
    monkeypatch.setattr(self_test, "_LIMIT_SECONDS", 1.5)
    broken(monkeypatch)

    assert self_test.run_self_test(as_json=True) == 1
    found = json.loads(capsys.readouterr().out)
    assert not found["passed"]
    assert any(says in check["name"] and not check["passed"] for check in found["checks"])
