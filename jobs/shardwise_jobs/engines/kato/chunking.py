"""How a text becomes paragraphs, and how tokens become chunks: the sizes KATO's hierarchical learner gives them.

Blank lines always end a paragraph, headings too where the text is an article or a book.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from shardwise_api.kato import TextStructure

MIN_CHUNK = 3
"""Fewer tokens than these make no chunk of their own."""

_SENTENCE_ENDS = frozenset(".!?")
_WORD_STARTS = ("Ġ", "▁")


def chunk_sizes(tokens: int, size: int) -> list[int]:
    """Return the sizes of the chunks of `tokens` tokens at chunk size `size` (>= 3); they sum to `tokens`, or to 0.

    A remainder of one or two tokens joins the last full chunk; text shorter than a chunk is one chunk, and fewer than
    three tokens are none.
    """
    if tokens <= size:
        return [tokens] if tokens >= MIN_CHUNK else []
    full, rest = divmod(tokens, size)
    sizes = [size] * full
    if rest >= MIN_CHUNK:
        sizes.append(rest)
    else:
        sizes[-1] += rest
    return sizes


def chunks(tokens: Sequence[str], size: int) -> list[list[str]]:
    """Cut tokens into chunks of `chunk_sizes`."""
    cut = []
    start = 0
    for length in chunk_sizes(len(tokens), size):
        cut.append(list(tokens[start : start + length]))
        start += length
    return cut


def marks_word_starts(tokens: Sequence[str]) -> bool:
    """Say whether some token leads with the mark of a word's start: `Ġ` or `▁` (byte-level and sentence-piece BPE)."""
    return any(token.startswith(_WORD_STARTS) for token in tokens)


def sentences(tokens: Sequence[str], *, minimum: int, marks_starts: bool | None = None) -> list[list[str]]:
    """Cut tokens after `.`, `!` or `?` where the next token starts a word; pieces under `minimum` tokens are dropped.

    A token starts a word when it leads with the mark of one, or, where the tokenizer marks continuations instead, when
    it does not lead with `##`. Which of the two holds is a matter of the tokenizer; told by the tokens when None.
    """
    if marks_starts is None:
        marks_starts = marks_word_starts(tokens)
    pieces: list[list[str]] = []
    current: list[str] = []
    for position, token in enumerate(tokens):
        current.append(token)
        following = tokens[position + 1] if position + 1 < len(tokens) else None
        if token.lstrip("Ġ▁") in _SENTENCE_ENDS and (following is None or _starts_word(following, marks_starts)):
            pieces.append(current)
            current = []
    if current:
        pieces.append(current)
    return [piece for piece in pieces if len(piece) >= minimum]


def _starts_word(token: str, marks_starts: bool) -> bool:
    return token.startswith(_WORD_STARTS) if marks_starts else not token.startswith("##")


MIN_PARAGRAPH_CHARACTERS = 10
"""Shorter paragraphs are dropped (headings, page numbers)."""

_BLANK_LINES = re.compile(r"\n\s*\n")
_ARTICLE_HEADING = re.compile(r"^(?=#{1,6}\s|\d+\.\s|Section\s+\d+\b)", re.MULTILINE)
_BOOK_HEADING = re.compile(r"^(?=Chapter\s+\w+)", re.MULTILINE)


def paragraphs(text: str, structure: TextStructure = TextStructure.SIMPLE) -> list[str]:
    """Return the stripped paragraphs of a text in order; a paragraph never crosses a heading."""
    if structure is TextStructure.ARTICLE:
        sections = _ARTICLE_HEADING.split(text)
    elif structure is TextStructure.BOOK:
        sections = _BOOK_HEADING.split(text)
    else:
        sections = [text]
    found = (piece.strip() for section in sections for piece in _BLANK_LINES.split(section))
    return [piece for piece in found if len(piece) >= MIN_PARAGRAPH_CHARACTERS]
