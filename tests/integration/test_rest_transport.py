"""Blocks learned by a real server, ours and the plain protocol: what the store holds is what was computed."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from shardwise_api.kato import KatoServer
from shardwise_jobs.engines.kato.file_ledger import FileLedger
from shardwise_jobs.engines.kato.hierarchy import Hierarchy, SampleTree, sum_up
from shardwise_jobs.engines.kato.names import node_id, wire_name
from shardwise_jobs.engines.kato.rest import RestTransport
from shardwise_jobs.engines.kato.retries import KatoError, LostAnswer, Unreachable, Wire
from shardwise_jobs.engines.kato.stores.open import open_store
from shardwise_jobs.engines.kato.transport import WorkedBlock
from shardwise_jobs.errors import Interrupted
from shardwise_jobs.files import OutputFolder
from tests.support.flaky_proxy import Fault, FlakyProxy, flaky_proxy
from tests.support.kato_server import command, environment, kato_server

CHUNK_SIZES = (5, 4, 3)
HIERARCHY = Hierarchy(chunk_sizes=CHUNK_SIZES, tokenize=str.split)
PLAIN = {"KATO_EXTENSIONS": "off"}
LEARN = "-sequence"
"""Of observe-sequence, or of our learn-sequences."""


@dataclass(frozen=True, kw_only=True)
class Served:
    """A server to learn at and the store behind it."""

    url: str
    store: str
    exact: bool


@contextmanager
def serving(folder: Path, *, exact: bool) -> Iterator[Served]:
    store = f"sqlite:///{folder}/patterns.db"
    with kato_server(store_uri=store, settings={} if exact else PLAIN) as server:
        yield Served(url=server.url, store=store, exact=exact)


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(tmp_path_factory.mktemp("ours"), exact=True) as served:
        yield served


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(tmp_path_factory.mktemp("foreign"), exact=False) as served:
        yield served


@pytest.fixture(params=["ours", "foreign"])
def either(request: pytest.FixtureRequest) -> Served:
    served: Served = request.getfixturevalue(request.param)
    return served


@dataclass(frozen=True, kw_only=True)
class Work:
    """One run's shard, on a knowledge base of its own."""

    base: str
    run: str
    ledger: FileLedger
    store: str

    def transport(self, url: str, *, batch: int = 50, timeout: int = 5, **options: Any) -> RestTransport:
        return RestTransport(
            server=KatoServer(url=url, node0_batch_size=batch, request_timeout_seconds=timeout),
            knowledge_base=self.base,
            chunk_sizes=CHUNK_SIZES,
            run=self.run,
            shard=3,
            ledger=self.ledger,
            **options,
        )

    @contextmanager
    def open(self, url: str, **options: Any) -> Iterator[RestTransport]:
        transport = self.transport(url, **options)
        try:
            yield transport
        finally:
            transport.close()

    def learned(self) -> list[dict[str, int]]:
        """Per level what the store holds: name -> frequency."""
        store = open_store(self.store, read_only=True)
        try:
            return [dict(store.frequencies(node_id=node_id(self.base, f"node{level}"))) for level in range(3)]
        finally:
            store.close()


@pytest.fixture
def new_work(tmp_path: Path) -> Callable[[Served], Work]:
    def make(served: Served) -> Work:
        run = uuid.uuid4().hex
        ledger = FileLedger(output=OutputFolder(str(tmp_path / run)), run=run)
        return Work(base=f"b{run[:12]}", run=run, ledger=ledger, store=served.store)

    return make


def sample(item: int) -> SampleTree:
    """A text whose chunks are of all kinds: equal, short, long; its last paragraph is the same in all samples."""
    words = [f"w{item % 3}-{place}" for place in range(40 + item)]
    paragraphs = [" ".join(words), " ".join(words[:12]), "all samples share these few last words", "one two three four"]
    return HIERARCHY.learn(item=item, text="\n\n".join(paragraphs))


def block(number: int, *, items: int = 4) -> WorkedBlock:
    return WorkedBlock(number=number, trees=[sample(item) for item in range(number * items, (number + 1) * items)])


def computed(*blocks: WorkedBlock) -> list[dict[str, int]]:
    trees = [tree for block in blocks for tree in block.trees]
    return [{learned.name: learned.count for learned in level} for level in sum_up(trees, levels=3)]


def learns(block: WorkedBlock) -> tuple[int, ...]:
    return tuple(sum(len(tree.levels[level]) for tree in block.trees) for level in range(3))


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


@pytest.mark.parametrize("fault", list(Fault), ids=lambda fault: fault.name)
def test_whatever_happens_on_the_line_our_server_counts_once(
    ours: Served, new_work: Callable[[Served], Work], fault: Fault
) -> None:
    work = new_work(ours)
    with flaky_proxy(ours.url) as proxy, work.open(proxy.url, batch=10, timeout=1) as transport:
        proxy.lose(LEARN, fault, times=2)
        row = transport.commit(block(0))
        assert transport.statistics["retries"] >= 2
    assert (row.done, row.uncertain) == (4, 0)
    assert work.learned() == computed(block(0))


class Mortal:
    """Our server, to be killed and started again on the same port and store."""

    def __init__(self, stack: ExitStack, *, folder: Path) -> None:
        self._stack = stack
        self._store = f"sqlite:///{folder}/patterns.db"
        self._start(port=0, settings={})
        self.served = Served(url=self.url, store=self._store, exact=True)

    def _start(self, *, port: int, settings: dict[str, str]) -> None:
        self._process = self._stack.enter_context(
            subprocess.Popen(
                command(store_uri=self._store, port=port),
                env=environment(settings),
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
        )
        self._stack.callback(self._process.kill)
        assert self._process.stdout is not None
        self.url = self._process.stdout.readline().removeprefix("listening on ").strip()
        assert self.url

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def start_again(self, settings: dict[str, str] | None = None) -> None:
        self._start(port=int(self.url.rpartition(":")[2]), settings=settings or {})

    def restart(self) -> None:
        self.kill()
        self.start_again()


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


def test_settings_are_those_in_force(ours: Served, new_work: Callable[[Served], Work]) -> None:
    with new_work(ours).open(ours.url, batch=7, timeout=9) as transport:
        settings = transport.settings
    assert settings["node0BatchSize"] == 7
    assert settings["requestTimeoutSeconds"] == 9
    assert settings["connectionPoolSize"] == 50
    assert settings["sessionTTLSeconds"] == 3600
    assert settings["server"] == ask(ours.url, "/status")["settings"]


def give_up_within_first_block(work: Work, proxy: FlakyProxy) -> None:
    """What a killed worker leaves: some calls of the block are learned, its row is not written."""
    with work.open(proxy.url, batch=10, max_attempts=1) as transport:
        proxy.lose(LEARN, Fault.CUT_AFTER, after=1)
        with pytest.raises(LostAnswer):
            transport.commit(block(0))
    assert work.ledger.records(3) == []


def misnamed(tree: SampleTree, name: str) -> SampleTree:
    (_, events), *rest = tree.levels[0]
    return SampleTree(item=tree.item, levels=[[(name, events), *rest], *tree.levels[1:]])


def sessions_seen(proxy: FlakyProxy) -> list[str]:
    found = (re.match(r"/sessions/([^/]+)/", request.path) for request in proxy.requests)
    return list(dict.fromkeys(match[1] for match in found if match))


def ask(url: str, path: str, *, method: str = "GET") -> dict[str, Any]:
    wire = Wire(base_url=url)
    try:
        return wire.call(method, path, repeatable=True)
    finally:
        wire.close()


def delete_sessions(url: str, sessions: list[str]) -> None:
    for session in sessions:
        ask(url, f"/sessions/{session}", method="DELETE")


def learned_at_least(work: Work, patterns: int) -> bool:
    return sum(work.learned()[0].values()) >= patterns


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
