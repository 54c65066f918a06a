"""Workers are killed and the database is restarted at random moments, again and again: each chunk is a row once.

The LLM holds its answers until the test lets some go, so the work can't be over before the last blow; where within
a block or a commit a blow falls is left to chance.
"""

from __future__ import annotations

import random
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from shardwise_api.wire import Step
from shardwise_jobs.engines.ingest.stores import Counts
from shardwise_jobs.engines.ingest.tmd.parser import prompt_for
from tests.support import tiny_model
from tests.support.ingestion import Ingestion, chunks, digest_of
from tests.support.ollama import words
from tests.support.ollama.process import OllamaProcess, ollama
from tests.support.postgres_server import PostgresServer

CHUNKS, SHARDS, WORKERS, BLOCK, BLOWS = 500, 2, 8, 4, 20
AHEAD = 4
"""Blocks that a worker has under way: 8 calls at once are two blocks, one is written, one fills up."""
_HOWS = (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL)


@pytest.fixture
def llm() -> Iterator[OllamaProcess]:
    with ollama(parallel=SHARDS * WORKERS) as server:
        yield server


def prepared(llm: OllamaProcess, folder: Path, *, store: str = "") -> Ingestion:
    """A run that waits for its workers, and an LLM that waits for the test."""
    made = Ingestion(
        folder=folder / "run",
        model=tiny_model.make(folder / "model"),
        chunks=chunks(CHUNKS),
        url=llm.url,
        store=store,
        changes=(
            f"spec.sharding.shards={SHARDS}",
            f"spec.blockSize={BLOCK}",
            f"spec.workers={WORKERS}",
            # The test holds answers for as long as its blows take: none may be asked for again.
            "spec.tmd.timeoutSeconds=600",
        ),
    )
    assert made.prepare().code == 0
    llm.reset()
    llm.settings(hold=True)
    return made


@contextmanager
def working(run: Ingestion) -> Iterator[dict[int, subprocess.Popen[str]]]:
    """A pod of each shard; whatever is in there at the end is gone."""
    pods = {shard: run.pods.start(Step.WORK, shard=shard) for shard in range(SHARDS)}
    try:
        yield pods
    finally:
        for pod in pods.values():
            pod.kill()
            pod.communicate()


def _let_some_answers_go(llm: OllamaProcess, dice: random.Random) -> None:
    for _ in range(dice.randrange(1, 3)):
        # Both pods are at work, with all their workers: none is just starting, or waits for the database.
        llm.wait(held=SHARDS * WORKERS)
        llm.release(dice.randrange(1, SHARDS * WORKERS + 1))


def _end_of(llm: OllamaProcess, pods: dict[int, subprocess.Popen[str]]) -> str:
    """Let all of it come to its end; what the pods have logged."""
    llm.settings(hold=False)
    llm.release()
    logs = ""
    for pod in pods.values():
        log, _ = pod.communicate(timeout=120)
        assert pod.returncode == 0, log
        logs += log
    return logs


def _assert_every_chunk_is_there_once(run: Ingestion) -> None:
    assert run.finalize().code == 0
    assert run.counts() == Counts(entries=CHUNKS, vectors=CHUNKS)
    summary = run.summary()
    assert (summary["rows"], summary["ntotal"], summary["inserted"], summary["deduplicated"]) == (500, 500, 500, 0)
    assert summary["digest"] == digest_of(run.chunks)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["postgresql", "sqlite"])
def test_workers_that_are_killed_twenty_times_make_each_row_once_and_ask_no_answered_question_again(
    postgres: PostgresServer, llm: OllamaProcess, tmp_path: Path, kind: str
) -> None:
    run = prepared(llm, tmp_path, store=postgres.new_database() if kind == "postgresql" else "")
    dice = random.Random(8)
    prompts = [words.digest(prompt_for(each["text"])) for each in run.chunks]
    settled: list[tuple[int, set[str]]] = []
    with working(run) as pods:
        for _ in range(BLOWS):
            _let_some_answers_go(llm, dice)
            shard = dice.randrange(SHARDS)
            pods[shard].kill()
            pods[shard].communicate()
            assert pods[shard].returncode == -signal.SIGKILL
            # What this shard has committed by now nobody may ask for again.
            items = list(range(shard, CHUNKS, SHARDS))
            blocks = [block for of, block in run.blocks() if of == shard]
            asked = {prompts[item] for block in blocks for item in items[block * BLOCK : (block + 1) * BLOCK]}
            settled.append((len(llm.calls()), asked))
            pods[shard] = run.pods.start(Step.WORK, shard=shard)
        assert 0 < len(run.blocks()) < CHUNKS // BLOCK
        _end_of(llm, pods)
    calls = [call["prompt"] for call in llm.calls()]
    for position, asked in settled:
        assert asked.isdisjoint(calls[position:])
    assert any(asked for _, asked in settled)
    assert CHUNKS <= len(calls) <= CHUNKS + BLOWS * AHEAD * BLOCK
    _assert_every_chunk_is_there_once(run)


@pytest.mark.slow
def test_a_database_that_is_restarted_twenty_times_has_each_row_once_and_no_question_is_asked_twice(
    postgres: PostgresServer, llm: OllamaProcess, tmp_path: Path
) -> None:
    run = prepared(llm, tmp_path, store=postgres.new_database())
    dice = random.Random(9)
    with working(run) as pods:
        for _ in range(BLOWS):
            _let_some_answers_go(llm, dice)
            postgres.restart(dice.choice(_HOWS))
        assert len(run.blocks()) < CHUNKS // BLOCK
        logs = _end_of(llm, pods)
    assert "attempt 1 of 10 failed: postgresql store" in logs
    # The blocks that could not be written were kept, and written later.
    assert len(llm.calls()) == CHUNKS
    _assert_every_chunk_is_there_once(run)
