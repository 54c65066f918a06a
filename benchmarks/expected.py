"""What every variant must come to: the corpus learned by one plain loop, without store, server, block or shard."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from shardwise_jobs.engines.kato.finalize import digest_lines
from shardwise_jobs.engines.kato.hierarchy import Hierarchy


@dataclass(frozen=True, slots=True)
class Knowledge:
    """Per node, how often each pattern was learned."""

    nodes: tuple[Counter[str], ...]

    @property
    def learns(self) -> list[int]:
        """Learns per node."""
        return [node.total() for node in self.nodes]

    @property
    def digest(self) -> str:
        """The digest of a run that knows this."""
        digest = hashlib.sha256()
        for number, node in enumerate(self.nodes):
            for line in digest_lines(f"node{number}", sorted(node.items())):
                digest.update(line.encode())
        return f"sha256:{digest.hexdigest()}"

    def __mul__(self, times: int) -> Knowledge:
        """Return what the same corpus teaches when it is read `times` times."""
        return Knowledge(
            tuple(Counter({name: times * frequency for name, frequency in node.items()}) for node in self.nodes)
        )

    def __add__(self, other: Knowledge) -> Knowledge:
        """Return what both corpora teach together."""
        return Knowledge(tuple(mine + theirs for mine, theirs in zip(self.nodes, other.nodes, strict=True)))


def learned(*, hierarchy: Hierarchy, corpus: Path, samples: int) -> Knowledge:
    """Learn the first `samples` lines of a JSON-lines file."""
    nodes: tuple[Counter[str], ...] = tuple(Counter() for _ in hierarchy.chunk_sizes)
    with corpus.open("rb") as lines:
        for item, line in enumerate(islice(lines, samples)):
            tree = hierarchy.learn(item=item, text=json.loads(line)["text"])
            for node, level in zip(nodes, tree.levels, strict=True):
                node.update(name for name, _ in level)
    return Knowledge(nodes)
