"""`shardwise run` as a person starts it: the same digest however it is cut, stopped, killed and started again."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.support.cli import Folder, finish
from tests.support.expected import CORPUS, digest, digest_of, frequencies, texts
from tests.support.kato_server import kato_server

SAMPLES = 200


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(path=tmp_path, samples=SAMPLES)


@pytest.fixture(scope="module")
def expected() -> str:
    return digest_of(SAMPLES)


def cut(strategy: str, shards: int, parallelism: int, block_size: int) -> dict[str, Any]:
    sharding = {"strategy": strategy, "shards": shards, "parallelism": parallelism}
    return {"sharding": sharding, "blockSize": block_size}


@pytest.mark.parametrize(
    "spec",
    [
        cut("RoundRobin", 1, 1, 1000),
        cut("RoundRobin", 3, 3, 7),
        cut("Chunked", 4, 2, 50),
        cut("Dynamic", 7, 2, 10),
    ],
    ids=lambda spec: "-".join(str(value) for value in (*spec["sharding"].values(), spec["blockSize"])),
)
def test_no_way_of_cutting_changes_the_digest(folder: Folder, expected: str, spec: dict[str, Any]) -> None:
    folder.manifest["spec"].update(spec)
    done = folder.run()
    assert done.code == 0, done.err
    assert done.status["result"]["digest"] == expected
    assert done.status["items"] == {"total": SAMPLES, "done": SAMPLES, "failed": 0, "skipped": 0}
    assert done.status["phase"] == "Complete"
    assert done.status["shards"]["succeeded"] == spec["sharding"]["shards"]


def test_more_shards_than_samples_are_fine(tmp_path: Path) -> None:
    folder = Folder(path=tmp_path, samples=3)
    folder.manifest["spec"].update(cut("Chunked", 8, 4, 50))
    done = folder.run()
    assert done.status["result"]["digest"] == digest_of(3)
    assert done.status["shards"]["completedIndexes"] == "0-7"


def test_the_digest_is_the_sha256_of_what_the_patterns_command_prints(folder: Folder, expected: str) -> None:
    assert folder.run().code == 0
    assert folder.digest_by_command() == expected


def test_json_is_all_that_standard_output_holds_and_progress_is_on_standard_error(folder: Folder) -> None:
    done = folder.run()
    assert list(done.resource) == ["apiVersion", "kind", "metadata", "spec", "status"]
    assert "samples/s" in done.err
    assert f"{SAMPLES}/{SAMPLES}" in done.err


def test_the_summary_has_the_statistics_of_the_original_learner(folder: Folder) -> None:
    status = folder.run().status
    summary = json.loads((folder.path / ".shardwise/pydocs/output/summary.json").read_text(encoding="utf-8"))
    levels = frequencies(texts(SAMPLES))
    assert summary["samples_processed"] == summary["samples_attempted"] == SAMPLES
    assert summary["errors"] == 0
    assert summary["num_workers"] == 2
    assert summary["total_time_seconds"] > 0
    assert summary["rate_samples_per_sec"] == pytest.approx(SAMPLES / summary["total_time_seconds"], rel=0.05)
    for level, counts in enumerate(levels):
        assert summary[f"node{level}_patterns"] == len(counts)
        assert summary[f"node{level}_learns"] == counts.total()
    assert summary["digest"] == status["result"]["digest"]
    assert (folder.path / ".shardwise/pydocs/output/patterns.png").read_bytes().startswith(b"\x89PNG")
    assert {metric["name"] for metric in status["metrics"]} >= {"samples_processed", "node0_learns", "node2_patterns"}


def test_a_finished_run_started_again_counts_nothing_twice_and_says_so(folder: Folder, expected: str) -> None:
    first = folder.run().status
    again = folder.run("--resume").status
    assert again["result"]["digest"] == first["result"]["digest"] == expected
    complete = next(condition for condition in again["conditions"] if condition["type"] == "Complete")
    assert "nothing was left to do" in complete["message"]


def test_the_ledger_is_in_the_store_and_outlives_the_work_directory(folder: Folder, expected: str) -> None:
    assert folder.run("--workdir", str(folder.path / "one")).code == 0
    again = folder.run("--workdir", str(folder.path / "two"))
    assert again.status["result"]["digest"] == expected


def test_another_run_of_the_same_text_into_the_same_base_doubles_every_frequency(folder: Folder) -> None:
    assert folder.run().code == 0
    second = folder.run("--set", "metadata.name=second")
    doubled = frequencies([*texts(SAMPLES), *texts(SAMPLES)])
    assert second.status["result"]["digest"] == digest(doubled)


# -- stopping


def at_work(process: subprocess.Popen[str]) -> list[psutil.Process]:
    found = []
    for child in psutil.Process(process.pid).children():
        try:
            if child.environ().get("SHARDWISE_STEP") == "work":
                found.append(child)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


def until(condition: Callable[[], object], *, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.02)


def learned(folder: Path) -> int:
    reports = (folder / ".shardwise/pydocs/progress").glob("shard-*.json")
    return sum(json.loads(report.read_bytes())["items"]["done"] for report in reports)


@pytest.fixture
def long(tmp_path: Path) -> Iterator[tuple[Folder, subprocess.Popen[str]]]:
    """A run that has learned something and has much left to do."""
    folder = Folder(path=tmp_path, samples=3000)
    # Every commit is a block of one sample: slow enough to be stopped half-way.
    folder.manifest["spec"].update(sharding={"shards": 4, "parallelism": 2}, blockSize=1)
    process = folder.start()
    until(lambda: learned(tmp_path) and at_work(process))
    yield folder, process
    if process.poll() is None:
        process.kill()
        finish(process)


def test_one_interrupt_finishes_the_blocks_and_resume_goes_on(long: tuple[Folder, subprocess.Popen[str]]) -> None:
    folder, process = long
    process.send_signal(signal.SIGINT)
    stopped = finish(process)
    assert stopped.code == 130, stopped.err
    assert "--resume" in stopped.err
    assert stopped.status["phase"] == "Suspended"
    assert 0 < stopped.status["items"]["done"] < 3000
    refused = folder.run()
    assert refused.code == 1
    assert "--resume" in refused.err
    done = folder.run("--resume", "--set", "sharding.parallelism=4")
    assert done.code == 0, done.err
    assert done.status["result"]["digest"] == digest_of(3000)


def test_two_interrupts_stop_at_once_and_lose_nothing(long: tuple[Folder, subprocess.Popen[str]]) -> None:
    folder, process = long
    workers = at_work(process)
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGTERM)
    assert finish(process).code == 130
    assert not any(worker.is_running() and worker.status() != psutil.STATUS_ZOMBIE for worker in workers)
    assert folder.run("--resume").status["result"]["digest"] == digest_of(3000)


def test_a_killed_runner_takes_its_workers_along_and_resume_goes_on(
    long: tuple[Folder, subprocess.Popen[str]],
) -> None:
    folder, process = long
    workers = at_work(process)
    process.kill()
    finish(process)
    until(lambda: not any(worker.is_running() and worker.status() != psutil.STATUS_ZOMBIE for worker in workers))
    assert folder.run("--resume").status["result"]["digest"] == digest_of(3000)


def test_two_runners_do_not_share_a_work_directory(long: tuple[Folder, subprocess.Popen[str]]) -> None:
    folder, process = long
    # It can't end before the second one has begun.
    process.send_signal(signal.SIGSTOP)
    second = folder.run("--resume")
    process.send_signal(signal.SIGCONT)
    assert second.code == 1
    assert "another `shardwise run` works" in second.err
    process.send_signal(signal.SIGINT)
    finish(process)


# -- other inputs, tokenizers and places


def test_plan_shows_shards_and_processes_and_writes_nothing(folder: Folder) -> None:
    manifest = folder.write()
    before = sorted(folder.path.rglob("*"))
    shown = folder.command("plan", str(manifest))
    assert shown.code == 0, shown.err
    assert "4 RoundRobin, blocks of 20 items" in shown.out
    assert "2 at once" in shown.out
    assert sorted(folder.path.rglob("*")) == before


def test_a_store_by_secret_comes_from_the_environment(folder: Folder, expected: str) -> None:
    folder.kato["store"] = {"secretRef": {"name": "patterns", "key": "uri"}}
    refused = folder.run()
    assert refused.code == 2
    assert "SHARDWISE_STORE_URI" in refused.err
    folder.environment = {"SHARDWISE_STORE_URI": f"sqlite:///{folder.path}/secret.db"}
    assert folder.run().status["result"]["digest"] == expected


def test_tolerated_failures_are_counted_and_listed_with_their_line(folder: Folder) -> None:
    samples = folder.path / "samples.jsonl"
    lines = samples.read_bytes().splitlines(keepends=True)
    lines[10] = b'{"text": broken\n'
    lines[20] = b'{"text": "caf\xe9 au lait, s\xe9r\xe9"}\n'
    lines[30] = b'{"text": "short"}\n'
    samples.write_bytes(b"".join(lines))
    folder.manifest["spec"]["items"] = {"maxFailedFraction": 0.01}
    done = folder.run()
    assert done.code == 0, done.err
    assert done.status["items"] == {"total": SAMPLES, "done": SAMPLES - 3, "failed": 2, "skipped": 1}
    kept = [text for item, text in enumerate(texts(SAMPLES)) if item not in (10, 20, 30)]
    assert done.status["result"]["digest"] == digest(frequencies(kept))
    summary = json.loads((folder.path / ".shardwise/pydocs/output/summary.json").read_text(encoding="utf-8"))
    assert [failure["reason"].split(":")[0] for failure in summary["failures"]] == [
        "samples.jsonl line 11",
        "samples.jsonl line 21",
    ]


def hub_folder(folder: Folder) -> None:
    (folder.path / "dataset").mkdir()
    (folder.path / "samples.jsonl").rename(folder.path / "dataset" / "train.jsonl")
    folder.kato["dataset"] = {"hub": {"path": "./dataset"}}


def test_a_streamed_dataset_that_nobody_has_counted_has_the_same_digest(tmp_path: Path) -> None:
    folder = Folder(path=tmp_path, samples=60)
    hub_folder(folder)
    done = folder.run()
    assert done.code == 0, done.err
    assert done.status["result"]["digest"] == digest_of(60)
    assert done.status["items"] == {"done": 60, "failed": 0, "skipped": 0}


def test_a_streamed_dataset_without_a_sample_to_learn_is_no_success(tmp_path: Path) -> None:
    folder = Folder(path=tmp_path, samples=0)
    (tmp_path / "samples.jsonl").write_text('{"text": "tiny"}\n' * 30, encoding="utf-8")
    hub_folder(folder)
    done = folder.run()
    assert done.code == 2
    assert "no sample was learned" in done.err


@pytest.mark.mongo
def test_mongodb_has_the_same_digest(folder: Folder, expected: str, mongo_uri: str) -> None:
    folder.kato.update(knowledgeBase="local-run", store={"uri": mongo_uri})
    folder.manifest["metadata"]["name"] = "local-run-mongo"
    done = folder.run()
    assert done.code == 0, done.err
    assert done.status["result"]["digest"] == folder.digest_by_command() == expected
    assert folder.run("--resume").status["result"]["digest"] == expected


@pytest.mark.parametrize("extensions", ["on", "off"])
def test_a_server_learns_the_same(folder: Folder, expected: str, extensions: str) -> None:
    store = f"sqlite:///{folder.path}/server.db"
    with kato_server(store_uri=store, settings={"KATO_EXTENSIONS": extensions, "KATO_BATCH_SIZE": "777"}) as server:
        folder.kato.update(transport="Rest", server={"url": server.url, "requestTimeoutSeconds": 77})
        del folder.kato["store"]
        if extensions == "off":
            # A server that can't list its patterns: the digest is read from its database.
            refused = folder.run()
            assert refused.code == 2
            assert "spec.engine.kato.store" in refused.err
            folder.kato["store"] = {"uri": store}
        done = folder.run("--resume")
        assert done.code == 0, done.err
        assert done.status["result"]["digest"] == expected
        summary = done.status["result"]["summary"]
        assert summary["guarantee"] == ("ExactlyOnce" if extensions == "on" else "AtLeastOnce")
        assert summary["uncertain"] == 0
        assert summary["settings"]["requestTimeoutSeconds"] == 77
        assert summary["settings"]["server"]["KATO_BATCH_SIZE"] == 777
        assert folder.run("--resume").status["result"]["digest"] == expected


@pytest.mark.parametrize(("block_size", "times"), [(20, 1), (7, 2)])
def test_a_rest_run_whose_ledger_is_gone_loses_nothing(tmp_path: Path, block_size: int, times: int) -> None:
    folder = Folder(path=tmp_path, samples=60)
    with kato_server(store_uri=f"sqlite:///{tmp_path}/server.db") as server:
        del folder.kato["store"]
        folder.kato.update(transport="Rest", server={"url": server.url})
        assert folder.run("--workdir", str(tmp_path / "one")).code == 0
        # The same run is known by the server's guards; cut otherwise it is another, and none of it may be refused.
        again = folder.run("--workdir", str(tmp_path / "two"), "--set", f"blockSize={block_size}")
    assert again.status["result"]["digest"] == digest(frequencies(texts(60) * times))


def test_more_sessions_than_the_pool_holds_are_refused(folder: Folder) -> None:
    del folder.kato["store"]
    folder.kato.update(transport="Rest", server={"url": "http://127.0.0.1:9", "connectionPoolSize": 5})
    refused = folder.run()
    assert refused.code == 2
    assert "connectionPoolSize" in refused.err


EXAMPLES = CORPUS.parents[1]


# Those for a cluster are run on one: tests/e2e/test_runs.py. Trainings take longer: test_local_training.py.
@pytest.mark.parametrize("name", sorted(p.name for p in EXAMPLES.glob("*.yaml") if p.name.startswith("kato-")))
def test_every_example_runs(tmp_path: Path, name: str) -> None:
    arguments = ["run", str(EXAMPLES / name), "-o", "json", "--workdir", str(tmp_path / "work")]
    store = f"sqlite:///{tmp_path}/x.db"
    folder = Folder(path=tmp_path, samples=0)
    if "transport: Rest" in (EXAMPLES / name).read_text(encoding="utf-8"):
        with kato_server(store_uri=store) as server:
            done = folder.command(*arguments, "--set", f"engine.kato.server.url={server.url}")
    else:
        done = folder.command(*arguments, "--set", f"engine.kato.store.uri={store}")
    assert done.code == 0, done.err
    assert done.status["phase"] == "Complete"
    assert done.status["items"]["done"] > 0
