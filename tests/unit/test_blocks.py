"""Blocks: wherever a shard is taken up again, a block number means the same items."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from shardwise.engine.blocks import blocks, count, remaining
from shardwise_api.common import Strategy
from shardwise_api.sharding import ENDLESS, shard_items

BLOCK_SIZES = st.integers(1, 20)


@given(items=st.integers(0, 200), block_size=BLOCK_SIZES)
def test_blocks_hold_every_item_once_and_only_the_last_is_short(items: int, block_size: int) -> None:
    cut = list(blocks(range(items), block_size=block_size, first=0))
    assert [item for _, block in cut for item in block] == list(range(items))
    assert [number for number, _ in cut] == list(range(count(items, block_size=block_size)))
    assert all(len(block) == block_size for _, block in cut[:-1])


@given(
    strategy=st.sampled_from(list(Strategy)),
    shards=st.integers(1, 6),
    total=st.integers(0, 100),
    block_size=BLOCK_SIZES,
    data=st.data(),
)
def test_a_shard_taken_up_again_has_the_same_blocks(
    strategy: Strategy, shards: int, total: int, block_size: int, data: st.DataObject
) -> None:
    shard = data.draw(st.integers(0, shards - 1))
    items = shard_items(strategy=strategy, shards=shards, shard=shard, total=total)
    whole = list(blocks(items, block_size=block_size, first=0))
    last = data.draw(st.integers(-1, len(whole)))
    left = remaining(items, block_size=block_size, last_block=last)
    assert list(blocks(left, block_size=block_size, first=last + 1)) == whole[last + 1 :]


def test_an_input_that_nobody_has_counted_has_blocks_without_end() -> None:
    items = shard_items(strategy=Strategy.ROUND_ROBIN, shards=4, shard=1, total=None)
    left = remaining(items, block_size=50, last_block=1)
    assert left.start == 1 + 100 * 4
    assert left.step == 4
    assert left.stop >= ENDLESS


def test_an_input_that_ends_early_ends_the_blocks() -> None:
    assert list(blocks(iter("abc"), block_size=2, first=5)) == [(5, ["a", "b"]), (6, ["c"])]
