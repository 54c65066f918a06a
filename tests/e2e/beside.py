"""Long tests begun beside all others, each in a namespace of its own, as most of their time is waiting.

A test with the marker `beside` takes a workspace and its own parameters, no other fixture. It is begun as soon as the
operator is there, and where it stands in the list it is only asked how it ended.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from contextlib import AbstractContextManager

import pytest

from tests.support.workspace import Workspace

AT_ONCE = 2
BESIDE = pytest.StashKey["Beside"]()


def is_beside(item: pytest.Item) -> bool:
    """Say whether a test is one of these."""
    return item.get_closest_marker("beside") is not None


class Beside:
    """The tests that were begun. Nothing waits for their threads: an interrupted session ends at once."""

    def __init__(
        self, items: Iterable[pytest.Item], *, corner: Callable[[], AbstractContextManager[Workspace]]
    ) -> None:
        self._corner = corner
        self._ends: dict[str, Future[None]] = {item.nodeid: Future() for item in items}
        self._waiting = deque(item for item in items if isinstance(item, pytest.Function))
        for _ in range(AT_ONCE):
            threading.Thread(target=self._work, daemon=True).start()

    def result(self, item: pytest.Item) -> None:
        """Wait until a test has ended; raise what it raised."""
        self._ends[item.nodeid].result()

    def stop(self) -> None:
        """Begin no more of them."""
        self._waiting.clear()

    def _work(self) -> None:
        while True:
            try:
                item = self._waiting.popleft()
            except IndexError:
                return
            end = self._ends[item.nodeid]
            try:
                with self._corner() as workspace:
                    parameters = item.callspec.params if hasattr(item, "callspec") else {}
                    item.obj(workspace=workspace, **parameters)
            except BaseException as error:
                # Whatever it is, it is the test's own, and raised where that is asked for.
                end.set_exception(error)
            else:
                end.set_result(None)
