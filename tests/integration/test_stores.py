"""Both stores keep the same promises: the embedded file and the MongoDB, one suite over the two."""

from __future__ import annotations

import multiprocessing
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from shardwise_jobs.engines.kato.names import pattern_hash
from shardwise_jobs.engines.kato.stores import (
    BlockRecord,
    Guard,
    KnowledgeBaseConfig,
    PatternStore,
    Symbol,
    Totals,
    open_store,
)
from shardwise_jobs.engines.kato.stores.base import StoreError
from tests.support.learning import chunk, contents, new_run, of_symbols, record

NODE = "kb_node0"
CONFIG = KnowledgeBaseConfig(
    nodes=("node0", "node1"), chunk_sizes=(5, 7), tokenizer="builtin:words", segmentation="Simple/Chunking"
)


@dataclass(frozen=True)
class Home:
    """Where a store lives; it may be opened several times, from several processes."""

    uri: str
    service: str

    def open(self) -> PatternStore:
        return open_store(self.uri, service=self.service, timeout_seconds=30, bulk_size=3)


@pytest.fixture(params=["sqlite", pytest.param("mongo", marks=pytest.mark.mongo)])
def home(request: pytest.FixtureRequest, tmp_path: Path) -> Home:
    if request.param == "sqlite":
        return Home(uri=f"sqlite:///{tmp_path / 'store.db'}", service="kato")
    return Home(uri=request.getfixturevalue("mongo_uri"), service=f"t{uuid.uuid4().hex[:12]}")


@pytest.fixture
def store(home: Home) -> Iterator[PatternStore]:
    opened = home.open()
    yield opened
    opened.close()


def test_seven_chunks_of_which_the_last_repeats_the_first_are_six_patterns(store: PatternStore) -> None:
    chunks = [" ".join(f"{i}-{j}" for j in range(5)) for i in range(6)]
    for text in [*chunks, chunks[0]]:
        assert store.learn(node_id=NODE, batch=[chunk(text)])

    frequencies = dict(store.frequencies(node_id=NODE))
    assert len(frequencies) == 6
    assert frequencies[chunk(chunks[0]).name] == 2
    assert sum(frequencies.values()) == 7
    assert store.totals(node_id=NODE) == Totals(
        total_pattern_frequencies=7, total_symbol_frequencies=35, total_symbols_in_patterns_frequencies=35
    )


def test_a_batch_counts_as_its_patterns_one_by_one(store: PatternStore) -> None:
    store.learn(node_id="kb_batch", batch=[chunk("a b a", count=3), chunk("b c", count=2)])
    for text in ("a b a", "a b a", "a b a", "b c", "b c"):
        store.learn(node_id="kb_single", batch=[chunk(text)])
    assert contents(store, "kb_batch") == contents(store, "kb_single")
    assert list(store.symbols(node_id="kb_batch")) == [
        Symbol(name="a", frequency=6, pattern_member_frequency=3),
        Symbol(name="b", frequency=5, pattern_member_frequency=5),
        Symbol(name="c", frequency=2, pattern_member_frequency=2),
    ]


def test_a_pattern_is_found_by_its_bare_name_with_all_that_it_holds(store: PatternStore) -> None:
    events = [["b", "c"], ["a"]]
    learned = replace(chunk("a"), name=pattern_hash(events), events=events, count=4)
    store.learn(node_id=NODE, batch=[learned])
    found = store.pattern(node_id=NODE, name=learned.name)
    assert found is not None
    assert (found.name, found.events, found.length, found.frequency) == (learned.name, events, 3, 4)
    assert (list(found.emotives), dict(found.metadata)) == ([], {})


@pytest.mark.parametrize("name", ["0" * 40, "", "no hex at all"])
def test_an_unknown_name_is_no_pattern(store: PatternStore, name: str) -> None:
    assert store.pattern(node_id=NODE, name=name) is None
    store.learn(node_id=NODE, batch=[chunk("a b")])
    assert store.pattern(node_id=NODE, name=name) is None


def test_a_node_that_never_learned_is_empty(store: PatternStore) -> None:
    assert contents(store, "kb_nothing") == {"patterns": [], "symbols": [], "totals": Totals()}
    assert list(store.frequencies(node_id="kb_nothing")) == []
    assert store.version(node_id="kb_nothing") == 0


def test_nodes_do_not_see_each_other(store: PatternStore) -> None:
    store.learn(node_id="kb_node0", batch=[chunk("a b")])
    store.learn(node_id="kb_node1", batch=[chunk("a b", count=5)])
    assert [frequency for _, frequency in store.frequencies(node_id="kb_node0")] == [1]
    assert [frequency for _, frequency in store.frequencies(node_id="kb_node1")] == [5]


ODD_SYMBOLS = [
    "",
    " ",
    "$inc",
    "a.b",
    ".",
    "applied.x",
    "it's",
    'say "hi"',
    "back\\slash",
    "new\nline",
    "tab\t",
    "\x01\x1f",
    "\u200b\xa0",
    "Ġthe",
    "日本",
    "é",
    "e\u0301",
    "😀",
    "PTRN|76d7efca2e96cb5eeddf4e06ac96a0f424630135",
    "x" * 5000,
    "A",
    "a",
]


def test_any_text_is_a_symbol(store: PatternStore) -> None:
    learned = of_symbols(ODD_SYMBOLS)
    store.learn(node_id=NODE, batch=[learned])
    store.learn(node_id=NODE, batch=[learned])
    assert list(store.symbols(node_id=NODE)) == [
        Symbol(name=name, frequency=2, pattern_member_frequency=2) for name in sorted(ODD_SYMBOLS)
    ]
    found = store.pattern(node_id=NODE, name=learned.name)
    assert found is not None
    assert found.events == learned.events


def test_half_a_surrogate_pair_is_refused_before_anything_is_written(store: PatternStore) -> None:
    with pytest.raises(StoreError):
        store.learn(node_id=NODE, batch=[chunk("a b"), of_symbols(["a", "\ud800"])])
    assert contents(store, NODE) == {"patterns": [], "symbols": [], "totals": Totals()}


def test_patterns_and_frequencies_come_in_order_of_name(store: PatternStore) -> None:
    learned = [chunk(f"word {i}", count=i + 1) for i in range(40)]
    store.learn(node_id=NODE, batch=learned)
    in_order = sorted((p.name, p.count) for p in learned)
    assert list(store.frequencies(node_id=NODE)) == in_order
    assert [(p.name, p.frequency) for p in store.patterns(node_id=NODE)] == in_order


def test_a_read_that_is_left_half_way_holds_nothing_up(store: PatternStore) -> None:
    store.learn(node_id=NODE, batch=[chunk(f"word {i}") for i in range(20)])
    reading = store.patterns(node_id=NODE)
    next(reading)
    store.learn(node_id=NODE, batch=[chunk("one more")])
    assert store.totals(node_id=NODE).total_pattern_frequencies == 21


def test_a_pattern_keeps_the_last_emotives_also_when_it_was_first_learned_without(store: PatternStore) -> None:
    plain = chunk("a b")
    store.learn(node_id=NODE, batch=[plain], persistence=3)
    store.learn(node_id=NODE, batch=[replace(plain, emotives=[{"joy": 0.5}, {"joy": 1.0}])], persistence=3)
    store.learn(node_id=NODE, batch=[replace(plain, emotives=[{"joy": 2.0}, {"fear": 3.0}])], persistence=3)
    store.learn(node_id=NODE, batch=[plain], persistence=3)
    found = store.pattern(node_id=NODE, name=plain.name)
    assert found is not None
    assert found.frequency == 4
    assert list(found.emotives) == [{"joy": 1.0}, {"joy": 2.0}, {"fear": 3.0}]


def test_metadata_are_sets_per_key_whatever_the_key(store: PatternStore) -> None:
    plain = chunk("a b")
    store.learn(node_id=NODE, batch=[replace(plain, metadata={"title": ["x", "y"], "file.name": ["1"]})])
    store.learn(node_id=NODE, batch=[replace(plain, metadata={"title": ["y", "z", "z"], "$odd": ["2"]})])
    found = store.pattern(node_id=NODE, name=plain.name)
    assert found is not None
    assert {key: sorted(values) for key, values in found.metadata.items()} == {
        "title": ["x", "y", "z"],
        "file.name": ["1"],
        "$odd": ["2"],
    }


def test_a_guarded_batch_counts_once_however_often_it_comes(store: PatternStore) -> None:
    batch = [chunk("a b", count=2, emotives=[{"joy": 1.0}], metadata={"title": ["x"]}), chunk("b c d")]
    guard = Guard(run=new_run(), shard=0, position=0)
    assert store.learn(node_id=NODE, batch=batch, guard=guard) is True
    once = contents(store, NODE)
    assert store.learn(node_id=NODE, batch=batch, guard=guard) is False
    assert contents(store, NODE) == once
    assert store.learn(node_id=NODE, batch=batch, guard=replace(guard, position=1)) is True
    assert store.learn(node_id=NODE, batch=batch, guard=guard) is False
    assert store.totals(node_id=NODE).total_pattern_frequencies == 6


def test_another_shard_run_or_node_has_a_guard_of_its_own(store: PatternStore) -> None:
    batch = [chunk("a b", count=2), chunk("b c d")]
    guard = Guard(run=new_run(), shard=1, position=4)
    for other in (guard, replace(guard, shard=11, position=0), replace(guard, run=new_run(), position=1)):
        assert store.learn(node_id=NODE, batch=batch, guard=other) is True
        assert store.learn(node_id=NODE, batch=batch, guard=other) is False
    assert store.learn(node_id="kb_other", batch=batch, guard=guard) is True
    assert {frequency for _, frequency in store.frequencies(node_id=NODE)} == {6, 3}
    assert store.totals(node_id=NODE).total_symbol_frequencies == 21


def test_a_block_committed_twice_counts_once(store: PatternStore) -> None:
    batches = {"kb_node0": [chunk("a b", count=2), chunk("b c")], "kb_node1": [chunk("d e", count=3)], "kb_node2": []}
    row = record(run=new_run(), shard=2, block=0, learns=(3, 3, 0))
    assert store.commit_block(batches=batches, record=row) is True
    assert store.commit_block(batches=batches, record=row) is False
    assert store.totals(node_id="kb_node0").total_pattern_frequencies == 3
    assert store.totals(node_id="kb_node1").total_pattern_frequencies == 3
    assert list(store.ledger(run=row.run)) == [row]


def test_a_zombie_that_repeats_a_block_after_the_markers_are_gone_changes_nothing(store: PatternStore) -> None:
    batches = {NODE: [chunk("a b")]}
    row = record(run=new_run())
    store.commit_block(batches=batches, record=row)
    store.drop_markers(run=row.run, node_ids=[NODE])
    assert store.commit_block(batches=batches, record=row) is False
    assert store.totals(node_id=NODE).total_pattern_frequencies == 1


def test_markers_of_one_run_go_and_those_of_another_stay(store: PatternStore) -> None:
    batch = [chunk("a b"), chunk("b c")]
    gone, stays = (Guard(run=new_run(), shard=3, position=7) for _ in range(2))
    for guard in (gone, stays):
        store.learn(node_id=NODE, batch=batch, guard=guard)
    store.drop_markers(run=gone.run, node_ids=[NODE, "kb_never_learned"])
    assert store.learn(node_id=NODE, batch=batch, guard=stays) is False
    assert store.learn(node_id=NODE, batch=batch, guard=gone) is True


def test_the_ledger_gives_back_its_rows_by_shard_then_block(store: PatternStore) -> None:
    run, other = new_run(), new_run()
    rows = [
        BlockRecord(
            run=run,
            shard=shard,
            block=block,
            done=7,
            failed=2,
            skipped=1,
            uncertain=3,
            learns=(5, 1),
            failures=((12, "it's “odd”\n"), (13, "")),
        )
        for shard in (0, 2, 10)
        for block in (0, 1, 9, 10)
    ]
    for row in reversed(rows):
        assert store.commit_block(batches={}, record=row)
    store.commit_block(batches={}, record=record(run=other))
    assert list(store.ledger(run=run)) == rows
    assert list(store.ledger(run=run, shard=rows[-1].shard)) == [row for row in rows if row.shard == rows[-1].shard]
    assert list(store.ledger(run=new_run())) == []


def test_the_last_block_of_a_shard_is_where_it_goes_on(store: PatternStore) -> None:
    run = new_run()
    assert store.last_block(run=run, shard=1) == -1
    for shard, block in ((1, 0), (1, 9), (1, 10), (11, 99), (0, 50)):
        store.commit_block(batches={}, record=record(run=run, shard=shard, block=block))
    assert store.last_block(run=run, shard=1) == 10
    assert store.last_block(run=run, shard=2) == -1
    assert store.last_block(run=new_run(), shard=1) == -1


SHARED = ["a b c", "b c d", "c d e", "d e f", "a b c d e f"]


def _learn_shard(store: PatternStore, *, run: str, shard: int, blocks: int) -> None:
    for block in range(blocks):
        batches = {
            "kb_node0": [chunk(text, count=block + 1) for text in SHARED],
            "kb_node1": [chunk(f"only {shard} {block}"), chunk("common to all")],
        }
        store.commit_block(batches=batches, record=record(run=run, shard=shard, block=block))


def _learn_in_process(home: Home, run: str, shard: int, blocks: int) -> None:
    store = home.open()
    _learn_shard(store, run=run, shard=shard, blocks=blocks)
    store.close()


def _assert_holds_all_shards(store: PatternStore, *, run: str, shards: int, blocks: int) -> None:
    each = shards * blocks * (blocks + 1) // 2
    assert [frequency for _, frequency in store.frequencies(node_id="kb_node0")] == [each] * len(SHARED)
    assert store.totals(node_id="kb_node0") == Totals(
        total_pattern_frequencies=5 * each,
        total_symbol_frequencies=18 * each,
        total_symbols_in_patterns_frequencies=18 * each,
    )
    symbols = {symbol.name: symbol.frequency for symbol in store.symbols(node_id="kb_node0")}
    assert symbols == {"a": 2 * each, "b": 3 * each, "c": 4 * each, "d": 4 * each, "e": 3 * each, "f": 2 * each}
    common = store.pattern(node_id="kb_node1", name=chunk("common to all").name)
    assert common is not None
    assert common.frequency == shards * blocks
    assert len(list(store.frequencies(node_id="kb_node1"))) == shards * blocks + 1
    assert len(list(store.ledger(run=run))) == shards * blocks


def test_threads_that_share_a_store_lose_nothing(store: PatternStore) -> None:
    run = new_run()
    with ThreadPoolExecutor(4) as pool:
        # Each shard twice at once: a worker and its zombie.
        work = [pool.submit(_learn_shard, store, run=run, shard=shard, blocks=4) for shard in (0, 0, 1, 1, 2, 2)]
    for one in work:
        one.result()
    _assert_holds_all_shards(store, run=run, shards=3, blocks=4)


def test_processes_that_open_a_new_store_at_once_lose_nothing(home: Home) -> None:
    run = new_run()
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_learn_in_process, args=(home, run, shard, 3)) for shard in (0, 0, 1)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    store = home.open()
    _assert_holds_all_shards(store, run=run, shards=2, blocks=3)
    store.close()


def test_a_cleared_node_is_empty_and_learns_anew(store: PatternStore) -> None:
    guard = Guard(run=new_run(), shard=0, position=3)
    batch = [chunk(f"word {i}") for i in range(7)]
    store.learn(node_id=NODE, batch=batch, guard=guard)
    store.learn(node_id="kb_other", batch=batch)
    store.clear(node_id=NODE)
    assert contents(store, NODE) == {"patterns": [], "symbols": [], "totals": Totals()}
    assert store.totals(node_id="kb_other").total_pattern_frequencies == 7
    assert store.learn(node_id=NODE, batch=batch, guard=guard) is True
    assert store.totals(node_id=NODE).total_pattern_frequencies == 7
    store.clear(node_id="kb_never_learned")


def test_the_version_changes_with_every_learning_and_never_comes_back(home: Home, store: PatternStore) -> None:
    seen = [store.version(node_id=NODE)]
    other = home.open()
    other.learn(node_id=NODE, batch=[chunk("a b")])
    seen.append(store.version(node_id=NODE))
    assert store.version(node_id=NODE) == seen[-1]
    store.clear(node_id=NODE)
    seen.append(store.version(node_id=NODE))
    other.learn(node_id=NODE, batch=[chunk("a b")])
    seen.append(store.version(node_id=NODE))
    other.close()
    assert len(set(seen)) == 4


def test_a_knowledge_base_keeps_the_configuration_it_was_begun_with(store: PatternStore) -> None:
    assert store.knowledge_base(name="wiki") is None
    store.create_knowledge_base(name="wiki", config=CONFIG)
    store.create_knowledge_base(name="wiki", config=CONFIG)
    with pytest.raises(StoreError, match="knowledge base 'wiki' was learned with"):
        store.create_knowledge_base(name="wiki", config=replace(CONFIG, chunk_sizes=(5, 8)))
    assert store.knowledge_base(name="wiki") == CONFIG


def test_the_first_document_of_a_run_stays(store: PatternStore) -> None:
    run = new_run()
    assert store.run_document(run=run) is None
    store.record_run(run=run, document="first")
    store.record_run(run=run, document="second")
    assert store.run_document(run=run) == "first"


def test_all_of_it_is_there_after_a_reopen(home: Home, store: PatternStore) -> None:
    row = record(run=new_run())
    store.commit_block(batches={NODE: [chunk("a b")]}, record=row)
    store.create_knowledge_base(name="wiki", config=CONFIG)
    before = contents(store, NODE)
    again = home.open()
    assert contents(again, NODE) == before
    assert again.commit_block(batches={NODE: [chunk("a b")]}, record=row) is False
    assert again.knowledge_base(name="wiki") == CONFIG
    again.close()
