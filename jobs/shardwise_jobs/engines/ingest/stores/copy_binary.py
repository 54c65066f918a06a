"""Rows in PostgreSQL's binary COPY format: a vector is its bytes, where a parsed literal costs more than all the rest.

https://www.postgresql.org/docs/current/sql-copy.html
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from .postgres_schema import STAGING_TYPES
from .rows import Row, entry_values

_HEADER = b"PGCOPY\n\xff\r\n\0" + struct.pack(">ii", 0, 0)
_TRAILER = struct.pack(">h", -1)
_NULL = struct.pack(">i", -1)
_LENGTH = struct.Struct(">i")
_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_FLOAT4_OID = 700
_ELEMENT = np.dtype([("length", ">i4"), ("value", ">f4")])
_JSONB_VERSION = b"\x01"


def _text(value: str) -> bytes:
    return value.encode("utf-8")


def _jsonb(value: str) -> bytes:
    return _JSONB_VERSION + value.encode("utf-8")


def _uuid(value: UUID) -> bytes:
    return value.bytes


def _time(value: datetime) -> bytes:
    return struct.pack(">q", (value - _EPOCH) // timedelta(microseconds=1))


def _reals(value: NDArray[np.float32]) -> bytes:
    elements = np.empty(len(value), dtype=_ELEMENT)
    elements["length"] = 4
    elements["value"] = value
    # Dimensions, whether there are nulls, the elements' type; then length and lower bound of the one dimension.
    return struct.pack(">iiiii", 1, 0, _FLOAT4_OID, len(value), 1) + elements.tobytes()


_ENCODERS: dict[str, Callable[[Any], bytes]] = {
    "bigint": struct.Struct(">q").pack,
    "content_type": _text,
    "integer": struct.Struct(">i").pack,
    "jsonb": _jsonb,
    "real": struct.Struct(">f").pack,
    "real[]": _reals,
    "smallint": struct.Struct(">h").pack,
    "text": _text,
    "timestamptz": _time,
    "uuid": _uuid,
    "validation_status": _text,
}


def encode(rows: Sequence[Row]) -> bytes:
    """Return rows as the input of COPY, columns in the order of STAGING_TYPES.

    Raises:
        ValueError: a value does not fit its column.
    """
    encoders = [_ENCODERS[kind] for kind in STAGING_TYPES.values()]
    count = struct.pack(">h", len(encoders))
    parts = [_HEADER]
    try:
        for row in rows:
            values = (*entry_values(row), row.fused_vec, row.fused_norm)
            parts.append(count)
            for encoder, value in zip(encoders, values, strict=True):
                if value is None:
                    parts.append(_NULL)
                else:
                    content = encoder(value)
                    parts += (_LENGTH.pack(len(content)), content)
    except (struct.error, OverflowError) as error:
        raise ValueError(str(error)) from error
    parts.append(_TRAILER)
    return b"".join(parts)


def decode_reals(content: bytes | memoryview) -> NDArray[np.float32]:
    """Return the numbers of a `real[]` as `array_send` gives it."""
    head = struct.calcsize(">iiiii")
    return np.frombuffer(content, dtype=_ELEMENT, offset=head)["value"].astype(np.float32)
