"""Sessions of killed workers: finalize deletes those of its own run, and nobody else's."""

from __future__ import annotations

import copy
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from shardwise_api.wire import Step, WorkResult
from tests.support.cli import BASE
from tests.support.expected import CORPUS, digest_of
from tests.support.flaky_proxy import Fault, FlakyProxy, flaky_proxy
from tests.support.kato_server import KatoServer, Wire, kato_server
from tests.support.rest_work import wait_for
from tests.support.worker import Pods

SAMPLES = 60
WORKED = WorkResult(seconds=1.0, workers=1, done=SAMPLES)


@pytest.fixture
def pods(tmp_path: Path) -> Pods:
    made: dict[str, Any] = copy.deepcopy(BASE)
    made["spec"].update(sharding={"shards": 1}, output={"uri": f"file://{tmp_path}/out"})
    kato = made["spec"]["engine"]["kato"]
    del kato["store"]
    kato.update(transport="Rest", server={"url": "http://127.0.0.1:1"})
    lines = CORPUS.read_bytes().splitlines(keepends=True)[:SAMPLES]
    (tmp_path / "samples.jsonl").write_bytes(b"".join(lines))
    kato["dataset"]["files"]["uris"] = [f"{tmp_path}/samples.jsonl"]
    return Pods(folder=tmp_path, manifest=made)


@pytest.fixture
def server(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[KatoServer]:
    settings = getattr(request, "param", {})
    with kato_server(store_uri=f"sqlite:///{tmp_path}/server.db", settings=settings) as running:
        yield running


@pytest.fixture
def wire(server: KatoServer) -> Iterator[Wire]:
    with httpx.Client(base_url=server.url, timeout=30) as http:
        yield Wire(http)


def sessions(wire: Wire) -> int:
    count: int = wire.send("GET", "/sessions/count")["active_session_count"]
    return count


def kill_one_at_work(pods: Pods, proxy: FlakyProxy, *, calls: str) -> None:
    """Kill a worker in the midst of its second block."""
    pods.manifest["spec"]["engine"]["kato"]["server"]["url"] = proxy.url
    if pods.prepared is None:
        assert pods.prepare().code == 0
    proxy.lose(calls, Fault.HOLD_AFTER, after=4)
    process = pods.start(Step.WORK)
    wait_for(lambda: proxy.pending == 0)
    process.send_signal(signal.SIGKILL)
    pods.end(process)


def test_the_sessions_of_a_killed_worker_are_gone_with_the_run_and_others_stay(
    pods: Pods, server: KatoServer, wire: Wire
) -> None:
    body = {"node_id": "pydocs_node0", "metadata": {"run": "another", "shard": 0}}
    of_another_run = wire.send("POST", "/sessions", body)["session_id"]
    of_the_run_elsewhere = wire.send("POST", "/sessions", {"node_id": "else", "metadata": {"run": pods.uid}})
    nobodys = wire.session("pydocs_node0")
    with flaky_proxy(server.url) as proxy:
        kill_one_at_work(pods, proxy, calls="/learn-sequences")
        assert sessions(wire) > 3
        result = pods.result(worked=WORKED)
    assert result.digest == digest_of(SAMPLES)
    assert result.warnings == []
    assert sessions(wire) == 3
    for session in (of_another_run, of_the_run_elsewhere["session_id"], nobodys):
        assert wire.get(session, "exists")["exists"]


@pytest.mark.parametrize("server", [{"KATO_EXTENSIONS": "off"}], indirect=True)
def test_a_foreign_server_keeps_them_for_their_time_and_the_run_says_so(
    pods: Pods, server: KatoServer, wire: Wire, tmp_path: Path
) -> None:
    pods.manifest["spec"]["engine"]["kato"]["store"] = {"uri": f"sqlite:///{tmp_path}/server.db"}
    with flaky_proxy(server.url) as proxy:
        kill_one_at_work(pods, proxy, calls="/observe-sequence")
        left = sessions(wire)
        assert left > 0
        result = pods.result(worked=WORKED)
    assert sessions(wire) == left
    assert len(result.warnings) == 1
    assert "3600 s" in result.warnings[0]


@pytest.mark.parametrize("server", [{"KATO_EXTENSIONS": "off"}], indirect=True)
def test_a_foreign_server_without_restarts_is_not_worth_a_word(
    pods: Pods, server: KatoServer, wire: Wire, tmp_path: Path
) -> None:
    pods.manifest["spec"]["engine"]["kato"].update(
        store={"uri": f"sqlite:///{tmp_path}/server.db"}, server={"url": server.url}
    )
    assert pods.result(worked=WORKED).warnings == []
    assert sessions(wire) == 0


def test_a_lost_answer_about_sessions_does_not_fail_a_run(pods: Pods, server: KatoServer) -> None:
    with flaky_proxy(server.url) as proxy:
        proxy.lose("/runs/", Fault.FAIL_AFTER, times=3)
        pods.manifest["spec"]["engine"]["kato"]["server"]["url"] = proxy.url
        assert pods.result(worked=WORKED).digest == digest_of(SAMPLES)
        assert proxy.pending == 0


def test_sessions_are_found_by_their_run_only(wire: Wire) -> None:
    made = wire.send("POST", "/sessions", {"node_id": "n", "metadata": {"run": "r1"}})["session_id"]
    wire.send("POST", "/sessions", {"node_id": "n", "metadata": {"run": "r2"}})
    wire.session("n")
    assert wire.send("GET", "/runs/r1/sessions") == {"sessions": [{"session_id": made, "node_id": "n"}]}
    assert wire.send("GET", "/runs/r3/sessions") == {"sessions": []}


@pytest.mark.parametrize("server", [{"KATO_EXTENSIONS": "off"}], indirect=True)
def test_the_plain_protocol_lists_none(wire: Wire) -> None:
    wire.send("GET", "/runs/r1/sessions", status=404)
