"""Which list of scripts a run goes by: the one that it froze, with a warning when the tree has another by now."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.support.cli import Finished
from tests.support.suite_folder import SuiteFolder, statuses, suite

DRY = ("--set", "engine.scripts.dryRun=true")
WAY_OUT = "to run this tree use another metadata.name or remove records/"


def messages(done: Finished) -> str:
    """Return what the conditions of an ended run say."""
    return " ".join(found.get("message", "") for found in done.status["conditions"])


def summaries(folder: SuiteFolder) -> list[dict[str, Any]]:
    """Return all summaries of a folder, oldest first."""
    return [json.loads(path.read_text()) for path in sorted(folder.output.glob("summaries/*.json"))]


@pytest.fixture
def folder(tmp_path: Path) -> SuiteFolder:
    """A suite of one script."""
    made = suite(tmp_path)
    (made.tree / "train_a.py").write_text("print('a')")
    return made


class TestADryRun:
    def test_decides_nothing_for_the_run_after_it(self, folder: SuiteFolder) -> None:
        assert statuses(folder.run(*DRY)) == {"a": "SKIPPED"}
        (folder.tree / "train_b.py").write_text("print('b')")

        done = folder.run()

        assert done.code == 0, done.err
        assert statuses(done) == {"a": "SUCCESS", "b": "SUCCESS"}
        assert "since the list was frozen" not in messages(done)

    def test_lists_what_is_there_each_time_and_leaves_one_summary(self, folder: SuiteFolder) -> None:
        folder.run(*DRY)
        (folder.tree / "train_b.py").write_text("print('b')")

        assert statuses(folder.run(*DRY)) == {"a": "SKIPPED", "b": "SKIPPED"}
        (found,) = summaries(folder)
        assert len(found["jobs"]) == 2

    def test_is_not_when_the_run_began(self, folder: SuiteFolder) -> None:
        dry = folder.run(*DRY)
        over = max(datetime.fromisoformat(found["lastTransitionTime"]) for found in dry.status["conditions"])

        folder.run()

        run = next(found for found in summaries(folder) if not found["arguments"]["dry_run"])
        # Conditions have whole seconds, rounded down.
        assert datetime.fromisoformat(run["start_time_utc"]) > over

    def test_after_a_run_leaves_its_records_alone(self, folder: SuiteFolder) -> None:
        folder.run()

        assert statuses(folder.run(*DRY)) == {"a": "SKIPPED"}
        done = folder.run()
        assert "every script had succeeded already" in messages(done)


class TestAListThatIsUsedAgain:
    def test_says_what_is_new_gone_and_changed_and_what_to_do(self, folder: SuiteFolder) -> None:
        (folder.tree / "train_c.py").write_text("print('c')")
        folder.run()
        (folder.tree / "train_a.py").write_text("raise SystemExit(5)")
        (folder.tree / "train_b.py").write_text("print('b')")
        (folder.tree / "train_c.py").unlink()

        planned = folder.command("plan", str(folder.write()))
        done = folder.run()

        said = "1 new, 1 gone, 1 changed since the list was frozen"
        assert said in planned.err
        assert f"every script had succeeded already; {said}; {WAY_OUT}" in messages(done)
        (found,) = summaries(folder)
        assert found["warnings"][0].startswith(said)
        (records,) = (path for path in folder.output.glob("records/*") if path.is_dir())
        assert found["warnings"][0].endswith(f"remove records/{records.name}")

    def test_says_nothing_when_nothing_has_changed(self, folder: SuiteFolder) -> None:
        folder.run()
        done = folder.run()

        assert done.code == 0, done.err
        assert "frozen" not in messages(done)

    def test_says_so_when_the_tree_would_make_none(self, folder: SuiteFolder) -> None:
        folder.run()
        (folder.tree / "train_a.py").unlink()

        done = folder.run()

        assert done.code == 0, done.err
        assert f"the list frozen before stays, as the tree makes none now; {WAY_OUT}" in messages(done)

    def test_follows_the_way_out(self, folder: SuiteFolder) -> None:
        folder.run()
        (folder.tree / "train_a.py").write_text("raise SystemExit(5)")
        folder.manifest["metadata"]["name"] = "another"

        done = folder.run()

        assert done.code == 1
        assert statuses(done) == {"a": "FAILED"}


class TestAScriptThatIsNotThere:
    def test_fails_without_an_attempt_whatever_its_retries(self, tmp_path: Path) -> None:
        jobs = [{"name": "Gone", "script": "gone.py", "output": "gone"}]
        folder = suite(tmp_path, "ok", "bad", jobs=jobs, retries=2)

        done = folder.run()

        assert done.code == 1
        assert statuses(done) == {"gone": "FAILED", "bad": "FAILED", "ok": "SUCCESS"}
        said = {job["id"]: job["attempts"] for job in folder.summary["jobs"]}
        assert said == {"gone": 0, "train_bad": 3, "train_ok": 1}
        ended = [failure for failure in done.status["failures"] if failure["shard"] == 0]
        assert [(failure["exitCode"], failure["reason"]) for failure in ended] == [(66, "ScriptNotFound")]
