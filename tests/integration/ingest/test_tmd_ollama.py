"""Codes from a model's server: as many calls as there are workers, every fault told apart, and nothing left behind."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardwise_jobs.engines.ingest.codes import Codes
from shardwise_jobs.engines.ingest.tmd import FailureCause, TmdAnswer, TmdBackend, TmdFailure
from shardwise_jobs.engines.ingest.tmd.ollama import Backoff, OllamaTmd
from shardwise_jobs.engines.ingest.tmd.ollama_wire import normal_endpoint
from shardwise_jobs.engines.ingest.tmd.prompt import prompt_for
from shardwise_jobs.errors import BadConfiguration, Unavailable
from tests.support.ollama import words
from tests.support.ollama.process import OllamaProcess, ollama
from tests.support.ollama.script import Fault
from tests.support.web import serving_files

MODEL = "tinyllama:1.1b"
NAME = "ollama-v1:tinyllama:1.1b"
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class NoWait(Backoff):
    """Waits for nothing, and remembers after how many failures it was asked."""

    asked: list[int] = field(default_factory=list)

    def seconds(self, *, failures: int, dice: random.Random) -> float:
        self.asked.append(failures)
        return 0.0


@pytest.fixture(scope="module")
def process() -> Iterator[OllamaProcess]:
    with ollama() as process:
        yield process


@pytest.fixture
def server(process: OllamaProcess) -> Iterator[OllamaProcess]:
    process.settings(parallel=10, max_queue=512)
    process.wait(in_flight=0)
    process.reset()
    yield process
    process.reset()


def _backend(server: OllamaProcess, **options: Any) -> OllamaTmd:
    return OllamaTmd(**{"endpoint": server.url, "model": MODEL, "backoff": NoWait(), **options})


def _with(backend: OllamaTmd, story: Callable[[OllamaTmd], Awaitable[T]]) -> T:
    async def told() -> T:
        try:
            return await story(backend)
        finally:
            await backend.close()

    return asyncio.run(told())


def _codes(server: OllamaProcess, *texts: str, **options: Any) -> list[TmdAnswer | TmdFailure]:
    return _with(_backend(server, **options), lambda backend: backend.codes(texts))


def _said(text: str) -> TmdAnswer:
    """Return what the server's model says of a text."""
    return TmdAnswer(codes=Codes(*words.codes(prompt_for(text))), confidence=None, backend=NAME)


def _failure(found: Sequence[TmdAnswer | TmdFailure]) -> TmdFailure:
    (failure,) = found
    assert isinstance(failure, TmdFailure)
    assert "\n" not in failure.reason
    return failure


def _texts(count: int) -> list[str]:
    return [f"text number {number}" for number in range(count)]


def _seeds(server: OllamaProcess) -> list[int]:
    return [call["seed"] for call in server.calls()]


class TestAsking:
    def test_answers_are_the_models_in_the_order_of_the_texts(self, server: OllamaProcess) -> None:
        texts = _texts(40)
        assert _codes(server, *texts) == [_said(text) for text in texts]
        calls = server.calls()
        assert {(call["path"], call["stream"], call["seed"]) for call in calls} == {("/api/generate", False, 0)}
        assert len(calls) == 40
        server.wait(connections=0)

    def test_order_is_kept_when_the_first_is_the_last_to_be_answered(self, server: OllamaProcess) -> None:
        server.script(Fault(kind="hold", contains='"text number 0"'))

        async def story(backend: OllamaTmd) -> list[TmdAnswer | TmdFailure]:
            asked = asyncio.create_task(backend.codes(_texts(20)))
            await asyncio.to_thread(server.wait, done=19, held=1)
            await asyncio.to_thread(server.release)
            return await asked

        assert _with(_backend(server), story) == [_said(text) for text in _texts(20)]

    def test_a_backend_says_who_and_where_it_is(self, server: OllamaProcess) -> None:
        backend: TmdBackend = _backend(server)
        assert backend.name == NAME
        assert backend.label == f"ollama:{server.url}"
        asyncio.run(backend.close())

    def test_no_texts_need_no_call(self, server: OllamaProcess) -> None:
        assert _codes(server) == []
        assert server.calls() == []


class TestWorkers:
    def test_ten_keep_ten_slots_full_to_the_last_of_200_texts(self, server: OllamaProcess) -> None:
        server.settings(hold=True)

        async def story(backend: OllamaTmd) -> list[TmdAnswer | TmdFailure]:
            asked = asyncio.create_task(backend.codes(_texts(200)))
            for answered in range(191):
                # One answer makes room for one call: nobody waits for a round to end.
                await asyncio.to_thread(server.wait, held=10, queued=0, calls=answered + 10)
                await asyncio.to_thread(server.release, 1)
            await asyncio.to_thread(server.wait, held=9, calls=200)
            await asyncio.to_thread(server.release)
            return await asked

        assert _with(_backend(server, workers=10), story) == [_said(text) for text in _texts(200)]
        counters = server.counters()
        assert (counters["most_running"], counters["most_queued"], counters["most_in_flight"]) == (10, 0, 10)
        assert counters["calls"] == counters["done"] == 200

    def test_beyond_the_slots_they_queue_at_the_server(self, server: OllamaProcess) -> None:
        server.settings(parallel=4, hold=True)

        async def story(backend: OllamaTmd) -> dict[str, int]:
            asked = asyncio.create_task(backend.codes(_texts(30)))
            counters = await asyncio.to_thread(server.wait, held=4, queued=6)
            await asyncio.to_thread(server.settings, hold=False)
            await asyncio.to_thread(server.release)
            assert await asked == [_said(text) for text in _texts(30)]
            return counters

        assert _with(_backend(server, workers=10), story)["in_flight"] == 10
        assert server.counters()["most_running"] == 4

    def test_blocks_that_overlap_share_them(self, server: OllamaProcess) -> None:
        server.settings(hold=True)

        async def story(backend: OllamaTmd) -> list[list[TmdAnswer | TmdFailure]]:
            blocks = [[f"{block} {text}" for text in _texts(20)] for block in "abc"]
            asked = asyncio.gather(*map(backend.codes, blocks))
            await asyncio.to_thread(server.wait, held=3)
            await asyncio.to_thread(server.settings, hold=False)
            await asyncio.to_thread(server.release)
            return await asked

        found = _with(_backend(server, workers=3), story)
        assert found == [[_said(f"{block} {text}") for text in _texts(20)] for block in "abc"]
        assert server.counters()["most_in_flight"] == 3

    def test_they_stay_bounded_while_calls_fail(self, server: OllamaProcess) -> None:
        server.script(Fault(kind="status", status=503, times=30), Fault(kind="drop", times=30))
        assert _codes(server, *_texts(40), workers=4, retries=100) == [_said(text) for text in _texts(40)]
        counters = server.counters()
        assert counters["most_in_flight"] <= 4
        assert counters["calls"] == 40 + 60

    @pytest.mark.parametrize("workers", [0, -1])
    def test_there_must_be_one(self, workers: int) -> None:
        with pytest.raises(BadConfiguration, match=r"^max_workers must be greater than 0$"):
            OllamaTmd(endpoint="http://127.0.0.1:9", model=MODEL, workers=workers)


class TestFaultsThatPass:
    @pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
    def test_a_status_that_asks_for_patience_gets_three_more_tries(self, server: OllamaProcess, status: int) -> None:
        server.script(Fault(kind="status", status=status, times=3))
        waits = NoWait()
        assert _codes(server, "a text", backoff=waits) == [_said("a text")]
        # The server was in trouble, the model was not: it is asked the same again.
        assert _seeds(server) == [0, 0, 0, 0]
        assert waits.asked == [1, 2, 3]

    @pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
    def test_after_the_last_try_the_server_was_unavailable(self, server: OllamaProcess, status: int) -> None:
        server.script(Fault(kind="status", status=status, times=None, text="no luck"))
        failure = _failure(_codes(server, "a text"))
        assert failure.cause is FailureCause.UNAVAILABLE
        assert failure.reason == f"POST {server.url}/api/generate: answered {status}: no luck (4 tries)"
        assert len(server.calls()) == 4

    @pytest.mark.parametrize("kind", ["drop", "cut"])
    def test_a_connection_that_breaks_is_tried_again(self, server: OllamaProcess, kind: Any) -> None:
        server.script(Fault(kind=kind, times=3))
        assert _codes(server, "a text") == [_said("a text")]
        assert [call["outcome"] for call in server.calls()] == [{"drop": "dropped"}.get(kind, kind)] * 3 + ["done"]

    @pytest.mark.parametrize("kind", ["drop", "cut"])
    def test_a_connection_that_always_breaks_is_unavailable(self, server: OllamaProcess, kind: Any) -> None:
        server.script(Fault(kind=kind, times=None))
        failure = _failure(_codes(server, "a text"))
        assert failure.cause is FailureCause.UNAVAILABLE
        assert "the connection broke" in failure.reason

    @pytest.mark.parametrize("kind", ["hold", "drip"])
    def test_a_server_that_is_too_slow_is_left_and_asked_again(self, server: OllamaProcess, kind: Any) -> None:
        server.script(Fault(kind=kind, times=1))
        found = _codes(server, "a text", timeout_seconds=0.5)
        assert found == [_said("a text")]
        assert [call["outcome"] for call in server.calls()] == ["abandoned", "done"]
        server.wait(in_flight=0, connections=0)

    def test_a_server_that_is_always_too_slow_is_unavailable(self, server: OllamaProcess) -> None:
        server.script(Fault(kind="hold", times=None))
        failure = _failure(_codes(server, "a text", timeout_seconds=0.2, retries=1))
        assert failure.cause is FailureCause.UNAVAILABLE
        assert failure.reason.endswith("no answer within 0.2 s (2 tries)")
        server.wait(in_flight=0, connections=0)

    def test_nobody_at_the_address_is_unavailable(self) -> None:
        with socket.socket() as taken:
            # Bound and not listening: nobody else gets the port meanwhile.
            taken.bind(("127.0.0.1", 0))
            endpoint = f"http://127.0.0.1:{taken.getsockname()[1]}"
            backend = OllamaTmd(endpoint=endpoint, model=MODEL, backoff=NoWait())
            failure = _failure(_with(backend, lambda backend: backend.codes(["a text"])))
        assert failure.cause is FailureCause.UNAVAILABLE
        assert failure.reason.startswith(f"POST {endpoint}/api/generate: no connection: ")
        assert failure.reason.endswith("(4 tries)")

    def test_a_server_that_dies_leaves_failures_and_no_wait(self) -> None:
        async def story(backend: OllamaTmd) -> list[TmdAnswer | TmdFailure]:
            asked = asyncio.create_task(backend.codes(_texts(12)))
            await asyncio.to_thread(doomed.wait, held=3)
            doomed.process.kill()
            return await asked

        with ollama() as doomed:
            doomed.settings(hold=True)
            found = _with(_backend(doomed, workers=3), story)
        assert [failure.cause for failure in found if isinstance(failure, TmdFailure)] == (
            [FailureCause.UNAVAILABLE] * 12
        )

    def test_a_full_queue_is_waited_out(self, server: OllamaProcess) -> None:
        server.settings(parallel=1, max_queue=1, hold=True)

        async def story(backend: OllamaTmd) -> list[TmdAnswer | TmdFailure]:
            asked = asyncio.create_task(backend.codes(_texts(20)))
            await asyncio.to_thread(lambda: server.wait(held=1, queued=1, failed_at_least=3))
            await asyncio.to_thread(server.settings, hold=False)
            await asyncio.to_thread(server.release)
            return await asked

        assert _with(_backend(server, workers=5, retries=10**6), story) == [_said(text) for text in _texts(20)]


class TestFaultsThatStay:
    @pytest.mark.parametrize(
        ("status", "cause"),
        [
            (400, FailureCause.TEXT),
            (413, FailureCause.TEXT),
            (401, FailureCause.REFUSED),
            (404, FailureCause.REFUSED),
            (302, FailureCause.REFUSED),
        ],
    )
    def test_a_refusal_is_not_repeated(self, server: OllamaProcess, status: int, cause: FailureCause) -> None:
        server.script(Fault(kind="status", status=status, times=None, text="never"))
        failure = _failure(_codes(server, "a text"))
        assert (failure.cause, len(server.calls())) == (cause, 1)
        assert failure.reason == f"POST {server.url}/api/generate: answered {status}: never"

    def test_a_model_that_is_not_there_is_refused(self, server: OllamaProcess) -> None:
        failure = _failure(_codes(server, "a text", model="other:7b"))
        assert failure.cause is FailureCause.REFUSED
        assert failure.reason.endswith("answered 404: model 'other:7b' not found")

    @pytest.mark.parametrize(
        "fault",
        [
            Fault(kind="words", text='{"domain":16,"task":0,"modifier":0}', times=2),
            Fault(kind="words", text="99,99,99", times=2),
            Fault(kind="words", text='{"domain":15,"task":1', truncated=True, times=2),
            Fault(kind="words", text="1,2,3", truncated=True, times=2),
            Fault(kind="words", text="ありがとうございます", times=2),
            Fault(kind="words", text="", times=2),
            Fault(kind="body", text="<html>a gateway's page</html>", times=2),
            Fault(kind="body", text="", times=2),
            Fault(kind="body", text="[]", times=2),
            Fault(kind="body", text='{"error": "said with status 200"}', times=2),
            Fault(kind="body", text='{"response": "1,2,3", "done": false}', times=2),
            Fault(kind="body", text='{"response": [1,2,3], "done": true}', times=2),
            Fault(kind="body", text='{"response": "1,2,3", "done": true' + " " * 2_000_000 + "}", times=2),
        ],
        ids=lambda fault: f"{fault.kind} {fault.text[:40]}",
    )
    def test_an_unusable_answer_is_asked_again_with_another_seed(self, server: OllamaProcess, fault: Fault) -> None:
        server.script(fault)
        # One worker has one connection: an answer that is given up must give it back.
        assert _codes(server, "a text", workers=1, timeout_seconds=5) == [_said("a text")]
        assert _seeds(server) == [0, 1, 2]

    def test_a_model_that_keeps_lying_costs_that_text_and_is_never_bent_into_codes(self, server: OllamaProcess) -> None:
        server.script(Fault(kind="words", text="64,64,64", times=None, contains='"text number 1"'))
        before, failure, after = _codes(server, *_texts(3))
        assert (before, after) == (_said("text number 0"), _said("text number 2"))
        assert failure == TmdFailure(
            reason=f"{MODEL}: domain 64 is not within 0 to 15: '64,64,64' (4 answers)", cause=FailureCause.TEXT
        )
        lied = [call for call in server.calls() if call["fault"]]
        assert [call["seed"] for call in lied] == [0, 1, 2, 3]

    def test_a_line_that_breaks_does_not_change_what_the_model_is_asked(self, server: OllamaProcess) -> None:
        server.script(
            Fault(kind="status", status=503),
            Fault(kind="words", text="nonsense"),
            Fault(kind="drop"),
            Fault(kind="words", text="more nonsense"),
        )
        assert _codes(server, "a text") == [_said("a text")]
        assert _seeds(server) == [0, 0, 1, 1, 2]

    def test_without_retries_each_text_is_asked_once(self, server: OllamaProcess) -> None:
        server.script(Fault(kind="words", text="nonsense", contains="0"), Fault(kind="status", contains="1"))
        lie, busy = _codes(server, "text 0", "text 1", retries=0)
        assert isinstance(lie, TmdFailure)
        assert isinstance(busy, TmdFailure)
        assert not lie.reason.endswith(")")
        assert not busy.reason.endswith(")")
        assert len(server.calls()) == 2

    def test_no_fault_makes_the_codes_that_stand_for_zero(self, server: OllamaProcess) -> None:
        text = "always in trouble"
        server.script(
            *[Fault(kind="status", status=status, contains=text) for status in (500, 503)],
            *[Fault(kind=kind, contains=text) for kind in ("drop", "cut")],
            *[Fault(kind="words", text=said, contains=text) for said in ("", "0,0", "{}")],
            Fault(kind="status", status=400, contains=text),
        )
        found = [_failure(_codes(server, text, retries=0)) for _ in range(8)]
        assert len(found) == 8
        assert _codes(server, text) == [_said(text)]


class TestCache:
    def test_a_text_is_asked_for_once_but_for_space_around_it(self, server: OllamaProcess) -> None:
        async def story(backend: OllamaTmd) -> list[TmdAnswer | TmdFailure]:
            first = await backend.codes(["a text", " a text\n", "A Text"])
            assert backend.statistics.calls == 2
            again = await backend.codes(["a text", "A Text"])
            assert backend.statistics.from_cache == 2
            return [*first, *again]

        one, two = _said("a text"), _said("A Text")
        assert one != two
        assert _with(_backend(server), story) == [one, one, two, one, two]
        assert len(server.calls()) == 2

    def test_what_was_not_used_for_longest_is_forgotten(self, server: OllamaProcess) -> None:
        async def story(backend: OllamaTmd) -> list[int]:
            calls = []
            for text in ("a", "b", "a", "c", "a", "b"):
                await backend.codes([text])
                calls.append(backend.statistics.calls)
            return calls

        assert _with(_backend(server, cache_size=2), story) == [1, 2, 2, 3, 3, 4]

    def test_a_failure_is_not_kept(self, server: OllamaProcess) -> None:
        server.script(Fault(kind="status", status=400))

        async def story(backend: OllamaTmd) -> list[TmdAnswer | TmdFailure]:
            return [*await backend.codes(["a text"]), *await backend.codes(["a text"])]

        failure, answer = _with(_backend(server), story)
        assert isinstance(failure, TmdFailure)
        assert answer == _said("a text")


class TestCancelling:
    def test_leaves_no_call_and_no_connection_and_a_backend_that_works(self, server: OllamaProcess) -> None:
        server.settings(parallel=4, hold=True)

        async def story(backend: OllamaTmd) -> list[TmdAnswer | TmdFailure]:
            asked = asyncio.create_task(backend.codes(_texts(50)))
            await asyncio.to_thread(server.wait, held=4, queued=6)
            asked.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asked
            gone = await asyncio.to_thread(lambda: server.wait(in_flight=0, running=0, queued=0, held=0, connections=0))
            assert (gone["abandoned"], gone["calls"]) == (10, 10)
            assert len(asyncio.all_tasks()) == 1
            await asyncio.to_thread(server.settings, hold=False)
            return await backend.codes(_texts(12))

        assert _with(_backend(server, workers=10), story) == [_said(text) for text in _texts(12)]

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
        _with(_backend(server, backoff=_Always(first_seconds=hour, longest_seconds=hour)), story)
        assert len(server.calls()) == 1

    def test_one_block_leaves_the_others_alone(self, server: OllamaProcess) -> None:
        server.script(Fault(kind="hold", times=None, contains="stuck"))

        async def story(backend: OllamaTmd) -> list[TmdAnswer | TmdFailure]:
            stuck = asyncio.create_task(backend.codes(["stuck 1", "stuck 2"]))
            await asyncio.to_thread(server.wait, held=2)
            other = asyncio.create_task(backend.codes(_texts(5)))
            stuck.cancel()
            with pytest.raises(asyncio.CancelledError):
                await stuck
            return await other

        assert _with(_backend(server, workers=2), story) == [_said(text) for text in _texts(5)]


@dataclass(frozen=True, kw_only=True)
class _Always(Backoff):
    """Waits as long as it may."""

    def seconds(self, *, failures: int, dice: random.Random) -> float:
        return self.longest_seconds


class TestCheck:
    def test_loads_the_model(self, server: OllamaProcess) -> None:
        _with(_backend(server), lambda backend: backend.check())
        (call,) = server.calls()
        assert (call["prompt"], call["outcome"]) == (words.digest(""), "done")

    def test_a_model_that_is_not_there_is_a_bad_configuration(self, server: OllamaProcess) -> None:
        with pytest.raises(BadConfiguration, match=f"has no model 'other:7b'; it has {MODEL}"):
            _with(_backend(server, model="other:7b"), lambda backend: backend.check())

    def test_trouble_that_passes_is_waited_out(self, server: OllamaProcess) -> None:
        server.script(Fault(kind="status", status=503), Fault(kind="drop"))
        _with(_backend(server), lambda backend: backend.check())
        assert [call["outcome"] for call in server.calls()] == ["503", "dropped", "done"]

    def test_a_server_of_another_kind_is_a_bad_configuration(self, tmp_path: Path) -> None:
        (tmp_path / "api").mkdir()
        (tmp_path / "api" / "tags").write_text("<html>not a model's server</html>")
        with serving_files(tmp_path) as url, pytest.raises(BadConfiguration, match="does not speak Ollama's protocol"):
            _with(OllamaTmd(endpoint=url, model=MODEL), lambda backend: backend.check())

    def test_nobody_at_the_address_is_unavailable(self) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            backend = OllamaTmd(endpoint=f"127.0.0.1:{taken.getsockname()[1]}", model=MODEL, backoff=NoWait())
            with pytest.raises(Unavailable, match=r"no connection: .*\(4 tries\)"):
                _with(backend, lambda backend: backend.check())

    def test_a_server_is_alive_or_not(self, server: OllamaProcess) -> None:
        assert _with(_backend(server), lambda backend: backend.alive())
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            elsewhere = OllamaTmd(endpoint=f"127.0.0.1:{taken.getsockname()[1]}", model=MODEL)
            assert not _with(elsewhere, lambda backend: backend.alive())


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
        assert _codes(server, "a text", endpoint=server.url.removeprefix("http://") + "/") == [_said("a text")]

    @pytest.mark.parametrize("endpoint", ["ftp://host", "http://", "", "http://host:port", "unix:///socket"])
    def test_what_is_no_address_is_a_bad_configuration(self, endpoint: str) -> None:
        with pytest.raises(BadConfiguration, match="the LLM's endpoint"):
            OllamaTmd(endpoint=endpoint, model=MODEL)

    def test_a_password_is_never_shown(self, server: OllamaProcess) -> None:
        server.script(Fault(kind="status", status=401, times=None))
        endpoint = server.url.replace("http://", "http://user:hush@")
        backend = _backend(server, endpoint=endpoint)
        failure = _failure(_with(backend, lambda backend: backend.codes(["a text"])))
        assert "hush" not in failure.reason + backend.label + backend.name


@given(st.integers(1, 5000), st.randoms(use_true_random=False))
def test_waits_double_to_a_limit_with_full_jitter(failures: int, dice: random.Random) -> None:
    assert 0 <= Backoff().seconds(failures=failures, dice=dice) <= min(8.0, 0.5 * 2.0 ** min(failures - 1, 100))


def test_waits_use_all_of_their_room() -> None:
    dice = random.Random(1)
    waits = [Backoff().seconds(failures=3, dice=dice) for _ in range(200)]
    assert min(waits) < 0.2
    assert max(waits) > 1.8
