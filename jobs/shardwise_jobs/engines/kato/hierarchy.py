"""The level rule: a sample's chunks become node0 patterns, their names node1 patterns, and so on up.

Pattern names are pure functions of the symbols, so the whole tree of a sample is computed here, without a server; no
name crosses samples, and therefore neither order nor sharding can change what is learned (docs/kato.md has the rule).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from shardwise_api.kato import TextStructure

from .chunking import chunk_sizes, marks_word_starts, paragraphs, sentences
from .names import pattern_hash, wire_name
from .stores.base import Events, PatternCount

MAX_PARAGRAPH_TOKENS = 2048
"""What a paragraph has beyond these is cut off, as the original learner does."""
MIN_PATTERN_SYMBOLS = 2

Tokenize = Callable[[str], list[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleTree:
    """All that one sample teaches: per level the patterns in the order of learning, as (bare name, events)."""

    item: int
    levels: list[list[tuple[str, Events]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Hierarchy:
    """The configured learner: chunk sizes per node, how text is cut, how it is tokenised."""

    chunk_sizes: tuple[int, ...]
    tokenize: Tokenize
    structure: TextStructure = TextStructure.SIMPLE
    min_sentence_tokens: int | None = None
    """Node0 cuts at sentences instead of at its chunk size when this is set."""
    _marks_starts: bool = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        # Asked of the tokenizer, since a paragraph of a single long word shows no mark.
        object.__setattr__(self, "_marks_starts", marks_word_starts(self.tokenize("a a")))

    def learn(self, *, item: int, text: str) -> SampleTree:
        """Return everything that learning `text` as one book of its own teaches."""
        level: list[tuple[str, Events]] = []
        for paragraph in paragraphs(text, self.structure):
            tokens = self.tokenize(paragraph)[:MAX_PARAGRAPH_TOKENS]
            level.extend(_named([[token] for token in tokens], self._cut(tokens)))
        levels = [level]
        for size in self.chunk_sizes[1:]:
            below = [[wire_name(name)] for name, _ in level]
            level = _named(below, _level_spans(len(below), size))
            levels.append(level)
        return SampleTree(item=item, levels=levels)

    def _cut(self, tokens: list[str]) -> list[tuple[int, int]]:
        if self.min_sentence_tokens is None:
            return _spans(chunk_sizes(len(tokens), self.chunk_sizes[0]))
        spans = []
        position = 0
        for piece in sentences(tokens, minimum=1, marks_starts=self._marks_starts):
            if len(piece) >= self.min_sentence_tokens:
                spans.append((position, position + len(piece)))
            position += len(piece)
        return spans


def _level_spans(names: int, size: int) -> list[tuple[int, int]]:
    # Full chunks as the buffer fills; at the end of the book what is left is learned whole, a single name is not.
    full, rest = divmod(names, size)
    return _spans([size] * full + ([rest] if rest >= MIN_PATTERN_SYMBOLS else []))


def _spans(sizes: Sequence[int]) -> list[tuple[int, int]]:
    spans = []
    start = 0
    for size in sizes:
        spans.append((start, start + size))
        start += size
    return spans


def _named(events: Events, spans: Sequence[tuple[int, int]]) -> list[tuple[str, Events]]:
    return [(pattern_hash(piece), piece) for piece in (events[start:end] for start, end in spans)]


def sum_up(trees: Iterable[SampleTree], *, levels: int) -> list[list[PatternCount]]:
    """Return per level the distinct patterns of some samples with how often they were learned, in order of name."""
    counts: list[dict[str, int]] = [{} for _ in range(levels)]
    events: list[dict[str, Events]] = [{} for _ in range(levels)]
    for tree in trees:
        for level, learned in enumerate(tree.levels):
            count, seen = counts[level], events[level]
            for name, pattern in learned:
                if name in count:
                    count[name] += 1
                else:
                    count[name] = 1
                    seen[name] = pattern
    return [
        [
            PatternCount(name=name, events=events[level][name], count=count)
            for name, count in sorted(counts[level].items())
        ]
        for level in range(levels)
    ]
