"""Who begins first: the longest that is known, and before it whoever is not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from shardwise_jobs.engines.scripts.model.job import SuiteJob
from shardwise_jobs.engines.scripts.running.runner import known_seconds, longest_first


def jobs(*ids: str) -> list[SuiteJob]:
    return [SuiteJob(id=id, name=id, script=f"{id}.py", output=id) for id in ids]


def write(folder: Path, *, day: int, content: Any) -> None:
    text = content if isinstance(content, str) else json.dumps({"jobs": content})
    (folder / f"training_summary_202601{day:02}_000000_uid.json").write_text(text)


def job(id: str, seconds: Any, status: str = "SUCCESS") -> dict[str, Any]:
    return {"id": id, "status": status, "duration_sec": seconds}


def test_the_longest_first_and_those_that_are_equal_as_they_were() -> None:
    found = longest_first(jobs("a", "b", "c", "d", "e"), seconds={"a": 1, "b": 5, "d": 5})

    assert [job.id for job in found] == ["c", "e", "b", "d", "a"]


def test_nothing_known_changes_nothing() -> None:
    assert longest_first(jobs("b", "a"), seconds={}) == jobs("b", "a")


def test_the_newest_success_counts(tmp_path: Path) -> None:
    write(tmp_path, day=1, content=[job("a", 1), job("b", 1), job("c", 1)])
    write(tmp_path, day=2, content=[job("a", 2), job("b", 0.1, "FAILED"), job("c", None)])

    assert known_seconds(tmp_path) == {"a": 2, "b": 1, "c": 1}


def test_what_is_no_summary_is_passed_over(tmp_path: Path) -> None:
    for day, content in enumerate(["{", "[]", '{"jobs": 3}', '{"jobs": [3]}', '{"jobs": [{"status": "SUCCESS"}]}'], 1):
        write(tmp_path, day=day, content=content)

    assert known_seconds(tmp_path) == {}
    assert known_seconds(tmp_path / "nowhere") == {}
