"""Many scripts at once under a low limit of open files: it is raised as far as it goes, and is no script's affair."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from shardwise_jobs.engines.scripts.model.validation_errors import InvalidSuite
from shardwise_jobs.engines.scripts.running import runner
from tests.support.suites import run_suite, statuses_in, summary_in

WORKERS = 24
SOFT, HARD = 64, 4096


def limited(*, soft: int, hard: int) -> tuple[str, ...]:
    """Words that begin a command under a limit of open files."""
    return ("prlimit", f"--nofile={soft}:{hard}")


def plant_waiting_for_each_other(tree: Path, count: int) -> None:
    """Write scripts of which none ends before all have begun, and that say what they may open."""
    for number in range(count):
        (tree / f"train_{number:02}.py").write_text(
            f"""\
import pathlib, resource, time
here = pathlib.Path(__file__).parent
(here / "{number:02}.begun").touch()
end = time.monotonic() + 120
while len([*here.glob("*.begun")]) < {count} and time.monotonic() < end:
    time.sleep(0.05)
assert len([*here.glob("*.begun")]) == {count}
print("limits", *resource.getrlimit(resource.RLIMIT_NOFILE))
"""
        )


def test_a_low_limit_that_may_be_raised_is_and_scripts_get_it_as_it_was(tmp_path: Path) -> None:
    plant_waiting_for_each_other(tmp_path, WORKERS)

    done = run_suite(tmp_path, "--parallel", "--max-workers", str(WORKERS), prefix=limited(soft=SOFT, hard=HARD))

    assert done.code == 0, done.err
    assert set(statuses_in(tmp_path).values()) == {"SUCCESS"}
    logs = [(tmp_path / job["log_path"]).read_text() for job in summary_in(tmp_path)["jobs"]]
    assert {log.splitlines()[-1] for log in logs} == {f"limits {SOFT} {HARD}"}


def test_one_that_may_not_is_named_before_anything_is_started(tmp_path: Path) -> None:
    plant_waiting_for_each_other(tmp_path, WORKERS)

    done = run_suite(tmp_path, "--parallel", "--max-workers", str(WORKERS), prefix=limited(soft=SOFT, hard=SOFT))

    assert done.code == 2, done.err
    assert f"max_workers: {WORKERS} scripts at once need up to" in done.err
    assert "and the hard limit is 64 (ulimit -Hn): ask for" in done.err
    assert not [*tmp_path.glob("*.begun")]


def test_what_is_advised_works(tmp_path: Path) -> None:
    plant_waiting_for_each_other(tmp_path, WORKERS)
    within = limited(soft=256, hard=256)
    refused = run_suite(tmp_path, "--parallel", "--max-workers", str(WORKERS), prefix=within)
    advised = refused.err.rpartition("ask for ")[2].partition(",")[0]
    assert 0 < int(advised) < WORKERS
    for path in [*tmp_path.glob("train_*.py")][int(advised) :]:
        path.unlink()
    for path in tmp_path.glob("train_*.py"):
        path.write_text(
            path.read_text().replace(f" {WORKERS} ", f" {advised} ").replace(f"== {WORKERS}", f"== {advised}")
        )

    done = run_suite(tmp_path, "--parallel", "--max-workers", advised, "-o", "json", prefix=within)

    assert done.code == 0, done.err
    assert json.loads(done.out)["counts"]["success"] == int(advised)


def test_a_dry_run_needs_no_room(tmp_path: Path) -> None:
    plant_waiting_for_each_other(tmp_path, WORKERS)

    done = run_suite(
        tmp_path, "--parallel", "--max-workers", str(WORKERS), "--dry-run", prefix=limited(soft=SOFT, hard=SOFT)
    )

    assert done.code == 0, done.err


def test_a_script_is_kept_also_where_files_have_high_numbers(tmp_path: Path) -> None:
    runner = """
import os, pathlib
from shardwise_jobs.engines.scripts.running.attempt import Limits, run_attempt
from shardwise_jobs.engines.scripts.running.interrupt import Interrupt
taken = [os.open("/dev/null", os.O_RDONLY) for _ in range(1100)]
record = run_attempt(
    ["echo", "hello"], cwd=pathlib.Path.cwd(), env=os.environ, output=print, limits=Limits(), stop=Interrupt()
)
print(record.status, record.error)
"""
    words = [*limited(soft=HARD, hard=HARD), sys.executable, "-c", runner]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=True)

    assert done.stdout.splitlines() == ["b'hello\\n'", "SUCCESS None"], done.stderr


def test_a_limit_that_suffices_is_left_alone() -> None:
    with runner.room_for(1) as for_scripts:
        assert for_scripts is None


def test_no_limit_is_enough_for_everybody() -> None:
    with pytest.raises(InvalidSuite, match="at once need up to"):
        runner.require_room(10**9)
