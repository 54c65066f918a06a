"""The REST client against the real server, with a line between them that fails where a test says."""

from __future__ import annotations

import socket
import sqlite3
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from shardwise.engine.errors import Unavailable
from shardwise_jobs.engines.kato.client import KatoClient, SessionConfig
from shardwise_jobs.engines.kato.http import HttpClient, LostAnswer, Refused, SessionLost, Statistics, Unreachable
from shardwise_jobs.engines.kato.names import bare_name, pattern_hash, wire_name
from shardwise_jobs.engines.kato.stores.base import Guard
from tests.support.flaky_proxy import Fault, FlakyProxy, flaky_proxy
from tests.support.kato_server import kato_server

TOKENS = ["the", "cat", "sat"]
EVENTS = [[token] for token in TOKENS]
NAME = wire_name(pattern_hash(EVENTS))
LEARNING = SessionConfig(process_predictions=False)
NOT_HELD = [fault for fault in Fault if fault is not Fault.HOLD_AFTER]


@pytest.fixture(scope="module")
def server_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    store = f"sqlite:///{tmp_path_factory.mktemp('kato')}/patterns.db"
    with kato_server(store_uri=store) as server:
        yield server.url


@pytest.fixture
def proxy(server_url: str) -> Iterator[FlakyProxy]:
    with flaky_proxy(server_url) as between:
        yield between


def observations(events: list[list[str]] = EVENTS) -> list[dict[str, list[str]]]:
    return [{"strings": event} for event in events]


def refused_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


def test_observe_learn_and_look_up(server_url: str) -> None:
    with KatoClient(base_url=server_url, node_id="plain", config=LEARNING) as client:
        for token in TOKENS:
            client.observe([token])
        assert client.get_stm() == EVENTS
        assert client.learn() == NAME
        assert client.get_stm() == []
        pattern = client.get_pattern(NAME)
        assert pattern is not None
        assert pattern["pattern_data"] == EVENTS
        assert client.frequency(NAME) == 1
        assert client.get_pattern(wire_name("0" * 40)) is None


def test_a_sequence_is_learned_at_its_end(server_url: str) -> None:
    with KatoClient(base_url=server_url, node_id="sequence", config=LEARNING) as client:
        answer = client.observe_sequence(observations(), learn_at_end=True)
        assert answer["auto_learned_patterns"] == [NAME]
        client.clear_all_memory()
        assert client.frequency(NAME) == 0


def test_predictions_are_made_when_they_are_on(server_url: str) -> None:
    with KatoClient(base_url=server_url, node_id="predicting") as client:
        client.observe_sequence(observations(), learn_at_end=True)
        client.observe_sequence(observations(EVENTS[:2]))
        assert [made["future"] for made in client.get_predictions()["predictions"]] == [[["sat"]]]
        client.clear_stm()
        assert client.get_stm() == []


def test_all_configuration_is_in_the_create_call(proxy: FlakyProxy) -> None:
    config = SessionConfig(max_pattern_length=3, process_predictions=False)
    with KatoClient(base_url=proxy.url, node_id="configured", config=config) as client:
        assert client.observe_sequence(observations())["auto_learned_patterns"] == [NAME]
    assert proxy.count("/config") == 0
    assert next(request.path for request in proxy.requests if request.method == "POST") == "/sessions"


def test_a_changed_configuration_outlives_the_session(server_url: str) -> None:
    with KatoClient(base_url=server_url, node_id="changed", config=LEARNING) as client:
        client.configure(max_pattern_length=3)
        delete_behind_its_back(client, server_url)
        assert client.observe_sequence(observations())["auto_learned_patterns"] == [NAME]


def test_the_session_is_deleted_at_the_end(server_url: str) -> None:
    with KatoClient(base_url=server_url, node_id="closing") as client:
        session = client.session_id
        assert client.check_session_exists()
    assert not exists(server_url, session)


def test_closing_a_dead_servers_client_raises_nothing() -> None:
    client = KatoClient(base_url=f"http://127.0.0.1:{refused_port()}", node_id="dead", max_attempts=1)
    with pytest.raises(Unreachable):
        client.observe(["a"])
    client.close()
    client.close()


def test_extending_gives_another_time_to_live(server_url: str) -> None:
    with KatoClient(base_url=server_url, node_id="extended", ttl_seconds=60) as client:
        client.extend_session(7200)
        session = HttpClient(base_url=server_url)
        try:
            shown = session.call("GET", f"/sessions/{client.session_id}", repeatable=True)
        finally:
            session.close()
        assert shown["ttl_seconds"] > 7000


def test_health_and_status_need_no_session(proxy: FlakyProxy) -> None:
    with KatoClient(base_url=proxy.url, node_id="looking") as client:
        assert client.health_check()["status"] in ("healthy", "degraded")
        assert "guarded-learning" in client.get_status()["extensions"]
    assert proxy.count("/sessions") == 0


def test_a_refused_connection_is_tried_several_times_and_then_named() -> None:
    port = refused_port()
    wire = HttpClient(base_url=f"http://user:secret@127.0.0.1:{port}", max_attempts=3)
    with pytest.raises(Unreachable) as caught:
        wire.call("POST", "/sessions", body={}, repeatable=False)
    wire.close()
    assert wire.statistics == Statistics(calls=3, retries=2)
    assert str(caught.value).startswith(f"POST http://127.0.0.1:{port}/sessions: no connection: ")
    assert str(caught.value).endswith(" (3 tries)")
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, Unavailable)


@pytest.mark.parametrize("fault", NOT_HELD, ids=lambda fault: fault.name)
def test_a_lost_answer_to_an_observation_is_never_asked_for_again(proxy: FlakyProxy, fault: Fault) -> None:
    with KatoClient(base_url=proxy.url, node_id=f"lost-{fault.name}", config=LEARNING) as client:
        proxy.lose("/observe", fault)
        with pytest.raises(LostAnswer, match=r"^POST http://127\.0\.0\.1:\d+/sessions/.*/observe: "):
            client.observe(["a"])
        assert proxy.count("/observe") == 1
        proxy.lose("/observe-sequence", fault)
        with pytest.raises(LostAnswer):
            client.observe_sequence(observations(), learn_at_end=True)
        assert proxy.count("/observe-sequence") == 1
        proxy.lose("/learn", fault)
        with pytest.raises(LostAnswer):
            client.learn()
        assert proxy.count("/learn") == 1


@pytest.mark.parametrize("fault", NOT_HELD, ids=lambda fault: fault.name)
def test_reading_and_creating_are_repeated(proxy: FlakyProxy, fault: Fault) -> None:
    with KatoClient(base_url=proxy.url, node_id="repeated", config=LEARNING) as client:
        proxy.lose("/sessions", fault)
        proxy.lose("/stm", fault, times=2)
        proxy.lose("/clear-stm", fault)
        assert client.get_stm() == []
        client.clear_stm()
        assert proxy.pending == 0


def test_a_server_that_says_nothing_is_given_up_in_time(proxy: FlakyProxy) -> None:
    with KatoClient(base_url=proxy.url, node_id="silent", config=LEARNING, timeout_seconds=0.3) as client:
        proxy.lose("/observe", Fault.HOLD_AFTER)
        begun = time.monotonic()
        with pytest.raises(LostAnswer, match=r"no answer within 0\.3 s"):
            client.observe(["a"])
        assert time.monotonic() - begun < 5


@pytest.mark.parametrize("fault", list(Fault), ids=lambda fault: fault.name)
def test_guarded_sequences_are_repeated_and_count_once(proxy: FlakyProxy, fault: Fault) -> None:
    node = f"guarded-{fault.name}"
    with KatoClient(base_url=proxy.url, node_id=node, config=LEARNING, timeout_seconds=2) as client:
        client.observe(["before"])
        proxy.lose("/learn-sequences", fault)
        answer = client.learn_sequences([TOKENS], guard=Guard(run="r", shard=0, position=7))
        assert answer["pattern_names"] == [NAME]
        assert answer["applied"] is (fault is Fault.CUT_BEFORE)
        assert proxy.count("/learn-sequences") == 2
        assert client.frequency(NAME) == 1
        assert client.get_stm() == [["before"]]


def test_a_lost_session_without_memory_is_replaced_in_silence(server_url: str) -> None:
    with KatoClient(base_url=server_url, node_id="replaced", config=LEARNING) as client:
        delete_behind_its_back(client, server_url)
        assert client.observe_sequence(observations(), learn_at_end=True)["auto_learned_patterns"] == [NAME]


def test_an_expired_session_is_replaced_too(server_url: str) -> None:
    with KatoClient(base_url=server_url, node_id="expired", config=LEARNING, ttl_seconds=1) as client:
        session = client.session_id
        wait_until_expired(server_url, session)
        assert not client.check_session_exists()
        assert client.observe_sequence(observations(), learn_at_end=True)["auto_learned_patterns"] == [NAME]
        assert client.session_id != session


def test_a_lost_session_with_memory_is_said_and_then_replaced(server_url: str) -> None:
    with KatoClient(base_url=server_url, node_id="said", config=LEARNING) as client:
        client.observe(["a"])
        client.observe(["b"])
        delete_behind_its_back(client, server_url)
        with pytest.raises(SessionLost, match="its memory of 2 events is gone"):
            client.observe(["c"])
        assert client.get_stm() == []


def test_no_session_is_replaced_when_that_is_switched_off(server_url: str) -> None:
    with KatoClient(base_url=server_url, node_id="kept", config=LEARNING, auto_recreate_session=False) as client:
        delete_behind_its_back(client, server_url)
        for _ in range(2):
            with pytest.raises(SessionLost):
                client.observe(["a"])


def test_an_unknown_route_is_not_a_lost_session(server_url: str) -> None:
    wire = HttpClient(base_url=server_url)
    try:
        with pytest.raises(Refused, match="answered 404") as caught:
            wire.call("GET", "/sessions/x/no-such-thing", repeatable=True)
        assert caught.value.status == 404
        with pytest.raises(SessionLost):
            wire.call("GET", "/sessions/unknown", repeatable=True)
        with pytest.raises(SessionLost):
            wire.call("GET", "/sessions/unknown/stm", repeatable=True)
    finally:
        wire.close()


def test_what_the_server_refuses_is_not_asked_again(proxy: FlakyProxy) -> None:
    with KatoClient(base_url=proxy.url, node_id="refused", config=LEARNING) as client:
        with pytest.raises(Refused, match="Cannot learn from empty STM") as caught:
            client.learn()
        assert caught.value.status == 400
        assert proxy.count("/learn") == 1


def _until_refused(wire: HttpClient) -> None:
    while True:
        wire.call("POST", "/sessions", body={"node_id": "crowded"}, repeatable=False, attempts=1)


def test_a_busy_server_is_waited_for(tmp_path: Path) -> None:
    file = tmp_path / "patterns.db"
    settings = {"SHARDWISE_HTTP_REQUESTS": "1"}
    with ExitStack() as stack:
        server = stack.enter_context(kato_server(store_uri=f"sqlite:///{file}", settings=settings))
        threads = stack.enter_context(ThreadPoolExecutor(1))
        client = stack.enter_context(KatoClient(base_url=server.url, node_id="slow", config=LEARNING))
        wire = stack.enter_context(closing(HttpClient(base_url=server.url, max_attempts=8)))
        client.observe(["a", "b"])
        locked = stack.enter_context(closing(sqlite3.connect(file, isolation_level=None)))
        locked.execute("begin exclusive")
        learned = threads.submit(client.learn)
        with pytest.raises(Unreachable, match="answered 503: Service Unavailable"):
            _until_refused(wire)
        locked.execute("rollback")
        assert wire.call("POST", "/sessions", body={"node_id": "crowded"}, repeatable=False)["session_id"]
        assert learned.result() == wire_name(pattern_hash([["a", "b"]]))


def test_an_idle_connection_that_the_server_dropped_does_no_harm(server_url: str) -> None:
    with KatoClient(base_url=server_url, node_id="idle", config=LEARNING) as client:
        client.observe(["a"])
        # A little more than the client keeps an idle connection; the server drops it at 5 s.
        time.sleep(2.1)
        client.observe(["b"])
        assert client.get_stm() == [["a"], ["b"]]


def test_frequencies_are_listed_in_order_of_name(server_url: str) -> None:
    texts = [["a", "b", "c"], ["d", "e", "f"], ["a", "b", "c"]]
    with KatoClient(base_url=server_url, node_id="listed", config=LEARNING) as client:
        for text in texts:
            client.observe_sequence(observations([[token] for token in text]), learn_at_end=True)
        counts = {pattern_hash([[token] for token in text]): texts.count(text) for text in texts}
        assert list(client.frequencies()) == sorted(counts.items())
        assert list(client.frequencies("never-seen")) == []


def test_opening_the_list_is_retried_but_one_that_breaks_off_is_not_taken_for_a_whole_one(proxy: FlakyProxy) -> None:
    with KatoClient(base_url=proxy.url, node_id="broken-off", config=LEARNING) as client:
        client.observe_sequence(observations(), learn_at_end=True)
        proxy.lose("/frequencies", Fault.CUT_AFTER, times=2)
        assert list(client.frequencies()) == [(bare_name(NAME), 1)]
        assert proxy.count("/frequencies") == 3
        proxy.lose("/frequencies", Fault.CUT_WITHIN)
        with pytest.raises(LostAnswer, match="the connection broke"):
            list(client.frequencies())


def exists(url: str, session: str) -> bool:
    wire = HttpClient(base_url=url)
    try:
        return bool(wire.call("GET", f"/sessions/{session}/exists", repeatable=True)["exists"])
    finally:
        wire.close()


def delete_behind_its_back(client: KatoClient, url: str) -> None:
    session = client.session_id
    wire = HttpClient(base_url=url)
    try:
        wire.call("DELETE", f"/sessions/{session}", repeatable=True)
    finally:
        wire.close()


def wait_until_expired(url: str, session: str) -> None:
    deadline = time.monotonic() + 10
    while exists(url, session):
        assert time.monotonic() < deadline
        time.sleep(0.05)
