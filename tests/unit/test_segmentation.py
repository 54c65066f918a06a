"""Texts become paragraphs at blank lines, and at headings where the text is an article or a book."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardwise_api.kato import TextStructure
from shardwise_jobs.engines.kato.chunking import paragraphs


def test_a_simple_text_is_split_at_blank_lines_and_stripped() -> None:
    text = "  First paragraph,\nwith two lines.  \n\n\n \t \nSecond paragraph.\n"
    assert paragraphs(text) == ["First paragraph,\nwith two lines.", "Second paragraph."]


def test_windows_line_ends_make_blank_lines_too() -> None:
    assert paragraphs("First paragraph.\r\n\r\nSecond paragraph.\r\n") == ["First paragraph.", "Second paragraph."]


@pytest.mark.parametrize(("text", "kept"), [("123456789", 0), ("1234567890", 1), ("  123456789  ", 0)])
def test_a_paragraph_under_ten_characters_is_dropped(text: str, kept: int) -> None:
    assert len(paragraphs(f"{text}\n\nA long paragraph.")) == kept + 1


ARTICLE = """Opening words of it.
# First heading
Text under the first.
## Second heading, deeper
Text under the second.
1. A numbered heading
Text under the number.
Section 12 of the law
Text of the section.
#hashtag is no heading, Section nine neither, nor 1.5 metres
"""


def test_an_article_is_cut_at_headings() -> None:
    assert paragraphs(ARTICLE, TextStructure.ARTICLE) == [
        "Opening words of it.",
        "# First heading\nText under the first.",
        "## Second heading, deeper\nText under the second.",
        "1. A numbered heading\nText under the number.",
        "Section 12 of the law\nText of the section.\n#hashtag is no heading, Section nine neither, nor 1.5 metres",
    ]


def test_a_book_is_cut_at_chapters() -> None:
    text = "Preface of the book.\nChapter 1\nIt began here.\n\nIt went on.\nChapter Two: the end\nIt ended here."
    assert paragraphs(text, TextStructure.BOOK) == [
        "Preface of the book.",
        "Chapter 1\nIt began here.",
        "It went on.",
        "Chapter Two: the end\nIt ended here.",
    ]


def test_headings_mean_nothing_in_a_simple_text() -> None:
    assert len(paragraphs(ARTICLE)) == 1
    assert len(paragraphs(ARTICLE, TextStructure.BOOK)) == 1


@given(
    text=st.text(alphabet="ab #1.\n\r\t", max_size=200) | st.text(max_size=100),
    structure=st.sampled_from(list(TextStructure)),
)
def test_paragraphs_are_pieces_of_the_text_in_order(text: str, structure: TextStructure) -> None:
    position = 0
    for paragraph in paragraphs(text, structure):
        assert len(paragraph) >= 10
        assert paragraph == paragraph.strip()
        position = text.index(paragraph, position) + len(paragraph)
