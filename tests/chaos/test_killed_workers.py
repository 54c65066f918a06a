"""Workers are killed at random moments, over and over: the digest is that of an undisturbed run, to the last count."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

from tests.support.cli import Folder, finish
from tests.support.expected import digest_of
from tests.support.flaky_proxy import Fault, flaky_proxy
from tests.support.kato_server import kato_server
from tests.support.rest_work import LEARN, Mortal

KILLS = 20


def test_twenty_kills_change_nothing_in_an_embedded_store(tmp_path: Path) -> None:
    def make(folder: Path) -> Folder:
        made = Folder(path=folder, samples=2000)
        made.manifest["spec"].update(
            sharding={"strategy": "Chunked", "shards": 6, "parallelism": 3}, blockSize=10, retry={"perShard": 100}
        )
        return made

    _kill_until_enough(tmp_path, make, samples=2000)


@pytest.mark.mongo
def test_twenty_kills_change_nothing_in_mongodb(tmp_path: Path, mongo_uri: str) -> None:
    def make(folder: Path) -> Folder:
        made = Folder(path=folder, samples=200)
        made.manifest["spec"].update(
            sharding={"strategy": "RoundRobin", "shards": 6, "parallelism": 3}, blockSize=4, retry={"perShard": 100}
        )
        made.kato["knowledgeBase"] = f"killed-{folder.name}"
        made.kato["store"] = {"uri": mongo_uri}
        made.manifest["metadata"]["name"] = f"killed-{folder.name}"
        return made

    _kill_until_enough(tmp_path, make, samples=200)


def test_twenty_kills_change_nothing_through_a_server(tmp_path: Path) -> None:
    with kato_server(store_uri=f"sqlite:///{tmp_path}/server.db") as server:

        def make(folder: Path) -> Folder:
            made = Folder(path=folder, samples=300)
            made.manifest["spec"].update(
                sharding={"strategy": "RoundRobin", "shards": 4, "parallelism": 2}, blockSize=2, retry={"perShard": 100}
            )
            del made.kato["store"]
            made.kato.update(
                knowledgeBase=f"killed-{folder.name}",
                transport="Rest",
                server={"url": server.url, "node0BatchSize": 10},
            )
            return made

        _kill_until_enough(tmp_path, make, samples=300)


def test_a_server_that_is_killed_and_started_again_counts_everything_once(tmp_path: Path) -> None:
    chance = random.Random(seed := random.randrange(2**32))
    folder = Folder(path=tmp_path, samples=300)
    folder.manifest["spec"].update(sharding={"shards": 2, "parallelism": 2}, blockSize=1)
    del folder.kato["store"]
    with ExitStack() as stack:
        server = Mortal(stack, folder=tmp_path)
        proxy = stack.enter_context(flaky_proxy(server.url))
        folder.kato.update(transport="Rest", server={"url": proxy.url})
        # At calls and not at times, of which nobody knows where they are; the other shard is anywhere then.
        for call in (10, 90, 170):
            proxy.lose(
                LEARN,
                chance.choice([Fault.CUT_BEFORE, Fault.CUT_AFTER]),
                after=call + chance.randrange(60),
                then=server.restart,
            )
        done = finish(folder.start())
        assert proxy.pending == 0, "the run was over before the server could be killed"
    assert done.code == 0, f"seed {seed}: {done.err}"
    assert done.status["result"]["digest"] == digest_of(300)
    assert done.status["result"]["summary"]["guarantee"] == "ExactlyOnce"


def _kill_until_enough(tmp_path: Path, make: Callable[[Path], Folder], *, samples: int) -> None:
    seed = random.randrange(2**32)
    chance = random.Random(seed)
    expected = digest_of(samples)
    kills = runs = 0
    while kills < KILLS:
        runs += 1
        place = tmp_path / f"r{runs}"
        place.mkdir()
        folder = make(place)
        process = folder.start()
        kills += _kill_workers(process.pid, chance, at_most=KILLS - kills)
        done = finish(process)
        told = f"seed {seed}, run {runs}, {kills} kills: {done.err[-2000:]}"
        assert done.code == 0, told
        assert done.status["result"]["digest"] == expected, told
        assert done.status["items"] == {"total": samples, "done": samples, "failed": 0, "skipped": 0}, told
        if "store" in folder.kato:
            assert folder.digest_by_command() == expected, told
        assert runs < 2 * KILLS, "runs end before anything can be killed"


def _kill_workers(runner: int, chance: random.Random, *, at_most: int) -> int:
    """Kill a random worker now and then, until enough are dead or the run is over; return how many were at work."""
    kills = 0
    parent = psutil.Process(runner)
    while kills < at_most and parent.is_running() and parent.status() != psutil.STATUS_ZOMBIE:
        # A worker needs a moment to start: most kills should hit one that is learning.
        time.sleep(chance.uniform(0.1, 0.9))
        try:
            workers = [child for child in parent.children() if _at_work(child)]
            if workers:
                chance.choice(workers).kill()
                kills += 1
        except psutil.NoSuchProcess:
            continue
    return kills


def _at_work(process: psutil.Process) -> bool:
    try:
        return process.environ().get("SHARDWISE_STEP") == "work" and process.status() != psutil.STATUS_ZOMBIE
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return False
