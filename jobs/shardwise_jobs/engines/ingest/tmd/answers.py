"""What an LLM's words mean: exactly one set of codes, or nothing.

A model says many things that look like an answer. What is not clearly one is refused and asked for again; a number out
of range is never bent into it, since it says that the model did not understand.
"""

from __future__ import annotations

import json
import re
from typing import Any

from shardwise_jobs.engines.ingest.codes import LABELS, CodeOutOfRange, Codes

_EXCERPT = 80
_MOST_BRACES = 16
"""Places where an object is looked for; a model that opens more than these is rambling."""
_HUGE = 10**9
_WHOLE = r"[0-9]{1,9}"
# Written digits only: `\d` also takes those of other scripts, which a model that lost its language may write.
_TRIPLE = re.compile(
    # Not a part of more numbers, of a fraction, of a negative number or of a word.
    rf"""(?<! [0-9.,\-+\w]) (?<! [,\-+]\s)
    ({_WHOLE}) \s*,\s* ({_WHOLE}) \s*,\s* ({_WHOLE})
    (?! [0-9] | \.[0-9] | \s*,\s*[0-9\-+] | \w)""",
    re.VERBOSE,
)


class UnusableAnswer(ValueError):
    """The model's words are no codes; the message says why, in one line."""


def parse_answer(words: str, *, complete: bool = True) -> Codes:
    """Return the codes in a model's answer: a JSON object with the three numbers, or three numbers with commas.

    `complete` is False when the model was cut off: a number at the very end may then be half of one.

    Raises:
        UnusableAnswer: there are none, or they are out of range.
    """
    words = words.strip()
    if not words:
        raise UnusableAnswer("the answer is empty")
    if "{" in words:
        found = _first_object(words)
        if found is None:
            broken = "a broken JSON object" if complete else "a JSON object that was cut off"
            raise UnusableAnswer(f"the answer holds {broken}: {_excerpt(words)}")
        return _codes(*(_field(found, name, words=words) for name in LABELS), words=words)
    triple = _TRIPLE.search(words)
    if triple is None:
        raise UnusableAnswer(f"the answer holds neither a JSON object nor three numbers: {_excerpt(words)}")
    if not complete and triple.end() == len(words):
        raise UnusableAnswer(f"the answer was cut off within its last number: {_excerpt(words)}")
    return _codes(*map(int, triple.groups()), words=words)


def _first_object(words: str) -> dict[str, Any] | None:
    decoder = json.JSONDecoder()
    start = -1
    for _ in range(_MOST_BRACES):
        start = words.find("{", start + 1)
        if start < 0:
            return None
        try:
            value, _ = decoder.raw_decode(words, start)
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict):
            return value
    return None


def _field(found: dict[str, Any], name: str, *, words: str) -> int:
    if name not in found:
        raise UnusableAnswer(f"the answer has no {name}: {_excerpt(words)}")
    value = found[name]
    if isinstance(value, bool) or not isinstance(value, int):
        raise UnusableAnswer(f"{name} in the answer is no whole number: {_excerpt(words)}")
    if abs(value) >= _HUGE:
        # Said without the number, which may have thousands of digits.
        raise UnusableAnswer(f"{name} in the answer is out of range: {_excerpt(words)}")
    return value


def _codes(domain: int, task: int, modifier: int, *, words: str) -> Codes:
    try:
        return Codes(domain, task, modifier)
    except CodeOutOfRange as error:
        raise UnusableAnswer(f"{error}: {_excerpt(words)}") from error


def _excerpt(words: str) -> str:
    line = " ".join(words.split())
    return repr(line if len(line) <= _EXCERPT else line[:_EXCERPT] + "…")
