"""The runner with real scripts: who runs when, who is tried again, what is kept of it, and what an interrupt leaves."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from shardwise_jobs.engines.scripts.discovery.selection import select
from shardwise_jobs.engines.scripts.model.options import SuiteOptions
from shardwise_jobs.engines.scripts.model.records import JobRecord, Status
from shardwise_jobs.engines.scripts.running.interrupt import Interrupt
from shardwise_jobs.engines.scripts.running.runner import Runner, Suite
from tests.support.kube import eventually
from tests.support.suites import alive, let_go, plant, plant_copies, wait_ready


@dataclass(slots=True, kw_only=True)
class Runs:
    """Runs in a tree, and what was seen of them."""

    tree: Path
    interrupt: Interrupt = field(default_factory=Interrupt)
    environment: dict[str, str] = field(default_factory=dict)
    kill_seconds: float = 600
    begun: list[str] = field(default_factory=list)
    most: int = 0
    published: list[list[Status]] = field(default_factory=list)
    _running: set[str] = field(default_factory=set)

    def changed(self, record: JobRecord) -> None:
        """Count who runs."""
        if record.status is Status.RUNNING:
            self.begun.append(record.id.removeprefix("train_"))
            self._running.add(record.id)
            self.most = max(self.most, len(self._running))
        else:
            self._running.discard(record.id)

    def line(self, id: str, line: bytes) -> None:
        """Nothing is looked at."""

    def run(self, **settings: Any) -> dict[str, JobRecord]:
        """Run all scripts of the tree and return their records, by id without its prefix."""
        options = SuiteOptions.of({"default_jobs": False, "retry_delay_seconds": 0, "parallel": True, **settings})
        suite = Suite(
            tree=self.tree,
            jobs=select(self.tree, options).jobs,
            options=options,
            interpreter=sys.executable,
            environment=self.environment,
            kill_seconds=self.kill_seconds,
        )

        def publish(records: Sequence[JobRecord]) -> None:
            self.published.append([record.status for record in records])

        records = Runner(suite, interrupt=self.interrupt, listener=self, publish=publish).run()
        return {record.id.removeprefix("train_"): record for record in records}


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    return Runs(tree=tmp_path)


def test_a_failure_stops_nobody_and_the_order_is_that_of_the_selection(runs: Runs) -> None:
    plant(runs.tree, "slow", "ok", "bad", "kills_itself")
    runs.environment = {"SLOW_SECONDS": "0.5"}

    records = runs.run()

    assert {id: (record.status, record.exit_code) for id, record in records.items()} == {
        "bad": (Status.FAILED, 3),
        "kills_itself": (Status.FAILED, 137),
        "ok": (Status.SUCCESS, 0),
        "slow": (Status.SUCCESS, 0),
    }
    assert list(records) == ["bad", "kills_itself", "ok", "slow"]


@pytest.mark.parametrize(
    ("settings", "most"), [({"max_workers": 3}, 3), ({"max_workers": 9}, 5), ({"parallel": False}, 1)]
)
def test_as_many_run_at_once_as_there_are_workers_and_never_more(
    runs: Runs, settings: dict[str, Any], most: int
) -> None:
    names = ("a", "b", "c", "d", "e")
    plant_copies(runs.tree, "waiting", *names)
    with ThreadPoolExecutor() as pool:
        ended = pool.submit(runs.run, **settings)
        for turn, name in enumerate(names):
            if turn + most <= len(names):
                # Nobody ends before the test says so: those that are to run side by side do, and then one goes.
                for other in names[turn : turn + most]:
                    wait_ready(runs.tree, other)
            let_go(runs.tree, name)
        ended.result()

    assert runs.most == most
    assert sorted(runs.begun) == list(names)


def test_the_longest_begins_first_and_the_unknown_before_it(runs: Runs) -> None:
    plant_copies(runs.tree, "no_options", "new", "quick", "slow")
    known = '{"id": "train_%s", "status": "SUCCESS", "duration_sec": %d}'
    jobs = ", ".join(known % pair for pair in (("quick", 1), ("slow", 50)))
    (runs.tree / "summaries").mkdir()
    (runs.tree / "summaries" / "training_summary_20260101_000000_x.json").write_text(f'{{"jobs": [{jobs}]}}')
    (runs.tree / "summaries" / "training_summary_20260102_000000_x.json").write_text("half a fi")

    records = runs.run(max_workers=2)

    # Two begin at once, in either order.
    assert runs.begun[2:] == ["quick"]
    assert list(records) == ["new", "quick", "slow"]


def test_a_script_is_tried_again_until_it_succeeds_and_its_error_is_gone(runs: Runs) -> None:
    plant(runs.tree, "flaky", "bad")
    runs.environment = {"FLAKY_FAILURES": "2"}

    records = runs.run(retries=3)

    flaky, bad = records["flaky"], records["bad"]
    assert (flaky.status, flaky.attempts, flaky.error, flaky.exit_code) == (Status.SUCCESS, 3, None, 0)
    assert [one.error for one in flaky.attempts_detail] == ["Non-zero exit code: 7"] * 2 + [None]
    assert flaky.start_time == flaky.attempts_detail[-1].start_time
    assert (bad.status, bad.attempts) == (Status.FAILED, 4)


def test_all_attempts_share_one_log_with_a_command_before_each(runs: Runs) -> None:
    plant(runs.tree, "no_newline", "flaky")

    records = runs.run(retries=1)

    log_path = records["flaky"].log_path
    assert log_path is not None
    content = (runs.tree / log_path).read_bytes()
    lines = content.decode().splitlines()
    assert [line.partition("Command: ")[2] for line in lines[::2]] == [
        f"{sys.executable} train_flaky.py --output-dir {runs.tree}/results/flaky_results"
    ] * 2
    assert lines[1::2] == ["attempt 1", "attempt 2"]
    assert records["flaky"].log_sha256 == hashlib.sha256(content).hexdigest()


def test_a_script_that_is_not_there_fails_without_an_attempt(runs: Runs) -> None:
    plant(runs.tree, "ok")
    gone = {"name": "Gone", "script": "gone.py", "output": "gone", "id": "gone"}

    for dry_run in (False, True):
        record = runs.run(jobs=[gone], dry_run=dry_run, retries=5)["gone"]

        assert (record.status, record.attempts) == (Status.FAILED, 0)
        assert record.error == f"Script not found: {runs.tree}/gone.py"


def test_a_dry_run_starts_nothing_and_writes_nothing(runs: Runs) -> None:
    plant(runs.tree, "ok", "waiting")
    before = sorted(runs.tree.iterdir())

    records = runs.run(dry_run=True, epochs=5)

    assert {record.status for record in records.values()} == {Status.SKIPPED}
    assert records["ok"].command[2:] == ("--output-dir", f"{runs.tree}/results/ok_results", "--epochs", "5")
    assert sorted(runs.tree.iterdir()) == before


def test_records_are_published_before_the_first_and_after_each_job(runs: Runs) -> None:
    plant(runs.tree, "bad", "no_options")

    runs.run(parallel=False)

    pending, running, failed, succeeded = Status.PENDING, Status.RUNNING, Status.FAILED, Status.SUCCESS
    assert runs.published[0] == [pending, pending]
    assert runs.published[1][0] == failed
    assert runs.published[1][1] in (pending, running, succeeded)
    assert runs.published[-1] == [failed, succeeded]


def test_a_log_that_can_not_be_written_costs_one_job_and_is_told(runs: Runs) -> None:
    plant(runs.tree, "no_options", "slow")
    runs.environment = {"SLOW_SECONDS": "0"}
    (runs.tree / "logs").mkdir()
    (runs.tree / "logs" / "train_no_options").write_text("in the way")

    records = runs.run()

    assert records["no_options"].status is Status.ERROR
    assert "File exists" in (records["no_options"].error or "")
    assert records["slow"].status is Status.SUCCESS


def test_after_an_interrupt_what_runs_may_end_and_nothing_is_begun(runs: Runs) -> None:
    plant_copies(runs.tree, "waiting", "a", "b", "c")
    with ThreadPoolExecutor() as pool:
        ended = pool.submit(runs.run, max_workers=2, grace_seconds=600)
        wait_ready(runs.tree, "a")
        wait_ready(runs.tree, "b")
        runs.interrupt.again()
        let_go(runs.tree, "a", "b")
        records = ended.result()

    assert [record.status for record in records.values()] == [Status.SUCCESS, Status.SUCCESS, Status.INTERRUPTED]
    assert records["c"].error == "Not started: the run was interrupted"
    assert records["c"].log_path is None


def test_an_interrupt_ends_the_wait_for_another_attempt(runs: Runs) -> None:
    plant(runs.tree, "bad")
    with ThreadPoolExecutor() as pool:
        ended = pool.submit(runs.run, retries=3, retry_delay_seconds=600)
        eventually(lambda: runs.published and (runs.tree / "logs").exists(), what="the first attempt")
        eventually(lambda: "never works" in _log(runs.tree), what="its output")
        runs.interrupt.again()
        record = ended.result()["bad"]

    assert (record.status, record.attempts, record.exit_code) == (Status.INTERRUPTED, 1, 3)


def test_a_second_interrupt_ends_what_ignores_the_first(runs: Runs) -> None:
    plant(runs.tree, "ignores_sigterm", "no_options")
    with ThreadPoolExecutor() as pool:
        ended = pool.submit(runs.run, parallel=False, grace_seconds=600)
        pid = wait_ready(runs.tree, "ignores_sigterm")
        runs.interrupt.again()
        runs.interrupt.again()
        records = ended.result()

    assert {record.status for record in records.values()} == {Status.INTERRUPTED}
    assert not alive(pid)


def _log(tree: Path) -> str:
    return "".join(path.read_text() for path in (tree / "logs").rglob("run_*.log"))
