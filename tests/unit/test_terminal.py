"""Whatever others wrote, a terminal gets text: no controls, no markup; JSON says exactly what is there."""

from __future__ import annotations

import io
import json
import logging
from datetime import UTC, datetime
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from rich.table import Table

from shardwise_api.console import SafeConsole, safe_console
from shardwise_api.status import RunStatus
from shardwise_api.terminal import echo, excerpt, sanitize, to_json
from shardwise_cli.cluster.details import run_details
from shardwise_cli.cluster.table import table
from shardwise_cli.cluster.view import view
from shardwise_cli.commands.common import fail
from shardwise_cli.tables import print_run
from shardwise_jobs.bootstrap import LogFormatter
from shardwise_jobs.engines.scripts.terminal.board import print_list
from tests.support.manifests import KATO, parse

EVIL = "\x1b]0;PWNED\x07\x1b]52;c;cm0gLXJmIC8=\x07\x1b[2J\x9b2J\u202e"
MARKUP = "[/INST] [user] [bold]x[/bold] :smile: [link=file:///x]y[/link]"


def harmless(text: str) -> bool:
    return not any(letter in text for letter in "\x1b\x07\x9b\u202e\r\x00")


@given(st.text())
def test_no_control_gets_through(text: str) -> None:
    found = sanitize(text)
    assert harmless(found)
    found.encode()
    assert sanitize(found) == found
    assert "\n" not in excerpt(text, longest=10)


@pytest.mark.parametrize("text", ["plain", "naïve 日本\u3000語 👩‍👩‍👧", "a\tb\nc", MARKUP])
def test_text_stays_as_it_is(text: str) -> None:
    assert sanitize(text) == text


def test_colours_are_left_out_and_leave_no_trace() -> None:
    assert sanitize("\x1b[1;31mred\x1b[0m\r\n") == "red\n"


@given(st.text())
def test_json_is_exact_and_harmless(text: str) -> None:
    printed = to_json({text: [text]}, indent=2)
    assert json.loads(printed) == {text: [text]}
    assert harmless(printed)


def document(text: str) -> dict[str, Any]:
    condition = {"type": "Failed", "status": "True", "reason": "A", "message": f"finalize: {text}"}
    return {
        "apiVersion": "shardwise.dev/v1alpha1",
        "kind": "TrainingRun",
        "metadata": {"name": "n", "namespace": "d", "uid": "u"},
        "spec": {},
        "status": {
            "phase": "Failed",
            "conditions": [condition],
            "failures": [{"shard": 0, "exitCode": 1, "reason": text, "message": text}],
            "result": {"digest": text, "uri": text, "summary": {text: text}},
            "metrics": [{"name": text, "value": 1.0}],
            "suite": {"jobs": [{"id": text, "status": "FAILED"}], "counts": {"total": 1}},
            "checkpoint": {"uri": text, "step": 1},
        },
    }


@pytest.mark.parametrize("terminal", [False, True])
def test_a_page_of_a_run_is_harmless_on_any_console(terminal: bool) -> None:
    file = io.StringIO()
    page = run_details(view(document(EVIL)), now=datetime.now(UTC))
    Console(file=file, markup=False, highlight=False, force_terminal=terminal, width=120).print(page)
    for code in ("\x1b]", "\x1b[2J", "\x9b", "\x07", "\u202e"):
        assert code not in file.getvalue()
    assert all(map(harmless, table([view(document(EVIL))], now=datetime.now(UTC), namespaces=True, wide=True)))


def test_a_page_of_a_run_shows_markup_as_it_is() -> None:
    file = io.StringIO()
    safe_console(file=file, width=400).print(run_details(view(document(MARKUP)), now=datetime.now(UTC)))
    assert file.getvalue().count(MARKUP) >= 8


def test_a_console_lets_no_text_of_a_cell_move_the_cursor_and_keeps_its_own_colours() -> None:
    file = io.StringIO()
    console = SafeConsole(file=file, force_terminal=True, width=80, color_system="standard")
    grid = Table(title=EVIL)
    grid.add_column(style="red")
    grid.add_row(EVIL)
    console.print(grid, EVIL)
    assert "\x1b]" not in file.getvalue()
    assert "\x1b[2J" not in file.getvalue()
    assert "\x1b[31m" in file.getvalue()


@pytest.mark.parametrize("text", [EVIL, MARKUP])
def test_the_end_of_a_local_run_shows_reasons_as_they_are(text: str, tmp_path: Any, capsys: Any) -> None:
    run = parse(KATO)
    run.status = RunStatus.model_validate(
        {
            "conditions": [
                {"type": "Failed", "status": "True", "reason": "A", "message": text,
                 "lastTransitionTime": "2026-01-01T00:00:00Z"}
            ],
            "failures": [{"shard": 0, "exitCode": 1, "reason": "A", "message": text}],
            "result": {"digest": text, "uri": text, "summary": {"picture": text}},
        }
    )  # fmt: skip
    print_run(run, logs=tmp_path)
    printed = capsys.readouterr().out
    assert harmless(printed)
    if text == MARKUP:
        assert printed.count(MARKUP) == 5


def test_messages_are_harmless(capsys: pytest.CaptureFixture[str]) -> None:
    echo(EVIL)
    with pytest.raises(SystemExit):
        fail(EVIL, 1)
    printed = capsys.readouterr()
    assert harmless(printed.out + printed.err)
    assert "PWNED" in printed.out


def test_a_log_line_is_one_line() -> None:
    record = logging.LogRecord("n", logging.INFO, "p", 1, "batch %s", (f"7\n2026 ERROR forged {EVIL}",), None)
    line = LogFormatter("%(levelname)s %(message)s").format(record)
    assert harmless(line)
    assert line.startswith("INFO batch 7\\n2026 ERROR forged ")
    assert "\n" not in line


def test_a_suites_list_shows_markup_as_it_is(tmp_path: Any) -> None:
    from shardwise_jobs.engines.scripts.model.job import SuiteJob

    file = io.StringIO()
    job = SuiteJob(id="[x]", name=f"n{EVIL}", script="a[b].py", output="o")
    print_list([job], console=safe_console(file=file, width=200))
    assert harmless(file.getvalue())
    assert "[x]" in file.getvalue()
    assert "a[b].py" in file.getvalue()


def test_answers_of_a_search_are_harmless(monkeypatch: pytest.MonkeyPatch) -> None:
    from shardwise_jobs.engines.ingest import cli as ingest

    assert harmless(sanitize(ingest._cut(f"text {EVIL}")))
    result = CliRunner().invoke(ingest.ingest, ["rows", "--store", f"mysql{EVIL}://x", "--dataset", "d"])
    assert result.exit_code == 2
    assert harmless(result.output)
