"""What a person sees of a suite: while scripts run, a live table or a line for each thing; before and after, tables."""

from __future__ import annotations

import logging
import shlex
import time
from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.highlighter import NullHighlighter
from rich.live import Live
from rich.logging import RichHandler
from rich.table import Table
from rich.text import Text

from shardwise_api.console import safe_console
from shardwise_api.safe_streams import messages, results

from ..model.job import SuiteJob
from ..model.records import FAILURES, JobRecord, Status, record_of
from ..running.logs import log

STYLES = {
    Status.PENDING: "dim",
    Status.RUNNING: "cyan",
    Status.SUCCESS: "green",
    Status.SKIPPED: "yellow",
    Status.INTERRUPTED: "yellow",
}
_FAILED = "bold red"
_AROUND = 6
"""Lines of a terminal that the table itself does not fill with jobs."""


def styled(status: Status) -> Text:
    """Return a status in its colour."""
    return Text(status, style=STYLES.get(status, _FAILED))


def last_words(line: bytes) -> str:
    """Return a line as text that moves no cursor and rings no bell."""
    written = line.decode("utf-8", "replace")
    try:
        text = Text.from_ansi(written).plain
    except ValueError:
        # A number in an escape sequence may be longer than Python reads.
        text = written
    return "".join(letter if letter.isprintable() else " " for letter in text).strip()


class Plain:
    """Says in the log when a job begins and how it ended; what goes to the log goes to the console.

    It is told of things in the middle of the work that they are about. So whatever becomes of the console, it raises
    nothing.
    """

    def __init__(self, *, total: int, verbose: bool = False) -> None:
        self._total, self._verbose = total, verbose
        self._ended = 0
        self._lock = Lock()
        self._stream = messages()
        self.handler: logging.Handler = logging.StreamHandler(self._stream)

    def __enter__(self) -> Plain:
        return self

    def __exit__(self, _k: type[BaseException] | None, _e: BaseException | None, _t: TracebackType | None) -> None:
        pass

    def changed(self, record: JobRecord) -> None:
        """Tell of a job."""
        if record.status is Status.RUNNING:
            log.info("%s: started%s", record.id, f" (attempt {record.attempts})" if record.attempts > 1 else "")
            return
        with self._lock:
            self._ended += 1
            ended = self._ended
        took = f" in {record.duration_sec:.1f} s" if record.duration_sec is not None else ""
        why = f": {record.error}" if record.error else ""
        level = logging.ERROR if record.status in FAILURES else logging.INFO
        log.log(level, "[%d/%d] %s: %s%s%s", ended, self._total, record.id, record.status, took, why)

    def line(self, id: str, line: bytes) -> None:
        """Show what a job prints, when everything is to be seen."""
        if self._verbose:
            self._stream.write(f"[{id}] {last_words(line)}\n")


class Board(Plain):
    """A table that is drawn anew several times a second: jobs, statuses, times, and the last line of each."""

    def __init__(self, jobs: Sequence[SuiteJob], *, console: Console) -> None:
        super().__init__(total=len(jobs))
        self._console = console
        self._records = {job.id: record_of(job, command=()) for job in jobs}
        self._since: dict[str, float] = {}
        self._said: dict[str, bytes] = {}
        self._start = time.monotonic()
        self._live = Live(console=console, get_renderable=self.table, refresh_per_second=5, transient=True)
        # Above the table, which would be torn by any other way of writing.
        self.handler = RichHandler(
            console=console, show_time=False, show_level=False, show_path=False, level=logging.WARNING,
            highlighter=NullHighlighter(),
        )  # fmt: skip

    def __enter__(self) -> Board:
        self._live.start()
        return self

    def __exit__(self, _k: type[BaseException] | None, _e: BaseException | None, _t: TracebackType | None) -> None:
        self._live.stop()

    def changed(self, record: JobRecord) -> None:
        """Show a job as it is now."""
        with self._lock:
            self._records[record.id] = record
            self._since[record.id] = time.monotonic()
        super().changed(record)

    def line(self, id: str, line: bytes) -> None:
        """Remember a job's last line."""
        self._said[id] = line

    def table(self) -> Table:
        """Return the table as of now: all jobs where there is room, else those that say most."""
        with self._lock:
            records = list(self._records.values())
        statuses = [record.status for record in records]
        ended = sum(status not in (Status.PENDING, Status.RUNNING) for status in statuses)
        failed = sum(status in FAILURES for status in statuses)
        title = f"{ended} of {len(records)} done, {statuses.count(Status.RUNNING)} running"
        title += f", {failed} failed" if failed else ""
        title += f", {_clock(time.monotonic() - self._start)}"
        table = Table(title=title, title_style="bold", title_justify="left", expand=True)
        table.add_column("job", no_wrap=True)
        table.add_column("status", no_wrap=True)
        table.add_column("time", justify="right", no_wrap=True)
        table.add_column("last line", ratio=1, no_wrap=True, overflow="ellipsis")
        room = max(3, self._console.height - _AROUND)
        shown = records if len(records) <= room else _first(records, room=room)
        for record in shown:
            status = styled(record.status)
            if record.attempts > 1:
                status.append(f" ({record.attempts})", style="dim")
            table.add_row(Text(record.id), status, self._time(record), self._last(record))
        if len(shown) < len(records):
            table.add_row(f"… {len(records) - len(shown)} more", "", "", "")
        return table

    def _time(self, record: JobRecord) -> str:
        if record.status is Status.RUNNING:
            return _clock(time.monotonic() - self._since.get(record.id, self._start))
        return "" if record.duration_sec is None else _clock(record.duration_sec)

    def _last(self, record: JobRecord) -> Text:
        if record.error and record.status is not Status.RUNNING:
            return Text(record.error, style=STYLES.get(record.status, _FAILED))
        return Text(last_words(self._said.get(record.id, b"")), style="dim")


def _first(records: list[JobRecord], *, room: int) -> list[JobRecord]:
    """Return as many as there is room for, in their order: running ones before failed ones before the rest."""

    def weight(record: JobRecord) -> int:
        if record.status is Status.RUNNING:
            return 0
        return 1 if record.status in FAILURES else 3 if record.status is Status.PENDING else 2

    chosen = {record.id for record in sorted(records, key=weight)[:room]}
    return [record for record in records if record.id in chosen]


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}" if minutes >= 60 else f"{minutes:02}:{rest:02}"


_SUPPORTED = ("epochs", "folds", "sample", "batch")


def wide_console() -> Console:
    """Return a console for standard output that, where that is no terminal, has room for a path in one line."""
    return safe_console(file=results(), width=140)


def print_list(jobs: Sequence[SuiteJob], *, console: Console) -> None:
    """Print the selected jobs with what is passed to them."""
    table = Table(title=f"{len(jobs)} jobs", title_justify="left")
    for heading in ("id", "name", "script", "takes", "optional"):
        table.add_column(heading, overflow="fold")
    for job in jobs:
        takes = ["output-dir"] if job.use_output_dir else []
        takes += [name for name in _SUPPORTED if getattr(job, f"supports_{name}")]
        name = job.id if not job.aliases else f"{job.id} ({', '.join(job.aliases)})"
        optional = "yes" if job.optional else ""
        table.add_row(name, job.name, job.script, ", ".join(takes), optional)
    console.print(table)


def print_records(
    records: Sequence[JobRecord], *, summary: dict[str, Any], path: Path | None, tree: Path, console: Console
) -> None:
    """Print what became of each job, and where to read on; `path` is the summary's, if it could be written."""
    if any(record.status is Status.SKIPPED for record in records):
        console.print(f"Dry run in {tree}: nothing was started.")
        for record in records:
            told = shlex.join(record.command) if record.status is Status.SKIPPED else record.error
            console.print(f"{record.id}: {told}", soft_wrap=True)
    else:
        table = Table(title="Suite", title_justify="left")
        for heading, justify in (("job", "left"), ("status", "left"), ("attempts", "right"), ("time", "right")):
            table.add_column(heading, justify="right" if justify == "right" else "left", no_wrap=True)
        table.add_column("error or log", overflow="fold")
        for record in records:
            took = "" if record.duration_sec is None else f"{record.duration_sec:.1f} s"
            failed = record.status in FAILURES
            words = "\n".join(filter(None, [record.error, record.log_path if failed or not record.error else None]))
            table.add_row(record.id, styled(record.status), str(record.attempts), took, words)
        console.print(table)
    counts = ", ".join(f"{count} {name}" for name, count in summary["counts"].items() if count) or "nothing run"
    took = f" in {summary['duration_sec']:.1f} s"
    speedup = summary.get("wall_speedup")
    gained = f", {speedup:.1f} times as fast as one by one" if speedup and speedup >= 1.1 else ""
    console.print(f"{counts}{took}{gained}")
    for name in ("digest",):
        if summary.get(name):
            console.print(f"{name}: {summary[name]}", soft_wrap=True)
    if path is not None:
        console.print(f"summary: {path}", soft_wrap=True)
