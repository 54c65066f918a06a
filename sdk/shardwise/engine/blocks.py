"""Blocks: fixed runs of a shard's items, the unit of commit and of restart."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TypeVar

T = TypeVar("T")


def remaining(items: range, *, block_size: int, last_block: int) -> range:
    """Return the items of a shard that no committed block holds."""
    return items[(last_block + 1) * block_size :]


def blocks(items: Iterable[T], *, block_size: int, first: int) -> Iterator[tuple[int, list[T]]]:
    """Yield (block number, its items), numbered from `first`; only the last block may be shorter than `block_size`."""
    stream = iter(items)
    number = first
    while block := list(islice(stream, block_size)):
        yield number, block
        number += 1


def count(items: int, *, block_size: int) -> int:
    """Return how many blocks a shard of `items` items has."""
    return -(-items // block_size)
