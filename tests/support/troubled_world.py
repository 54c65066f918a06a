"""A run's world in which everything goes wrong that may, until `calm`: watches that lose and repeat, calls that break.

What a person and the cluster do in it is for the tests to say: they bring `_person` and `_cluster`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from random import Random
from typing import Any

from shardwise_api.status import ConditionType, RunStatus
from shardwise_operator.shell.api import ApiError
from shardwise_operator.shell.reconcile import STATUS_SECONDS

from .fake_api import Call, Refusal, forbidden, unreachable
from .fake_cluster import World
from .virtual_time import clock

WATCHED = ("TrainingRun", "Job", "Pod")
CALM_SECONDS = 600
SLOWEST = 0.5


class TroubledWorld:
    """To be made within a virtual time; `dice` decide everything."""

    def __init__(self, dice: Random) -> None:
        self.dice = dice
        self.world = World()
        self.world.api.on_status = self._note_status
        self.world.api.fault = self._fault
        self.world.api.latency = lambda: dice.choice([0.0, 0.0, 0.05, SLOWEST])
        self.troubled = True
        self._queues: dict[str, list[tuple[str, dict[str, Any]]]] = {kind: [] for kind in WATCHED}
        self._taken = 0
        self._written: float | None = None
        self._wrong: list[str] = []

    async def trouble(self, steps: int) -> None:
        """Let everybody do something, and much of it go wrong."""
        for _ in range(steps):
            self._person()
            self._cluster()
            self._watches()
            await self._operator()
            await asyncio.sleep(self.dice.choice([0.05, 0.3, 1.0, 4.0]))

    async def calm(self) -> RunStatus:
        """Let nothing go wrong any more; return the status at the run's end, or when it should have come by far."""
        self.troubled = False
        self.world.api.latency = lambda: 0.0
        self.world.api.change("TrainingRun", "words", spec={"suspend": False})
        end = clock() + CALM_SECONDS
        while clock() < end and not self.world.status().finished:
            await self._calm_second()
        for _ in range(5):
            await self._calm_second()
        return self.world.status()

    async def _calm_second(self) -> None:
        self._cluster()
        for kind in WATCHED:
            self._relist(kind)
        await asyncio.sleep(1.0)

    def _person(self) -> None:
        raise NotImplementedError

    def _cluster(self) -> None:
        raise NotImplementedError

    def _watches(self) -> None:
        for type_, kind, body in self.world.api.log[self._taken :]:
            if kind in self._queues:
                self._queues[kind].append((type_, body))
        self._taken = len(self.world.api.log)
        for kind, queue in self._queues.items():
            if self.dice.random() < 0.1:
                # The watch has ended; what it would have shown is lost, and the next begins with a list.
                self._relist(kind)
            if self.dice.random() < 0.7:
                self.dice.shuffle(queue)
                for type_, body in queue:
                    for _ in range(self.dice.choice([0, 1, 1, 1, 1, 2])):
                        self.world.operator.cache.on_watch_event(kind, body, deleted=type_ == "DELETED")
                queue.clear()

    def _relist(self, kind: str) -> None:
        self._queues[kind].clear()
        self._taken = len(self.world.api.log)
        cache, listed = self.world.operator.cache, self.world.api.of(kind)
        for body in listed:
            cache.on_watch_event(kind, body)
        for uid in set(cache.watched(kind)) - {body["metadata"]["uid"] for body in listed}:
            cache.evict(kind, uid)

    async def _operator(self) -> None:
        if self.dice.random() < 0.05:
            self._written = None
            await self.world.restart()

    def _fault(self, call: Call) -> Refusal | None:
        if not self.troubled or self.dice.random() < 0.8:
            return None
        refused = ApiError(status=500, reason="InternalError", message="etcd has no leader")
        error = self.dice.choice([unreachable(), forbidden("exceeded quota: q"), refused])
        return Refusal(error=error, done_all_the_same=error.status == 0 and bool(self.dice.getrandbits(1)))

    # What must hold at any time.

    def check(self, was: RunStatus, is_: RunStatus) -> None:
        """Say by an AssertionError what is wrong with a status besides what is wrong with any."""

    def check_nothing_was_wrong(self) -> None:
        """Fail with whatever was wrong on the way."""
        assert self._wrong == [], "; ".join(self._wrong)

    def _note_status(self, before: dict[str, Any], after: dict[str, Any]) -> None:
        # Raised here, it would be one more call that fails.
        try:
            self._check_status(before, after)
        except AssertionError as error:
            self._wrong.append(f"at {clock():.1f}: {error or repr(error)}")

    def _check_status(self, before: dict[str, Any], after: dict[str, Any]) -> None:
        # Sent a second apart; a slow way may bring two closer together.
        late = self._written is None or clock() - self._written >= STATUS_SECONDS - SLOWEST
        assert late, "two statuses within a second"
        self._written = clock()
        was, is_ = (RunStatus.model_validate(body.get("status", {})) for body in (before, after))
        assert was != is_, "nothing changed"
        assert not (is_.is_true(ConditionType.COMPLETE) and is_.is_true(ConditionType.FAILED))
        if was.finished:
            assert is_.model_copy(update={"observed_generation": was.observed_generation}) == was
        for condition in is_.conditions:
            known = was.condition(condition.type)
            if known is not None:
                moved = known.last_transition_time != condition.last_transition_time
                assert moved == (known.status != condition.status), f"{known} became {condition}"
        self.check(was, is_)


@contextmanager
def nothing_unexpected() -> Iterator[None]:
    """Fail when a loop met an error that nobody thought of: it goes on, and so would the test."""
    met: list[str] = []

    class Ear(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.exc_info:
                met.append(self.format(record))

    ear, logger = Ear(), logging.getLogger("shardwise_operator")
    logger.addHandler(ear)
    try:
        yield
    finally:
        logger.removeHandler(ear)
    assert met == []
