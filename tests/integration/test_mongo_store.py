"""What only the MongoDB store has to prove: exact counts without transactions, and documents a KATO server can read."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from pymongo import MongoClient

from shardwise_jobs.engines.kato.stores import Guard, PatternCount
from shardwise_jobs.engines.kato.stores.base import StoreError, StoreUnavailable
from shardwise_jobs.engines.kato.stores.mongo import MongoStore
from tests.support.learning import chunk, contents, new_run, record
from tests.support.wire_proxy import Command, Line, Verdict, proxy

pytestmark = pytest.mark.mongo

NODES = ("kb_node0", "kb_node1")
BLOCKS: list[dict[str, list[PatternCount]]] = [
    {
        "kb_node0": [chunk("a b c", count=2), chunk("b c d"), chunk("x y", emotives=[{"joy": 1.0}])],
        "kb_node1": [chunk("p q", metadata={"title": ["one"]})],
    },
    {
        "kb_node0": [chunk("a b c", emotives=[{"joy": 2.0}]), chunk("x y", emotives=[{"fear": 3.0}]), chunk("new one")],
        "kb_node1": [chunk("p q", count=3, metadata={"title": ["two"]}), chunk("q r")],
    },
]

OpenStore = Callable[..., MongoStore]


def _service() -> str:
    return f"t{uuid.uuid4().hex[:12]}"


@pytest.fixture
def open_mongo(mongo_uri: str) -> Iterator[OpenStore]:
    opened: list[MongoStore] = []

    def opener(*, uri: str = mongo_uri, service: str, bulk_size: int = 2, timeout_seconds: float = 20) -> MongoStore:
        opened.append(MongoStore(uri, service=service, bulk_size=bulk_size, timeout_seconds=timeout_seconds))
        return opened[-1]

    yield opener
    for store in opened:
        store.close()


@pytest.fixture
def client(mongo_uri: str) -> Iterator[MongoClient[dict[str, Any]]]:
    with MongoClient[dict[str, Any]](mongo_uri) as opened:
        yield opened


def _commit(store: MongoStore, *, run: str, block: int) -> bool:
    return store.commit_block(batches=BLOCKS[block], record=record(run=run, block=block, learns=(4, 1)))


def _whole(store: MongoStore) -> list[dict[str, Any]]:
    return [contents(store, node) for node in NODES]


class _CutAt:
    """Cuts the line at the k-th write of all."""

    def __init__(self, k: int, how: Line) -> None:
        self._left, self._how = k, how

    def __call__(self, command: Command) -> Verdict:
        self._left -= 1
        return self._how if self._left == -1 else Line.KEEP

    @property
    def was_reached(self) -> bool:
        return self._left < 0


@pytest.mark.parametrize("how", [Line.CUT_BEFORE, Line.CUT_AFTER])
def test_a_worker_killed_at_any_write_leaves_a_block_that_repeats_exactly(
    mongo_uri: str, open_mongo: OpenStore, how: Line
) -> None:
    run = new_run()
    expected_store = open_mongo(service=_service())
    for block in range(len(BLOCKS)):
        assert _commit(expected_store, run=run, block=block)
    expected = _whole(expected_store)

    k = 0
    while True:
        service, cut = _service(), _CutAt(k, how)
        with proxy(mongo_uri, cut) as uri:
            # One document per write: a kill between any two of a bulk is among the cuts.
            killed = open_mongo(uri=uri, service=service, bulk_size=1)
            try:
                for block in range(len(BLOCKS)):
                    _commit(killed, run=run, block=block)
            except StoreUnavailable:
                assert cut.was_reached
            killed.close()
        if not cut.was_reached:
            break
        restarted = open_mongo(service=service)
        first = restarted.last_block(run=run, shard=0) + 1
        assert all(_commit(restarted, run=run, block=block) for block in range(first, len(BLOCKS)))
        assert _whole(restarted) == expected, f"cut at write {k}"
        assert [row.block for row in restarted.ledger(run=run)] == [0, 1]
        restarted.close()
        k += 1
    # Ten indexes, and three dozen writes: fewer would mean that the proxy didn't see them all.
    assert k > 45


def test_markers_half_dropped_go_at_the_next_call(
    mongo_uri: str, open_mongo: OpenStore, client: MongoClient[dict[str, Any]]
) -> None:
    run, service, k = new_run(), _service(), 0
    store = open_mongo(service=service)
    while True:
        guard = Guard(run=run, shard=0, position=k)
        store.learn(node_id="kb_node0", batch=[chunk("a b c"), chunk("b c d")], guard=guard)
        cut = _CutAt(k, Line.CUT_AFTER)
        with proxy(mongo_uri, cut) as uri:
            # Impatient: closing a cursor on a dead line waits for a server.
            killed = open_mongo(uri=uri, service=service, timeout_seconds=0.5)
            try:
                killed.drop_markers(run=run, node_ids=NODES)
            except StoreUnavailable:
                assert cut.was_reached
            killed.close()
        store.drop_markers(run=run, node_ids=NODES)
        for collection in ("patterns_kb", "symbols_kb", "metadata"):
            assert client[f"kb_node0_{service}"][collection].count_documents({"applied": {"$exists": True}}) == 0
        if not cut.was_reached:
            break
        k += 1
    assert k > 5


def test_documents_have_the_shape_that_kato_servers_read(
    open_mongo: OpenStore, client: MongoClient[dict[str, Any]]
) -> None:
    run, service = new_run(), _service()
    store = open_mongo(service=service)
    _commit(store, run=run, block=0)
    node = client[f"kb_node0_{service}"]
    assert node["metadata"].find_one({}, {"_id": 0, "applied": 1}) == {"applied": {run: {"0": 0}}}
    store.drop_markers(run=run, node_ids=NODES)

    assert node["patterns_kb"].find_one({"name": chunk("a b c").name}, {"_id": 0}) == {
        "name": chunk("a b c").name,
        "pattern_data": [["a"], ["b"], ["c"]],
        "length": 3,
        "frequency": 2,
        "emotives": {},
        "metadata": {},
    }
    assert node["symbols_kb"].find_one({"name": "b"}, {"_id": 0}) == {
        "name": "b",
        "frequency": 3,
        "pattern_member_frequency": 3,
    }
    assert list(node["metadata"].find({}, {"_id": 0})) == [
        {
            "class": "totals",
            "total_pattern_frequencies": 4,
            "total_symbol_frequencies": 11,
            "total_symbols_in_patterns_frequencies": 11,
        }
    ]
    assert client[f"kb_node1_{service}"]["patterns_kb"].find_one({}, {"_id": 0, "metadata": 1}) == {
        "metadata": {"title": ["one"]}
    }


def test_names_have_a_unique_index_and_pattern_data_has_none(
    open_mongo: OpenStore, client: MongoClient[dict[str, Any]]
) -> None:
    service = _service()
    open_mongo(service=service).learn(node_id="kb_node0", batch=[chunk("a b")])
    for collection in ("patterns_kb", "symbols_kb"):
        found = client[f"kb_node0_{service}"][collection].index_information()
        assert {tuple(index["key"]): bool(index.get("unique")) for index in found.values()} == {
            (("_id", 1),): False,
            (("name", 1),): True,
            (("frequency", -1), ("name", 1)): False,
        }


def test_a_base_begun_by_a_kato_server_is_learned_on(
    open_mongo: OpenStore, client: MongoClient[dict[str, Any]]
) -> None:
    service = _service()
    node = client[f"kb_node0_{service}"]
    node["patterns_kb"].create_index([("name", 1)], unique=True, name="as_kato_calls_it")
    known = chunk("a b")
    node["patterns_kb"].insert_one(
        {"name": known.name, "pattern_data": known.events, "length": 2, "frequency": 5, "emotives": {}, "metadata": {}}
    )
    for symbol in "ab":
        node["symbols_kb"].insert_one({"name": symbol, "frequency": 5, "pattern_member_frequency": 5})
    node["metadata"].insert_one(
        {
            "class": "totals",
            "total_pattern_frequencies": 5,
            "total_symbol_frequencies": 10,
            "total_symbols_in_patterns_frequencies": 10,
        }
    )
    store = open_mongo(service=service)
    assert store.learn(node_id="kb_node0", batch=[known], guard=Guard(run=new_run(), shard=0, position=0))
    assert list(store.frequencies(node_id="kb_node0")) == [(known.name, 6)]
    assert store.totals(node_id="kb_node0").total_symbol_frequencies == 12


def _on_first_pattern_write(then: Callable[[], Verdict], *, nth: int = 1) -> Callable[[Command], Verdict]:
    left = nth

    def hook(command: Command) -> Verdict:
        nonlocal left
        if command.get("update") == "patterns_kb":
            left -= 1
            if left == 0:
                return then()
        return Line.KEEP

    return hook


@pytest.mark.parametrize("guarded", [True, False])
def test_a_duplicate_key_that_another_shard_caused_is_not_taken_for_applied(
    mongo_uri: str, open_mongo: OpenStore, guarded: bool
) -> None:
    run, service, learned = new_run(), _service(), chunk("a b")
    other = open_mongo(service=service)

    def lose_the_race() -> Verdict:
        other.learn(node_id="kb_node0", batch=[learned], guard=Guard(run=run, shard=1, position=0))
        refused = {"index": 0, "code": 11000, "errmsg": "E11000 duplicate key error collection"}
        return {"ok": 1, "n": 0, "nModified": 0, "writeErrors": [refused]}

    with proxy(mongo_uri, _on_first_pattern_write(lose_the_race)) as uri:
        store = open_mongo(uri=uri, service=service)
        guard = Guard(run=run, shard=0, position=0) if guarded else None
        assert store.learn(node_id="kb_node0", batch=[learned], guard=guard)
        store.close()
    assert list(other.frequencies(node_id="kb_node0")) == [(learned.name, 2)]
    assert other.totals(node_id="kb_node0").total_pattern_frequencies == 2


def test_emotives_survive_another_shard_that_inserts_the_pattern_without_any(
    mongo_uri: str, open_mongo: OpenStore
) -> None:
    service, plain = _service(), chunk("a b")
    other = open_mongo(service=service)

    def insert_first() -> Verdict:
        other.learn(node_id="kb_node0", batch=[plain])
        return Line.KEEP

    # The first write looks after an existing {}, the second pushes: in between there is room for another.
    with proxy(mongo_uri, _on_first_pattern_write(insert_first, nth=2)) as uri:
        store = open_mongo(uri=uri, service=service)
        guard = Guard(run=new_run(), shard=0, position=0)
        assert store.learn(node_id="kb_node0", batch=[replace(plain, emotives=[{"joy": 1.0}])], guard=guard)
        store.close()
    found = other.pattern(node_id="kb_node0", name=plain.name)
    assert found is not None
    assert (found.frequency, list(found.emotives)) == (2, [{"joy": 1.0}])


def test_a_server_that_refuses_nested_arrays_is_named_so_before_anything_is_learned(
    mongo_uri: str, open_mongo: OpenStore, client: MongoClient[dict[str, Any]]
) -> None:
    service = _service()

    def refuse(command: Command) -> Verdict:
        if command.get("update") != "checks":
            return Line.KEEP
        error = {"index": 0, "code": 2, "errmsg": "nested arrays are not supported"}
        return {"ok": 1, "n": 0, "nModified": 0, "writeErrors": [error]}

    with proxy(mongo_uri, refuse) as uri:
        store = open_mongo(uri=uri, service=service)
        with pytest.raises(StoreError, match="refuses arrays within arrays") as failure:
            store.learn(node_id="kb_node0", batch=[chunk("a b")])
        store.close()
    assert not isinstance(failure.value, StoreUnavailable)
    assert client[f"kb_node0_{service}"]["patterns_kb"].count_documents({}) == 0


def test_no_bulk_write_is_larger_than_asked(mongo_uri: str, open_mongo: OpenStore) -> None:
    sent: list[Command] = []

    def watch(command: Command) -> Verdict:
        sent.append(command)
        return Line.KEEP

    with proxy(mongo_uri, watch) as uri:
        store = open_mongo(uri=uri, service=_service(), bulk_size=3)
        store.learn(node_id="kb_node0", batch=[chunk(f"word w{i}") for i in range(7)])
        store.close()
    assert [command.get("update") for command in sent].count("patterns_kb") == 3
    assert [command.get("update") for command in sent].count("symbols_kb") == 3


def test_an_answer_that_takes_longer_than_the_timeout_is_worth_a_retry(mongo_uri: str, open_mongo: OpenStore) -> None:
    slow = threading.Event()

    def wait(command: Command) -> Verdict:
        slow.wait(10)
        return Line.KEEP

    with proxy(mongo_uri, wait) as uri:
        store = open_mongo(uri=uri, service=_service(), timeout_seconds=0.5)
        with pytest.raises(StoreUnavailable, match="timed out"):
            store.record_run(run=new_run(), document="x")
        slow.set()
        store.close()


@pytest.mark.parametrize("run", ["a.b", "$a", "", "a/b", "a\0"])
def test_a_run_id_that_can_not_be_a_field_is_refused(open_mongo: OpenStore, run: str) -> None:
    store = open_mongo(service=_service())
    with pytest.raises(StoreError, match="run id"):
        store.learn(node_id="kb_node0", batch=[chunk("a b")], guard=Guard(run=run, shard=0, position=0))
    with pytest.raises(StoreError, match="run id"):
        store.commit_block(batches={}, record=record(run=run))


def test_one_name_twice_in_a_batch_is_a_mistake_of_the_caller(open_mongo: OpenStore) -> None:
    store = open_mongo(service=_service())
    with pytest.raises(ValueError, match="twice"):
        store.learn(node_id="kb_node0", batch=[chunk("a b"), chunk("a b")])


def test_a_metadata_key_that_no_field_can_have_is_refused_before_anything_is_written(open_mongo: OpenStore) -> None:
    store = open_mongo(service=_service())
    with pytest.raises(StoreError, match="metadata key"):
        store.learn(node_id="kb_node0", batch=[chunk("a b"), chunk("b c", metadata={"": ["x"]})])
    assert list(store.frequencies(node_id="kb_node0")) == []
