"""What tests of the Rest transport work on: servers with and without extensions, blocks, and what they must come to."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from shardwise_api.kato import KatoServer
from shardwise_jobs.engines.kato.file_ledger import FileLedger
from shardwise_jobs.engines.kato.hierarchy import Hierarchy, SampleTree, sum_up
from shardwise_jobs.engines.kato.http import HttpClient, LostAnswer
from shardwise_jobs.engines.kato.names import node_id
from shardwise_jobs.engines.kato.rest import RestTransport
from shardwise_jobs.engines.kato.stores import open_store
from shardwise_jobs.engines.kato.transport import WorkedBlock
from tests.support.flaky_proxy import Fault, FlakyProxy
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
    wire = HttpClient(base_url=url)
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
