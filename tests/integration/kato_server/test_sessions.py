"""Sessions: what they show, how they are configured, how long they live, and how every call ends without one."""

from __future__ import annotations

import re
import time
from datetime import datetime
from typing import Any

import httpx
import pytest

from tests.support.kato_server import Wire, new_node

CALLS_ON_A_SESSION: list[tuple[str, str, Any]] = [
    ("GET", "stm", None),
    ("GET", "predictions", None),
    ("POST", "extend", None),
    ("POST", "config", {"max_predictions": 5}),
    ("POST", "observe", {"strings": ["a"]}),
    ("POST", "observe-sequence", {"observations": []}),
    ("POST", "learn", None),
    ("POST", "clear-stm", None),
    ("POST", "clear-all", None),
]


def test_a_new_session_shows_what_it_was_asked_for(wire: Wire) -> None:
    answer = wire.send(
        "POST",
        "/sessions",
        {
            "node_id": "node0",
            "ttl_seconds": 120,
            "config": {"max_pattern_length": 5, "stm_mode": "ROLLING", "process_predictions": False},
            "metadata": {"user": "u1"},
            "unknown": 1,
        },
    )
    assert re.fullmatch(r"session-[0-9a-f]{32}-\d{13}", answer.pop("session_id"))
    created, expires = (datetime.fromisoformat(answer.pop(key)) for key in ("created_at", "expires_at"))
    assert (expires - created).total_seconds() == 120
    assert answer == {
        "node_id": "node0",
        "ttl_seconds": 120,
        "metadata": {"user": "u1"},
        "session_config": {"max_pattern_length": 5, "process_predictions": False},
    }


@pytest.mark.parametrize("ttl", [{}, {"ttl_seconds": 0}, {"ttl_seconds": None}])
def test_a_session_without_a_ttl_gets_an_hour(wire: Wire, ttl: dict[str, Any]) -> None:
    answer = wire.send("POST", "/sessions", {"node_id": new_node(), **ttl})
    assert (answer["ttl_seconds"], answer["metadata"], answer["session_config"]) == (3600, {}, {})


def test_a_session_can_be_read_again(wire: Wire) -> None:
    node = new_node()
    session = wire.session(node, ttl_seconds=90, persistence=7)
    answer = wire.send("GET", f"/sessions/{session}")
    assert (answer["session_id"], answer["node_id"], answer["ttl_seconds"]) == (session, node, 90)
    assert answer["session_config"] == {"persistence": 7}


def test_existence_and_number_of_sessions_can_be_asked_for(wire: Wire) -> None:
    before = wire.send("GET", "/sessions/count")["active_session_count"]
    session = wire.session()
    assert wire.send("GET", "/sessions/count") == {"active_session_count": before + 1}
    assert wire.get(session, "exists") == {"exists": True, "expired": False, "session_id": session}
    assert wire.send("DELETE", f"/sessions/{session}") == {"status": "deleted", "session_id": session}
    assert wire.get(session, "exists") == {"exists": False, "expired": False, "session_id": session}
    assert wire.send("GET", "/sessions/count") == {"active_session_count": before}


@pytest.mark.parametrize(("method", "call", "body"), CALLS_ON_A_SESSION)
def test_a_deleted_session_answers_404_on_every_call(wire: Wire, method: str, call: str, body: Any) -> None:
    session = wire.session()
    wire.send("DELETE", f"/sessions/{session}")
    message = f"Session {session} not found or expired"
    expected = {"error": {"code": "SESSION_NOT_FOUND", "message": message, "session_id": session}}
    assert wire.send(method, f"/sessions/{session}/{call}", body, status=404) == expected
    assert wire.send("DELETE", f"/sessions/{session}", status=404) == expected
    assert wire.send("GET", f"/sessions/{session}", status=404) == {"detail": message}


def test_a_session_whose_time_is_up_is_gone_and_said_to_be_expired(wire: Wire) -> None:
    session = wire.session(ttl_seconds=1)
    _wait_until_gone(wire, session)
    assert wire.get(session, "exists") == {"exists": False, "expired": True, "session_id": session}
    assert wire.post(session, "learn", status=404)["error"]["code"] == "SESSION_NOT_FOUND"


def test_reading_a_session_starts_its_time_anew_but_asking_for_its_existence_does_not(wire: Wire) -> None:
    read, asked = wire.session(ttl_seconds=3), wire.session(ttl_seconds=3)
    begin = time.monotonic()
    while time.monotonic() < begin + 4:
        wire.get(read, "stm")
        wire.get(asked, "exists")
        time.sleep(0.1)
    assert wire.get(read, "exists")["exists"]
    assert not wire.get(asked, "exists")["exists"]


def test_extending_sets_the_time_for_good(wire: Wire) -> None:
    session = wire.session(ttl_seconds=2)
    answer = wire.send("POST", f"/sessions/{session}/extend?ttl_seconds=7200")
    assert answer == {"status": "extended", "session_id": session, "ttl_seconds": 7200}
    wire.observe(session, "a")
    assert wire.send("GET", f"/sessions/{session}")["ttl_seconds"] == 7200
    assert wire.post(session, "extend")["ttl_seconds"] == 3600


def test_extending_can_shorten_a_life(wire: Wire) -> None:
    session = wire.session()
    wire.send("POST", f"/sessions/{session}/extend?ttl_seconds=1")
    _wait_until_gone(wire, session)


def _wait_until_gone(wire: Wire, session: str) -> None:
    deadline = time.monotonic() + 5
    while wire.get(session, "exists")["exists"]:
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize("wrapped", [True, False])
def test_configuration_is_changed_key_by_key_in_either_form(wire: Wire, wrapped: bool) -> None:
    session = wire.session(max_pattern_length=3, recall_threshold=0.5)
    change = {"recall_threshold": 1, "stm_mode": "ROLLING", "no_such_key": 7}
    answer = wire.post(session, "config", {"config": change} if wrapped else change)
    assert answer == {"status": "okay", "message": "Configuration updated", "session_id": session}
    shown = wire.send("GET", f"/sessions/{session}")["session_config"]
    assert shown == {"max_pattern_length": 3, "recall_threshold": 1.0}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("max_pattern_length", -1),
        ("max_pattern_length", "5"),
        ("process_predictions", "no"),
        ("recall_threshold", 7),
        ("recall_threshold", -0.1),
        ("max_predictions", 0),
        ("max_predictions", 10_001),
        ("persistence", 0),
        ("persistence", 101),
        ("sort_symbols", 1),
        ("indexer_type", "HNSW"),
    ],
)
def test_a_bad_configuration_value_is_refused_at_create_and_at_config(wire: Wire, key: str, value: Any) -> None:
    session = wire.session(max_pattern_length=2)
    refused = wire.send("POST", "/sessions", {"node_id": new_node(), "config": {key: value}}, status=422)
    assert refused["detail"][0]["loc"] == ["body", "config", key]
    assert wire.post(session, "config", {key: value}, status=422)["detail"][0]["loc"] == ["body", key]
    wrapped = wire.post(session, "config", {"config": {key: value}}, status=422)
    assert wrapped["detail"][0]["loc"] == ["body", "config", key]
    assert wire.send("GET", f"/sessions/{session}")["session_config"] == {"max_pattern_length": 2}


@pytest.mark.parametrize("mode", ["CLEAR", "rolling", "", 7, None])
def test_any_stm_mode_but_rolling_counts_as_clear(wire: Wire, mode: Any) -> None:
    session = wire.session(max_pattern_length=2, stm_mode=mode)
    wire.observe(session, "a")
    wire.observe(session, "b")
    assert wire.stm(session) == []


@pytest.mark.parametrize(
    ("body", "location"),
    [
        ({}, ["body", "node_id"]),
        ({"node_id": ""}, ["body", "node_id"]),
        ({"node_id": None}, ["body", "node_id"]),
        ({"node_id": "n", "ttl_seconds": -1}, ["body", "ttl_seconds"]),
        ({"node_id": "n", "ttl_seconds": 10**30}, ["body", "ttl_seconds"]),
        ({"node_id": "n", "metadata": []}, ["body", "metadata"]),
    ],
)
def test_a_malformed_session_request_is_refused(wire: Wire, body: Any, location: list[str]) -> None:
    assert wire.send("POST", "/sessions", body, status=422)["detail"][0]["loc"] == location


def test_a_missing_field_is_reported_in_the_form_of_the_original(wire: Wire) -> None:
    expected = {"type": "missing", "loc": ["body", "node_id"], "msg": "Field required", "input": {}}
    assert wire.send("POST", "/sessions", {}, status=422) == {"detail": [expected]}


@pytest.mark.parametrize("content", [b'{"node_id":', b'{"node_id":NaN}', rb'{"node_id":"\ud800"}', b""])
def test_a_body_that_is_not_json_is_refused(wire: Wire, content: bytes) -> None:
    response = wire.http.post("/sessions", content=content, headers={"content-type": "application/json"})
    assert response.status_code == 422
    assert response.json()["detail"][0]["loc"][0] == "body"


def test_answers_carry_the_trace_id_of_the_request_or_a_new_one(wire: Wire) -> None:
    assert wire.http.get("/", headers={"x-trace-id": "mine"}).headers["x-trace-id"] == "mine"
    for path in ("/", "/nowhere", "/sessions/none/stm"):
        assert re.fullmatch("kato-[0-9a-f]{32}", wire.http.get(path).headers["x-trace-id"])


def test_answers_about_a_session_carry_its_id(wire: Wire) -> None:
    created = wire.http.post("/sessions", json={"node_id": new_node()})
    session = created.json()["session_id"]
    answers: list[httpx.Response] = [created, wire.http.get(f"/sessions/{session}"), _observed(wire, session)]
    assert [answer.headers.get_list("x-session-id") for answer in answers] == [[session]] * 3
    assert "x-session-id" not in wire.http.get("/sessions/count").headers
    assert "x-session-id" not in wire.http.get("/sessions/a%0d%0ab/stm").headers


def _observed(wire: Wire, session: str) -> httpx.Response:
    return wire.http.post(f"/sessions/{session}/observe", json={"strings": ["a"]})


def test_unknown_routes_answer_404_and_wrong_methods_405(wire: Wire) -> None:
    for path in ("/observe", "/learn", "/sessions/x/no-such-call"):
        assert wire.send("POST", path, {}, status=404) == {"detail": "Not Found"}
    assert wire.send("GET", "/sessions", status=405) == {"detail": "Method Not Allowed"}
    assert wire.send("DELETE", "/health", status=405) == {"detail": "Method Not Allowed"}
