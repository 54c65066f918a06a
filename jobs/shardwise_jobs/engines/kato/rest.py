"""Blocks learned by a KATO server: batched calls, every returned name held against the computed one.

A server of ours applies each guarded call at most once, so a block can be sent again whatever happened. A foreign one
has only the plain protocol: there, what a lost answer or a killed worker leaves open is looked up where frequencies
can tell, and reported as uncertain where they can't.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from shardwise.engine.errors import WorkError
from shardwise_api.kato import KatoServer

from .client import KatoClient, SessionConfig
from .file_ledger import FileLedger
from .hierarchy import SampleTree
from .http import HttpClient, KatoError, LostAnswer
from .names import node_id, wire_name
from .rest_planning import Applied, Call, applied, plan_calls
from .stores.base import BlockRecord, Events, Guard
from .transport import MAX_LISTED_FAILURES, Guarantee, WorkedBlock

NEEDED_EXTENSIONS = frozenset({"learn-sequences"})
"""What makes a server ours: without it, it gets the plain protocol."""

POSITIONS_PER_BLOCK = 2**20
"""Positions of a guard that one block may use on one node; more calls than any block has."""

MAX_ATTEMPTS = 8
"""Half a minute of backoff: long enough for a server that is started again."""


@dataclass(slots=True, kw_only=True)
class _Lesson:
    """What one node has to learn of a block, in order."""

    level: int
    names: list[str]
    """As the wire has them."""
    sequences: list[Events]
    items: list[int]
    """The sample that each pattern belongs to."""
    position: int = 0
    """Patterns that are settled: learned, or given up."""

    @classmethod
    def of(cls, trees: Iterable[SampleTree], *, level: int) -> _Lesson:
        lesson = cls(level=level, names=[], sequences=[], items=[])
        for tree in trees:
            for name, events in tree.levels[level]:
                lesson.names.append(wire_name(name))
                lesson.sequences.append(events)
                lesson.items.append(tree.item)
        return lesson


@dataclass(slots=True, kw_only=True)
class _Outcome:
    learns: list[int]
    failed: dict[int, str] = field(default_factory=dict)
    uncertain: set[int] = field(default_factory=set)


class RestTransport:
    """A `Transport` by way of a KATO server, with one session per node."""

    def __init__(
        self,
        *,
        server: KatoServer,
        knowledge_base: str,
        chunk_sizes: Sequence[int],
        run: str,
        shard: int,
        ledger: FileLedger,
        guard_run: str | None = None,
        sequential: bool = False,
        sole_writer: bool = False,
        max_attempts: int = MAX_ATTEMPTS,
    ) -> None:
        """Ask the server what it offers.

        `guard_run` is what the server's guards know the run by, `run` unless given. `sequential` is the original's way,
        one plain call per pattern, to measure against. `sole_writer` promises that nobody else learns at these nodes
        meanwhile: frequencies then settle a lost answer of a foreign server.
        """
        self._chunk_sizes = tuple(chunk_sizes)
        self._run = run
        self._guard_run = guard_run or run
        self._shard = shard
        self._ledger = ledger
        self._last = ledger.last_block(shard)
        self._begun = ledger.begun_block(shard)
        self._sequential = sequential
        self._sole_writer = sole_writer
        self._batch_size = 1 if sequential else server.node0_batch_size
        self._server = server
        self._any_match = False
        self._learning_calls = 0
        self._wire = HttpClient(
            base_url=server.url,
            timeout_seconds=server.request_timeout_seconds,
            max_attempts=max_attempts,
            pool_size=server.connection_pool_size,
        )
        try:
            self._status = self._wire.call("GET", "/status", repeatable=True)
        except BaseException:
            self._wire.close()
            raise
        extensions = set(self._status.get("extensions") or ())
        self._exact = extensions >= NEEDED_EXTENSIONS and not sequential
        self._clients = [
            KatoClient(
                node_id=node_id(knowledge_base, f"node{level}"),
                metadata={"run": run, "shard": shard},
                ttl_seconds=server.session_ttl_seconds,
                config=SessionConfig(
                    max_pattern_length=0 if self._exact or sequential else size, process_predictions=False
                ),
                wire=self._wire,
            )
            for level, size in enumerate(self._chunk_sizes)
        ]

    @property
    def guarantee(self) -> Guarantee:
        """How often a block counts if something goes wrong meanwhile."""
        return "ExactlyOnce" if self._exact else "AtLeastOnce"

    @property
    def settings(self) -> dict[str, Any]:
        """The settings in force here, and those that the server reports of itself."""
        return {
            "node0BatchSize": self._batch_size,
            "requestTimeoutSeconds": self._server.request_timeout_seconds,
            "connectionPoolSize": self._server.connection_pool_size,
            "sessionTTLSeconds": self._server.session_ttl_seconds,
            "server": dict(self._status.get("settings") or {}),
        }

    @property
    def statistics(self) -> dict[str, int]:
        """What it took so far; `learningCalls` are those that teach; a guarded one's repeats are `retries` only."""
        return {
            "calls": self._wire.statistics.calls,
            "learningCalls": self._learning_calls,
            "retries": self._wire.statistics.retries,
            "sessionsRecreated": self._wire.statistics.sessions_recreated,
        }

    def last_block(self) -> int:
        """See `Transport.last_block`."""
        return self._last

    def records(self) -> list[BlockRecord]:
        """See `Transport.records`."""
        return self._ledger.records(self._shard)

    def commit(self, block: WorkedBlock) -> BlockRecord:
        """See `Transport.commit`; the ledger row is written last.

        A sample whose patterns the server names otherwise is counted as failed; its other patterns stay learned.

        Raises:
            KatoError: the server can't be reached, refuses, or names everything otherwise.
        """
        if block.number <= self._last:
            return self._kept(block.number)
        outcome = _Outcome(learns=[0] * len(self._chunk_sizes))
        trees = []
        for tree in block.trees:
            if _fits_json(tree):
                trees.append(tree)
            else:
                outcome.failed[tree.item] = "the text has half of a surrogate pair, which JSON can't carry to a server"
        if self._begun == block.number:
            outcome.uncertain.update(tree.item for tree in trees if tree.levels[0])
        if not self._exact:
            self._ledger.announce(shard=self._shard, block=block.number)
        for level in range(len(self._chunk_sizes)):
            lesson = _Lesson.of(trees, level=level)
            if self._exact:
                self._learn_guarded(lesson, outcome=outcome, block=block.number)
            else:
                self._learn_plain(lesson, outcome=outcome)
        record = self._record(block, outcome)
        self._ledger.append(record)
        self._last = block.number
        return record

    def close(self) -> None:
        """Delete the sessions, best effort, and close the connections. Not from within a signal handler."""
        # A server that does not answer once is not waited for once per session.
        for client in self._clients:
            if not client.delete_sessions():
                break
        self._wire.close()

    def _kept(self, number: int) -> BlockRecord:
        for record in self.records():
            if record.block == number:
                return record
        raise WorkError(f"ledger of shard {self._shard}: block {number} has no row although a later block has one")

    def _record(self, block: WorkedBlock, outcome: _Outcome) -> BlockRecord:
        failures = sorted([*block.failures, *outcome.failed.items()])
        return BlockRecord(
            run=self._run,
            shard=self._shard,
            block=block.number,
            done=len(block.trees) - len(outcome.failed),
            failed=len(failures),
            skipped=block.skipped,
            uncertain=len(outcome.uncertain - outcome.failed.keys()),
            learns=tuple(outcome.learns),
            failures=tuple(failures[:MAX_LISTED_FAILURES]),
        )

    def _plan(self, lesson: _Lesson) -> list[Call]:
        return plan_calls(
            lesson.sequences[lesson.position :],
            chunk_size=self._chunk_sizes[lesson.level],
            batch_size=self._batch_size,
            whole=self._exact,
        )

    def _learn_guarded(self, lesson: _Lesson, *, outcome: _Outcome, block: int) -> None:
        client = self._clients[lesson.level]
        # Everything is sent, whatever failed at a lower level: a block sent again must make the same calls.
        for number, call in enumerate(self._plan(lesson)):
            position = block * POSITIONS_PER_BLOCK + number
            self._learning_calls += 1
            answer = client.learn_sequences(
                call.sequences(), guard=Guard(run=self._guard_run, shard=self._shard, position=position)
            )
            self._settle(lesson, call=call, answered=answer["pattern_names"], outcome=outcome)

    def _learn_plain(self, lesson: _Lesson, *, outcome: _Outcome) -> None:
        for attempt in self._wire.retrying((LostAnswer,)):
            with attempt:
                for call in self._plan(lesson):
                    self._call_plainly(call, lesson=lesson, outcome=outcome)

    def _call_plainly(self, call: Call, *, lesson: _Lesson, outcome: _Outcome) -> None:
        client = self._clients[lesson.level]
        span = slice(lesson.position, lesson.position + len(call.patterns))
        names, items = lesson.names[span], lesson.items[span]
        if call.auto_learn is not None and call.auto_learn != client.config.max_pattern_length:
            client.configure(max_pattern_length=call.auto_learn)
        # The baseline has no look-ups of its own: they would be measured with it.
        witnesses = set() if self._sequential else {names[0], names[-1]}
        before = {name: client.frequency(name) for name in witnesses}
        self._learning_calls += 1
        try:
            answer = client.observe_sequence(call.observations(), learn_at_end=call.learn_at_end)
        except LostAnswer:
            bounds = Applied(least=0, most=len(names))
            try:
                bounds = self._look_up(client, names=names, before=before)
            finally:
                outcome.uncertain.update(items[bounds.least : bounds.most])
                outcome.learns[lesson.level] += bounds.least
                lesson.position += bounds.least
            raise
        self._settle(lesson, call=call, answered=answer["auto_learned_patterns"], outcome=outcome)
        if answer.get("final_stm_length"):
            client.clear_stm()

    def _look_up(self, client: KatoClient, *, names: Sequence[str], before: dict[str, int]) -> Applied:
        # Servers do one call of a session after the other: once this is answered, the lost one is over.
        client.clear_stm()
        after = {name: client.frequency(name) for name in before}
        bounds = applied(names, before=before, after=after, sole_writer=self._sole_writer)
        unknown = set(names[bounds.least : bounds.most]) - after.keys()
        after |= {name: client.frequency(name) for name in unknown}
        return applied(names, before=before, after=after, sole_writer=self._sole_writer)

    def _settle(self, lesson: _Lesson, *, call: Call, answered: Sequence[str], outcome: _Outcome) -> None:
        names = lesson.names[lesson.position : lesson.position + len(call.patterns)]
        wrong: dict[int, str] = {}
        matches = 0
        for place, expected in enumerate(names):
            named = answered[place] if place < len(answered) else None
            if named == expected:
                matches += 1
                continue
            item = lesson.items[lesson.position + place]
            wrong.setdefault(item, f"node{lesson.level}: the server named a pattern {named!r}, expected {expected!r}")
        if len(answered) > len(names):
            item = lesson.items[lesson.position + len(names) - 1]
            wrong.setdefault(
                item,
                f"node{lesson.level}: the server learned {len(answered)} patterns, expected {len(names)}; "
                f"the first too many is {answered[len(names)]!r}, the last expected {names[-1]!r}",
            )
        self._any_match = self._any_match or matches > 0
        # A call of one pattern is one odd character, unless nothing was ever right.
        if not matches and (len(names) > 1 or not self._any_match):
            raise KatoError(
                f"{self._wire.shown_url}: {next(iter(wrong.values()))}; nor was any other name of the call right: "
                "is it a server of another version, or of a Python with other Unicode tables?"
            )
        outcome.learns[lesson.level] += matches
        for item, reason in wrong.items():
            outcome.failed.setdefault(item, reason)
        lesson.position += len(names)


def _fits_json(tree: SampleTree) -> bool:
    try:
        for _, events in tree.levels[0]:
            for event in events:
                "".join(event).encode()
    except UnicodeEncodeError:
        return False
    return True
