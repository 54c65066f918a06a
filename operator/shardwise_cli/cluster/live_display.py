"""`shardwise watch` on a terminal: a bar per run, redrawn in place; and elsewhere: a line per step that matters."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Protocol

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ..metrics_format import in_a_line
from . import text
from .details import COLOURS, coloured
from .run_store import Key, RunStore
from .view import RunView

_STEP_PERCENT = 10
_NAMED = 6
"""Scripts that are named in a line."""
_IDLE = "no runs yet: waiting for the first (Ctrl-C leaves)"


class Display(Protocol):
    """Shows a store each time it has changed."""

    def __enter__(self) -> Display: ...
    def __exit__(self, _k: type[BaseException] | None, _e: BaseException | None, _t: TracebackType | None) -> None: ...
    def show(self, store: RunStore) -> None:
        """Show how it is now."""


class LiveDisplay:
    """Bars, redrawn in place."""

    def __init__(self, console: Console, *, namespaces: bool = False) -> None:
        self._namespaces = namespaces
        self._live = Live(console=console, refresh_per_second=8, vertical_overflow="ellipsis")

    def __enter__(self) -> LiveDisplay:
        self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.__exit__(kind, error, trace)

    def show(self, store: RunStore) -> None:
        """Draw anew."""
        self._live.update(picture(store, width=self._live.console.width, namespaces=self._namespaces))


class LineDisplay:
    """Lines: one when a phase, a tenth, a failure or a trouble is new."""

    def __init__(self, say: Callable[[str], None], *, namespaces: bool = False) -> None:
        self._say = say
        self._namespaces = namespaces
        self._said: dict[Key, tuple[object, ...]] = {}
        self._deleted: set[Key] = set()
        self._lost = False
        self._idle = False

    def __enter__(self) -> LineDisplay:
        return self

    def __exit__(self, _k: type[BaseException] | None, _e: BaseException | None, _t: TracebackType | None) -> None:
        pass

    def show(self, store: RunStore) -> None:
        """Say what is new."""
        if bool(store.lost) != self._lost:
            self._lost = bool(store.lost)
            self._say(f"connection lost, trying again: {first_line(store.lost)}" if store.lost else "connected again")
        if not store.runs and not store.deleted and not self._idle:
            self._idle = True
            self._say(_IDLE)
        for run in store.runs:
            state = (run.uid, run.phase, (run.percent or 0) // _STEP_PERCENT, run.failed, run.trouble)
            if self._said.get(run.key) != state:
                self._said[run.key] = state
                self._say(line(run, namespaces=self._namespaces))
        self._deleted &= set(store.deleted)
        for key, run in store.deleted.items():
            if key not in self._deleted:
                self._deleted.add(key)
                self._said.pop(key, None)
                self._say(f"{_label(run, self._namespaces)} deleted")


def line(run: RunView, *, namespaces: bool = False) -> str:
    """Return a run in one line, for a log."""
    parts = [_label(run, namespaces), run.phase]
    if run.percent is not None:
        parts.append(f"{run.percent}%")
    if run.total is not None or run.ended_items:
        parts.append(f"{text.count(run.ended_items)}/{text.count(run.total)}")
    parts.append(f"shards {run.shards_done}/{run.shards}")
    if not run.over:
        parts += [text.rate(run.rate)] if run.rate else []
        parts += [f"ETA {text.duration(run.remaining)}"] if run.remaining is not None else []
        parts += filter(None, [in_a_line(run.metrics)])
    if run.failed:
        parts.append(f"failed {text.count(run.failed)}")
    if run.trouble:
        parts.append(f"({first_line(run.trouble)})")
    return " ".join(parts)


def picture(store: RunStore, *, width: int, namespaces: bool = False) -> RenderableType:
    """Return the whole picture: a line per run, and below one what troubles it."""
    parts: list[RenderableType] = []
    runs = store.runs
    if runs:
        parts.append(_bars(runs, width=width, namespaces=namespaces))
    elif not store.deleted:
        parts.append(Text(_IDLE, style="dim"))
    for run in store.deleted.values():
        parts.append(Text(f"{_label(run, namespaces)} deleted", style="magenta"))
    for run in runs:
        learned = "" if run.over else in_a_line(run.metrics) or _at_work(run)
        if learned:
            parts.append(Text(f"{_label(run, namespaces)}: {learned}", style="dim"))
        if run.trouble:
            style = "red" if run.over else "yellow"
            parts.append(Text(f"{_label(run, namespaces)}: {run.trouble}", style=style))
    if store.lost:
        parts.append(Text(f"connection lost, trying again: {first_line(store.lost)}", style="yellow"))
    return Group(*parts)


def _bars(runs: list[RunView], *, width: int, namespaces: bool) -> Table:
    roomy = width >= 100
    grid = Table.grid(padding=(0, 1), expand=True)
    grid.add_column(no_wrap=True, overflow="ellipsis", max_width=width // 4 if roomy else width // 5)
    grid.add_column(no_wrap=True)
    grid.add_column(ratio=1, min_width=6)
    for _ in range(5 if roomy else 4):
        grid.add_column(no_wrap=True, justify="right")
    for run in runs:
        done = 100 if run.complete else run.percent or 0
        colour = COLOURS.get(run.phase) or "cyan"
        bar = ProgressBar(total=100, completed=done, complete_style=colour, finished_style=colour)
        speed = text.rate(run.rate) if run.rate and not run.over else ""
        remaining = f"ETA {text.duration(run.remaining)}" if run.remaining is not None and not run.over else ""
        told = f"{text.count(run.failed)} failed" if roomy else f"✗{text.count(run.failed)}"
        errors = Text(told, style="red") if run.failed else Text("")
        grid.add_row(
            Text(_label(run, namespaces)),
            coloured(run.phase),
            bar,
            text.percent(done if run.complete else run.percent),
            f"{text.count(run.ended_items)}/{text.count(run.total)}",
            *((f"{run.shards_done}/{run.shards} shards",) if roomy else ()),
            " ".join(filter(None, (speed, remaining))) if roomy else speed,
            *((errors,) if roomy else (Text.assemble(remaining, " " if run.failed and remaining else "", errors),)),
        )
    return grid


def _at_work(run: RunView) -> str:
    names = run.scripts_at_work
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"running {', '.join(names[:_NAMED])}{more}" if names else ""


def first_line(message: str) -> str:
    """Return the first line of a message."""
    return message.partition("\n")[0]


def _label(run: RunView, namespaces: bool) -> str:
    return f"{run.namespace}/{run.short}" if namespaces else run.short
