"""What our server adds to the protocol, and that switched off it is not there at all."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.kato_server import Json, Wire, events, kato_server, new_node


@pytest.fixture(scope="module")
def plain_wire(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Wire]:
    """A client of a server without extensions."""
    file = tmp_path_factory.mktemp("plain") / "patterns.db"
    settings = {"KATO_EXTENSIONS": "off"}
    with (
        kato_server(store_uri=f"sqlite:///{file}", settings=settings) as server,
        httpx.Client(base_url=server.url, timeout=30) as http,
    ):
        yield Wire(http)


def marked(*chunks: str) -> list[Json]:
    """Return the chunks' words as observations, with a mark at the end of each chunk."""
    observations = []
    for chunk in chunks:
        observations += events(*chunk.split())
        observations[-1]["learn"] = True
    return observations


def guard(position: int, *, shard: int = 0, run: str = "run") -> Json:
    return {"run": run, "shard": shard, "position": position}


def test_extensions_are_advertised(wire: Wire) -> None:
    assert wire.send("GET", "/status")["extensions"] == [
        "learn-marks",
        "guarded-learning",
        "compact-results",
        "learn-sequences",
        "list-patterns",
        "list-sessions",
    ]


def test_sequences_are_learned_whole_and_leave_the_memory_alone(wire: Wire) -> None:
    session = wire.session(node := new_node(), process_predictions=False)
    wire.observe(session, "before")
    chunks = ["a b c", "d e", "f g h i j", "a b c", "lonely"]
    answer = wire.post(session, "learn-sequences", {"sequences": [chunk.split() for chunk in chunks]})
    names = answer["pattern_names"]
    assert names[-1] == ""
    assert [wire.pattern(node, name)["pattern_data"] for name in names[:-1]] == [
        [[word] for word in chunk.split()] for chunk in chunks[:-1]
    ]
    assert names == [*wire.sequence(wire.session(), marked(*chunks[:-1]))["auto_learned_patterns"], ""]
    assert wire.pattern(node, names[0])["frequency"] == 2
    assert wire.stm(session) == [["before"]]
    assert "applied" not in answer


def test_guarded_sequences_count_once(wire: Wire) -> None:
    session = wire.session(node := new_node(), process_predictions=False)
    body = {"sequences": [["a", "b"]], "guard": guard(3)}
    first = wire.post(session, "learn-sequences", body)
    again = wire.post(session, "learn-sequences", body)
    assert (first["applied"], again["applied"]) == (True, False)
    assert first["pattern_names"] == again["pattern_names"]
    assert wire.pattern(node, first["pattern_names"][0])["frequency"] == 1


def test_bad_sequences_are_refused(wire: Wire) -> None:
    session = wire.session(process_predictions=False)
    for body in ({}, {"sequences": None}, {"sequences": ["ab"]}, {"sequences": [["a", 1]]}):
        wire.post(session, "learn-sequences", body, status=422)


def test_marks_learn_chunks_of_any_length_in_one_call(wire: Wire) -> None:
    node = new_node()
    session = wire.session(node, process_predictions=False)
    chunks = ["a b c", "d e", "f g h i j", "a b c"]
    answer = wire.sequence(session, [*marked(*chunks), *events("left")])
    names = answer["auto_learned_patterns"]
    assert [wire.pattern(node, name)["pattern_data"] for name in names] == [
        [[word] for word in chunk.split()] for chunk in chunks
    ]
    assert wire.pattern(node, names[0])["frequency"] == 2
    assert answer["final_learned_pattern"] is None
    assert wire.stm(session) == [["left"]]


def test_a_mark_where_automatic_learning_struck_learns_nothing_more(wire: Wire) -> None:
    session = wire.session(max_pattern_length=3)
    answer = wire.sequence(session, marked("a b c", "d e"))
    assert len(answer["auto_learned_patterns"]) == 2
    assert [result["auto_learned_pattern"] is not None for result in answer["results"]] == [False, False, True] + [
        False
    ] * 2


def test_a_mark_after_a_single_symbol_answers_an_empty_name(wire: Wire) -> None:
    assert wire.sequence(wire.session(), marked("a", "b c"))["auto_learned_patterns"][0] == ""


def test_a_mark_must_be_a_boolean(wire: Wire) -> None:
    wire.post(wire.session(), "observe-sequence", {"observations": [{"strings": ["a"], "learn": []}]}, status=422)


def test_a_guarded_call_counts_once_however_often_it_is_made(wire: Wire) -> None:
    node = new_node()
    session = wire.session(node)
    observations = marked("a b", "c d", "a b")
    first = wire.sequence(session, observations, guard=guard(0))
    again = wire.sequence(wire.session(node), observations, guard=guard(0))
    assert (first["applied"], again["applied"]) == (True, False)
    assert first["auto_learned_patterns"] == again["auto_learned_patterns"]
    frequencies = [wire.pattern(node, name)["frequency"] for name in first["auto_learned_patterns"]]
    assert frequencies == [2, 1, 2]


def test_guards_of_other_positions_shards_runs_and_nodes_are_their_own(wire: Wire) -> None:
    node = new_node()
    session = wire.session(node)
    guards = [guard(0), guard(1), guard(0, shard=1), guard(0, run="other")]
    answers = [wire.sequence(session, marked("a b"), guard=each) for each in guards]
    answers.append(wire.sequence(wire.session(), marked("a b"), guard=guard(0)))
    assert [answer["applied"] for answer in answers] == [True] * 5
    assert wire.pattern(node, answers[0]["auto_learned_patterns"][0])["frequency"] == 4
    assert wire.sequence(session, marked("a b"), guard=guard(0))["applied"] is False


def test_a_guarded_call_that_learns_nothing_still_moves_its_shard(wire: Wire) -> None:
    node = new_node()
    session = wire.session(node)
    assert wire.sequence(session, [], guard=guard(3))["applied"] is True
    assert wire.sequence(session, marked("a b"), guard=guard(3))["applied"] is False


def test_whether_it_was_applied_is_told_only_for_a_guarded_call(wire: Wire) -> None:
    assert "applied" not in wire.sequence(wire.session(), marked("a b"))


@pytest.mark.parametrize(
    "bad", [{}, {"run": "r", "shard": -1, "position": 0}, {"run": "", "shard": 0, "position": 0}, "r"]
)
def test_a_malformed_guard_is_refused(wire: Wire, bad: Any) -> None:
    wire.post(wire.session(), "observe-sequence", {"observations": [], "guard": bad}, status=422)


def test_a_compact_answer_leaves_the_results_out_and_nothing_else(wire: Wire) -> None:
    node = new_node()
    full, compact = (
        wire.sequence(wire.session(node), marked("a b", "c d"), compact=compact) for compact in (False, True)
    )
    assert compact["results"] == []
    assert {**full, "results": []} == compact


def test_switched_off_nothing_is_advertised_and_every_extension_field_is_ignored(plain_wire: Wire) -> None:
    status = plain_wire.send("GET", "/status")
    assert (status["extensions"], status["settings"]["KATO_EXTENSIONS"]) == ([], "off")
    observations = marked("a b", "c")
    observations[0]["learn"] = {"not": "even a boolean"}
    answer = plain_wire.sequence(plain_wire.session(), observations, guard="nonsense", compact=True)
    assert (answer["auto_learned_patterns"], answer["final_stm_length"]) == ([], 3)
    assert len(answer["results"]) == 3
    assert "applied" not in answer


def test_switched_off_a_repeated_call_counts_twice(plain_wire: Wire, tmp_path: Path) -> None:
    node = new_node()
    session = plain_wire.session(node)
    for _ in range(2):
        answer = plain_wire.sequence(session, events("a", "b"), learn_at_end=True, guard=guard(0))
    assert plain_wire.pattern(node, answer["final_learned_pattern"])["frequency"] == 2


def test_patterns_are_listed_with_frequencies_in_order_of_name(wire: Wire) -> None:
    session = wire.session(node := new_node())
    names = {wire.learn_tokens(session, *chunk.split()).removeprefix("PTRN|") for chunk in ("a b", "c d", "e f")}
    wire.learn_tokens(session, "a", "b")
    listed = wire.http.get(f"/knowledge/{node}/frequencies").text.splitlines()
    assert [line.split("\t")[0] for line in listed] == sorted(names)
    assert sorted(int(line.split("\t")[1]) for line in listed) == [1, 1, 2]


def test_an_unknown_node_lists_nothing(wire: Wire) -> None:
    assert wire.http.get(f"/knowledge/{new_node()}/frequencies").text == ""


def test_a_server_without_extensions_lists_no_patterns(plain_wire: Wire) -> None:
    assert plain_wire.send("GET", "/knowledge/n/frequencies", status=404) == {"detail": "Not Found"}
    plain_wire.post(plain_wire.session(), "learn-sequences", {"sequences": [["a", "b"]]}, status=404)
