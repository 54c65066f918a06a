"""What can go wrong between a worker and a model's server: every fault told apart, and none made into codes."""

from __future__ import annotations

import asyncio
import random
import socket
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardwise_jobs.engines.ingest.tmd import FailureCause, TmdAnswer, TmdFailure
from shardwise_jobs.engines.ingest.tmd.ollama import Backoff, OllamaTmd
from tests.support.asking import (
    MODEL,
    NoWait,
    backend_of,
    codes_of,
    failure_of,
    said,
    seeds,
    texts,
    with_backend,
)
from tests.support.ollama.process import OllamaProcess, ollama
from tests.support.ollama.script import Fault


class TestFaultsThatPass:
    @pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
    def test_a_status_that_asks_for_patience_gets_three_more_tries(self, llm: OllamaProcess, status: int) -> None:
        llm.script(Fault(kind="status", status=status, times=3))
        waits = NoWait()
        assert codes_of(llm, "a text", backoff=waits) == [said("a text")]
        # The server was in trouble, the model was not: it is asked the same again.
        assert seeds(llm) == [0, 0, 0, 0]
        assert waits.asked == [1, 2, 3]

    @pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
    def test_after_the_last_try_the_server_was_unavailable(self, llm: OllamaProcess, status: int) -> None:
        llm.script(Fault(kind="status", status=status, times=None, text="no luck"))
        failure = failure_of(codes_of(llm, "a text"))
        assert failure.cause is FailureCause.UNAVAILABLE
        assert failure.reason == f"POST {llm.url}/api/generate: answered {status}: no luck (4 tries)"
        assert len(llm.calls()) == 4

    @pytest.mark.parametrize("kind", ["drop", "cut"])
    def test_a_connection_that_breaks_is_tried_again(self, llm: OllamaProcess, kind: Any) -> None:
        llm.script(Fault(kind=kind, times=3))
        assert codes_of(llm, "a text") == [said("a text")]
        assert [call["outcome"] for call in llm.calls()] == [{"drop": "dropped"}.get(kind, kind)] * 3 + ["done"]

    @pytest.mark.parametrize("kind", ["drop", "cut"])
    def test_a_connection_that_always_breaks_is_unavailable(self, llm: OllamaProcess, kind: Any) -> None:
        llm.script(Fault(kind=kind, times=None))
        failure = failure_of(codes_of(llm, "a text"))
        assert failure.cause is FailureCause.UNAVAILABLE
        assert "the connection broke" in failure.reason

    @pytest.mark.parametrize("kind", ["hold", "drip"])
    def test_a_server_that_is_too_slow_is_left_and_asked_again(self, llm: OllamaProcess, kind: Any) -> None:
        llm.script(Fault(kind=kind, times=1))
        found = codes_of(llm, "a text", timeout_seconds=2)
        assert found == [said("a text")]
        assert [call["outcome"] for call in llm.calls()] == ["abandoned", "done"]
        llm.wait(in_flight=0, connections=0)

    def test_a_server_that_is_always_too_slow_is_unavailable(self, llm: OllamaProcess) -> None:
        llm.script(Fault(kind="hold", times=None))
        failure = failure_of(codes_of(llm, "a text", timeout_seconds=0.2, retries=1))
        assert failure.cause is FailureCause.UNAVAILABLE
        assert failure.reason.endswith("no answer within 0.2 s (2 tries)")
        llm.wait(in_flight=0, connections=0)

    def test_nobody_at_the_address_is_unavailable(self) -> None:
        with socket.socket() as taken:
            # Bound and not listening: nobody else gets the port meanwhile.
            taken.bind(("127.0.0.1", 0))
            endpoint = f"http://127.0.0.1:{taken.getsockname()[1]}"
            backend = OllamaTmd(endpoint=endpoint, model=MODEL, backoff=NoWait())
            failure = failure_of(with_backend(backend, lambda backend: backend.codes(["a text"])))
        assert failure.cause is FailureCause.UNAVAILABLE
        assert failure.reason.startswith(f"POST {endpoint}/api/generate: no connection: ")
        assert failure.reason.endswith("(4 tries)")

    def test_a_server_that_dies_leaves_failures_and_no_wait(self) -> None:
        async def story(backend: OllamaTmd) -> list[TmdAnswer | TmdFailure]:
            asked = asyncio.create_task(backend.codes(texts(12)))
            await asyncio.to_thread(doomed.wait, held=3)
            doomed.process.kill()
            return await asked

        with ollama() as doomed:
            doomed.settings(hold=True)
            found = with_backend(backend_of(doomed, workers=3), story)
        assert [failure.cause for failure in found if isinstance(failure, TmdFailure)] == (
            [FailureCause.UNAVAILABLE] * 12
        )

    def test_a_full_queue_is_waited_out(self, llm: OllamaProcess) -> None:
        llm.settings(parallel=1, max_queue=1, hold=True)

        async def story(backend: OllamaTmd) -> list[TmdAnswer | TmdFailure]:
            asked = asyncio.create_task(backend.codes(texts(20)))
            await asyncio.to_thread(lambda: llm.wait(held=1, queued=1, failed_at_least=3))
            await asyncio.to_thread(llm.settings, hold=False)
            await asyncio.to_thread(llm.release)
            return await asked

        assert with_backend(backend_of(llm, workers=5, retries=10**6), story) == [said(text) for text in texts(20)]


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
    def test_a_refusal_is_not_repeated(self, llm: OllamaProcess, status: int, cause: FailureCause) -> None:
        llm.script(Fault(kind="status", status=status, times=None, text="never"))
        failure = failure_of(codes_of(llm, "a text"))
        assert (failure.cause, len(llm.calls())) == (cause, 1)
        assert failure.reason == f"POST {llm.url}/api/generate: answered {status}: never"

    def test_a_model_that_is_not_there_is_refused(self, llm: OllamaProcess) -> None:
        failure = failure_of(codes_of(llm, "a text", model="other:7b"))
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
            Fault(kind="words", text="0,5,7 or 1,2,3", times=2),
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
    def test_an_unusable_answer_is_asked_again_with_another_seed(self, llm: OllamaProcess, fault: Fault) -> None:
        llm.script(fault)
        # One worker has one connection: an answer that is given up must give it back.
        assert codes_of(llm, "a text", workers=1, timeout_seconds=5) == [said("a text")]
        assert seeds(llm) == [0, 1, 2]

    def test_a_model_that_keeps_lying_costs_that_text_and_is_never_bent_into_codes(self, llm: OllamaProcess) -> None:
        llm.script(Fault(kind="words", text="64,64,64", times=None, contains='"text number 1"'))
        before, failure, after = codes_of(llm, *texts(3))
        assert (before, after) == (said("text number 0"), said("text number 2"))
        assert failure == TmdFailure(
            reason=f"{MODEL}: domain 64 is not within 0 to 15: '64,64,64' (4 answers)", cause=FailureCause.TEXT
        )
        lied = [call for call in llm.calls() if call["fault"]]
        assert [call["seed"] for call in lied] == [0, 1, 2, 3]

    def test_of_answers_that_differ_none_is_stored(self, llm: OllamaProcess) -> None:
        llm.script(Fault(kind="words", text='{"domain":1,"task":2,"modifier":3}, no: 0,5,7', times=None))
        failure = failure_of(codes_of(llm, "a text", retries=1))
        assert failure.cause is FailureCause.TEXT
        assert failure.reason.startswith(f"{MODEL}: the answer is ambiguous, it holds 1,2,3 and 0,5,7: ")
        assert failure.reason.endswith("(2 answers)")

    def test_a_line_that_breaks_does_not_change_what_the_model_is_asked(self, llm: OllamaProcess) -> None:
        llm.script(
            Fault(kind="status", status=503),
            Fault(kind="words", text="nonsense"),
            Fault(kind="drop"),
            Fault(kind="words", text="more nonsense"),
        )
        assert codes_of(llm, "a text") == [said("a text")]
        assert seeds(llm) == [0, 0, 1, 1, 2]

    def test_without_retries_each_text_is_asked_once(self, llm: OllamaProcess) -> None:
        llm.script(Fault(kind="words", text="nonsense", contains="0"), Fault(kind="status", contains="1"))
        lie, busy = codes_of(llm, "text 0", "text 1", retries=0)
        assert isinstance(lie, TmdFailure)
        assert isinstance(busy, TmdFailure)
        assert not lie.reason.endswith(")")
        assert not busy.reason.endswith(")")
        assert len(llm.calls()) == 2

    def test_no_fault_makes_the_codes_that_stand_for_zero(self, llm: OllamaProcess) -> None:
        text = "always in trouble"
        llm.script(
            *[Fault(kind="status", status=status, contains=text) for status in (500, 503)],
            *[Fault(kind=kind, contains=text) for kind in ("drop", "cut")],
            *[Fault(kind="words", text=said, contains=text) for said in ("", "0,0", "{}")],
            Fault(kind="status", status=400, contains=text),
        )
        found = [failure_of(codes_of(llm, text, retries=0)) for _ in range(8)]
        assert len(found) == 8
        assert codes_of(llm, text) == [said(text)]


class TestThinkingModels:
    THOUGHTS = "Let me see. " * 40

    def test_one_is_told_not_to(self, llm: OllamaProcess) -> None:
        llm.settings(thinking=self.THOUGHTS)
        assert codes_of(llm, *texts(3)) == [said(text) for text in texts(3)]
        assert [call["think"] for call in llm.calls()] == [False] * 3

    def test_no_other_model_hears_of_it(self, llm: OllamaProcess) -> None:
        assert codes_of(llm, "a text") == [said("a text")]
        assert [call["think"] for call in llm.calls()] == [None]

    def test_a_server_that_cant_tell_is_asked_as_ever_and_the_reason_names_the_way_out(
        self, llm: OllamaProcess
    ) -> None:
        llm.settings(thinking=self.THOUGHTS, shows=False)
        failure = failure_of(codes_of(llm, "a text", retries=0))
        assert failure.cause is FailureCause.TEXT
        assert failure.reason.startswith(f"{MODEL}: the model spent all its tokens on thinking")
        assert "use a model that does not think" in failure.reason

    def test_a_server_that_refuses_the_word_does_not_hear_it_again(self, llm: OllamaProcess) -> None:
        llm.settings(thinking="Hm.")
        llm.script(Fault(kind="status", status=400, text='"tinyllama:1.1b" does not support thinking'))
        assert codes_of(llm, "a text") == [said("a text")]
        assert [call["think"] for call in llm.calls()] == [False, None]


@given(st.integers(1, 5000), st.randoms(use_true_random=False))
def test_waits_double_to_a_limit_with_full_jitter(failures: int, dice: random.Random) -> None:
    assert 0 <= Backoff().seconds(failures=failures, dice=dice) <= min(8.0, 0.5 * 2.0 ** min(failures - 1, 100))


def test_waits_use_all_of_their_room() -> None:
    dice = random.Random(1)
    waits = [Backoff().seconds(failures=3, dice=dice) for _ in range(200)]
    assert min(waits) < 0.2
    assert max(waits) > 1.8
