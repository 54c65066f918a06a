"""The two ways to make a worker's block count, behind one interface: written to the store, or learned by a server."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, Protocol

from .hierarchy import SampleTree
from .stores.base import BlockRecord

Guarantee = Literal["ExactlyOnce", "AtLeastOnce"]
"""What a crash at the worst moment can do to a count."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkedBlock:
    """One block of a shard, worked out and ready to be committed."""

    number: int
    trees: list[SampleTree]
    """Samples to learn, in order of item."""
    failures: list[tuple[int, str]] = field(default_factory=list)
    """Failed items: (index, reason)."""
    skipped: int = 0
    """Items too short to learn from."""


class Transport(Protocol):
    """Commits blocks of one shard in order; a block committed twice counts once (or says that it can't know)."""

    def last_block(self) -> int:
        """Return the number of the shard's last committed block, -1 when there is none."""

    def records(self) -> list[BlockRecord]:
        """Return the shard's ledger rows in order of block."""

    def commit(self, block: WorkedBlock) -> BlockRecord:
        """Make the block count and return its ledger row (the one that is kept, if it was there already)."""

    def close(self) -> None:
        """Give back connections and sessions; never raises."""


MAX_LISTED_FAILURES = 10
"""Failed items that a ledger row lists; all are counted."""
