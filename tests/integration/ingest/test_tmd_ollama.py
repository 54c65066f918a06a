"""Codes from a model's server: as many calls as there are workers, in order, remembered, and nothing left behind."""

from __future__ import annotations

import asyncio
import random
import socket
from dataclasses import dataclass
from pathlib import Path

import pytest

from shardwise.engine.errors import BadConfiguration, Unavailable
from shardwise_jobs.engines.ingest.tmd import TmdAnswer, TmdBackend, TmdFailure
from shardwise_jobs.engines.ingest.tmd.ollama import Backoff, OllamaTmd
from shardwise_jobs.engines.ingest.tmd.ollama_wire import normal_endpoint
from tests.support.asking import (
    MODEL,
    NAME,
    NoWait,
    backend_of,
    codes_of,
    failure_of,
    said,
    texts,
    with_backend,
)
from tests.support.ollama import words
from tests.support.ollama.process import OllamaProcess
from tests.support.ollama.script import Fault
from tests.support.web import serving_files


class TestAsking:
    def test_answers_are_the_models_in_the_order_of_the_texts(self, llm: OllamaProcess) -> None:
        asked = texts(40)
        assert codes_of(llm, *asked) == [said(text) for text in asked]
        calls = llm.calls()
        assert {(call["path"], call["stream"], call["seed"]) for call in calls} == {("/api/generate", False, 0)}
        assert len(calls) == 40
        llm.wait(connections=0)

    def test_order_is_kept_when_the_first_is_the_last_to_be_answered(self, llm: OllamaProcess) -> None:
        llm.script(Fault(kind="hold", contains='"text number 0"'))

        async def story(backend: OllamaTmd) -> list[TmdAnswer | TmdFailure]:
            asked = asyncio.create_task(backend.codes(texts(20)))
            await asyncio.to_thread(llm.wait, done=19, held=1)
            await asyncio.to_thread(llm.release)
            return await asked

        assert with_backend(backend_of(llm), story) == [said(text) for text in texts(20)]

    def test_a_backend_says_who_and_where_it_is(self, llm: OllamaProcess) -> None:
        backend: TmdBackend = backend_of(llm)
        assert backend.name == NAME
        assert backend.label == f"ollama:{llm.url}"
        asyncio.run(backend.close())

    def test_no_texts_need_no_call(self, llm: OllamaProcess) -> None:
        assert codes_of(llm) == []
        assert llm.calls() == []


class TestWorkers:
    def test_ten_keep_ten_slots_full_to_the_last_of_200_texts(self, llm: OllamaProcess) -> None:
        llm.settings(hold=True)

        async def story(backend: OllamaTmd) -> list[TmdAnswer | TmdFailure]:
            asked = asyncio.create_task(backend.codes(texts(200)))
            for answered in range(191):
                # One answer makes room for one call: nobody waits for a round to end.
                await asyncio.to_thread(llm.wait, held=10, queued=0, calls=answered + 10)
                await asyncio.to_thread(llm.release, 1)
            await asyncio.to_thread(llm.wait, held=9, calls=200)
            await asyncio.to_thread(llm.release)
            return await asked

        assert with_backend(backend_of(llm, workers=10), story) == [said(text) for text in texts(200)]
        counters = llm.counters()
        assert (counters["most_running"], counters["most_queued"], counters["most_in_flight"]) == (10, 0, 10)
        assert counters["calls"] == counters["done"] == 200

    def test_beyond_the_slots_they_queue_at_the_server(self, llm: OllamaProcess) -> None:
        llm.settings(parallel=4, hold=True)

        async def story(backend: OllamaTmd) -> dict[str, int]:
            asked = asyncio.create_task(backend.codes(texts(30)))
            counters = await asyncio.to_thread(llm.wait, held=4, queued=6)
            await asyncio.to_thread(llm.settings, hold=False)
            await asyncio.to_thread(llm.release)
            assert await asked == [said(text) for text in texts(30)]
            return counters

        assert with_backend(backend_of(llm, workers=10), story)["in_flight"] == 10
        assert llm.counters()["most_running"] == 4

    def test_blocks_that_overlap_share_them(self, llm: OllamaProcess) -> None:
        llm.settings(hold=True)

        async def story(backend: OllamaTmd) -> list[list[TmdAnswer | TmdFailure]]:
            blocks = [[f"{block} {text}" for text in texts(20)] for block in "abc"]
            asked = asyncio.gather(*map(backend.codes, blocks))
            await asyncio.to_thread(llm.wait, held=3)
            await asyncio.to_thread(llm.settings, hold=False)
            await asyncio.to_thread(llm.release)
            return await asked

        found = with_backend(backend_of(llm, workers=3), story)
        assert found == [[said(f"{block} {text}") for text in texts(20)] for block in "abc"]
        assert llm.counters()["most_in_flight"] == 3

    def test_they_stay_bounded_while_calls_fail(self, llm: OllamaProcess) -> None:
        llm.script(Fault(kind="status", status=503, times=30), Fault(kind="drop", times=30))
        assert codes_of(llm, *texts(40), workers=4, retries=100) == [said(text) for text in texts(40)]
        counters = llm.counters()
        assert counters["most_in_flight"] <= 4
        assert counters["calls"] == 40 + 60

    @pytest.mark.parametrize("workers", [0, -1])
    def test_there_must_be_one(self, workers: int) -> None:
        with pytest.raises(BadConfiguration, match=r"^max_workers must be greater than 0$"):
            OllamaTmd(endpoint="http://127.0.0.1:9", model=MODEL, workers=workers)


class TestCache:
    def test_a_text_is_asked_for_once_but_for_space_around_it(self, llm: OllamaProcess) -> None:
        async def story(backend: OllamaTmd) -> list[TmdAnswer | TmdFailure]:
            first = await backend.codes(["a text", " a text\n", "A Text"])
            assert backend.statistics.calls == 2
            again = await backend.codes(["a text", "A Text"])
            assert backend.statistics.from_cache == 2
            return [*first, *again]

        one, two = said("a text"), said("A Text")
        assert one != two
        assert with_backend(backend_of(llm), story) == [one, one, two, one, two]
        assert len(llm.calls()) == 2

    def test_what_was_not_used_for_longest_is_forgotten(self, llm: OllamaProcess) -> None:
        async def story(backend: OllamaTmd) -> list[int]:
            calls = []
            for text in ("a", "b", "a", "c", "a", "b"):
                await backend.codes([text])
                calls.append(backend.statistics.calls)
            return calls

        assert with_backend(backend_of(llm, cache_size=2), story) == [1, 2, 2, 3, 3, 4]

    def test_a_failure_is_not_kept(self, llm: OllamaProcess) -> None:
        llm.script(Fault(kind="status", status=400))

        async def story(backend: OllamaTmd) -> list[TmdAnswer | TmdFailure]:
            return [*await backend.codes(["a text"]), *await backend.codes(["a text"])]

        failure, answer = with_backend(backend_of(llm), story)
        assert isinstance(failure, TmdFailure)
        assert answer == said("a text")


class TestCancelling:
    def test_leaves_no_call_and_no_connection_and_a_backend_that_works(self, llm: OllamaProcess) -> None:
        llm.settings(parallel=4, hold=True)

        async def story(backend: OllamaTmd) -> list[TmdAnswer | TmdFailure]:
            asked = asyncio.create_task(backend.codes(texts(50)))
            await asyncio.to_thread(llm.wait, held=4, queued=6)
            asked.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asked
            gone = await asyncio.to_thread(lambda: llm.wait(in_flight=0, running=0, queued=0, held=0, connections=0))
            assert (gone["abandoned"], gone["calls"]) == (10, 10)
            assert len(asyncio.all_tasks()) == 1
            await asyncio.to_thread(llm.settings, hold=False)
            return await backend.codes(texts(12))

        assert with_backend(backend_of(llm, workers=10), story) == [said(text) for text in texts(12)]

    def test_ends_a_wait_for_another_try(self, llm: OllamaProcess) -> None:
        llm.script(Fault(kind="status", status=503, times=None))

        async def story(backend: OllamaTmd) -> None:
            asked = asyncio.create_task(backend.codes(["a text"]))
            await asyncio.to_thread(llm.wait, calls=1, in_flight=0)
            asked.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asked

        # Were the wait not ended, the test would not end either.
        hour = 3600.0
        with_backend(backend_of(llm, backoff=_Always(first_seconds=hour, longest_seconds=hour)), story)
        assert len(llm.calls()) == 1

    def test_one_block_leaves_the_others_alone(self, llm: OllamaProcess) -> None:
        llm.script(Fault(kind="hold", times=None, contains="stuck"))

        async def story(backend: OllamaTmd) -> list[TmdAnswer | TmdFailure]:
            stuck = asyncio.create_task(backend.codes(["stuck 1", "stuck 2"]))
            await asyncio.to_thread(llm.wait, held=2)
            other = asyncio.create_task(backend.codes(texts(5)))
            stuck.cancel()
            with pytest.raises(asyncio.CancelledError):
                await stuck
            return await other

        assert with_backend(backend_of(llm, workers=2), story) == [said(text) for text in texts(5)]


@dataclass(frozen=True, kw_only=True)
class _Always(Backoff):
    """Waits as long as it may."""

    def seconds(self, *, failures: int, dice: random.Random) -> float:
        return self.longest_seconds


class TestCheck:
    def test_loads_the_model(self, llm: OllamaProcess) -> None:
        with_backend(backend_of(llm), lambda backend: backend.check())
        (call,) = llm.calls()
        assert (call["prompt"], call["outcome"]) == (words.digest(""), "done")

    def test_a_model_that_is_not_there_is_a_bad_configuration(self, llm: OllamaProcess) -> None:
        with pytest.raises(BadConfiguration, match=f"has no model 'other:7b'; it has {MODEL}"):
            with_backend(backend_of(llm, model="other:7b"), lambda backend: backend.check())

    def test_trouble_that_passes_is_waited_out(self, llm: OllamaProcess) -> None:
        llm.script(Fault(kind="status", status=503), Fault(kind="drop"))
        with_backend(backend_of(llm), lambda backend: backend.check())
        assert [call["outcome"] for call in llm.calls()] == ["503", "dropped", "done"]

    def test_a_server_of_another_kind_is_a_bad_configuration(self, tmp_path: Path) -> None:
        (tmp_path / "api").mkdir()
        (tmp_path / "api" / "tags").write_text("<html>not a model's server</html>")
        with serving_files(tmp_path) as url, pytest.raises(BadConfiguration, match="does not speak Ollama's protocol"):
            with_backend(OllamaTmd(endpoint=url, model=MODEL), lambda backend: backend.check())

    def test_nobody_at_the_address_is_unavailable(self) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            backend = OllamaTmd(endpoint=f"127.0.0.1:{taken.getsockname()[1]}", model=MODEL, backoff=NoWait())
            with pytest.raises(Unavailable, match=r"no connection: .*\(4 tries\)"):
                with_backend(backend, lambda backend: backend.check())

    def test_a_server_is_alive_or_not(self, llm: OllamaProcess) -> None:
        assert with_backend(backend_of(llm), lambda backend: backend.alive())
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            elsewhere = OllamaTmd(endpoint=f"127.0.0.1:{taken.getsockname()[1]}", model=MODEL)
            assert not with_backend(elsewhere, lambda backend: backend.alive())


class TestEndpoints:
    @pytest.mark.parametrize(
        ("given", "normal"),
        [
            ("localhost:11434", "http://localhost:11434"),
            ("http://ollama:11434/", "http://ollama:11434"),
            (" https://llm.example/base// ", "https://llm.example/base"),
        ],
    )
    def test_a_scheme_is_added_and_slashes_are_cut(self, given: str, normal: str) -> None:
        assert normal_endpoint(given) == normal

    def test_one_without_its_scheme_works(self, llm: OllamaProcess) -> None:
        assert codes_of(llm, "a text", endpoint=llm.url.removeprefix("http://") + "/") == [said("a text")]

    @pytest.mark.parametrize("endpoint", ["ftp://host", "http://", "", "http://host:port", "unix:///socket"])
    def test_what_is_no_address_is_a_bad_configuration(self, endpoint: str) -> None:
        with pytest.raises(BadConfiguration, match="the LLM's endpoint"):
            OllamaTmd(endpoint=endpoint, model=MODEL)

    def test_a_password_is_never_shown(self, llm: OllamaProcess) -> None:
        llm.script(Fault(kind="status", status=401, times=None))
        endpoint = llm.url.replace("http://", "http://user:hush@")
        backend = backend_of(llm, endpoint=endpoint)
        failure = failure_of(with_backend(backend, lambda backend: backend.codes(["a text"])))
        assert "hush" not in failure.reason + backend.label + backend.name
