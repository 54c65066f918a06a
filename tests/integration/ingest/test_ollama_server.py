"""The tests' own model server keeps to Ollama's protocol, so that a client that works here works there."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.support.ollama import words
from tests.support.ollama.process import OllamaProcess
from tests.support.ollama.script import Board, Fault

MODEL = "tinyllama:1.1b"
SCHEMA = {
    "type": "object",
    "properties": {"domain": {"type": "integer", "minimum": 3, "maximum": 5}, "depth": {"type": "integer"}},
    "required": ["domain", "depth"],
}


@pytest.fixture
def http(llm: OllamaProcess) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=llm.url, timeout=60) as http:
        yield http


def _generate(http: httpx.Client, prompt: str = "a prompt", *, status: int = 200, **more: Any) -> Any:
    response = http.post("/api/generate", json={"model": MODEL, "prompt": prompt, "stream": False, **more})
    assert response.status_code == status, response.text
    return response.json()


def test_an_answer_has_the_protocols_fields(http: httpx.Client) -> None:
    answer = _generate(http)
    assert set(answer) == {
        "model",
        "created_at",
        "response",
        "done",
        "done_reason",
        "total_duration",
        "load_duration",
        "prompt_eval_count",
        "prompt_eval_duration",
        "eval_count",
        "eval_duration",
    }
    assert (answer["model"], answer["done"], answer["done_reason"]) == (MODEL, True, "stop")
    assert answer["created_at"].endswith("Z")


def test_answers_stream_unless_told_otherwise(http: httpx.Client) -> None:
    response = http.post("/api/generate", json={"model": MODEL, "prompt": "a prompt"})
    assert response.headers["content-type"] == "application/x-ndjson"
    pieces = [json.loads(line) for line in response.text.splitlines()]
    assert [piece["done"] for piece in pieces] == [False] * (len(pieces) - 1) + [True]
    assert "".join(piece["response"] for piece in pieces) == _generate(http)["response"]
    assert "total_duration" in pieces[-1]
    assert "total_duration" not in pieces[0]


def test_a_chat_has_messages_in_and_out(http: httpx.Client) -> None:
    body = {"model": MODEL, "messages": [{"role": "user", "content": "a prompt"}], "stream": False}
    answer = http.post("/api/chat", json=body).json()
    assert answer["message"] == {"role": "assistant", "content": _generate(http)["response"]}
    assert "response" not in answer


def test_the_same_prompt_gets_the_same_answer_whatever_the_seed(http: httpx.Client) -> None:
    first = _generate(http, options={"seed": 0})["response"]
    assert _generate(http, options={"seed": 7})["response"] == first
    assert first == ",".join(map(str, words.codes("a prompt")))
    assert {_generate(http, f"prompt {number}")["response"] for number in range(8)} != {first}


def test_a_form_makes_objects(http: httpx.Client) -> None:
    assert json.loads(_generate(http, format="json")["response"]).keys() == {"domain", "task", "modifier"}
    found = json.loads(_generate(http, format=SCHEMA)["response"])
    assert found.keys() == {"domain", "depth"}
    assert 3 <= found["domain"] <= 5


def test_few_tokens_cut_an_answer_off(http: httpx.Client) -> None:
    whole = _generate(http, format="json")["response"]
    cut = _generate(http, format="json", options={"num_predict": 8})
    assert cut["done_reason"] == "length"
    assert whole.startswith(cut["response"])
    assert len(cut["response"]) < len(whole)
    assert _generate(http, format="json", options={"num_predict": 48})["response"] == whole


def test_an_empty_prompt_loads_and_unloads(http: httpx.Client, llm: OllamaProcess) -> None:
    assert _generate(http, "", keep_alive=0)["done_reason"] == "unload"
    before = llm.counters()["loads"]
    loaded = _generate(http, "", keep_alive=-1)
    assert (loaded["done_reason"], loaded["response"]) == ("load", "")
    assert [model["name"] for model in http.get("/api/ps").json()["models"]] == [MODEL]
    _generate(http, keep_alive="10m")
    assert llm.counters()["loads"] == before + 1
    _generate(http, keep_alive=0)
    assert http.get("/api/ps").json()["models"] == []
    _generate(http, keep_alive="1h30m")
    assert llm.counters()["loads"] == before + 2


def test_it_says_what_it_is_and_has(http: httpx.Client) -> None:
    assert http.get("/").text == "Ollama is running"
    assert http.get("/api/version").json() == {"version": "0.17.4"}
    assert [model["name"] for model in http.get("/api/tags").json()["models"]] == [MODEL]


@pytest.mark.parametrize(
    ("body", "status", "error"),
    [
        (b"", 400, "missing request body"),
        (b"{", 400, "invalid character in request body"),
        (b"[]", 400, "json: cannot unmarshal"),
        ({"prompt": "a"}, 400, "invalid model name"),
        ({"model": "gpt-none", "prompt": "a"}, 404, "model 'gpt-none' not found"),
        ({"model": MODEL, "prompt": 7}, 400, "json: cannot unmarshal"),
        ({"model": MODEL, "prompt": "a", "keep_alive": "ten minutes"}, 400, "time: invalid duration"),
        ({"model": MODEL, "prompt": "a", "format": "xml"}, 500, "invalid format"),
    ],
)
def test_errors_have_a_status_and_say_why(http: httpx.Client, body: Any, status: int, error: str) -> None:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    response = http.post("/api/generate", content=content)
    assert response.status_code == status
    assert response.json()["error"].startswith(error)


def test_a_full_queue_sends_away(http: httpx.Client, llm: OllamaProcess) -> None:
    llm.settings(parallel=1, max_queue=1, hold=True)
    with ThreadPoolExecutor(2) as others:
        calls: list[Future[Any]] = [others.submit(_generate, http, "one")]
        llm.wait(running=1)
        calls.append(others.submit(_generate, http, "two"))
        llm.wait(queued=1)
        busy = _generate(http, "three", status=503)
        assert busy["error"] == "server busy, please try again.  maximum pending requests exceeded"
        llm.settings(hold=False)
        llm.release()
        assert [call.result()["done"] for call in calls] == [True, True]


def test_who_waits_is_served_in_turn(http: httpx.Client, llm: OllamaProcess) -> None:
    llm.settings(parallel=1, hold=True)
    with ThreadPoolExecutor(4) as others:
        calls = []
        for number in range(4):
            calls.append(others.submit(_generate, http, f"prompt {number}"))
            llm.wait(in_flight=number + 1)
        for number in range(4):
            llm.wait(held=1, queued=3 - number)
            llm.release(1)
            calls[number].result()
    assert [call["outcome"] for call in llm.calls()] == ["done"] * 4
    assert llm.counters()["most_running"] == 1


def test_a_client_that_leaves_frees_its_slot(llm: OllamaProcess) -> None:
    llm.settings(parallel=1)
    llm.script(Fault(kind="hold"))
    with httpx.Client(base_url=llm.url, timeout=0.2) as impatient, pytest.raises(httpx.ReadTimeout):
        _generate(impatient)
    llm.wait(abandoned=1, in_flight=0, running=0, connections=0)
    with httpx.Client(base_url=llm.url, timeout=60) as patient:
        assert _generate(patient)["done"]


def test_a_client_that_leaves_while_others_are_released_spoils_nothing() -> None:
    async def hold_two_and_lose_the_first() -> None:
        board = Board()
        first, second = (asyncio.create_task(board.hold()) for _ in range(2))
        await asyncio.sleep(0)
        first.cancel()
        board.release(1)
        await second
        assert first.cancelled()
        assert board.counters.held == 0

    asyncio.run(hold_two_and_lose_the_first())


class TestScript:
    def test_faults_come_as_often_as_told_and_to_whom(self, http: httpx.Client, llm: OllamaProcess) -> None:
        llm.script(Fault(kind="status", status=500, times=2, after=1, contains="bad"))
        statuses = [
            http.post("/api/generate", json={"model": MODEL, "prompt": prompt, "stream": False}).status_code
            for prompt in ("bad 1", "good", "bad 2", "bad 3", "bad 4")
        ]
        assert statuses == [200, 200, 500, 500, 200]
        assert [call["fault"] for call in llm.calls()] == [None, None, "status", "status", None]

    @pytest.mark.parametrize("kind", ["drop", "cut"])
    def test_a_connection_breaks(self, http: httpx.Client, llm: OllamaProcess, kind: Any) -> None:
        llm.script(Fault(kind=kind))
        with pytest.raises(httpx.RemoteProtocolError):
            _generate(http)
        assert _generate(http)["done"]

    def test_the_model_says_what_it_is_told_to(self, http: httpx.Client, llm: OllamaProcess) -> None:
        llm.script(Fault(kind="words", text="99,99", truncated=True), Fault(kind="body", text="[]"))
        answer = _generate(http)
        assert (answer["response"], answer["done_reason"]) == ("99,99", "length")
        assert _generate(http) == []

    def test_the_log_tells_calls_apart(self, http: httpx.Client, llm: OllamaProcess) -> None:
        _generate(http, "a prompt", options={"seed": 3})
        (call,) = llm.calls()
        assert (call["prompt"], call["seed"], call["stream"], call["in_flight"], call["outcome"]) == (
            words.digest("a prompt"),
            3,
            False,
            1,
            "done",
        )

    @pytest.mark.parametrize("body", ["", '{"prompt": "a'])
    def test_who_leaves_before_the_question_is_there_has_asked_nothing(self, llm: OllamaProcess, body: str) -> None:
        where = httpx.URL(llm.url)
        with socket.create_connection((where.host, where.port)) as leaving:
            head = "POST /api/generate HTTP/1.1\r\nHost: ollama\r\nContent-Length: 100\r\n\r\n"
            leaving.sendall(f"{head}{body}".encode())
            llm.wait(connections=1)
        counters = llm.wait(connections=0)
        assert (counters["calls"], counters["in_flight"], llm.calls()) == (0, 0, [])


def test_an_answer_takes_the_time_it_is_told_to(http: httpx.Client, llm: OllamaProcess) -> None:
    llm.settings(latency_ms=20)
    assert _generate(http)["total_duration"] >= 20_000_000
    llm.script(Fault(kind="slow", milliseconds=40))
    assert _generate(http)["total_duration"] >= 60_000_000
