"""What every pattern store promises: a block of learning counts once, however often it is handed in.

Documents have the shape that KATO servers read and write (docs/kato.md): per node a set of patterns, the symbols they
are made of and three totals. Around them a store keeps what only Shardwise needs: which chunk sizes a knowledge base
was learned with, and a ledger of the blocks of each run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from shardwise.engine.errors import WorkError

Events = list[list[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class PatternCount:
    """One distinct pattern of a batch and how many times the batch learned it."""

    name: str
    """40 hex digits, without the wire's prefix."""
    events: Events
    count: int
    emotives: Sequence[Mapping[str, float]] = ()
    """One entry per learn that had emotives, oldest first; a store keeps the last `persistence`."""
    metadata: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Values to add, per key, to the set that the pattern already has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """Says which step of which shard a batch is, so that a store can refuse to apply it twice.

    Positions of one (run, shard) grow; whoever hands in a position has applied, or found applied, all earlier ones.
    """

    run: str
    shard: int
    position: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockRecord:
    """A ledger row: one committed block of a shard, with what it did."""

    run: str
    shard: int
    block: int
    done: int
    failed: int
    skipped: int
    uncertain: int = 0
    """Samples of which nobody can say whether they were counted once or twice (a foreign server, a lost answer)."""
    learns: tuple[int, ...] = ()
    """Learns per node, node0 first."""
    failures: tuple[tuple[int, str], ...] = ()
    """The first few failed items of the block: (item index, reason)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pattern:
    """A stored pattern. `length` counts symbols, not events."""

    name: str
    events: Events
    length: int
    frequency: int
    emotives: Sequence[Mapping[str, float]] = ()
    metadata: Mapping[str, Sequence[str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Symbol:
    """A stored symbol: occurrences over all learns, and the number of learns whose pattern held it."""

    name: str
    frequency: int
    pattern_member_frequency: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """The three counters of a node: learns, symbols learned, distinct symbols per learn summed."""

    total_pattern_frequencies: int = 0
    total_symbol_frequencies: int = 0
    total_symbols_in_patterns_frequencies: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class KnowledgeBaseConfig:
    """What a knowledge base was learned with; another configuration would make other patterns of the same text."""

    nodes: tuple[str, ...]
    """Node names, node0 first, without the knowledge base's prefix."""
    chunk_sizes: tuple[int, ...]
    tokenizer: str
    """What identifies the tokenizer: `builtin:words`, or `file:sha256:…`, or `hub:gpt2`."""
    segmentation: str
    """How text is cut before chunking, as `Simple/Chunking` or `Article/Sentences:3`."""


class PatternStore(Protocol):
    """A place for patterns. Node ids are KATO node ids (`<knowledge base>_node0`); a store maps them to its own names.

    Every method raises `StoreUnavailable` when the store can't be reached (worth a retry) and `StoreError` when it
    answers something that a retry won't mend. One instance may be used by several threads.
    """

    def learn(
        self, *, node_id: str, batch: Sequence[PatternCount], guard: Guard | None = None, persistence: int = 5
    ) -> bool:
        """Add a batch to one node: patterns, symbols and totals, each distinct name once in the batch.

        With a guard, a position that the shard has already reached on this node is not applied again: False then.
        """

    def commit_block(self, *, batches: Mapping[str, Sequence[PatternCount]], record: BlockRecord) -> bool:
        """Apply one block to all its nodes and write its ledger row last; False when the row was there already."""

    def pattern(self, *, node_id: str, name: str) -> Pattern | None:
        """Return one pattern by its bare name."""

    def patterns(self, *, node_id: str) -> Iterator[Pattern]:
        """Yield a node's patterns in order of name, in bounded memory."""

    def frequencies(self, *, node_id: str) -> Iterator[tuple[str, int]]:
        """Yield (bare name, frequency) of a node in order of name, in bounded memory."""

    def symbols(self, *, node_id: str) -> Iterator[Symbol]:
        """Yield a node's symbols in order of name (by code point)."""

    def totals(self, *, node_id: str) -> Totals:
        """Return a node's totals, zeros for a node that never learned."""

    def clear(self, *, node_id: str) -> None:
        """Forget everything of one node."""

    def version(self, *, node_id: str) -> int:
        """Return a number that changes when the node has learned since, from whichever process (its learns so far)."""

    def knowledge_base(self, *, name: str) -> KnowledgeBaseConfig | None:
        """Return what a knowledge base was learned with, None when it isn't there."""

    def create_knowledge_base(self, *, name: str, config: KnowledgeBaseConfig) -> None:
        """Record what a knowledge base is learned with; same again is fine, another configuration is a StoreError."""

    def run_document(self, *, run: str) -> str | None:
        """Return the text recorded for a run by `record_run`, None when it was never begun here."""

    def record_run(self, *, run: str, document: str) -> None:
        """Record a run's identity at its begin; the first writer wins."""

    def last_block(self, *, run: str, shard: int) -> int:
        """Return the number of the last committed block of a shard, -1 when there is none."""

    def ledger(self, *, run: str, shard: int | None = None) -> Iterator[BlockRecord]:
        """Yield the ledger rows of a run, or of one of its shards, by shard, then block."""

    def drop_markers(self, *, run: str, node_ids: Sequence[str]) -> None:
        """Remove the guards of a run. Only when no worker of the run is left; the ledger stays."""

    def close(self) -> None:
        """Give back connections."""


class StoreError(WorkError):
    """The store answered something that a retry won't mend."""

    reason = "StoreError"


class StoreUnavailable(StoreError):
    """The store can't be reached, or is busy: worth a retry with backoff."""

    reason = "StoreUnavailable"
