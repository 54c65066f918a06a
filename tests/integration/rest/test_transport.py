"""Blocks learned by a real server, ours and the plain protocol: what the store holds is what was computed."""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from shardwise.engine.files import OutputFolder
from shardwise_jobs.engines.kato.file_ledger import FileLedger
from shardwise_jobs.engines.kato.hierarchy import SampleTree
from shardwise_jobs.engines.kato.http import KatoError, Unreachable
from shardwise_jobs.engines.kato.names import wire_name
from shardwise_jobs.engines.kato.transport import WorkedBlock
from tests.support.flaky_proxy import flaky_proxy
from tests.support.rest_work import (
    HIERARCHY,
    Served,
    Work,
    ask,
    block,
    computed,
    learns,
    misnamed,
    sample,
    sessions_seen,
)


def test_a_server_holds_exactly_what_was_computed(either: Served, new_work: Callable[[Served], Work]) -> None:
    work = new_work(either)
    with work.open(either.url) as transport:
        assert transport.guarantee == ("ExactlyOnce" if either.exact else "AtLeastOnce")
        rows = [transport.commit(block(number)) for number in (0, 1)]
        assert transport.last_block() == 1
        assert transport.records() == rows
    assert work.learned() == computed(block(0), block(1))
    assert [row.learns for row in rows] == [learns(block(0)), learns(block(1))]
    assert [(row.done, row.failed, row.uncertain) for row in rows] == [(4, 0, 0), (4, 0, 0)]


@pytest.mark.parametrize("batch", [1, 3, 1000])
def test_the_batch_size_changes_the_calls_only(either: Served, new_work: Callable[[Served], Work], batch: int) -> None:
    work = new_work(either)
    with work.open(either.url, batch=batch) as transport:
        transport.commit(block(0))
        calls = transport.statistics["learningCalls"]
    assert work.learned() == computed(block(0))
    if either.exact:
        assert calls == sum(-(-patterns // batch) for patterns in learns(block(0)))
    else:
        assert calls <= sum(learns(block(0)))


def test_the_sequential_way_learns_the_same_with_a_call_per_pattern(
    either: Served, new_work: Callable[[Served], Work]
) -> None:
    work = new_work(either)
    with flaky_proxy(either.url) as proxy, work.open(proxy.url, sequential=True) as transport:
        transport.commit(block(0))
        assert transport.guarantee == "AtLeastOnce"
        assert transport.settings["node0BatchSize"] == 1
        assert transport.statistics["learningCalls"] == sum(learns(block(0)))
        # The status, a session per node, the calls.
        assert len(proxy.requests) == 1 + 3 + sum(learns(block(0)))
    assert work.learned() == computed(block(0))


def test_a_block_that_has_its_row_is_not_sent_again(either: Served, new_work: Callable[[Served], Work]) -> None:
    work = new_work(either)
    with work.open(either.url) as transport:
        row = transport.commit(block(0))
        assert transport.commit(block(0)) == row
    with work.open(either.url) as transport:
        assert transport.last_block() == 0
        assert transport.commit(block(0)) == row
        assert transport.statistics["learningCalls"] == 0
    assert work.learned() == computed(block(0))


def test_a_block_sent_twice_to_our_server_counts_once(
    ours: Served, new_work: Callable[[Served], Work], tmp_path: Path
) -> None:
    work = new_work(ours)
    with work.open(ours.url) as transport:
        transport.commit(block(0))
    forgetful = replace(work, ledger=FileLedger(output=OutputFolder(str(tmp_path / "elsewhere")), run=work.run))
    with forgetful.open(ours.url) as transport:
        assert transport.last_block() == -1
        assert transport.commit(block(0)).uncertain == 0
        transport.commit(block(1))
    assert work.learned() == computed(block(0), block(1))


def test_sessions_carry_their_run_and_are_deleted_at_the_end(
    either: Served, new_work: Callable[[Served], Work]
) -> None:
    work = new_work(either)
    with flaky_proxy(either.url) as proxy:
        with work.open(proxy.url) as transport:
            transport.commit(block(0))
            sessions = sessions_seen(proxy)
            shown = [ask(either.url, f"/sessions/{session}") for session in sessions]
            assert [session["metadata"] for session in shown] == [{"run": work.run, "shard": 3}] * 3
            assert {session["node_id"] for session in shown} == {f"{work.base}_node{level}" for level in range(3)}
            transport.close()
        transport.close()
    assert not any(ask(either.url, f"/sessions/{session}/exists")["exists"] for session in sessions)


def test_a_server_that_is_not_there_is_named_after_some_tries(ours: Served, new_work: Callable[[Served], Work]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    with pytest.raises(Unreachable, match=rf"^GET {url}/status: no connection: "):
        new_work(ours).transport(url, max_attempts=2)


def test_a_sample_that_the_server_names_otherwise_fails_alone(
    either: Served, new_work: Callable[[Served], Work]
) -> None:
    work = new_work(either)
    good = block(0)
    wrong_name = "0" * 40
    odd = misnamed(good.trees[1], wrong_name)
    with work.open(either.url) as transport:
        given = replace(good, trees=[good.trees[0], odd, *good.trees[2:]], failures=[(99, "unreadable")], skipped=2)
        row = transport.commit(given)
    right_name = wire_name(good.trees[1].levels[0][0][0])
    assert (row.done, row.failed, row.skipped) == (3, 2, 2)
    assert row.failures == (
        (1, f"node0: the server named a pattern {right_name!r}, expected {wire_name(wrong_name)!r}"),
        (99, "unreadable"),
    )
    assert row.learns == (learns(good)[0] - 1, *learns(good)[1:])


def test_a_server_that_names_everything_otherwise_ends_the_run(
    either: Served, new_work: Callable[[Served], Work]
) -> None:
    tree = sample(0)
    levels = [[("0" * 40, events) for _, events in level] for level in tree.levels]
    work = new_work(either)
    with (
        work.open(either.url) as transport,
        pytest.raises(KatoError, match="a server of another version, or of a Python with other Unicode tables"),
    ):
        transport.commit(WorkedBlock(number=0, trees=[SampleTree(item=0, levels=levels)]))
    assert work.ledger.records(3) == []


def test_every_character_that_json_carries_is_named_as_computed(
    either: Served, new_work: Callable[[Served], Work]
) -> None:
    text = 'it\'s say"hi" it\'s"x" back\\slash Ġthe 日本 é \x00nul \u00adsoft \u200bzero 🎉 \x85'
    tree = HIERARCHY.learn(item=0, text=text)
    work = new_work(either)
    with work.open(either.url) as transport:
        assert transport.commit(WorkedBlock(number=0, trees=[tree])).failed == 0
    assert work.learned() == computed(WorkedBlock(number=0, trees=[tree]))


def test_a_sample_that_json_cannot_carry_fails_alone(either: Served, new_work: Callable[[Served], Work]) -> None:
    torn = HIERARCHY.learn(item=7, text="one two \ud800 four five")
    work = new_work(either)
    with work.open(either.url) as transport:
        row = transport.commit(WorkedBlock(number=0, trees=[sample(0), torn]))
    assert (row.done, row.failed) == (1, 1)
    assert row.failures[0][0] == 7
    assert "surrogate" in row.failures[0][1]
    assert work.learned() == computed(WorkedBlock(number=0, trees=[sample(0)]))


def test_a_block_without_anything_to_learn_gets_its_row(either: Served, new_work: Callable[[Served], Work]) -> None:
    with new_work(either).open(either.url) as transport:
        row = transport.commit(WorkedBlock(number=0, trees=[], skipped=4))
        assert transport.records() == [row]
        assert transport.statistics["learningCalls"] == 0
    assert (row.done, row.skipped, row.learns) == (0, 4, (0, 0, 0))


def test_settings_are_those_in_force(ours: Served, new_work: Callable[[Served], Work]) -> None:
    with new_work(ours).open(ours.url, batch=7, timeout=9) as transport:
        settings = transport.settings
    assert settings["node0BatchSize"] == 7
    assert settings["requestTimeoutSeconds"] == 9
    assert settings["connectionPoolSize"] == 50
    assert settings["sessionTTLSeconds"] == 3600
    assert settings["server"] == ask(ours.url, "/status")["settings"]
