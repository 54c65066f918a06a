"""How a text becomes paragraphs: blank lines always, headings too where the text is an article or a book."""

from __future__ import annotations

import re

from shardwise_api.kato import TextStructure

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
