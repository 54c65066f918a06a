"""The server as a process: its settings, its health, its limits, its store lost and found, its end."""

from __future__ import annotations

import signal
import socket
import sqlite3
import statistics
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from tests.support.kato_server import KatoServer, Wire, command, environment, events, kato_server, new_node

THE_CAT_SAT = "PTRN|9cf67bb7d0f5b3d39f93b6d34d0b9f17a4ccc361"


@contextmanager
def own_server(store_uri: str, **settings: str) -> Iterator[tuple[KatoServer, Wire]]:
    """Start a server for one test alone."""
    with (
        kato_server(store_uri=store_uri, settings=settings) as server,
        httpx.Client(base_url=server.url, timeout=30) as http,
    ):
        yield server, Wire(http)


def test_settings_are_real_and_shown_with_their_effective_values(tmp_path: Path) -> None:
    settings = {
        "KATO_BATCH_SIZE": "10000",
        "CONNECTION_POOL_SIZE": "20",
        "REQUEST_TIMEOUT": "300",
        "SESSION_TTL": "60",
        "SESSION_AUTO_EXTEND": "false",
        "KATO_MAX_SESSIONS": "7",
        "KATO_SESSION_MEMORY_MIB": "8",
        "KATO_PREDICTION_SECONDS": "3",
        "SERVICE_NAME": "my-kato",
        "LOG_LEVEL": "debug",
    }
    with own_server(f"sqlite:///{tmp_path}/patterns.db", **settings) as (_, wire):
        status = wire.send("GET", "/status")
        assert status["settings"] == {
            "KATO_BATCH_SIZE": 10_000,
            "CONNECTION_POOL_SIZE": 20,
            "REQUEST_TIMEOUT": 300,
            "SESSION_TTL": 60,
            "SESSION_AUTO_EXTEND": False,
            "KATO_MAX_SESSIONS": 7,
            "KATO_SESSION_MEMORY_MIB": 8,
            "KATO_PREDICTION_SECONDS": 3,
            "SERVICE_NAME": "my-kato",
            "LOG_LEVEL": "DEBUG",
            "KATO_EXTENSIONS": "on",
        }
        assert (status["service_name"], status["version"]) == ("my-kato", "1.0.0")
        assert wire.send("GET", "/gene/persistence?node_id=node0")["node_id"] == "node0_my_kato"
        # Whole seconds that are left: by the time of the answer one may have begun.
        assert wire.send("POST", "/sessions", {"node_id": "n"})["ttl_seconds"] in (59, 60)
        _assert_use_does_not_slide(wire)


def _assert_use_does_not_slide(wire: Wire) -> None:
    session = wire.session(ttl_seconds=1)
    deadline = time.monotonic() + 5
    while wire.http.get(f"/sessions/{session}/stm").status_code == 200:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_defaults_are_shown_too(wire: Wire) -> None:
    assert wire.send("GET", "/status")["settings"] == {
        "KATO_BATCH_SIZE": 1000,
        "CONNECTION_POOL_SIZE": 50,
        "REQUEST_TIMEOUT": 120,
        "SESSION_TTL": 3600,
        "SESSION_AUTO_EXTEND": True,
        "KATO_MAX_SESSIONS": 10_000,
        "KATO_SESSION_MEMORY_MIB": 256,
        "KATO_PREDICTION_SECONDS": 10,
        "SERVICE_NAME": "kato",
        "LOG_LEVEL": "INFO",
        "KATO_EXTENSIONS": "on",
    }


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("KATO_BATCH_SIZE", "0"),
        ("KATO_BATCH_SIZE", "many"),
        ("CONNECTION_POOL_SIZE", "101"),
        ("REQUEST_TIMEOUT", "301"),
        ("SESSION_TTL", "59"),
        ("SESSION_AUTO_EXTEND", "perhaps"),
        ("KATO_PREDICTION_SECONDS", "0"),
        ("SHARDWISE_HTTP_CONNECTIONS", "none"),
        ("SERVICE_NAME", "a.b"),
        ("LOG_LEVEL", "LOUD"),
        ("KATO_EXTENSIONS", "some"),
    ],
)
def test_a_bad_setting_ends_the_start_and_is_named(tmp_path: Path, name: str, value: str) -> None:
    ended = _run(f"sqlite:///{tmp_path}/patterns.db", {name: value})
    assert ended.returncode == 2
    assert ended.stderr.startswith(f"error: {name}={value!r}: ")
    assert ended.stderr.count("\n") == 1


def test_an_unknown_kind_of_store_ends_the_start(tmp_path: Path) -> None:
    ended = _run("redis://127.0.0.1", {})
    assert (ended.returncode, ended.stderr.count("\n")) == (2, 1)
    assert "store.uri" in ended.stderr


def test_a_port_in_use_ends_the_start(server: KatoServer, tmp_path: Path) -> None:
    port = urlsplit(server.url).port
    assert port is not None
    ended = _run(f"sqlite:///{tmp_path}/patterns.db", {}, port=port)
    assert ended.returncode == 1
    assert ended.stderr.startswith(f"error: can't listen on 127.0.0.1:{port}: ")


def _run(store_uri: str, settings: dict[str, str], *, port: int = 0) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(store_uri=store_uri, port=port),
        env=environment(settings),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_healthy_server_says_so(wire: Wire) -> None:
    answer = wire.send("GET", "/health")
    assert (answer["status"], answer["issues"], answer["service_name"]) == ("healthy", [], "kato")
    assert set(answer) == {
        "status",
        "processor_status",
        "service_name",
        "uptime_seconds",
        "issues",
        "metrics_collected",
        "last_collection",
        "active_sessions",
        "timestamp",
    }


def test_status_and_root_count_sessions_and_processors(wire: Wire) -> None:
    before = wire.send("GET", "/status")
    wire.learn_tokens(wire.session(), "a", "b")
    for path in ("/status", "/"):
        after = wire.send("GET", path)
        assert after["sessions"]["active_session_count"] == before["sessions"]["active_session_count"] + 1
        assert after["processors"]["total_processors"] == before["processors"]["total_processors"] + 1


def test_a_pattern_is_read_by_its_encoded_name_and_an_unknown_one_is_no_error_status(wire: Wire) -> None:
    wire.learn_tokens(wire.session("no/de 1"), "the", "cat", "sat")
    query = {"node_id": "no/de 1"}
    known = wire.http.get(f"/pattern/{THE_CAT_SAT.replace('|', '%7C')}", params=query).json()
    assert known["node_id"] == "no_de_1_kato"
    assert (known["pattern"]["status"], known["pattern"]["pattern"]["name"]) == ("okay", THE_CAT_SAT)
    for name in ("PTRN%7C" + "0" * 40, "nonsense"):
        response = wire.http.get(f"/pattern/{name}", params=query)
        assert response.status_code == 200
        assert response.json()["pattern"]["status"] == "error"
        assert response.json()["pattern"]["message"]
    wire.send("GET", "/pattern/x", status=422)


def test_genes_are_defaults_of_their_node_alone(wire: Wire) -> None:
    node = new_node()
    answer = wire.send("POST", f"/genes/update?node_id={node}", {"genes": {"max_pattern_length": 2, "unknown": 1}})
    assert answer == {"status": "okay", "node_id": f"{node.replace('-', '_')}_kato", "genes": {"max_pattern_length": 2}}
    assert wire.send("GET", f"/gene/max_pattern_length?node_id={node}")["value"] == 2
    assert wire.send("GET", f"/gene/max_pattern_length?node_id={new_node()}")["value"] == 0
    assert wire.send("GET", f"/gene/recall_threshold?node_id={node}")["value"] == 0.1
    assert len(wire.sequence(wire.session(node), events("a", "b"))["auto_learned_patterns"]) == 1
    own = wire.session(node, max_pattern_length=0)
    assert wire.sequence(own, events("a", "b"))["auto_learned_patterns"] == []
    wire.send("GET", f"/gene/unknown?node_id={node}", status=404)
    refused = wire.send("POST", f"/genes/update?node_id={node}", {"genes": {"persistence": 0}}, status=422)
    assert refused["detail"][0]["loc"] == ["body", "genes", "persistence"]
    wire.send("POST", f"/genes/update?node_id={node}", {}, status=422)


def test_patterns_and_predictions_outlive_the_server(tmp_path: Path) -> None:
    store, node = f"sqlite:///{tmp_path}/patterns.db", new_node()

    def predicted(wire: Wire) -> list[object]:
        session = wire.session(node)
        wire.sequence(session, events("the", "cat"))
        made: list[object] = wire.get(session, "predictions")["predictions"]
        return made

    with own_server(store) as (server, wire):
        for last in ("sat", "ran", "sat"):
            predicted(wire)
            session = wire.session(node)
            wire.learn_tokens(session, "the", "cat", last)
        # The copy in memory was kept current learn by learn; after the restart it is read anew.
        before = predicted(wire)
        assert server.stop() == 0
    with own_server(store) as (_, wire):
        assert wire.send("GET", "/sessions/count") == {"active_session_count": 0}
        assert wire.pattern(node, THE_CAT_SAT)["frequency"] == 2
        assert predicted(wire) == before
        assert len(before) == 2


def test_what_another_process_learns_is_predicted_too(wire: Wire, store_file: Path) -> None:
    node = new_node()
    session = wire.session(node)
    wire.learn_tokens(session, "a", "b", "c")
    wire.sequence(session, events("a", "b"))
    with own_server(f"sqlite:///{store_file}") as (_, other):
        other.learn_tokens(other.session(node), "a", "b", "c")
    wire.post(session, "clear-stm")
    wire.sequence(session, events("a", "b"))
    assert wire.get(session, "predictions")["predictions"][0]["frequency"] == 2


def test_a_busy_store_answers_500_changes_nothing_and_is_used_again_when_free(tmp_path: Path) -> None:
    file = tmp_path / "patterns.db"
    with own_server(f"sqlite:///{file}", REQUEST_TIMEOUT="1") as (_, wire):
        session = wire.session("node0")
        wire.sequence(session, events("the", "cat"))
        with closing(sqlite3.connect(file, isolation_level=None)) as blocker:
            blocker.execute("BEGIN IMMEDIATE")
            response = wire.http.post(f"/sessions/{session}/learn")
            assert (response.status_code, response.text) == (500, "Internal Server Error")
            assert response.headers["content-type"].startswith("text/plain")
            assert response.headers["x-trace-id"]
            health = wire.send("GET", "/health")
            assert health["status"] == "degraded"
            assert "locked" in health["issues"][0]
            blocker.execute("ROLLBACK")
        wire.observe(session, "sat")
        assert wire.post(session, "learn")["pattern_name"] == THE_CAT_SAT
        assert wire.send("GET", "/health")["status"] == "healthy"


def test_an_unreachable_store_is_named_by_health_and_costs_only_the_calls_that_need_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with own_server(f"mongodb://127.0.0.1:{port}", REQUEST_TIMEOUT="1") as (_, wire):
        session = wire.session(process_predictions=False)
        wire.sequence(session, events("a", "b"))
        response = wire.http.post(f"/sessions/{session}/learn")
        assert (response.status_code, response.text) == (500, "Internal Server Error")
        assert wire.stm(session) == [["a"], ["b"]]
        health = wire.send("GET", "/health")
        assert health["status"] in ("unhealthy", "degraded")
        assert health["issues"]
        assert wire.send("GET", "/status")["sessions"]["active_session_count"] == 1


def test_a_store_that_accepts_and_never_answers_does_not_keep_health_waiting() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        uri = f"mongodb://127.0.0.1:{silent.getsockname()[1]}"
        with own_server(uri, REQUEST_TIMEOUT="10") as (_, wire), ThreadPoolExecutor(4) as pool:
            sessions = [wire.session(process_predictions=False) for _ in range(4)]
            for session in sessions:
                wire.sequence(session, events("a", "b"))
            waiting = [pool.submit(wire.http.post, f"/sessions/{session}/learn") for session in sessions]
            health = wire.send("GET", "/health")
            assert (health["status"], wire.stm(sessions[0])) == ("degraded", [["a"], ["b"]])
            assert "has not answered for 2 s" in health["issues"][0]
            assert not any(each.done() for each in waiting)
            assert [each.result().status_code for each in waiting] == [500] * 4


@pytest.mark.mongo
def test_the_same_protocol_runs_over_mongodb(mongo_uri: str) -> None:
    with own_server(mongo_uri, SERVICE_NAME="kato-server-test") as (_, wire):
        node = new_node()
        session = wire.session(node, max_pattern_length=3)
        for _ in range(2):
            names = wire.sequence(session, events("the", "cat", "sat", "the", "cat", "ran"))["auto_learned_patterns"]
        assert names[0] == THE_CAT_SAT
        assert [wire.pattern(node, name)["frequency"] for name in names] == [2, 2]
        wire.sequence(session, events("the", "cat"))
        assert wire.get(session, "predictions")["count"] == 2
        repeated = [
            wire.sequence(session, events("x"), learn_at_end=True, guard={"run": "r", "shard": 0, "position": 0})
            for _ in range(2)
        ]
        assert [answer["applied"] for answer in repeated] == [True, False]
        assert wire.send("GET", "/health")["status"] == "healthy"
        wire.post(session, "clear-all")
        wire.sequence(session, events("the", "cat"))
        assert wire.get(session, "predictions")["count"] == 0


def test_a_number_that_no_float_holds_is_422_and_no_error_of_the_server(wire: Wire) -> None:
    response = wire.http.post("/sessions", content=b'{"x": 1e999}', headers={"content-type": "application/json"})
    assert (response.status_code, response.json()["detail"][0]["loc"]) == (422, ["body", "node_id"])


def test_a_crowd_of_half_open_connections_keeps_nobody_out(tmp_path: Path) -> None:
    limits = {"SHARDWISE_HTTP_CONNECTIONS": "150", "SHARDWISE_HTTP_CONNECTIONS_PER_PEER": "140"}
    with own_server(f"sqlite:///{tmp_path}/patterns.db", **limits) as (server, wire), ExitStack() as open_sockets:
        port = urlsplit(server.url).port
        assert port is not None
        crowd = [open_sockets.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(200)]
        for idle in crowd:
            with suppress(ConnectionError):
                idle.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\nX-A:")
        assert wire.http.get("/health").json()["status"] == "healthy"
        assert wire.http.post("/sessions", json={"node_id": "n"}).status_code == 200
        # The first of them had to go.
        with suppress(ConnectionError):
            assert crowd[0].recv(1) == b""
        assert server.log().count("closed connections") == 1


def test_a_prediction_that_takes_too_long_is_refused_while_others_of_its_node_are_answered(tmp_path: Path) -> None:
    with own_server(f"sqlite:///{tmp_path}/patterns.db", KATO_PREDICTION_SECONDS="1") as (server, wire):
        node, same = new_node(), ["a"] * 8000
        wire.sequence(wire.session(node), [{"strings": same}], learn_at_end=True)
        costly, other = wire.session(node), wire.session(node)
        with ThreadPoolExecutor(1) as threads, httpx.Client(base_url=server.url, timeout=60) as http:
            asked = threads.submit(http.post, f"/sessions/{costly}/observe", json={"strings": same})
            wire.observe(other, "a", "b")
            assert wire.get(other, "predictions")["count"] == 0
            refused = asked.result()
        assert (refused.status_code, refused.json()["detail"][:26]) == (413, "a prediction took more tha")
        # It has done nothing.
        assert wire.stm(costly) == []


def test_a_body_of_any_kind_has_an_end(server: KatoServer, wire: Wire) -> None:
    def post(content: object) -> int:
        headers = {"content-type": "application/json"}
        return wire.http.post("/sessions", content=content, headers=headers).status_code  # type: ignore[arg-type]

    assert post(b'{"node_id": "x", "metadata": {"a": "' + b"a" * (17 << 20) + b'"}}') == 413
    assert post(iter([b" " * (1 << 20)] * 20)) == 413
    assert post(b'{"node_id": "x", "metadata": {"a": [' + b"[]," * 600_000 + b"1]}}") == 422
    assert post(b'{"node_id": "x", "metadata": {"a": ' + b"[" * 250 + b"]" * 250 + b"}}") == 422


def test_another_name_in_host_is_refused(server: KatoServer) -> None:
    def status(host: str) -> int:
        return httpx.get(f"{server.url}/status", headers={"host": host}).status_code

    assert [status(host) for host in ("localhost", "127.0.0.1:80", "[::1]:8000")] == [200] * 3
    assert [status(host) for host in ("evil.example", "localhost.evil.example", "10.0.0.1", "")] == [421] * 4


def test_an_idle_connection_is_dropped_after_five_seconds(server: KatoServer) -> None:
    port = urlsplit(server.url).port
    assert port is not None
    with socket.create_connection(("127.0.0.1", port), timeout=15) as idle:
        idle.sendall(b"GET /sessions/count HTTP/1.1\r\nhost: localhost\r\n\r\n")
        assert idle.recv(65_536).startswith(b"HTTP/1.1 200")
        answered = time.monotonic()
        while idle.recv(65_536):
            pass
        assert 4 < time.monotonic() - answered < 10


def test_small_answers_are_not_held_back_for_a_delayed_acknowledgement(wire: Wire) -> None:
    # Nagle's algorithm would add 40 ms to each of them.
    session = wire.session()
    seconds = []
    for _ in range(50):
        begin = time.monotonic()
        wire.get(session, "stm")
        seconds.append(time.monotonic() - begin)
    assert statistics.median(seconds) < 0.03


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_server_gracefully(tmp_path: Path, number: signal.Signals) -> None:
    with own_server(f"sqlite:///{tmp_path}/patterns.db") as (server, wire), ThreadPoolExecutor(1) as pool:
        session = wire.session(process_predictions=False)
        tokens = [str(at) for at in range(20_000)]
        under_way = pool.submit(wire.learn_tokens, session, *tokens)
        deadline = time.monotonic() + 10
        while wire.send("GET", "/health")["metrics_collected"] < 3:
            assert time.monotonic() < deadline
        server.process.send_signal(number)
        assert under_way.result().startswith("PTRN|")
        assert server.process.wait(timeout=30) == 0
        assert "Traceback" not in server.log()


def test_sessions_are_bounded_in_number_and_those_in_use_stay(tmp_path: Path) -> None:
    with own_server(f"sqlite:///{tmp_path}/patterns.db", KATO_MAX_SESSIONS="3") as (_, wire):
        sessions = [wire.session() for _ in range(3)]
        refused = wire.http.post("/sessions", json={"node_id": "n"})
        assert refused.status_code == 503
        assert "KATO_MAX_SESSIONS" in refused.json()["detail"]
        assert int(refused.headers["Retry-After"]) > 0
        assert all(wire.http.get(f"/sessions/{each}/stm").status_code == 200 for each in sessions)
        assert wire.http.delete(f"/sessions/{sessions[0]}").status_code == 200
        wire.session()


def test_sessions_are_bounded_in_what_they_hold_and_who_is_refused_has_changed_nothing(tmp_path: Path) -> None:
    def observe(session: str, position: int) -> httpx.Response:
        body = {"strings": ["a"], "metadata": {"note": f"{position}" + "x" * 50_000}}
        return wire.http.post(f"/sessions/{session}/observe", json=body)

    with own_server(f"sqlite:///{tmp_path}/patterns.db", KATO_SESSION_MEMORY_MIB="1") as (_, wire):
        sessions = [wire.session(process_predictions=False) for _ in range(6)]
        # Each would hold 200 kB, which a session may, and all together more than a MiB.
        answers = [observe(session, position) for session in sessions for position in range(4)]
        refused = next(answer for answer in answers if answer.status_code != 200)
        assert refused.status_code == 503
        assert "KATO_SESSION_MEMORY_MIB" in refused.json()["detail"]
        assert int(refused.headers["Retry-After"]) > 0
        held = [wire.send("GET", f"/sessions/{session}/stm")["length"] for session in sessions]
        assert sum(held) == sum(answer.status_code == 200 for answer in answers)

        for session in sessions[:2]:
            wire.send("POST", f"/sessions/{session}/clear-stm")
        # A quarter of all is too much for one, whenever it is sent.
        alone = [observe(sessions[0], position) for position in range(6)]
        assert alone[0].status_code == 200
        assert 413 in {answer.status_code for answer in alone}
        assert wire.http.post("/sessions", json={"node_id": "n", "metadata": {"k": "x" * 300_000}}).status_code == 413
        wire.send("POST", f"/sessions/{sessions[0]}/learn")
        assert wire.send("GET", f"/sessions/{sessions[0]}/stm")["length"] == 0
