"""Names that KATO gives: pure functions of the symbols, so that a worker knows every name before any server does.

The rules are those of the KATO server of October 2025 (see docs/kato.md): a pattern's name is the SHA-1 of Python's
`repr` of its events, a processor id is the node id made safe for a database name.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

WIRE_PREFIX = "PTRN|"
"""Leads a pattern name on the wire and as a symbol of the next level; absent in a store."""

_UNSAFE = str.maketrans(dict.fromkeys('/\\."$*<>:|?- ', "_"))
_MAX_PROCESSOR_ID = 60


def pattern_hash(events: Sequence[Sequence[str]]) -> str:
    """Return the bare name of a pattern: 40 lower-case hex digits.

    `events` must be lists of lists of str (their `repr` is hashed), each event sorted as `sorted_event` does.
    """
    return hashlib.sha1(repr(events).encode("utf-8", "surrogatepass"), usedforsecurity=False).hexdigest()


def sorted_event(symbols: Sequence[str]) -> list[str]:
    """Return one event as KATO keeps it: sorted by code point, duplicates kept."""
    return sorted(symbols)


def wire_name(bare: str) -> str:
    """Return the name as a server answers it, and as the next level sees it."""
    return WIRE_PREFIX + bare


def bare_name(name: str) -> str:
    """Return the name as a store keeps it, whichever form is given."""
    return name.removeprefix(WIRE_PREFIX)


def processor_id(node_id: str, *, service: str = "kato") -> str:
    """Return the id under which a node's patterns are stored (its database name in MongoDB), at most 60 characters."""
    clean = node_id.translate(_UNSAFE)
    suffix = service.replace("-", "_")
    whole = f"{clean}_{suffix}"
    if len(whole) <= _MAX_PROCESSOR_ID:
        return whole
    digest = hashlib.md5(clean.encode("utf-8"), usedforsecurity=False).hexdigest()[:8]
    return f"{clean[: _MAX_PROCESSOR_ID - len(suffix) - 10]}_{digest}_{suffix}"


def node_id(knowledge_base: str, node: str) -> str:
    """Return the KATO node id of one level of a knowledge base: two bases never share a node."""
    return f"{knowledge_base}_{node}"
