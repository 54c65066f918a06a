"""Which items a shard has: pure arithmetic, the same for every attempt, so that a block means the same for ever."""

from __future__ import annotations

from .common import Strategy


def shard_items(*, strategy: Strategy, shards: int, shard: int, total: int | None) -> range:
    """Return the item indexes of one shard, in the order of work.

    Over all shards every item of `range(total)` comes exactly once, for any total and any number of shards (some are
    empty when there are more shards than items). Only RoundRobin can do without a total (`None`: an endless range).

    Raises:
        ValueError: shard out of range, or no total for a contiguous strategy.
    """
    if not 0 <= shard < shards:
        raise ValueError(f"shard {shard} is not one of {shards}")
    if strategy is Strategy.ROUND_ROBIN:
        return range(shard, ENDLESS if total is None else total, shards)
    if total is None:
        raise ValueError(f"{strategy} needs to know the number of items")
    return range(shard * total // shards, (shard + 1) * total // shards)


ENDLESS = 2**62
"""Stands for the end of an input that nobody has counted."""
