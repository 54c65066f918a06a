"""Reports go out at most so often, the newest always, and whatever happens to them the work never knows."""

from __future__ import annotations

import json
import logging
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from shardwise.engine import progress_http
from shardwise.engine.progress import ProgressSender
from shardwise_api.wire import Checkpoint, Environment, ItemCounts, Metric, ProgressReport
from tests.support.receiver import Receiver, receiving


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as running:
        yield running


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between reports and tries there is next to no wait, so that tests see many."""
    for name in ("INTERVAL_SECONDS", "_FIRST_BACKOFF_SECONDS", "_LAST_BACKOFF_SECONDS"):
        monkeypatch.setattr(progress_http, name, 0.01)


def sender(receiver: Receiver, token: Path | None = None) -> ProgressSender:
    return ProgressSender(
        target=f"{receiver.url}/v1/progress",
        run="uid",
        shard=3,
        environment={Environment.PROGRESS_TOKEN_FILE: str(token)} if token else {},
    )


def done(count: int) -> ItemCounts:
    return ItemCounts(done=count)


def test_a_report_is_the_contracts_json_with_the_token_of_its_file(receiver: Receiver, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("one\n", encoding="utf-8")
    reports = sender(receiver, token)
    reports.send(done(5), total=9, resumed=done(2))
    receiver.wait_for(1)
    token.write_text("two", encoding="utf-8")
    reports.send(done(9), total=9, resumed=done(2), last=True)
    assert receiver.tokens == ["Bearer one", "Bearer two"]
    first = dict(receiver.reports[0])
    assert first.pop("path") == "/v1/progress"
    assert "attemptStarted" in first
    report = ProgressReport.model_validate(first)
    assert (report.run, report.shard, report.total, report.resumed, report.resumed_done) == ("uid", 3, 9, 2, 2)


def test_the_newest_report_replaces_those_that_wait_and_the_last_is_there_on_return(receiver: Receiver) -> None:
    receiver.hold = threading.Event()
    reports = sender(receiver)
    for count in range(1, 50):
        reports.send(done(count))
    threading.Timer(0.1, receiver.hold.set).start()
    reports.send(done(50), last=True)
    assert receiver.done[-1] == 50
    assert len(receiver.done) <= 2


def test_a_report_that_came_too_soon_goes_out_later_even_if_none_follows(receiver: Receiver) -> None:
    reports = sender(receiver)
    reports.send(done(1))
    reports.send(done(2))
    receiver.wait_for(2 if receiver.done[:1] == [1] else 1)
    reports.send(done(2), last=True)
    assert receiver.done[-1] == 2


@pytest.mark.parametrize("status", [401, 429, 503])
def test_what_may_pass_is_tried_again_and_said_once(
    receiver: Receiver, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    receiver.answers = [(status, {"Retry-After": "0"})] * 4
    reports = sender(receiver)
    reports.send(done(7))
    receiver.wait_for(5)
    assert receiver.done == [7] * 5
    assert [record.getMessage() for record in caplog.records if str(status) in record.getMessage()] == [
        f"progress not reported: answered {status}:  (said once)"
    ]


@pytest.mark.parametrize("status", [403, 413, 422])
def test_a_refused_report_is_not_sent_again_but_the_next_one_is(receiver: Receiver, status: int) -> None:
    receiver.answers = [(status, {})]
    reports = sender(receiver)
    reports.send(done(1))
    receiver.wait_for(1)
    reports.send(done(2), last=True)
    assert receiver.done == [1, 2]


def test_the_last_report_survives_an_answer_that_fails(receiver: Receiver) -> None:
    receiver.answers = [(503, {})]
    sender(receiver).send(done(2), last=True)
    assert receiver.done == [2, 2]


def test_nobody_there_costs_the_last_report_its_patience_only(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(progress_http, "PATIENCE_SECONDS", 0.2)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        reports = ProgressSender(target=f"http://127.0.0.1:{unused.getsockname()[1]}/", run="uid", shard=0)
        reports.send(done(1), last=True)
    said = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert len(said) == 1
    assert "ConnectionRefusedError" in said[0].getMessage()


def test_a_receiver_that_never_answers_holds_nobody_up(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress_http, "PATIENCE_SECONDS", 0.2)
    receiver.hold = threading.Event()
    sender(receiver).send(done(1), last=True)
    assert receiver.reports == []


def test_a_token_that_cannot_be_read_sends_nothing(
    receiver: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(progress_http, "PATIENCE_SECONDS", 0.1)
    sender(receiver, tmp_path / "absent").send(done(1), last=True)
    assert receiver.reports == []
    assert "FileNotFoundError" in caplog.text


def test_the_token_stays_out_of_the_log_and_does_not_follow_a_redirect(
    receiver: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(progress_http, "PATIENCE_SECONDS", 0.1)
    (tmp_path / "token").write_text("hidden", encoding="utf-8")
    receiver.answers = [(307, {"Location": f"{receiver.url}/elsewhere"})]
    sender(receiver, tmp_path / "token").send(done(1), last=True)
    assert {report["path"] for report in receiver.reports} == {"/v1/progress"}
    assert "hidden" not in caplog.text


def test_a_folder_gets_one_file_per_shard(tmp_path: Path) -> None:
    reports = ProgressSender(target=tmp_path.as_uri(), run="uid", shard=3)
    reports.send(done(1))
    reports.send(done(2))
    assert json.loads((tmp_path / "shard-3.json").read_bytes())["items"]["done"] == 1
    reports.send(done(3), last=True)
    assert json.loads((tmp_path / "shard-3.json").read_bytes())["items"]["done"] == 3


def test_an_unknown_scheme_is_said_and_nothing_more(caplog: pytest.LogCaptureFixture) -> None:
    ProgressSender(target="ftp://x/", run="uid", shard=3).send(done(1), last=True)
    assert "SHARDWISE_PROGRESS=ftp://x/" in caplog.text


def test_metrics_a_checkpoint_and_awaited_ranks_are_reported_as_they_are_now(tmp_path: Path) -> None:
    def sent() -> ProgressReport:
        return ProgressReport.model_validate_json((tmp_path / "shard-3.json").read_bytes())

    reports = ProgressSender(target=str(tmp_path), run="uid", shard=3)
    reports.send(done(0), missing_ranks="2-3", last=True)
    assert (sent().missing_ranks, sent().metrics, sent().checkpoint) == ("2-3", [], None)
    metrics, checkpoint = [Metric(name="softLoss", value=0.5)], Checkpoint(uri="file:///c.npz", step=7)
    reports.send(done(7), metrics=metrics, checkpoint=checkpoint, last=True)
    assert (sent().missing_ranks, sent().metrics, sent().checkpoint) == ("", metrics, checkpoint)
