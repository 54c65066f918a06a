"""Codes from a model's server: as many calls as there are workers, in order, remembered, and nothing left behind."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from shardwise_jobs.engines.ingest.tmd import TmdAnswer, TmdBackend, TmdFailure
from shardwise_jobs.engines.ingest.tmd.ollama import Backoff, OllamaTmd
from shardwise_jobs.engines.ingest.tmd.ollama_wire import normal_endpoint
from shardwise_jobs.errors import BadConfiguration, Unavailable
from tests.support.asking import (
    MODEL,
    NAME,
    NoWait,
    backend_of,
    codes_of,
    failure_of,
    fresh,
    said,
    texts,
    with_backend,
)
from tests.support.ollama import words
from tests.support.ollama.process import OllamaProcess, ollama
from tests.support.ollama.script import Fault
from tests.support.web import serving_files


@pytest.fixture(scope="module")
def process() -> Iterator[OllamaProcess]:
    with ollama() as process:
        yield process


@pytest.fixture
def server(process: OllamaProcess) -> Iterator[OllamaProcess]:
    with fresh(process) as server:
        yield server


class TestAsking:
    def test_answers_are_the_models_in_the_order_of_the_texts(self, server: OllamaProcess) -> None:
        asked = texts(40)
        assert codes_of(server, *asked) == [said(text) for text in asked]
        calls = server.calls()
        assert {(call["path"], call["stream"], call["seed"]) for call in calls} == {("/api/generate", False, 0)}
        assert len(calls) == 40
        server.wait(connections=0)

    def test_order_is_kept_when_the_first_is_the_last_to_be_answered(self, server: OllamaProcess) -> None:
        server.script(Fault(kind="hold", contains='"text number 0"'))

        async def story(backend: OllamaTmd) -> list[TmdAnswer | TmdFailure]:
            asked = asyncio.create_task(backend.codes(texts(20)))
            await asyncio.to_thread(server.wait, done=19, held=1)
            await asyncio.to_thread(server.release)
            return await asked

        assert with_backend(backend_of(server), story) == [said(text) for text in texts(20)]

    def test_a_backend_says_who_and_where_it_is(self, server: OllamaProcess) -> None:
        backend: TmdBackend = backend_of(server)
        assert backend.name == NAME
        assert backend.label == f"ollama:{server.url}"
        asyncio.run(backend.close())

    def test_no_texts_need_no_call(self, server: OllamaProcess) -> None:
        assert codes_of(server) == []
        assert server.calls() == []


class TestWorkers:
    def test_ten_keep_ten_slots_full_to_the_last_of_200_texts(self, server: OllamaProcess) -> None:
        server.settings(hold=True)

        async def story(backend: OllamaTmd) -> list[TmdAnswer | TmdFailure]:
            asked = asyncio.create_task(backend.codes(texts(200)))
            for answered in range(191):
                # One answer makes room for one call: nobody waits for a round to end.
                await asyncio.to_thread(server.wait, held=10, queued=0, calls=answered + 10)
                await asyncio.to_thread(server.release, 1)
            await asyncio.to_thread(server.wait, held=9, calls=200)
            await asyncio.to_thread(server.release)
            return await asked

        assert with_backend(backend_of(server, workers=10), story) == [said(text) for text in texts(200)]
        counters = server.counters()
        assert (counters["most_running"], counters["most_queued"], counters["most_in_flight"]) == (10, 0, 10)
        assert counters["calls"] == counters["done"] == 200

    def test_beyond_the_slots_they_queue_at_the_server(self, server: OllamaProcess) -> None:
        server.settings(parallel=4, hold=True)

        async def story(backend: OllamaTmd) -> dict[str, int]:
            asked = asyncio.create_task(backend.codes(texts(30)))
            counters = await asyncio.to_thread(server.wait, held=4, queued=6)
            await asyncio.to_thread(server.settings, hold=False)
            await asyncio.to_thread(server.release)
            assert await asked == [said(text) for text in texts(30)]
            return counters

        assert with_backend(backend_of(server, workers=10), story)["in_flight"] == 10
        assert server.counters()["most_running"] == 4

    def test_blocks_that_overlap_share_them(self, server: OllamaProcess) -> None:
        server.settings(hold=True)

        async def story(backend: OllamaTmd) -> list[list[TmdAnswer | TmdFailure]]:
            blocks = [[f"{block} {text}" for text in texts(20)] for block in "abc"]
            asked = asyncio.gather(*map(backend.codes, blocks))
            await asyncio.to_thread(server.wait, held=3)
            await asyncio.to_thread(server.settings, hold=False)
            await asyncio.to_thread(server.release)
            return await asked

        found = with_backend(backend_of(server, workers=3), story)
        assert found == [[said(f"{block} {text}") for text in texts(20)] for block in "abc"]
        assert server.counters()["most_in_flight"] == 3

    def test_they_stay_bounded_while_calls_fail(self, server: OllamaProcess) -> None:
        server.script(Fault(kind="status", status=503, times=30), Fault(kind="drop", times=30))
        assert codes_of(server, *texts(40), workers=4, retries=100) == [said(text) for text in texts(40)]
        counters = server.counters()
        assert counters["most_in_flight"] <= 4
        assert counters["calls"] == 40 + 60

    @pytest.mark.parametrize("workers", [0, -1])
    def test_there_must_be_one(self, workers: int) -> None:
        with pytest.raises(BadConfiguration, match=r"^max_workers must be greater than 0$"):
            OllamaTmd(endpoint="http://127.0.0.1:9", model=MODEL, workers=workers)


class TestCache:
    def test_a_text_is_asked_for_once_but_for_space_around_it(self, server: OllamaProcess) -> None:
        async def story(backend: OllamaTmd) -> list[TmdAnswer | TmdFailure]:
            first = await backend.codes(["a text", " a text\n", "A Text"])
            assert backend.statistics.calls == 2
            again = await backend.codes(["a text", "A Text"])
            assert backend.statistics.from_cache == 2
            return [*first, *again]

        one, two = said("a text"), said("A Text")
        assert one != two
        assert with_backend(backend_of(server), story) == [one, one, two, one, two]
        assert len(server.calls()) == 2

    def test_what_was_not_used_for_longest_is_forgotten(self, server: OllamaProcess) -> None:
        async def story(backend: OllamaTmd) -> list[int]:
            calls = []
            for text in ("a", "b", "a", "c", "a", "b"):
                await backend.codes([text])
                calls.append(backend.statistics.calls)
            return calls

        assert with_backend(backend_of(server, cache_size=2), story) == [1, 2, 2, 3, 3, 4]

    def test_a_failure_is_not_kept(self, server: OllamaProcess) -> None:
        server.script(Fault(kind="status", status=400))

        async def story(backend: OllamaTmd) -> list[TmdAnswer | TmdFailure]:
            return [*await backend.codes(["a text"]), *await backend.codes(["a text"])]

        failure, answer = with_backend(backend_of(server), story)
        assert isinstance(failure, TmdFailure)
        assert answer == said("a text")


class TestCancelling:
    def test_leaves_no_call_and_no_connection_and_a_backend_that_works(self, server: OllamaProcess) -> None:
        server.settings(parallel=4, hold=True)

        async def story(backend: OllamaTmd) -> list[TmdAnswer | TmdFailure]:
            asked = asyncio.create_task(backend.codes(texts(50)))
            await asyncio.to_thread(server.wait, held=4, queued=6)
            asked.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asked
            gone = await asyncio.to_thread(lambda: server.wait(in_flight=0, running=0, queued=0, held=0, connections=0))
            assert (gone["abandoned"], gone["calls"]) == (10, 10)
            assert len(asyncio.all_tasks()) == 1
            await asyncio.to_thread(server.settings, hold=False)
            return await backend.codes(texts(12))

        assert with_backend(backend_of(server, workers=10), story) == [said(text) for text in texts(12)]

    def test_ends_a_wait_for_another_try(self, server: OllamaProcess) -> None:
        server.script(Fault(kind="status", status=503, times=None))

        async def story(backend: OllamaTmd) -> None:
            asked = asyncio.create_task(backend.codes(["a text"]))
            await asyncio.to_thread(server.wait, calls=1, in_flight=0)
            asked.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asked

        # Were the wait not ended, the test would not end either.
        hour = 3600.0
        with_backend(backend_of(server, backoff=_Always(first_seconds=hour, longest_seconds=hour)), story)
        assert len(server.calls()) == 1

    def test_one_block_leaves_the_others_alone(self, server: OllamaProcess) -> None:
        server.script(Fault(kind="hold", times=None, contains="stuck"))

        async def story(backend: OllamaTmd) -> list[TmdAnswer | TmdFailure]:
            stuck = asyncio.create_task(backend.codes(["stuck 1", "stuck 2"]))
            await asyncio.to_thread(server.wait, held=2)
            other = asyncio.create_task(backend.codes(texts(5)))
            stuck.cancel()
            with pytest.raises(asyncio.CancelledError):
                await stuck
            return await other

        assert with_backend(backend_of(server, workers=2), story) == [said(text) for text in texts(5)]


@dataclass(frozen=True, kw_only=True)
class _Always(Backoff):
    """Waits as long as it may."""

    def seconds(self, *, failures: int, dice: random.Random) -> float:
        return self.longest_seconds


class TestCheck:
    def test_loads_the_model(self, server: OllamaProcess) -> None:
        with_backend(backend_of(server), lambda backend: backend.check())
        (call,) = server.calls()
        assert (call["prompt"], call["outcome"]) == (words.digest(""), "done")

    def test_a_model_that_is_not_there_is_a_bad_configuration(self, server: OllamaProcess) -> None:
        with pytest.raises(BadConfiguration, match=f"has no model 'other:7b'; it has {MODEL}"):
            with_backend(backend_of(server, model="other:7b"), lambda backend: backend.check())

    def test_trouble_that_passes_is_waited_out(self, server: OllamaProcess) -> None:
        server.script(Fault(kind="status", status=503), Fault(kind="drop"))
        with_backend(backend_of(server), lambda backend: backend.check())
        assert [call["outcome"] for call in server.calls()] == ["503", "dropped", "done"]

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

    def test_a_server_is_alive_or_not(self, server: OllamaProcess) -> None:
        assert with_backend(backend_of(server), lambda backend: backend.alive())
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

    def test_one_without_its_scheme_works(self, server: OllamaProcess) -> None:
        assert codes_of(server, "a text", endpoint=server.url.removeprefix("http://") + "/") == [said("a text")]

    @pytest.mark.parametrize("endpoint", ["ftp://host", "http://", "", "http://host:port", "unix:///socket"])
    def test_what_is_no_address_is_a_bad_configuration(self, endpoint: str) -> None:
        with pytest.raises(BadConfiguration, match="the LLM's endpoint"):
            OllamaTmd(endpoint=endpoint, model=MODEL)

    def test_a_password_is_never_shown(self, server: OllamaProcess) -> None:
        server.script(Fault(kind="status", status=401, times=None))
        endpoint = server.url.replace("http://", "http://user:hush@")
        backend = backend_of(server, endpoint=endpoint)
        failure = failure_of(with_backend(backend, lambda backend: backend.codes(["a text"])))
        assert "hush" not in failure.reason + backend.label + backend.name
