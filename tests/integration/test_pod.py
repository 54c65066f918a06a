"""What a pod is like: a user who is only a number, no home, nothing to write to but /tmp, and SIGTERM at any time."""

from __future__ import annotations

import copy
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from shardwise_api.wire import Environment, ExitCode, Step
from tests.support.cli import BASE
from tests.support.expected import CORPUS, digest_of
from tests.support.flaky_proxy import Fault, flaky_proxy
from tests.support.kato_server import kato_server
from tests.support.receiver import receiving
from tests.support.require import missing
from tests.support.rest_work import ask, wait_for
from tests.support.worker import AS_NOBODY, Ended, Pods, terminate

SAMPLES = 60
SECONDS_TO_LEAVE = 10.0
KATO = "spec.engine.kato"


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that everybody may enter; pytest's own are for their owner."""
    folder = Path(tempfile.mkdtemp(prefix="shardwise-pod-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def manifest(data: Path, *, samples: int = SAMPLES) -> dict[str, Any]:
    made = copy.deepcopy(BASE)
    made["spec"]["sharding"] = {"shards": 2}
    made["spec"]["output"] = {"uri": f"file://{data}/out"}
    kato = made["spec"]["engine"]["kato"]
    kato["store"] = {"uri": f"sqlite:///{data}/patterns.db"}
    lines = CORPUS.read_bytes().splitlines(keepends=True)[:samples]
    (data / "samples.jsonl").write_bytes(b"".join(lines))
    kato["dataset"]["files"]["uris"] = [f"{data}/samples.jsonl"]
    return made


@pytest.fixture
def pods(place: Path) -> Pods:
    """Pods as the restricted profile has them, with a volume that is theirs."""
    if os.getuid() != 0:
        missing("root, to work as another user", "run the tests as root")
    volume = place / "data"
    volume.mkdir()
    made = manifest(volume)
    os.chown(volume, 65532, 65532)
    return Pods(folder=place, manifest=made, prefix=AS_NOBODY, cwd=Path("/"))


def engine(pods: Pods) -> dict[str, Any]:
    found: dict[str, Any] = pods.manifest["spec"]["engine"]["kato"]
    return found


def test_a_user_without_name_and_home_works_to_the_picture(pods: Pods, place: Path) -> None:
    result = pods.result()
    assert result.digest == digest_of(SAMPLES)
    assert result.warnings == []
    for name in ("summary.json", "patterns.png"):
        found = (place / "data/out" / name).stat()
        assert found.st_uid == 65532
        assert stat.S_IMODE(found.st_mode) & 0o400


def test_a_home_that_cannot_be_written_is_no_hindrance(pods: Pods) -> None:
    pods.environment = {"HOME": "/"}
    assert pods.result().digest == digest_of(SAMPLES)


def refused(pods: Pods, *says: str) -> None:
    ended = pods.prepare()
    assert ended.code == ExitCode.BAD_CONFIGURATION, ended.log
    assert "Traceback" not in ended.log
    for words in says:
        assert words in ended.failure.message


def test_an_output_folder_that_is_not_mounted_is_refused_before_any_work(pods: Pods, place: Path) -> None:
    pods.manifest["spec"]["output"]["uri"] = "file:///nowhere/out"
    refused(pods, "spec.output.uri", "/nowhere/out", "spec.worker.volumeMounts", "65532")
    assert not (place / "data/patterns.db").exists()


def test_an_output_folder_of_somebody_else_is_refused(pods: Pods, place: Path) -> None:
    (place / "data/out").mkdir()
    refused(pods, "spec.output.uri", "Permission denied", "writable for user 65532")


def test_a_dataset_that_is_not_mounted_says_how(pods: Pods) -> None:
    engine(pods)["dataset"]["files"]["uris"] = ["/nowhere/samples.jsonl"]
    refused(pods, f"{KATO}.dataset.files.uris", "/nowhere/samples.jsonl", "No such file", "spec.worker.volumes")


def test_a_relative_path_means_nothing_in_a_pod(pods: Pods) -> None:
    engine(pods)["dataset"]["files"]["uris"] = ["samples.jsonl"]
    refused(pods, f"{KATO}.dataset.files.uris", "relative", "absolute")


@pytest.mark.parametrize("uri", ["sqlite:///patterns.db", "sqlite:////nowhere/patterns.db"])
def test_a_store_that_cannot_be_written_is_refused(pods: Pods, uri: str) -> None:
    engine(pods)["store"] = {"uri": uri}
    refused(pods, f"{KATO}.store.uri", uri, "spec.worker.volumeMounts")


def test_a_tokenizer_that_is_not_mounted_says_how(pods: Pods) -> None:
    engine(pods)["tokenizer"] = {"file": "/nowhere/tokenizer.json"}
    refused(pods, "tokenizer.file", "/nowhere/tokenizer.json", "spec.worker.volumes")


# -- the operator is told


def test_a_worker_reports_to_the_operator_to_its_last_item(pods: Pods, place: Path) -> None:
    (place / "token").write_text("of-this-pod\n", encoding="utf-8")
    with receiving() as operator:
        pods.environment = {
            Environment.PROGRESS: f"{operator.url}/v1/progress",
            Environment.PROGRESS_TOKEN_FILE: str(place / "token"),
        }
        pods.result()
    assert set(operator.tokens) == {"Bearer of-this-pod"}
    last = {report["shard"]: report for report in operator.reports}
    assert [last[shard]["items"]["done"] for shard in (0, 1)] == [30, 30]
    assert {report["run"] for report in operator.reports} == {pods.uid}


def test_an_operator_that_refuses_costs_the_work_nothing(pods: Pods) -> None:
    with receiving() as operator:
        operator.answers = [(403, {})] * 1000
        pods.environment = {Environment.PROGRESS: operator.url}
        assert pods.result().digest == digest_of(SAMPLES)
        assert operator.reports


# -- SIGTERM


def leave(pods: Pods, process: Any) -> Ended:
    """Ask a worker to stop, and see it gone soon and with its word."""
    began = time.monotonic()
    terminate(process)
    ended = pods.end(process)
    assert time.monotonic() - began < SECONDS_TO_LEAVE
    assert ended.code == ExitCode.TERMINATED, ended.log
    assert ended.failure.reason == "Interrupted"
    assert "Traceback" not in ended.log
    return ended


def test_sigterm_ends_work_between_two_blocks_and_tells_the_operator(pods: Pods, place: Path) -> None:
    pods.manifest = manifest(place / "data", samples=3000)
    pods.manifest["spec"].update(sharding={"shards": 1}, blockSize=1)
    assert pods.prepare().code == 0
    with receiving() as operator:
        pods.environment = {Environment.PROGRESS: operator.url}
        process = pods.start(Step.WORK)
        wait_for(lambda: any(operator.done))
        assert "stopped between two blocks" in leave(pods, process).failure.message
        stopped_at = operator.done[-1]
        assert stopped_at < 3000
        assert pods.result().digest == digest_of(3000)
        resumed = [report["resumed"] for report in operator.reports if report["resumed"]]
    assert resumed[0] == stopped_at


def fifo(pods: Pods, place: Path) -> Callable[[], Any]:
    """Make the input one that never says anything, and return what waits until it is being read."""
    path = place / "data/endless.jsonl"
    os.mkfifo(path)
    path.chmod(0o644)
    engine(pods)["dataset"]["files"]["uris"] = [str(path)]
    return lambda: os.open(path, os.O_WRONLY)


def test_sigterm_ends_prepare_at_once_however_long_its_input_is(pods: Pods, place: Path) -> None:
    opened = fifo(pods, place)
    process = pods.start(Step.PREPARE)
    writing = [opened(), opened()]
    leave(pods, process)
    for each in set(writing):
        os.close(each)


@pytest.mark.parametrize("step", [Step.WORK, Step.FINALIZE])
def test_sigterm_ends_a_worker_whose_server_says_nothing(pods: Pods, place: Path, step: Step) -> None:
    kato = engine(pods)
    del kato["store"]
    with kato_server(store_uri=f"sqlite:///{place}/server.db") as server, flaky_proxy(server.url) as proxy:
        kato.update(transport="Rest", server={"url": proxy.url})
        assert pods.prepare().code == 0
        if step is Step.FINALIZE:
            for shard in (0, 1):
                assert pods.run(Step.WORK, shard=shard).code == 0
        part = "/learn-sequences" if step is Step.WORK else "/frequencies"
        seen = proxy.count(part)
        proxy.lose(part, Fault.HOLD_AFTER)
        process = pods.start(step)
        wait_for(lambda: proxy.count(part) > seen)
        leave(pods, process)
        assert pods.result().digest == digest_of(SAMPLES)


def test_sigterm_ends_the_wait_for_a_server_that_is_away(pods: Pods, place: Path) -> None:
    kato = engine(pods)
    del kato["store"]
    with kato_server(store_uri=f"sqlite:///{place}/server.db") as server, flaky_proxy(server.url) as proxy:
        kato.update(transport="Rest", server={"url": proxy.url})
        assert pods.prepare().code == 0
        proxy.lose("/learn-sequences", Fault.CUT_BEFORE, times=100)
        process = pods.start(Step.WORK)
        wait_for(lambda: proxy.count("/learn-sequences") > 3)
        leave(pods, process)
        assert ask(server.url, "/sessions/count")["active_session_count"] == 0


def test_sigterm_ends_a_worker_that_waits_for_a_locked_store(pods: Pods, place: Path) -> None:
    import sqlite3

    assert pods.prepare().code == 0
    with sqlite3.connect(place / "data/patterns.db", isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        with receiving() as operator:
            pods.environment = {Environment.PROGRESS: operator.url}
            process = pods.start(Step.WORK)
            # It reports before its first block, which then can't be written.
            operator.wait_for(1)
            leave(pods, process)
        other.execute("ROLLBACK")
    other.close()
    pods.environment = {}
    assert pods.result().digest == digest_of(SAMPLES)
