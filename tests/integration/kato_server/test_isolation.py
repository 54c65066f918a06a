"""Sessions of one node share what is learned and nothing else; each test is a leak that the original has."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import httpx

from tests.support.kato_server import KatoServer, Wire, events, new_node

SESSIONS = 8
CHUNKS = [[f"c{number}_{at}" for at in range(5)] for number in range(20)]


def test_an_empty_stm_does_not_adopt_that_of_another_session(wire: Wire) -> None:
    node = new_node()
    one, other = wire.session(node), wire.session(node)
    wire.observe(one, "a")
    assert wire.stm(other) == []
    assert wire.post(other, "learn", status=400)
    assert wire.stm(one) == [["a"]]


def test_predictions_stay_with_the_session_that_made_them(wire: Wire) -> None:
    node = new_node()
    one, other = wire.session(node), wire.session(node)
    wire.learn_tokens(one, "the", "cat", "sat")
    wire.sequence(one, events("the", "cat"))
    assert wire.get(one, "predictions")["count"] == 1
    for session in (other, wire.session(node)):
        answer = wire.get(session, "predictions")
        assert (answer["count"], answer["predictions"], answer["future_potentials"]) == (0, [], [])


def test_time_counts_the_observations_of_one_session(wire: Wire) -> None:
    node = new_node()
    one, other = wire.session(node), wire.session(node)
    assert [wire.observe(one, "a")["time"], wire.observe(one, "b")["time"]] == [1, 2]
    assert wire.observe(other, "a")["time"] == 1


def test_emotives_and_metadata_stay_with_the_session_that_observed_them(wire: Wire) -> None:
    node = new_node()
    one, other = wire.session(node), wire.session(node)
    wire.observe(one, "a", emotives={"joy": 1.0}, metadata={"title": "T"})
    pattern = wire.pattern(node, wire.learn_tokens(other, "x", "y"))
    assert (pattern["emotives"], pattern["metadata"]) == ({}, {})
    wire.observe(one, "b")
    pattern = wire.pattern(node, wire.post(one, "learn")["pattern_name"])
    assert (pattern["emotives"], pattern["metadata"]) == ([{"joy": 1.0}], {"title": ["T"]})


def test_a_session_without_configuration_inherits_nothing_from_another(wire: Wire) -> None:
    node = new_node()
    wire.sequence(wire.session(node, max_pattern_length=2, stm_mode="ROLLING"), events("a", "b", "c"))
    plain = wire.session(node)
    assert wire.sequence(plain, events("a", "b", "c"))["auto_learned_patterns"] == []
    assert wire.stm(plain) == [["a"], ["b"], ["c"]]


def test_eight_sessions_learning_the_same_with_predictions_on_count_every_learn(wire: Wire, server: KatoServer) -> None:
    node = new_node()
    begin = threading.Barrier(SESSIONS)

    def work(at: int) -> list[str]:
        with httpx.Client(base_url=server.url, timeout=60) as http:
            own = Wire(http)
            session = own.session(node, process_predictions=True, max_pattern_length=5 if at % 2 else 0)
            begin.wait()
            names = []
            for number, chunk in enumerate(CHUNKS):
                if at % 2 and number % 2:
                    answers = [own.observe(session, token)["auto_learned_pattern"] for token in chunk]
                    names.append(answers[-1])
                else:
                    names += own.sequence(session, events(*chunk), learn_at_end=True)["auto_learned_patterns"]
                own.get(session, "predictions")
            return names

    with ThreadPoolExecutor(SESSIONS) as pool:
        everyone = list(pool.map(work, range(SESSIONS)))
    assert everyone == [everyone[0]] * SESSIONS
    assert len({*everyone[0]}) == len(CHUNKS)
    assert [wire.pattern(node, name)["frequency"] for name in everyone[0]] == [SESSIONS] * len(CHUNKS)
    assert wire.send("GET", "/health")["status"] == "healthy"
    # What predictions know was kept current while all learned at once.
    session = wire.session(node)
    wire.sequence(session, events(*CHUNKS[0][:4]))
    [prediction] = wire.get(session, "predictions")["predictions"]
    assert (prediction["frequency"], prediction["future"]) == (SESSIONS, [[CHUNKS[0][4]]])


def test_concurrent_calls_of_one_session_lose_no_observation(wire: Wire, server: KatoServer) -> None:
    session = wire.session()

    def observe(at: int) -> int:
        with httpx.Client(base_url=server.url, timeout=60) as http:
            time: int = Wire(http).observe(session, f"t{at}")["time"]
            return time

    with ThreadPoolExecutor(SESSIONS) as pool:
        times = sorted(pool.map(observe, range(40)))
    assert times == list(range(1, 41))
    assert sorted(wire.stm(session)) == sorted([f"t{at}"] for at in range(40))
