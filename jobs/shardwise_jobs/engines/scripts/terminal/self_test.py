"""`shardwise suite --self-test`: does it work on this machine? A tree of its own, real scripts, and what must be true.

The original came with such a check of its parallel mode (`verify_parallel_mode`). Nothing here is judged by the clock:
scripts that run side by side meet, which those that run one after the other can't.
"""

from __future__ import annotations

import json
import logging
import sys
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import click
from rich.table import Table

from shardwise_api.safe_streams import after_showing, results

from ..discovery.selection import select
from ..model.options import SuiteOptions
from ..model.records import JobRecord, Status, SuiteExit, exit_status_of
from ..model.summary import summary_of, write_summary
from ..running.interrupt import Interrupt
from ..running.logs import log
from ..running.runner import Runner, Suite
from .board import wide_console

_WORKERS = 3
_LIMIT_SECONDS = 60.0
_EXPECTED_SUMMARY = {
    "pipeline",
    "start_time_utc",
    "duration_sec",
    "arguments",
    "jobs",
    "counts",
    "exit_status",
    "digest",
}

_MIXED = {
    "ok": """\
import argparse, pathlib
parser = argparse.ArgumentParser()
parser.add_argument("--output-dir", type=pathlib.Path)
parser.add_argument("--epochs", type=int)
options = parser.parse_args()
options.output_dir.mkdir(parents=True, exist_ok=True)
(options.output_dir / "epochs").write_text(str(options.epochs))
print("this is ok")
""",
    "flaky": """\
import argparse, pathlib, sys
parser = argparse.ArgumentParser()
parser.add_argument("--output-dir", type=pathlib.Path)
mark = parser.parse_args().output_dir / "tried"
print("this is flaky")
if not mark.exists():
    mark.touch()
    sys.exit(7)
""",
    "bad": """\
import sys
print("this is bad")
sys.exit(3)
""",
}
_MEETING = """\
import pathlib, time
here = pathlib.Path(__file__)
here.with_suffix(".met").touch()
while len(list(here.parent.glob("*.met"))) < {count}:
    time.sleep(0.01)
"""
_WAITING = """\
import time
print("waiting", flush=True)
time.sleep(600)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """Something that must be true."""

    name: str
    passed: bool
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    tree: Path
    records: dict[str, JobRecord]
    summary: dict[str, Any]

    @property
    def statuses(self) -> dict[str, str]:
        return {id: f"{record.status}({record.attempts})" for id, record in self.records.items()}

    def log(self, id: str) -> str:
        path = self.records[id].log_path
        return "" if path is None else (self.tree / path).read_text(encoding="utf-8")


class _Silent:
    """Hears of jobs, and interrupts the run at the first line when it is told to."""

    def __init__(self, interrupt: Interrupt | None = None) -> None:
        self._interrupt = interrupt

    def changed(self, record: JobRecord) -> None:
        pass

    def line(self, id: str, line: bytes) -> None:
        if self._interrupt is not None and not self._interrupt.is_set:
            self._interrupt.again()


def run_self_test(*, as_json: bool) -> int:
    """Run all checks, print them and return the exit status: 1 when one has failed."""
    with tempfile.TemporaryDirectory(prefix="shardwise-suite-") as folder, _quiet():
        checks = list(_checks(Path(folder)))
    status = 0 if all(check.passed for check in checks) else 1
    return after_showing(lambda: _show(checks, as_json=as_json), status=status)


def _show(checks: Sequence[Check], *, as_json: bool) -> None:
    if as_json:
        passed = all(check.passed for check in checks)
        told = {"passed": passed, "checks": [asdict(check) for check in checks]}
        click.echo(json.dumps(told, indent=2), file=results())
        return
    table = Table(title="Self-test", title_justify="left")
    for heading in ("", "check", "seen"):
        table.add_column(heading, overflow="fold")
    for check in checks:
        table.add_row("[green]PASS[/]" if check.passed else "[bold red]FAIL[/]", check.name, check.detail)
    wide_console().print(table)


def _checks(folder: Path) -> Iterator[Check]:
    one_by_one = _run(folder / "sequential", _MIXED, retries=1, epochs=2)
    at_once = _run(folder / "parallel", _MIXED, retries=1, epochs=2, parallel=True)
    expected = {"train_bad": "FAILED(2)", "train_flaky": "SUCCESS(2)", "train_ok": "SUCCESS(1)"}
    for how, run in (("sequential", one_by_one), ("parallel", at_once)):
        seen = ", ".join(f"{id.removeprefix('train_')} {status}" for id, status in run.statuses.items())
        yield Check(
            name=f"{how}: a failure stops no other, a retry helps", passed=run.statuses == expected, detail=seen
        )
        yield Check(
            name=f"{how}: a mandatory failure is exit status 1",
            passed=run.summary["exit_status"] == SuiteExit.MANDATORY_JOB_FAILED,
            detail=str(run.summary["exit_status"]),
        )
        yield _logs_kept_apart(how, run)
    yield Check(
        name="sequential and parallel have the same digest",
        passed=one_by_one.summary["digest"] == at_once.summary["digest"],
        detail=at_once.summary["digest"],
    )
    yield Check(name="sequential: no two at once", passed=not _overlap(list(one_by_one.records.values())))
    yield _outputs(at_once)
    yield _summary_file(at_once)
    yield _meeting(folder / "meeting")
    yield _dry_run(folder / "dry")
    yield _interrupted(folder / "interrupted")


def _run(tree: Path, scripts: dict[str, str], *, interrupt: Interrupt | None = None, **settings: Any) -> _Run:
    tree.mkdir()
    for name, text in scripts.items():
        (tree / f"train_{name}.py").write_text(text, encoding="utf-8")
    options = SuiteOptions.of(
        {
            "default_jobs": False,
            "max_workers": _WORKERS,
            "retry_delay_seconds": 0,
            "timeout_seconds": _LIMIT_SECONDS,
            "grace_seconds": 0,
            **settings,
        }
    )
    suite = Suite(tree=tree, jobs=select(tree, options).jobs, options=options, interpreter=sys.executable)
    started = datetime.now(UTC)
    own = interrupt or Interrupt()
    records = Runner(suite, interrupt=own, listener=_Silent(interrupt)).run()
    summary = summary_of(
        records,
        run_uid=str(uuid.uuid4()),
        start_time=started,
        end_time=datetime.now(UTC),
        working_directory=str(tree),
        arguments=options.arguments(),
        exit_status=exit_status_of(records, options=options, interrupted=own.is_set),
    )
    write_summary(suite.summaries, summary)
    return _Run(tree=tree, records={record.id: record for record in records}, summary=summary)


def _logs_kept_apart(how: str, run: _Run) -> Check:
    words = ("ok", "flaky", "bad")
    right = [
        name
        for name in words
        if (log := run.log(f"train_{name}")).count("Command: ") == run.records[f"train_{name}"].attempts
        and [other for other in words if f"this is {other}" in log] == [name]
    ]
    return Check(
        name=f"{how}: a log for each, with its own output only", passed=len(right) == 3, detail=", ".join(right)
    )


def _outputs(run: _Run) -> Check:
    path = run.tree / "results" / "ok_results" / "epochs"
    seen = path.read_text(encoding="utf-8") if path.exists() else "no file"
    return Check(name="--epochs and --output-dir reach a script that takes them", passed=seen == "2", detail=seen)


def _summary_file(run: _Run) -> Check:
    paths = list((run.tree / "summaries").glob("training_summary_*.json"))
    content = json.loads(paths[0].read_bytes()) if len(paths) == 1 else {}
    passed = content.keys() >= _EXPECTED_SUMMARY and content["counts"]["failed"] == 1
    return Check(name="a summary with all keys", passed=passed, detail=", ".join(path.name for path in paths))


def _meeting(tree: Path) -> Check:
    names = ("first", "second", "third")
    run = _run(tree, dict.fromkeys(names, _MEETING.format(count=len(names))), parallel=True)
    passed = all(record.status is Status.SUCCESS for record in run.records.values())
    gained = run.summary["wall_speedup"] or 0
    return Check(name=f"parallel: {_WORKERS} at once", passed=passed, detail=f"{gained:.1f} times one by one")


def _dry_run(tree: Path) -> Check:
    run = _run(tree, _MIXED, dry_run=True)
    left = sorted(path.name for path in tree.iterdir() if path.suffix != ".py")
    passed = {record.status for record in run.records.values()} == {Status.SKIPPED} and left == ["summaries"]
    return Check(name="a dry run starts nothing", passed=passed, detail=f"left: {', '.join(left)}")


def _interrupted(tree: Path) -> Check:
    run = _run(tree, {"first": _WAITING, "second": _WAITING}, interrupt=Interrupt())
    statuses = [str(record.status) for record in run.records.values()]
    passed = statuses == [Status.INTERRUPTED] * 2 and run.summary["exit_status"] == SuiteExit.INTERRUPTED
    return Check(name="an interrupt ends what runs and begins nothing", passed=passed, detail=", ".join(statuses))


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the runner's messages back: that scripts fail here is what is wanted."""
    nowhere = logging.NullHandler()
    log.addHandler(nowhere)
    before, log.propagate = log.propagate, False
    try:
        yield
    finally:
        log.propagate = before
        log.removeHandler(nowhere)


def _overlap(records: Sequence[JobRecord]) -> bool:
    """Whether two attempts ran at the same moment."""
    spans = sorted(
        (attempt.start_time or "", attempt.end_time or "") for record in records for attempt in record.attempts_detail
    )
    return any(later[0] < earlier[1] for earlier, later in pairwise(spans))
