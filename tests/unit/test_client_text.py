"""What the client commands show: numbers, tables, lines and bars, read from whatever an operator has written."""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import yaml
from rich.console import Console

from shardwise_cli.cluster import text
from shardwise_cli.cluster.details import run_details
from shardwise_cli.cluster.errors import UsageProblem
from shardwise_cli.cluster.events import Deleted, Disconnected, Snapshot, Updated
from shardwise_cli.cluster.live_display import LineDisplay, line, picture
from shardwise_cli.cluster.names import RESOURCES, RunName, parse
from shardwise_cli.cluster.run_store import RunStore
from shardwise_cli.cluster.table import table
from shardwise_cli.cluster.view import view
from tests.support.client import PORTABLE, complete, condition, failed, running

NOW = datetime(2026, 1, 1, 12, 10, tzinfo=UTC)
TRAINING = RESOURCES["TrainingRun"]
INGEST = RESOURCES["IngestRun"]


def _run(name: str = "words", status: dict[str, Any] | None = None, **metadata: Any) -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load(PORTABLE)
    told = {"name": name, "namespace": "here", "uid": name, "creationTimestamp": "2026-01-01T12:00:00Z"}
    document["metadata"] = {**told, **metadata}
    return document | ({"status": status} if status is not None else {})


def _drawn(store: RunStore, *, width: int) -> list[str]:
    stream = io.StringIO()
    Console(file=stream, width=width).print(picture(store, width=width))
    return stream.getvalue().splitlines()


def _store(*documents: dict[str, Any], wanted: tuple[RunName, ...] = ()) -> RunStore:
    store = RunStore(wanted)
    store.take(Snapshot(resource=TRAINING, items=list(documents)))
    return store


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (None, "-"),
        (0, "0s"),
        (42.4, "42s"),
        (200, "3m20s"),
        (18000, "5h"),
        (187_300, "2d4h"),
        (-5, "0s"),
        (86_460, "1d"),
    ],
)
def test_a_duration_has_at_most_two_units(seconds: float | None, shown: str) -> None:
    assert text.duration(seconds) == shown


@pytest.mark.parametrize(("number", "shown"), [(None, "?"), (0, "0"), (12_345, "12,345"), (1_250_000, "1.2M")])
def test_a_count_stays_short(number: int | None, shown: str) -> None:
    assert text.count(number) == shown


@pytest.mark.parametrize(
    ("given", "kind", "name"),
    [
        ("words", None, "words"),
        ("trun/words", "TrainingRun", "words"),
        ("irun/words", "IngestRun", "words"),
        ("trainingrun.shardwise.dev/words", "TrainingRun", "words"),
        ("IngestRuns/words", "IngestRun", "words"),
    ],
)
def test_a_run_is_named_as_for_kubectl(given: str, kind: str | None, name: str) -> None:
    assert parse(given) == RunName(kind=kind, name=name)


@pytest.mark.parametrize("given", ["", "pod/words", "trun/", "/words", "a/b/c"])
def test_what_names_no_run_is_refused(given: str) -> None:
    with pytest.raises(UsageProblem, match=r"trun/"):
        parse(given)


def test_a_run_that_no_operator_has_seen_is_pending_and_its_page_says_so() -> None:
    run = view(_run())
    stream = io.StringIO()
    Console(file=stream, width=100).print(run_details(run, now=NOW))

    assert (run.phase, run.percent, run.shards, run.finished) == ("Pending", None, 8, False)
    assert "No operator has looked at this run yet" in stream.getvalue()


def test_a_status_of_a_newer_operator_is_read_as_far_as_it_is_known() -> None:
    status = running(40, somethingNew={"a": 1}, phase="Hibernating")
    status["shards"]["completedIndexes"] = "all"

    run = view(_run(status=status))

    assert (run.phase, run.percent, run.shards_ended) == ("Hibernating", 40, frozenset())


def test_a_run_that_is_being_deleted_shows_that_as_its_phase() -> None:
    assert view(_run(status=running(), deletionTimestamp="2026-01-01T12:05:00Z")).phase == "Deleting"


@pytest.mark.parametrize(
    ("status", "trouble"),
    [
        (failed(), "StoreUnavailable: nobody answers"),
        (running(conditions=[condition("Progressing", "False", "Stalled")]), "Stalled"),
        (running(conditions=[condition("PodsReady", "False", "ImagePullBackOff", "x")]), "ImagePullBackOff: x"),
        (running(conditions=[condition("PodsReady", "False", "WaitingForPods", "1 of 2")]), ""),
        (complete(), ""),
    ],
)
def test_trouble_is_what_a_person_should_look_at(status: dict[str, Any], trouble: str) -> None:
    assert view(_run(status=status)).trouble == trouble


def test_a_table_is_aligned_and_fits_80_columns() -> None:
    runs = [view(_run("words", running(40))), view(_run("a-longer-name", complete())), view(_run("new"))]

    lines = table(runs, now=NOW)

    assert lines == [
        "KIND  NAME           PHASE     PROGRESS  SHARDS  RATE    ETA    AGE",
        "trun  words          Running   40%       3/8     12.5/s  3m20s  10m",
        "trun  a-longer-name  Complete  100%      8/8     12.5/s  3m20s  10m",
        "trun  new            Pending   -         0/8     -       -      10m",
    ]


def test_a_wide_table_adds_engine_items_and_digest() -> None:
    headings, row = table([view(_run("words", complete()))], now=NOW, wide=True)

    assert headings.split()[8:] == ["ENGINE", "ITEMS", "FAILED", "STRATEGY", "DIGEST"]
    assert row.split()[8:] == ["kato", "100/100", "0", "-", "sha256:1234"]


@pytest.mark.parametrize("width", [80, 100, 120])
def test_bars_fit_the_terminal_and_keep_every_number(width: int) -> None:
    status = running(40, items={"total": 100_000, "done": 39_000, "failed": 1_000, "skipped": 0})

    (drawn,) = _drawn(_store(_run("words", status)), width=width)

    assert len(drawn) <= width
    for told in ("trun/words", "Running", "40%", "40,000/100,000", "12.5/s", "ETA 3m20s", "1,000"):
        assert told in drawn
    assert drawn.count("━") + drawn.count("╸") >= (6 if width == 80 else 1)


def test_what_troubles_a_run_stands_below_the_bars() -> None:
    drawn = _drawn(_store(_run("words", failed())), width=80)

    assert drawn[-1].rstrip() == "trun/words: StoreUnavailable: nobody answers"


def test_a_line_says_what_a_log_needs() -> None:
    assert line(view(_run("words", running(40)))) == "trun/words Running 40% 40/100 shards 3/8 12.5/s ETA 3m20s"
    assert line(view(_run("words", complete()))) == "trun/words Complete 100% 100/100 shards 8/8"


def test_lines_come_only_when_something_matters() -> None:
    said: list[str] = []
    display = LineDisplay(said.append)
    store = RunStore()

    for event in (
        Snapshot(resource=TRAINING),
        Updated(resource=TRAINING, item=_run("words", running(41))),
        Updated(resource=TRAINING, item=_run("words", running(42))),
        Updated(resource=TRAINING, item=_run("words", running(50))),
        Disconnected(message="no connection\nis it up?"),
        Disconnected(message="no connection\nis it up?"),
        Snapshot(resource=TRAINING, items=[_run("words", running(51))]),
        Deleted(resource=TRAINING, item=_run("words", running(51))),
    ):
        store.take(event)
        display.show(store)

    assert [told.partition(" shards")[0] for told in said] == [
        "no runs yet: waiting for the first (Ctrl-C leaves)",
        "trun/words Running 41% 41/100",
        "trun/words Running 50% 50/100",
        "connection lost, trying again: no connection",
        "connected again",
        "trun/words deleted",
    ]


def test_a_board_is_over_when_each_named_run_has_ended_or_gone() -> None:
    store = _store(wanted=(RunName(kind="TrainingRun", name="a"), RunName(kind="TrainingRun", name="b")))
    seen = []

    for event in (
        Updated(resource=TRAINING, item=_run("a", complete())),
        Updated(resource=TRAINING, item=_run("other", running())),
        Updated(resource=TRAINING, item=_run("b", running())),
        Deleted(resource=TRAINING, item=_run("b", running())),
    ):
        store.take(event)
        seen.append(store.over)

    assert seen == [False, False, False, True]
    assert not store.all_complete


def test_a_board_does_not_wait_for_a_run_that_was_rejected() -> None:
    rejected = {"phase": "Rejected", "conditions": [condition("Accepted", "False", "InvalidSpec", "spec.output: x")]}

    store = _store(_run("a", rejected), wanted=(RunName(kind=None, name="a"),))

    assert store.over
    assert not store.all_complete
    assert store.runs[0].trouble == "InvalidSpec: spec.output: x"


def test_a_new_list_tells_what_went_while_nobody_watched() -> None:
    store = _store(_run("a", running()), _run("b", running()))
    store.take(Snapshot(resource=INGEST, items=[]))

    store.take(Snapshot(resource=TRAINING, items=[_run("b", running())]))

    assert [run.name for run in store.runs] == ["b"]
    assert [run.name for run in store.deleted.values()] == ["a"]


def test_runs_are_shown_oldest_first() -> None:
    old = NOW - timedelta(days=1)
    store = _store(_run("new"), _run("old", creationTimestamp=old.strftime("%Y-%m-%dT%H:%M:%SZ")))

    assert [run.name for run in store.runs] == ["old", "new"]


SUITE = {
    "phase": "Running",
    "suite": {
        "counts": {"total": 9, "success": 1, "failed": 1, "skipped": 0, "interrupted": 0},
        "jobs": [
            {"id": "train_ok", "status": "SUCCESS", "attempts": 1, "exitCode": 0, "durationSeconds": 200.2},
            {"id": "train_bad", "status": "FAILED", "attempts": 3, "exitCode": 3, "durationSeconds": 1.0},
            *({"id": f"train_{n}", "status": "RUNNING"} for n in range(7)),
        ],
    },
}


class TestScripts:
    def test_are_listed_with_their_shards_by_which_their_logs_are_found(self) -> None:
        cut = {**SUITE, "suite": {**SUITE["suite"], "exitStatus": 1, "jobs": SUITE["suite"]["jobs"][:2]}}  # type: ignore[dict-item, index]
        stream = io.StringIO()
        Console(file=stream, width=100).print(run_details(view(_run(status=cut)), now=NOW))
        lines = [" ".join(line.split()) for line in stream.getvalue().splitlines()]

        assert "exit status 1" in lines
        assert "0 train_ok SUCCESS 1 0 3m20s" in lines
        assert "1 train_bad FAILED 3 3 1s" in lines
        assert "… 7 more in the summary" in lines

    def test_that_run_are_named_below_their_bar(self) -> None:
        drawn = "\n".join(_drawn(_store(_run(status=SUITE)), width=120))

        assert "running train_0, train_1, train_2, train_3, train_4, train_5 and 1 more" in drawn
        over = {"type": "Failed", "status": "True", "reason": "MandatoryJobFailed", "message": "1 of 9"}
        assert "running" not in "\n".join(_drawn(_store(_run(status={**SUITE, "conditions": [over]})), width=120))
