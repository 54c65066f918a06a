"""What `shardwise watch` knows: the runs that it was asked about, as events change them, and when it is over."""

from __future__ import annotations

from collections.abc import Sequence

from .events import Deleted, Disconnected, Event, Snapshot, Updated
from .names import RESOURCES, RunName
from .runs import order, typed
from .view import RunView, view

_KINDS = {resource: kind for kind, resource in RESOURCES.items()}
Key = tuple[str, str, str]


class RunStore:
    """Runs by name; all that there are when none is asked for."""

    def __init__(self, wanted: Sequence[RunName] = ()) -> None:
        self._wanted = tuple(wanted)
        self._runs: dict[Key, RunView] = {}
        self.deleted: dict[Key, RunView] = {}
        """Runs that were seen and are no more."""
        self.lost: str = ""
        """Why the API server can't be reached at the moment; empty when it can."""

    @property
    def runs(self) -> list[RunView]:
        """The runs that there are, oldest first."""
        return sorted(self._runs.values(), key=lambda run: order(run.document))

    @property
    def over(self) -> bool:
        """Whether every run that was asked for by name is over or gone."""
        if not self._wanted:
            return False
        known = [*self._runs.values(), *self.deleted.values()]
        return all(any(_is(run, name) for run in known) for name in self._wanted) and all(
            run.over for run in self._runs.values()
        )

    @property
    def all_complete(self) -> bool:
        """Whether every run has its result."""
        return all(run.complete for run in [*self._runs.values(), *self.deleted.values()])

    def take(self, event: Event) -> None:
        """Learn from an event."""
        if isinstance(event, Disconnected):
            self.lost = event.message
            return
        self.lost = ""
        kind = _KINDS[event.resource]
        if isinstance(event, Snapshot):
            listed = {run.key: run for run in (view(typed(kind, item)) for item in event.items) if self._asked(run)}
            for key in [key for key in self._runs if key[1] == kind and key not in listed]:
                self._forget(self._runs[key])
            for run in listed.values():
                self._learn(run)
            return
        run = view(typed(kind, event.item))
        if self._asked(run):
            if isinstance(event, Updated):
                self._learn(run)
            elif isinstance(event, Deleted):
                self._forget(run)

    def _learn(self, run: RunView) -> None:
        self.deleted.pop(run.key, None)
        self._runs[run.key] = run

    def _forget(self, run: RunView) -> None:
        self._runs.pop(run.key, None)
        self.deleted[run.key] = run

    def _asked(self, run: RunView) -> bool:
        return not self._wanted or any(_is(run, name) for name in self._wanted)


def _is(run: RunView, name: RunName) -> bool:
    return run.name == name.name and run.kind in name.kinds
