"""Names are those of the KATO server, byte by byte: each pattern name here was answered by a real one."""

from __future__ import annotations

import hashlib

import pytest

from shardwise_jobs.engines.kato.names import (
    bare_name,
    node_id,
    pattern_hash,
    processor_id,
    sorted_event,
    wire_name,
)


@pytest.mark.parametrize(
    ("events", "name"),
    [
        ([["a"], ["b"]], "PTRN|76d7efca2e96cb5eeddf4e06ac96a0f424630135"),
        ([["b", "a"], ["c"]], "PTRN|e9e43f2309079f2843665ab773996d99489306d6"),
        ([["the"], ["cat"], ["sat"]], "PTRN|9cf67bb7d0f5b3d39f93b6d34d0b9f17a4ccc361"),
        ([["the"], ["cat"], ["sat"], ["on"], ["mats"]], "PTRN|5dad6cb90740541d13ffce76f0179810087c4554"),
        ([["it's"], ["x"]], "PTRN|271339250f33fe945c5a24f7deb31f02ce16ddb5"),
        ([['say "hi"'], ['it\'s "x"']], "PTRN|e73d6415d6ce6877356c3de5e94ca05a77f59040"),
        ([["Ġthe"], ["Ċ"]], "PTRN|854526cf19bacfe15ee6060326097dd74f69b506"),
        ([["日本"], ["é"]], "PTRN|4461ee8a7ad7779ebddbcf8bade01757e63e05f7"),
        ([["\xa0"], ["\u200b"]], "PTRN|13e1d26e8ff767c4144d9cd01144b474a2eb8118"),
        ([["back\\slash"], ["new\nline"]], "PTRN|c149f054437122af06ff4216e85ff8f412f5dcce"),
    ],
)
def test_a_pattern_has_the_name_that_a_kato_server_gives_it(events: list[list[str]], name: str) -> None:
    assert wire_name(pattern_hash([sorted_event(event) for event in events])) == name


def test_order_of_events_makes_another_pattern_order_within_an_event_does_not() -> None:
    assert pattern_hash([["a"], ["b"]]) != pattern_hash([["b"], ["a"]])
    assert sorted_event(["b", "a", "b"]) == sorted_event(["b", "b", "a"]) == ["a", "b", "b"]


def test_a_store_keeps_the_name_without_what_leads_it_on_the_wire() -> None:
    bare = pattern_hash([["a"], ["b"]])
    assert bare_name(wire_name(bare)) == bare_name(bare) == bare
    assert len(bare) == 40


@pytest.mark.parametrize(
    ("node", "expected"),
    [
        ("node0", "node0_kato"),
        ("node0_level0", "node0_level0_kato"),
        ("user-1.node 0", "user_1_node_0_kato"),
        ('/\\."$*<>:|?- x', "______________x_kato"[1:]),
        ("", "_kato"),
        ("日本", "日本_kato"),
    ],
)
def test_a_processor_id_is_the_node_id_made_safe(node: str, expected: str) -> None:
    assert processor_id(node) == expected


def test_the_service_is_part_of_a_processor_id() -> None:
    assert processor_id("node0", service="kato-two") == "node0_kato_two"


@pytest.mark.parametrize("service", ["kato", "kato-two"])
def test_a_processor_id_of_60_characters_stays_and_a_longer_one_is_cut_with_a_digest(service: str) -> None:
    room = 60 - len(service) - 1
    assert processor_id("n" * room, service=service) == "n" * room + "_" + service.replace("-", "_")

    clean = "n" * room + "_"
    long = processor_id("n" * room + ".", service=service)
    digest = hashlib.md5(clean.encode()).hexdigest()[:8]
    assert long == clean[: 60 - len(service) - 10] + f"_{digest}_" + service.replace("-", "_")
    assert len(long) == 60


def test_long_node_ids_that_differ_at_their_end_keep_apart() -> None:
    assert processor_id("n" * 100 + "1") != processor_id("n" * 100 + "2")


def test_nodes_of_two_knowledge_bases_keep_apart() -> None:
    assert node_id("wiki", "node0") == "wiki_node0"
    assert processor_id(node_id("a", "node0")) != processor_id(node_id("b", "node0"))
