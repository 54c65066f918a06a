"""Blocks on their way: in order, so many at once, whole or not at all, and each chunk's failure is its own."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from shardwise.engine.errors import BadConfiguration, Interrupted, TooManyFailedItems, Unavailable
from shardwise_jobs.engines.ingest.chunk import Chunk
from shardwise_jobs.engines.ingest.codes import Codes
from shardwise_jobs.engines.ingest.embed.base import EmbeddingFailed, Vectors, unit
from shardwise_jobs.engines.ingest.identifiers import cpe_id
from shardwise_jobs.engines.ingest.phase_timer import PhaseTimer
from shardwise_jobs.engines.ingest.pipeline import Block, Pipeline, Target, ahead_of
from shardwise_jobs.engines.ingest.source import Entry
from shardwise_jobs.engines.ingest.stages import Failed, Processed, Stages
from shardwise_jobs.engines.ingest.stores import BlockRecord, RowStore, VectorModel, open_store
from shardwise_jobs.engines.ingest.tmd import TmdAnswer, TmdFailure
from shardwise_jobs.engines.ingest.tmd.base import FailureCause
from shardwise_jobs.engines.ingest.tmd.embedded import EmbeddedTmd

RUN = "run"


class Embeds:
    """A direction for each text, and no vector for the word `unspeakable`."""

    name = "test:four"
    dimension = 4

    def __init__(self) -> None:
        self.texts: list[str] = []

    def embed(self, texts: Sequence[str]) -> Vectors:
        if any("unspeakable" in text for text in texts):
            raise EmbeddingFailed("no words for it")
        self.texts += texts
        return np.stack([unit(self._one(text)) for text in texts])

    def close(self) -> None:
        pass

    def _one(self, text: str) -> Vectors:
        seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
        return np.random.default_rng(seed).standard_normal(self.dimension).astype(np.float32)


@dataclass
class Answers:
    """Codes when a text's turn has come, or a failure that was agreed on."""

    name: str = "test"
    label: str = "test"
    failures: dict[str, FailureCause] = field(default_factory=dict)
    held: dict[str, asyncio.Event] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    given_up: list[str] = field(default_factory=list)
    closed: bool = False

    async def codes(self, texts: Sequence[str]) -> list[TmdAnswer | TmdFailure]:
        return [await self._one(text) for text in texts]

    async def _one(self, text: str) -> TmdAnswer | TmdFailure:
        self.asked.append(text)
        if text in self.held:
            try:
                await self.held[text].wait()
            except asyncio.CancelledError:
                self.given_up.append(text)
                raise
        if text in self.failures:
            return TmdFailure(reason=f"no codes for {text}", cause=self.failures[text])
        return TmdAnswer(codes=Codes(1, 2, 3), confidence=None, backend=self.name)

    async def close(self) -> None:
        self.closed = True


def entry(item: int, text: str, **changes: object) -> Entry:
    own = cpe_id(dataset_source="d", document="doc", chunk_index=item, text=text)
    return Entry(item=item, chunk=Chunk(text=text, chunk_index=item, **changes), cpe_id=own)


def blocks_of(texts: Iterable[str], *, size: int) -> list[Block]:
    entries = [entry(item, text) for item, text in enumerate(texts)]
    return [
        Block(number=number, entries=entries[number * size : (number + 1) * size])
        for number in range(-(-len(entries) // size))
    ]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RowStore]:
    with closing(open_store(f"sqlite:///{tmp_path / 'rows.db'}")) as opened:
        opened.prepare(model=VectorModel(name=Embeds.name, dimension=Embeds.dimension))
        yield opened


@dataclass
class Work:
    """A pipeline and what it did."""

    store: RowStore
    answers: Answers = field(default_factory=Answers)
    embeds: Embeds = field(default_factory=Embeds)
    max_failed: float = 0
    ahead: int = 3
    check: Callable[[], None] = lambda: None
    committed: list[BlockRecord] = field(default_factory=list)

    async def run(self, blocks: Iterable[Block], *, failed: int = 0) -> None:
        clock = PhaseTimer()
        stages = Stages(embedder=self.embeds, backend=self.answers, clock=clock)
        target = Target(store=self.store, run=RUN, shard=0, dataset="d", embed_model=self.embeds.name)
        try:
            await Pipeline(
                stages=stages,
                target=target,
                clock=clock,
                ahead=self.ahead,
                max_failed=self.max_failed,
                check=self.check,
                committed=self.committed.append,
            ).run(blocks, failed=failed)
        finally:
            await stages.close()

    @property
    def ledger(self) -> list[BlockRecord]:
        return list(self.store.ledger(run=RUN))


async def eventually(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not holds():
            await asyncio.sleep(0.001)


def test_blocks_are_committed_in_order_also_when_a_later_one_is_ready_first(store: RowStore) -> None:
    async def story() -> None:
        work = Work(store)
        work.answers.held = {"a": asyncio.Event()}
        running = asyncio.create_task(work.run(blocks_of("abcdef", size=2)))
        await eventually(lambda: len(work.answers.asked) == 5)
        assert work.committed == []
        work.answers.held["a"].set()
        await running
        assert [record.block for record in work.committed] == [0, 1, 2]
        assert work.answers.closed

    asyncio.run(story())
    assert store.counts().vectors == 6


def test_no_more_blocks_are_under_way_than_agreed(store: RowStore) -> None:
    async def story() -> None:
        work = Work(store, ahead=2)
        work.answers.held = {"a": asyncio.Event()}
        taken = []

        def coming() -> Iterator[Block]:
            for block in blocks_of("abcdefgh", size=2):
                taken.append(block.number)
                yield block

        running = asyncio.create_task(work.run(coming()))
        await eventually(lambda: {"a", "c", "d"} <= set(work.answers.asked))
        assert taken == [0, 1]
        work.answers.held["a"].set()
        await running
        assert taken == [0, 1, 2, 3]

    asyncio.run(story())


@pytest.mark.parametrize(("workers", "size", "ahead"), [(10, 32, 3), (10, 10, 3), (10, 1, 12), (1, 50, 3)])
def test_as_many_blocks_as_the_workers_need_and_two(workers: int, size: int, ahead: int) -> None:
    assert ahead_of(workers=workers, block_size=size) == ahead


def test_a_block_that_fails_leaves_those_before_it_and_gives_up_those_after_it(store: RowStore) -> None:
    async def story() -> Work:
        work = Work(store)
        work.answers.held = {"e": asyncio.Event()}
        work.answers.failures = {"c": FailureCause.UNAVAILABLE}
        with pytest.raises(Unavailable, match=r"^spec\.tmd\.url: no codes for c$"):
            await work.run(blocks_of("abcdef", size=2))
        assert work.answers.given_up == ["e"]
        return work

    assert [record.block for record in asyncio.run(story()).ledger] == [0]
    assert store.counts().entries == 2


def test_a_refusal_is_bad_configuration_even_beside_an_outage(store: RowStore) -> None:
    work = Work(store, max_failed=9)
    work.answers.failures = {"a": FailureCause.UNAVAILABLE, "b": FailureCause.REFUSED}
    with pytest.raises(BadConfiguration, match=r"^spec\.tmd: no codes for b$"):
        asyncio.run(work.run(blocks_of("ab", size=2)))
    assert work.ledger == []


def test_a_chunk_without_codes_or_vector_has_failed_with_its_reason_and_the_others_are_rows(store: RowStore) -> None:
    work = Work(store, max_failed=3)
    work.answers.failures = {"b": FailureCause.TEXT}
    block = blocks_of(["a", "b", "unspeakable", "d"], size=5)[0]
    asyncio.run(work.run([Block(number=0, entries=[*block.entries, Entry(item=9, failure="x.json: chunk 9: bad")])]))
    (record,) = work.ledger
    assert (record.chunks, record.failed, record.inserted) == (5, 3, 2)
    assert record.failures == (
        (1, "tmd: no codes for b"),
        (2, "embedding: no words for it"),
        (9, "x.json: chunk 9: bad"),
    )
    assert {row.source_chunk for row in store.rows()} == {"a", "d"}


def test_too_many_failures_are_known_before_their_block_is_written(store: RowStore) -> None:
    work = Work(store, max_failed=1)
    work.answers.failures = dict.fromkeys("be", FailureCause.TEXT)
    with pytest.raises(TooManyFailedItems, match=r"2 items of shard 0 failed.*allows 1 of the run's: item 4: tmd: no"):
        asyncio.run(work.run(blocks_of("abcdef", size=2)))
    assert [record.block for record in work.ledger] == [0, 1]


def test_failures_of_an_earlier_attempt_count(store: RowStore) -> None:
    work = Work(store, max_failed=1)
    work.answers.failures = {"a": FailureCause.TEXT}
    with pytest.raises(TooManyFailedItems):
        asyncio.run(work.run(blocks_of("ab", size=2), failed=1))


def test_a_chunk_that_is_a_row_already_is_neither_asked_for_nor_embedded(store: RowStore) -> None:
    asyncio.run(Work(store).run(blocks_of("ab", size=2)))
    work = Work(store)
    asyncio.run(work.run([Block(number=7, entries=blocks_of("abc", size=3)[0].entries)]))
    assert work.answers.asked == work.embeds.texts == ["c"]
    assert (work.ledger[-1].chunks, work.ledger[-1].inserted, work.ledger[-1].deduplicated) == (3, 1, 2)
    # Whoever watches is told the same.
    assert (work.committed[0].inserted, work.committed[0].deduplicated) == (1, 2)


def test_a_duplicate_is_counted_and_not_worked(store: RowStore) -> None:
    work = Work(store)
    one = entry(0, "a")
    twice = Entry(item=1, chunk=one.chunk, cpe_id=one.cpe_id, duplicate=True)
    asyncio.run(work.run([Block(number=0, entries=[one, twice])]))
    assert work.answers.asked == ["a"]
    assert work.ledger[0].deduplicated == 1


def test_work_ends_between_two_blocks_when_it_is_asked_to(store: RowStore) -> None:
    work = Work(store)

    def check() -> None:
        if len(work.committed) == 2:
            raise Interrupted("stopped")

    work.check = check
    with pytest.raises(Interrupted):
        asyncio.run(work.run(blocks_of("abcdefgh", size=2)))
    assert [record.block for record in work.ledger] == [0, 1]


def test_times_of_the_phases_are_in_the_ledger(store: RowStore) -> None:
    work = Work(store)
    asyncio.run(work.run(blocks_of("abcd", size=2)))
    assert {phase for record in work.ledger for phase in record.millis} == {"tmd", "embed", "write"}
    assert all(record.millis["write"] > 0 for record in work.ledger)


def test_codes_that_are_made_of_the_vectors_embed_each_text_once_and_own_codes_win() -> None:
    embeds = Embeds()
    backend = EmbeddedTmd(embeds)
    backend.codes_of_vectors(embeds.embed(["what makes it embed its labels"]))
    embeds.texts.clear()
    chunks = [Chunk(text="a"), Chunk(text="b", domain_code=9, task_code=8, modifier_code=7), Chunk(text="unspeakable")]

    async def story() -> list[Processed | Failed]:
        stages = Stages(embedder=embeds, backend=backend)
        made = await stages.process(chunks)
        assert await stages.process([]) == []
        await stages.close()
        return made

    one, two, three = asyncio.run(story())
    assert embeds.texts == ["a", "b"]
    assert isinstance(one, Processed)
    assert isinstance(two, Processed)
    assert one.answer == backend.codes_of_vectors(embeds.embed(["a"]))[0]
    assert (two.answer.codes, two.answer.backend) == (Codes(9, 8, 7), "client-provided")
    assert three == Failed(reason="embedding: no words for it")


def test_a_text_that_gets_no_codes_has_those_of_its_vector_instead_when_that_is_asked_for() -> None:
    embeds, answers = Embeds(), Answers(failures={"b": FailureCause.TEXT, "unspeakable": FailureCause.TEXT})
    fallback = EmbeddedTmd(embeds)

    async def story() -> list[Processed | Failed]:
        stages = Stages(embedder=embeds, backend=answers, fallback=fallback)
        made = await stages.process([Chunk(text="a"), Chunk(text="b"), Chunk(text="unspeakable")])
        await stages.close()
        return made

    one, two, three = asyncio.run(story())
    assert isinstance(one, Processed)
    assert isinstance(two, Processed)
    assert one.answer == TmdAnswer(codes=Codes(1, 2, 3), confidence=None, backend="test")
    assert two.answer == fallback.codes_of_vectors(embeds.embed(["b"]))[0]
    assert (two.answer.backend, two.answer.confidence is None) == ("embedded-v1:test:four", False)
    assert three == Failed(reason="tmd: no codes for unspeakable")


@pytest.mark.parametrize(
    ("cause", "error"), [(FailureCause.UNAVAILABLE, Unavailable), (FailureCause.REFUSED, BadConfiguration)]
)
def test_a_server_that_is_not_to_be_had_is_nobodys_reason_for_other_codes(
    cause: FailureCause, error: type[Exception]
) -> None:
    embeds = Embeds()

    async def story() -> None:
        stages = Stages(embedder=embeds, backend=Answers(failures={"a": cause}), fallback=EmbeddedTmd(embeds))
        try:
            await stages.process([Chunk(text="a")])
        finally:
            await stages.close()

    with pytest.raises(error, match="no codes for a"):
        asyncio.run(story())


def test_labels_are_not_embedded_for_texts_that_all_have_codes() -> None:
    embeds = Embeds()

    async def story() -> None:
        stages = Stages(embedder=embeds, backend=Answers(), fallback=EmbeddedTmd(embeds))
        await stages.process([Chunk(text="a")])
        await stages.close()

    asyncio.run(story())
    assert embeds.texts == ["a"]
