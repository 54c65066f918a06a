"""Every item in exactly one shard, whatever the numbers: what all results rest on."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardwise_api.common import Strategy
from shardwise_api.sharding import shard_items

STRATEGIES = st.sampled_from(Strategy)
SHARDS = st.integers(1, 300)
TOTALS = st.integers(0, 3000)


def all_shards(strategy: Strategy, *, shards: int, total: int) -> list[range]:
    return [shard_items(strategy=strategy, shards=shards, shard=shard, total=total) for shard in range(shards)]


@given(strategy=STRATEGIES, shards=SHARDS, total=TOTALS)
def test_every_item_is_in_exactly_one_shard(strategy: Strategy, shards: int, total: int) -> None:
    items = itertools.chain.from_iterable(all_shards(strategy, shards=shards, total=total))

    assert sorted(items) == list(range(total))


@given(strategy=STRATEGIES, shards=SHARDS, total=TOTALS)
def test_shards_differ_by_one_item_at_most(strategy: Strategy, shards: int, total: int) -> None:
    sizes = [len(items) for items in all_shards(strategy, shards=shards, total=total)]

    assert max(sizes) - min(sizes) <= 1


@given(strategy=STRATEGIES, shards=SHARDS, total=TOTALS)
def test_a_shard_works_on_its_items_in_order(strategy: Strategy, shards: int, total: int) -> None:
    for items in all_shards(strategy, shards=shards, total=total):
        assert list(items) == sorted(items)


@given(strategy=st.sampled_from([Strategy.CHUNKED, Strategy.DYNAMIC]), shards=SHARDS, total=TOTALS)
def test_contiguous_shards_follow_one_another_without_a_gap(strategy: Strategy, shards: int, total: int) -> None:
    chunks = all_shards(strategy, shards=shards, total=total)

    assert list(itertools.chain.from_iterable(chunks)) == list(range(total))
    assert all(chunk.step == 1 for chunk in chunks)


@given(shards=SHARDS, total=TOTALS)
def test_round_robin_deals_items_like_cards(shards: int, total: int) -> None:
    for shard, items in enumerate(all_shards(Strategy.ROUND_ROBIN, shards=shards, total=total)):
        assert all(item % shards == shard for item in items)


@given(shards=SHARDS, total=TOTALS, data=st.data())
def test_round_robin_without_a_total_begins_as_with_one(shards: int, total: int, data: st.DataObject) -> None:
    shard = data.draw(st.integers(0, shards - 1))
    known = shard_items(strategy=Strategy.ROUND_ROBIN, shards=shards, shard=shard, total=total)

    endless = shard_items(strategy=Strategy.ROUND_ROBIN, shards=shards, shard=shard, total=None)

    assert list(itertools.islice(endless, len(known))) == list(known)
    assert endless[len(known)] >= total


@given(strategy=STRATEGIES, total=st.integers(0, 2**53), shards=st.integers(1, 10_000), data=st.data())
def test_sizes_stay_exact_where_floats_would_not(
    strategy: Strategy, total: int, shards: int, data: st.DataObject
) -> None:
    shard = data.draw(st.integers(0, shards - 1))

    size = len(shard_items(strategy=strategy, shards=shards, shard=shard, total=total))

    assert size in (total // shards, -(-total // shards))


@given(strategy=STRATEGIES, shards=SHARDS, beyond=st.integers(0, 10), total=TOTALS)
def test_a_shard_that_is_not_one_of_them_is_an_error(strategy: Strategy, shards: int, beyond: int, total: int) -> None:
    for shard in (shards + beyond, -1 - beyond):
        with pytest.raises(ValueError, match="is not one of"):
            shard_items(strategy=strategy, shards=shards, shard=shard, total=total)


@pytest.mark.parametrize("strategy", [Strategy.CHUNKED, Strategy.DYNAMIC])
def test_contiguous_shards_of_an_uncounted_input_are_an_error(strategy: Strategy) -> None:
    with pytest.raises(ValueError, match="number of items"):
        shard_items(strategy=strategy, shards=2, shard=0, total=None)
