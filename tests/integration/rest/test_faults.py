"""Lines that break, servers and workers that die: what a real server holds in the end, and what is said of it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from types import FrameType

import pytest

from shardwise.engine.errors import Interrupted
from shardwise_jobs.engines.kato.http import KatoError
from tests.support.flaky_proxy import Fault, flaky_proxy
from tests.support.rest_work import (
    LEARN,
    PLAIN,
    Mortal,
    Served,
    Work,
    ask,
    block,
    computed,
    delete_sessions,
    give_up_within_first_block,
    learned_at_least,
    learns,
    sessions_seen,
    wait_for,
)


@pytest.mark.parametrize("fault", list(Fault), ids=lambda fault: fault.name)
def test_whatever_happens_on_the_line_our_server_counts_once(
    ours: Served, new_work: Callable[[Served], Work], fault: Fault
) -> None:
    work = new_work(ours)
    with flaky_proxy(ours.url) as proxy, work.open(proxy.url, batch=10, timeout=5) as transport:
        proxy.lose(LEARN, fault, times=2)
        row = transport.commit(block(0))
        assert transport.statistics["retries"] >= 2
    assert (row.done, row.uncertain) == (4, 0)
    assert work.learned() == computed(block(0))


@pytest.mark.parametrize("fault", [Fault.CUT_BEFORE, Fault.CUT_AFTER], ids=lambda fault: fault.name)
def test_our_server_dies_within_a_block_and_comes_back(
    tmp_path: Path, new_work: Callable[[Served], Work], fault: Fault
) -> None:
    with ExitStack() as stack:
        server = Mortal(stack, folder=tmp_path)
        work = new_work(server.served)
        proxy = stack.enter_context(flaky_proxy(server.url))
        transport = stack.enter_context(work.open(proxy.url, batch=10))
        transport.commit(block(0))
        proxy.lose(LEARN, fault, then=server.restart)
        row = transport.commit(block(1))
        assert proxy.pending == 0
        assert transport.statistics["sessionsRecreated"] >= 3
        transport.commit(block(2))
    assert (row.done, row.uncertain) == (4, 0)
    assert work.learned() == computed(block(0), block(1), block(2))


def test_our_server_is_killed_at_any_moment_and_started_again(
    tmp_path: Path, new_work: Callable[[Served], Work]
) -> None:
    large = block(0, items=60)
    with ExitStack() as stack:
        server = Mortal(stack, folder=tmp_path)
        work = new_work(server.served)
        transport = stack.enter_context(work.open(server.url, batch=1))
        commit = stack.enter_context(ThreadPoolExecutor(1)).submit(transport.commit, large)
        for least in (20, 400, 800):
            wait_for(partial(learned_at_least, work, least))
            assert not commit.done()
            server.kill()
            server.start_again()
        assert commit.result(timeout=60).uncertain == 0
    assert work.learned() == computed(large)


def test_a_worker_killed_before_its_ledger_row_repeats_the_block_at_our_server(
    ours: Served, new_work: Callable[[Served], Work]
) -> None:
    work = new_work(ours)
    with flaky_proxy(ours.url) as proxy:
        give_up_within_first_block(work, proxy)
        with work.open(proxy.url, batch=10) as transport:
            row = transport.commit(block(0))
    assert (row.done, row.uncertain) == (4, 0)
    assert work.learned() == computed(block(0))


def test_a_worker_killed_before_its_ledger_row_leaves_a_foreign_servers_block_uncertain(
    foreign: Served, new_work: Callable[[Served], Work]
) -> None:
    work = new_work(foreign)
    with flaky_proxy(foreign.url) as proxy:
        give_up_within_first_block(work, proxy)
        with work.open(proxy.url, batch=10) as transport:
            rows = [transport.commit(block(number)) for number in (0, 1)]
        with work.open(proxy.url) as transport:
            rows.append(transport.commit(block(2)))
    assert [row.uncertain for row in rows] == [4, 0, 0]
    for level, learned in enumerate(work.learned()):
        for name, count in computed(block(0), block(1), block(2))[level].items():
            assert learned[name] >= count


@pytest.mark.parametrize("fault", list(Fault), ids=lambda fault: fault.name)
@pytest.mark.parametrize("call", [1, 2, 3, 9])
def test_a_foreign_servers_sole_writer_can_tell_what_a_lost_call_did(
    foreign: Served, new_work: Callable[[Served], Work], fault: Fault, call: int
) -> None:
    work = new_work(foreign)
    with flaky_proxy(foreign.url) as proxy:
        with work.open(proxy.url, batch=10, timeout=1, sole_writer=True) as transport:
            transport.commit(block(0))
            proxy.lose(LEARN, fault, after=call - 1)
            row = transport.commit(block(1))
        assert proxy.pending == 0
    assert (row.done, row.uncertain) == (4, 0)
    assert row.learns == learns(block(1))
    assert work.learned() == computed(block(0), block(1))


def test_a_foreign_servers_call_that_never_arrived_is_told_even_among_several_writers(
    foreign: Served, new_work: Callable[[Served], Work]
) -> None:
    work = new_work(foreign)
    with flaky_proxy(foreign.url) as proxy, work.open(proxy.url, batch=10) as transport:
        proxy.lose(LEARN, Fault.CUT_BEFORE)
        assert transport.commit(block(0)).uncertain == 0
    assert work.learned() == computed(block(0))


@pytest.mark.parametrize("sequential", [False, True])
def test_what_several_writers_of_a_foreign_server_cannot_tell_is_said(
    foreign: Served, new_work: Callable[[Served], Work], sequential: bool
) -> None:
    work = new_work(foreign)
    with flaky_proxy(foreign.url) as proxy:
        with work.open(proxy.url, batch=10, sequential=sequential) as transport:
            proxy.lose(LEARN, Fault.CUT_AFTER)
            row = transport.commit(block(0, items=1))
        assert proxy.pending == 0
    assert (row.done, row.uncertain) == (1, 1)
    (expected, *above), (learned, *learned_above) = computed(block(0, items=1)), work.learned()
    assert learned.keys() == expected.keys()
    assert all(count <= learned[name] <= 2 * count for name, count in expected.items())
    assert learned != expected, "the lost call was repeated, and counts twice"
    assert learned_above == above


def test_sessions_that_are_gone_are_made_anew(either: Served, new_work: Callable[[Served], Work]) -> None:
    work = new_work(either)
    with flaky_proxy(either.url) as proxy, work.open(proxy.url) as transport:
        transport.commit(block(0))
        delete_sessions(either.url, sessions_seen(proxy))
        row = transport.commit(block(1))
        assert transport.statistics["sessionsRecreated"] == 3
    assert (row.done, row.uncertain) == (4, 0)
    assert work.learned() == computed(block(0), block(1))


def test_an_interrupted_block_leaves_no_session_and_no_row(either: Served, new_work: Callable[[Served], Work]) -> None:
    def interrupt(signum: int, frame: FrameType | None) -> None:
        raise Interrupted("told to stop")

    work = new_work(either)
    before = signal.signal(signal.SIGUSR1, interrupt)
    try:
        with flaky_proxy(either.url) as proxy:
            with work.open(proxy.url, timeout=60, batch=10) as transport:
                main = threading.main_thread().ident
                assert main is not None
                proxy.lose(LEARN, Fault.HOLD_AFTER, after=2, then=lambda: signal.pthread_kill(main, signal.SIGUSR1))
                with pytest.raises(Interrupted):
                    transport.commit(block(0))
            sessions = sessions_seen(proxy)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert sessions
    assert not any(ask(either.url, f"/sessions/{session}/exists")["exists"] for session in sessions)
    assert work.ledger.records(3) == []


def test_a_server_that_loses_its_extensions_is_noticed(tmp_path: Path, new_work: Callable[[Served], Work]) -> None:
    with ExitStack() as stack:
        server = Mortal(stack, folder=tmp_path)
        work = new_work(server.served)
        transport = stack.enter_context(work.open(server.url))
        transport.commit(block(0))
        server.kill()
        server.start_again(PLAIN)
        with pytest.raises(KatoError, match="learn-sequences"):
            transport.commit(block(1))
        assert transport.last_block() == 0
    assert work.learned() == computed(block(0))
