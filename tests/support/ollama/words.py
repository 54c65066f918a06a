"""What the model says: codes from the prompt's digest, in the form that was asked for, token by token."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any

_TOKEN = re.compile(r"\s*(?:[A-Za-z]+|[0-9]{1,3}|[^\sA-Za-z0-9]+|\S)")
_DEFAULT = {
    name: {"type": "integer", "minimum": 0, "maximum": highest}
    for name, highest in (("domain", 15), ("task", 31), ("modifier", 63))
}


def answer(prompt: str, form: Any = None) -> str:
    """Return the model's whole answer: an object by schema or "json", else three bare numbers."""
    properties = form.get("properties", {}) if isinstance(form, dict) else _DEFAULT
    values = {name: _number(prompt, name, schema) for name, schema in properties.items()}
    if form:
        return json.dumps(values, separators=(",", ":"))
    return ",".join(map(str, values.values()))


def codes(prompt: str) -> tuple[int, int, int]:
    """Return the domain, task and modifier that the model gives a prompt."""
    domain, task, modifier = (_number(prompt, name, schema) for name, schema in _DEFAULT.items())
    return domain, task, modifier


def tokens(words: str) -> list[str]:
    """Cut words into what the model utters at a time; joined they are the words."""
    found = _TOKEN.findall(words)
    rest = words[sum(map(len, found)) :]
    return [*found, rest] if rest else found


def digest(prompt: str) -> str:
    """Return what the log calls a prompt."""
    return hashlib.sha256(prompt.encode("utf-8", "surrogatepass")).hexdigest()


def _number(prompt: str, name: str, schema: dict[str, Any]) -> int:
    low, high = schema.get("minimum", 0), schema.get("maximum", 99)
    drawn = hashlib.sha256(f"{name}\x1f{digest(prompt)}".encode()).digest()
    return int(low + int.from_bytes(drawn[:8], "big") % (high - low + 1))
