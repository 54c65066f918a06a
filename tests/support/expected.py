"""What a run must come to, computed by adding up in one process: no store, no shards, no blocks."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from shardwise_jobs.engines.kato.hierarchy import Hierarchy
from shardwise_jobs.engines.kato.tokenization import WORDS

REPOSITORY = Path(__file__).resolve().parents[2]
CORPUS = REPOSITORY / "examples" / "data" / "pydocs.jsonl"


def texts(count: int) -> list[str]:
    """Return the first samples of the example corpus."""
    lines = CORPUS.read_text(encoding="utf-8").splitlines()[:count]
    return [json.loads(line)["text"] for line in lines]


def frequencies(
    samples: Iterable[str], *, sizes: Sequence[int] = (5, 7, 9), hierarchy: Hierarchy | None = None
) -> list[Counter[str]]:
    """Return pattern frequencies per level."""
    learner = hierarchy or Hierarchy(chunk_sizes=tuple(sizes), tokenize=WORDS.findall)
    levels: list[Counter[str]] = [Counter() for _ in learner.chunk_sizes]
    for item, text in enumerate(samples):
        for level, learned in enumerate(learner.learn(item=item, text=text).levels):
            levels[level].update(name for name, _ in learned)
    return levels


def digest(levels: Sequence[Counter[str]]) -> str:
    """Return the digest of frequencies, as `status.result.digest` has it."""
    lines = (f"node{level}\t{name}\t{counts[name]}\n" for level, counts in enumerate(levels) for name in sorted(counts))
    return f"sha256:{hashlib.sha256(''.join(lines).encode()).hexdigest()}"


def digest_of(count: int) -> str:
    """Return the digest of the first samples of the example corpus at chunk sizes 5, 7, 9."""
    return digest(frequencies(texts(count)))
