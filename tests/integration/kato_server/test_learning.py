"""Observing and learning: names, the traps of the protocol, automatic learning, and what reaches the store."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from shardwise_jobs.engines.kato.stores import open_store
from shardwise_jobs.engines.kato.stores.base import Totals
from tests.support.kato_server import Wire, events, new_node

THE_CAT_SAT = "PTRN|9cf67bb7d0f5b3d39f93b6d34d0b9f17a4ccc361"
FIVE_TOKENS = ("the", "cat", "sat", "on", "mats")
FIVE_TOKENS_NAME = "PTRN|5dad6cb90740541d13ffce76f0179810087c4554"

NAMES_SEEN = [
    ([["a"], ["b"]], "76d7efca2e96cb5eeddf4e06ac96a0f424630135"),
    ([["b", "a"], ["c"]], "e9e43f2309079f2843665ab773996d99489306d6"),
    ([["the"], ["cat"], ["sat"]], "9cf67bb7d0f5b3d39f93b6d34d0b9f17a4ccc361"),
    ([["the"], ["cat"], ["sat"], ["on"], ["mats"]], "5dad6cb90740541d13ffce76f0179810087c4554"),
    ([["it's"], ["x"]], "271339250f33fe945c5a24f7deb31f02ce16ddb5"),
    ([['say "hi"'], ['it\'s "x"']], "e73d6415d6ce6877356c3de5e94ca05a77f59040"),
    ([["Ġthe"], ["Ċ"]], "854526cf19bacfe15ee6060326097dd74f69b506"),
    ([["日本"], ["é"]], "4461ee8a7ad7779ebddbcf8bade01757e63e05f7"),
    ([["\xa0"], ["\u200b"]], "13e1d26e8ff767c4144d9cd01144b474a2eb8118"),
    ([["back\\slash"], ["new\nline"]], "c149f054437122af06ff4216e85ff8f412f5dcce"),
]


@pytest.mark.parametrize(("observed", "name"), NAMES_SEEN)
def test_patterns_get_the_names_that_the_original_gives(wire: Wire, observed: list[list[str]], name: str) -> None:
    node = new_node()
    session = wire.session(node)
    answer = wire.sequence(session, [{"strings": strings} for strings in observed], learn_at_end=True)
    assert answer["final_learned_pattern"] == f"PTRN|{name}"
    stored = wire.pattern(node, f"PTRN|{name}")
    assert stored["pattern_data"] == [sorted(strings) for strings in observed]
    for strings in observed:
        wire.observe(session, *strings)
    assert wire.post(session, "learn")["pattern_name"] == f"PTRN|{name}"
    assert wire.pattern(node, name)["frequency"] == 2


def test_an_observation_answers_what_it_did(wire: Wire) -> None:
    session = wire.session("node0")
    body = {"strings": ["b", "a"], "vectors": [], "emotives": {"joy": 0.5}, "metadata": {"k": "v"}, "unknown": 1}
    answer = wire.post(session, "observe", body)
    assert re.fullmatch("obs-[0-9a-f]{32}", answer.pop("unique_id"))
    assert answer == {
        "status": "okay",
        "session_id": session,
        "processor_id": "node0",
        "stm_length": 1,
        "time": 1,
        "auto_learned_pattern": None,
    }
    assert wire.get(session, "stm") == {"stm": [["a", "b"]], "session_id": session, "length": 1}


def test_an_observation_without_content_moves_time_only(wire: Wire) -> None:
    session = wire.session()
    assert wire.post(session, "observe", {})["time"] == 1
    assert wire.observe(session)["time"] == 2
    assert wire.stm(session) == []
    assert wire.observe(session, "")["stm_length"] == 1
    assert wire.stm(session) == [[""]]


def test_events_are_sorted_whatever_the_configuration_says_and_keep_duplicates(wire: Wire) -> None:
    session = wire.session(sort_symbols=False)
    wire.observe(session, "b", "a", "b", "B")
    assert wire.stm(session) == [["B", "a", "b", "b"]]


@pytest.mark.parametrize(
    "body",
    [
        {"strings": None},
        {"vectors": None},
        {"strings": [1]},
        {"strings": "ab"},
        {"emotives": {"joy": "much"}},
        {"metadata": []},
        {"vectors": [[0.5, 1.0]]},
        [],
    ],
)
def test_a_malformed_observation_is_refused_and_nothing_done(wire: Wire, body: Any) -> None:
    session = wire.session()
    wire.post(session, "observe", body, status=422)
    wire.post(session, "observe-sequence", {"observations": [{"strings": ["a"]}, body]}, status=422)
    assert wire.stm(session) == []


@pytest.mark.parametrize("body", [{}, {"observations": None}, {"observations": {}}])
def test_a_sequence_without_a_list_is_refused(wire: Wire, body: Any) -> None:
    refused = wire.post(wire.session(), "observe-sequence", body, status=422)
    assert refused["detail"][0]["loc"] == ["body", "observations"]


def test_a_sequence_learned_at_its_end_answers_as_the_original(wire: Wire) -> None:
    session = wire.session("node0")
    observations = events(*FIVE_TOKENS)
    observations[1]["unique_id"] = "mine"
    answer = wire.sequence(session, observations, learn_at_end=True)
    ids = [result.pop("unique_id") for result in answer["results"]]
    assert ids[1] == "mine"
    assert len({*ids}) == 5
    assert all(re.fullmatch("seq-obs-[0-9a-f]{32}", each) for each in (ids[0], *ids[2:]))
    assert answer == {
        "status": "completed",
        "processor_id": "node0",
        "observations_processed": 5,
        "initial_stm_length": 0,
        "final_stm_length": 0,
        "results": [
            {
                "status": "okay",
                "sequence_position": position,
                "stm_length": position + 1,
                "time": position + 1,
                "auto_learned_pattern": None,
            }
            for position in range(5)
        ],
        "auto_learned_patterns": [FIVE_TOKENS_NAME],
        "final_learned_pattern": FIVE_TOKENS_NAME,
        "isolated": False,
    }


def test_an_empty_sequence_does_nothing(wire: Wire) -> None:
    answer = wire.sequence(wire.session(), [], learn_at_end=True)
    assert (answer["observations_processed"], answer["results"], answer["auto_learned_patterns"]) == (0, [], [])
    assert answer["final_learned_pattern"] is None


def test_a_sequence_continues_the_stm_it_finds(wire: Wire) -> None:
    session = wire.session()
    wire.observe(session, "the")
    answer = wire.sequence(session, events("cat", "sat"), learn_at_end=True)
    assert (answer["initial_stm_length"], answer["final_learned_pattern"]) == (1, THE_CAT_SAT)


def test_clearing_between_keeps_only_the_last_observation(wire: Wire) -> None:
    session = wire.session()
    wire.observe(session, "kept for the first")
    answer = wire.sequence(session, events("a", "b", "c"), clear_stm_between=True)
    assert answer["isolated"] is True
    assert [result["stm_length"] for result in answer["results"]] == [2, 1, 1]
    assert wire.stm(session) == [["c"]]


def test_learning_after_each_of_single_tokens_learns_nothing_and_gives_empty_names(wire: Wire) -> None:
    answer = wire.sequence(wire.session(), events("a", "b"), learn_after_each=True)
    assert answer["auto_learned_patterns"] == ["", ""]
    assert answer["final_stm_length"] == 0


def test_learning_after_each_of_whole_chunks_loses_their_order(wire: Wire) -> None:
    node = new_node()
    chunk = {"strings": ["t3", "t1", "t2"]}
    [name] = wire.sequence(wire.session(node), [chunk], learn_after_each=True)["auto_learned_patterns"]
    assert wire.pattern(node, name)["pattern_data"] == [["t1", "t2", "t3"]]


def test_nothing_is_final_when_the_last_chunk_was_learned_already(wire: Wire) -> None:
    chunks = [{"strings": ["a", "b"]}, {"strings": ["c", "d"]}]
    answer = wire.sequence(wire.session(), chunks, learn_after_each=True, learn_at_end=True)
    assert len(answer["auto_learned_patterns"]) == 2
    assert answer["final_learned_pattern"] is None


def test_a_learn_call_learns_the_stm_and_clears_it(wire: Wire) -> None:
    node = new_node()
    session = wire.session(node)
    wire.sequence(session, events("the", "cat", "sat"))
    answer = wire.post(session, "learn")
    assert "3 events" in answer.pop("message")
    expected = {"status": "learned", "pattern_name": THE_CAT_SAT, "session_id": session, "processor_id": None}
    assert answer == expected
    assert wire.stm(session) == []
    assert wire.pattern(node, THE_CAT_SAT) == {
        "name": THE_CAT_SAT,
        "pattern_data": [["the"], ["cat"], ["sat"]],
        "length": 3,
        "frequency": 1,
        "emotives": {},
        "metadata": {},
    }


def test_one_symbol_is_no_pattern_but_one_event_of_two_is(wire: Wire) -> None:
    session = wire.session()
    wire.observe(session, "alone")
    answer = wire.post(session, "learn")
    assert (answer["status"], answer["pattern_name"], wire.stm(session)) == ("learned", "", [])
    wire.observe(session, "a", "b")
    assert wire.post(session, "learn")["pattern_name"].startswith("PTRN|")


def test_an_empty_stm_cannot_be_learned(wire: Wire) -> None:
    assert wire.post(wire.session(), "learn", status=400) == {"detail": "Cannot learn from empty STM"}


def test_automatic_learning_with_clear_learns_chunk_by_chunk(wire: Wire) -> None:
    node = new_node()
    session = wire.session(node, max_pattern_length=5)
    tokens = [f"t{number}" for number in range(12)]
    answer = wire.sequence(session, events(*tokens))
    learned = [wire.pattern(node, name)["pattern_data"] for name in answer["auto_learned_patterns"]]
    assert learned == [[[token] for token in tokens[:5]], [[token] for token in tokens[5:10]]]
    assert wire.stm(session) == [["t10"], ["t11"]]
    at = [result["auto_learned_pattern"] for result in answer["results"]]
    assert [at[4], at[9]] == answer["auto_learned_patterns"]
    assert sum(name is not None for name in at) == 2


@pytest.mark.parametrize("in_one_call", [True, False])
def test_automatic_learning_with_rolling_keeps_a_window(wire: Wire, in_one_call: bool) -> None:
    node = new_node()
    session = wire.session(node, max_pattern_length=3, stm_mode="ROLLING")
    tokens = [f"r{number}" for number in range(5)]
    if in_one_call:
        names = wire.sequence(session, events(*tokens))["auto_learned_patterns"]
    else:
        each = [wire.observe(session, token)["auto_learned_pattern"] for token in tokens]
        names = [name for name in each if name]
    learned = [wire.pattern(node, name)["pattern_data"] for name in names]
    assert learned == [[[token] for token in tokens[at : at + 3]] for at in range(3)]
    assert wire.stm(session) == [["r3"], ["r4"]]


def test_the_stm_keeps_its_last_thousand_events_between_calls(wire: Wire) -> None:
    node = new_node()
    session = wire.session(node, process_predictions=False)
    tokens = [f"t{number}" for number in range(1100)]
    assert wire.sequence(session, events(*tokens))["final_stm_length"] == 1000
    assert wire.stm(session) == [[token] for token in tokens[100:]]
    wire.post(session, "clear-stm")
    name = wire.learn_tokens(session, *tokens)
    assert wire.pattern(node, name)["length"] == 1100


def test_emotives_and_metadata_go_on_the_next_pattern_of_the_session(wire: Wire) -> None:
    node = new_node()
    session = wire.session(node)
    wire.observe(session, "a", emotives={"joy": 1.0, "fear": 0.25}, metadata={"title": "T", "page": 7})
    wire.observe(session, emotives={"joy": 0.5}, metadata={"title": ["T", "U"]})
    wire.observe(session, "b")
    first = wire.pattern(node, wire.post(session, "learn")["pattern_name"])
    assert first["emotives"] == [{"joy": 0.75, "fear": 0.25}]
    assert first["metadata"] == {"title": ["T", "U"], "page": ["7"]}
    assert wire.pattern(node, wire.learn_tokens(session, "c", "d"))["emotives"] == {}


def test_what_was_gathered_goes_when_the_stm_is_cleared(wire: Wire) -> None:
    node = new_node()
    session = wire.session(node)
    wire.observe(session, "a", emotives={"joy": 1.0}, metadata={"title": "T"})
    assert wire.post(session, "clear-stm") == {"status": "cleared", "session_id": session}
    pattern = wire.pattern(node, wire.learn_tokens(session, "a", "b"))
    assert (pattern["emotives"], pattern["metadata"]) == ({}, {})


@pytest.mark.parametrize("in_one_call", [True, False])
def test_a_pattern_keeps_the_last_emotives_up_to_its_persistence(wire: Wire, in_one_call: bool) -> None:
    node = new_node()
    session = wire.session(node, persistence=2, max_pattern_length=2)
    observations = [
        {"strings": [token], "emotives": {"joy": number / 4}} for number in range(3) for token in ("a", "b")
    ]
    if in_one_call:
        wire.sequence(session, observations)
    else:
        for observation in observations:
            wire.post(session, "observe", observation)
    pattern = wire.pattern(node, "76d7efca2e96cb5eeddf4e06ac96a0f424630135")
    assert (pattern["frequency"], pattern["emotives"]) == (3, [{"joy": 0.25}, {"joy": 0.5}])


def test_symbols_and_totals_of_seven_chunks_are_those_of_the_original(wire: Wire, store_file: Path) -> None:
    node = new_node()
    chunks = [[f"t{number}_{at}" for at in range(5)] for number in range(6)]
    tokens = [token for chunk in [*chunks, chunks[0]] for token in chunk]
    names = wire.sequence(wire.session(node, max_pattern_length=5), events(*tokens))["auto_learned_patterns"]
    assert (len(names), len({*names})) == (7, 6)
    store = open_store(f"sqlite:///{store_file}", read_only=True)
    try:
        assert store.totals(node_id=node) == Totals(
            total_pattern_frequencies=7, total_symbol_frequencies=35, total_symbols_in_patterns_frequencies=35
        )
        assert sorted(frequency for _, frequency in store.frequencies(node_id=node)) == [1, 1, 1, 1, 1, 2]
        symbols = {each.name: (each.frequency, each.pattern_member_frequency) for each in store.symbols(node_id=node)}
    finally:
        store.close()
    assert symbols == {token: ((2, 2) if token in chunks[0] else (1, 1)) for token in tokens}


def test_clearing_all_wipes_the_node_and_no_other(wire: Wire) -> None:
    node, other = new_node(), new_node()
    session = wire.session(node)
    name = wire.learn_tokens(session, "the", "cat", "sat")
    wire.learn_tokens(wire.session(other), "the", "cat", "sat")
    wire.observe(session, "left")
    assert wire.post(session, "clear-all") == {"status": "cleared", "session_id": session, "scope": "all"}
    assert wire.stm(session) == []
    gone = wire.http.get(f"/pattern/{name.replace('|', '%7C')}", params={"node_id": node}).json()
    assert gone["pattern"]["status"] == "error"
    assert wire.pattern(other, name)["frequency"] == 1
