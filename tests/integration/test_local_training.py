"""`shardwise run` of a training: ranks as processes, the same digest however many, stopped, killed or changed."""

from __future__ import annotations

import copy
import json
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from tests.support import manifests
from tests.support.cli import Finished, Folder, finish
from tests.support.expected import CORPUS

STEPS = 1000
LIFE: dict[str, Any] = {
    **yaml.safe_load(manifests.DIFFLOGIC),
    "spec": {
        "engine": {"difflogic": {"preset": "GameOfLife", "steps": STEPS, "checkpointEverySteps": 20}},
    },
}


def training(path: Path, *, shards: int = 1, **difflogic: Any) -> Folder:
    """A folder with a training that takes some seconds: long enough to be stopped half-way."""
    manifest = copy.deepcopy(LIFE)
    manifest["spec"]["sharding"] = {"shards": shards}
    manifest["spec"]["engine"]["difflogic"].update(difflogic)
    return Folder(path=path, samples=0, manifest=manifest)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """What one process comes to."""
    done = training(tmp_path_factory.mktemp("alone")).run()
    assert done.code == 0, done.err
    return done


def until(happened: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not happened():
        assert time.monotonic() < end
        time.sleep(0.02)


def trained(folder: Folder) -> int:
    """Return how many steps the last checkpoint has, as the first rank reports it."""
    try:
        report = json.loads((folder.path / ".shardwise/life/progress/shard-0.json").read_bytes())
    except FileNotFoundError:
        return 0
    return int((report.get("checkpoint") or {}).get("step", 0))


def workers(process: subprocess.Popen[str]) -> dict[int, psutil.Process]:
    """Return the worker processes of a runner by rank."""
    found = {}
    for child in psutil.Process(process.pid).children(recursive=True):
        try:
            if child.cmdline()[-2:] == ["-m", "shardwise_jobs"]:
                found[int(child.environ()["JOB_COMPLETION_INDEX"])] = child
        except (psutil.NoSuchProcess, psutil.ZombieProcess, KeyError):
            continue
    return found


@pytest.fixture
def halfway(tmp_path: Path) -> Iterator[tuple[Folder, subprocess.Popen[str]]]:
    """A training by two ranks that has begun and is not soon over."""
    folder = training(tmp_path, shards=2)
    process = folder.start()
    until(lambda: trained(folder) >= 20)
    yield folder, process
    if process.poll() is None:
        process.kill()
        finish(process)


def test_three_ranks_come_to_what_one_process_does(alone: Finished, tmp_path: Path) -> None:
    done = training(tmp_path, shards=3).run()
    assert done.code == 0, done.err
    assert done.status["result"]["digest"] == alone.status["result"]["digest"]
    assert done.status["items"] == {"total": STEPS, "done": STEPS, "failed": 0, "skipped": 0}
    assert done.status["shards"]["succeeded"] == 3
    assert done.status["checkpoint"]["step"] == STEPS
    assert "steps/s" in done.err


def test_an_interrupted_training_goes_on_with_another_number_of_ranks(
    alone: Finished, halfway: tuple[Folder, subprocess.Popen[str]]
) -> None:
    folder, process = halfway
    process.send_signal(signal.SIGINT)
    stopped = finish(process)
    assert stopped.code == 130, stopped.err
    assert stopped.status["phase"] == "Suspended"
    assert stopped.status["failures"] == []
    # Where it stopped is where it goes on.
    assert 0 < stopped.status["items"]["done"] == stopped.status["checkpoint"]["step"] < STEPS
    done = folder.run("--resume", "--set", "sharding.shards=3")
    assert done.code == 0, done.err
    assert done.status["result"]["digest"] == alone.status["result"]["digest"]
    assert done.status["shards"]["total"] == 3


def test_a_killed_rank_comes_back_and_takes_the_others_with_it_to_the_last_checkpoint(
    alone: Finished, halfway: tuple[Folder, subprocess.Popen[str]]
) -> None:
    _, process = halfway
    workers(process)[1].kill()
    done = finish(process)
    assert done.code == 0, done.err
    assert done.status["result"]["digest"] == alone.status["result"]["digest"]
    assert {failure["exitCode"] for failure in done.status["failures"]} == {137, 75}


def test_two_interrupts_leave_no_process_behind(halfway: tuple[Folder, subprocess.Popen[str]]) -> None:
    _, process = halfway
    everybody = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGTERM)
    assert finish(process).code == 130
    gone, alive = psutil.wait_procs(everybody, timeout=20)
    assert alive == []
    assert len(gone) == len(everybody)


def test_a_sweep_without_a_seed_that_is_solved_fails_with_the_best_one_shown(tmp_path: Path) -> None:
    done = training(tmp_path, shards=2, steps=5, sweep={"seeds": [4, 9]}).run()
    assert done.code == 1
    (failed,) = [condition for condition in done.status["conditions"] if condition["type"] == "Failed"]
    assert (failed["status"], failed["reason"]) == ("True", "NoSeedConverged")
    assert done.status["shards"]["failedIndexes"] == "0,1"
    assert {(failure["exitCode"], failure["reason"]) for failure in done.status["failures"]} >= {(3, "NotConverged")}
    shown = {metric["name"]: metric["value"] for metric in done.status["metrics"]}
    assert shown["seed"] in (4, 9)


def test_plan_shows_ranks_and_seeds_and_writes_nothing(tmp_path: Path) -> None:
    folder = training(tmp_path, shards=3)
    manifest = folder.write()
    before = sorted(tmp_path.rglob("*"))
    shown = folder.command("plan", str(manifest))
    assert shown.code == 0, shown.err
    assert "3 ranks, which share each batch" in shown.out
    assert "3 at once" in shown.out
    seeds = folder.command("plan", str(manifest), "--set", "engine.difflogic.sweep={seeds: [4, 9, 5]}")
    assert "3 seeds: 4, 9, 5" in seeds.out
    assert sorted(tmp_path.rglob("*")) == before


EXAMPLES = CORPUS.parents[1]


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", sorted(path.name for path in EXAMPLES.glob("difflogic-*.yaml")))
def test_every_example_trains_a_circuit_without_error(tmp_path: Path, name: str) -> None:
    folder = Folder(path=tmp_path, samples=0)
    done = folder.command("run", str(EXAMPLES / name), "-o", "json", "--workdir", str(tmp_path / "work"))
    assert done.code == 0, done.err
    assert {metric["name"]: metric["value"] for metric in done.status["metrics"]}["wrong"] == 0
