"""`shardwise run` of a suite: the digest of `shardwise suite`, whatever is killed, stopped or run side by side."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from tests.support import suites
from tests.support.cli import Finished, Folder, finish
from tests.support.expected import CORPUS
from tests.support.kube import eventually
from tests.support.suite_folder import SuiteFolder, statuses, suite

EXAMPLES = CORPUS.parents[1]
KILLS = 12


def workers(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """Return the workers of a runner that run a script."""
    found = []
    with suppress(psutil.NoSuchProcess):
        for child in psutil.Process(process.pid).children():
            with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                if child.environ().get("SHARDWISE_STEP") == "work":
                    found.append(child)
    return found


@pytest.fixture
def waiting(tmp_path: Path) -> Iterator[tuple[SuiteFolder, subprocess.Popen[str]]]:
    """A suite of which one script is over and one waits to be let go."""
    folder = suite(tmp_path, "no_options", "waiting", maxWorkers=2, graceSeconds=1)
    process = folder.start()
    suites.wait_ready(folder.tree, "waiting")
    eventually(lambda: {job["id"]: job["status"] for job in folder.summary["jobs"]}["train_no_options"] == "SUCCESS")
    yield folder, process
    if process.poll() is None:
        process.kill()
        finish(process)


@pytest.fixture(scope="module")
def by_command(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """What the command line comes to."""
    folder = suite(tmp_path_factory.mktemp("command"), "ok", "flaky", "bad", "no_options", "unknown_option")
    return folder.by_command("--retries", "1", "--epochs", "2", "--retry-delay-seconds", "0")


class TestASuite:
    @pytest.mark.parametrize("at_once", [1, 4])
    def test_has_the_digest_and_the_exit_status_of_the_command_line(
        self, by_command: Finished, tmp_path: Path, at_once: int
    ) -> None:
        folder = suite(
            tmp_path, "ok", "flaky", "bad", "no_options", "unknown_option", retries=1, epochs=2, maxWorkers=at_once
        )

        done = folder.run()

        assert done.code == by_command.code == 1, done.err
        summary = json.loads(by_command.out)
        assert done.status["result"]["digest"] == summary["digest"]
        assert statuses(done) == {job["id"].removeprefix("train_"): job["status"] for job in summary["jobs"]}
        assert done.status["suite"]["exitStatus"] == 1
        assert done.status["suite"]["counts"] == {"total": 5, "interrupted": 0, "skipped": 0, "success": 3, "failed": 2}
        assert done.status["phase"] == "Failed"
        (failed,) = [found for found in done.status["conditions"] if found["type"] == "Failed"]
        assert failed["reason"] == "MandatoryJobFailed"
        assert "train_unknown_option (exit code 2)" in failed["message"]
        assert (done.status["items"]["done"], done.status["items"]["failed"]) == (3, 2)
        assert done.status["shards"]["failedIndexes"] == "0,4"

    def test_shows_its_scripts_to_people(self, tmp_path: Path) -> None:
        folder = suite(tmp_path, "ok", "bad")
        shown = folder.command("run", str(folder.write()))

        assert shown.code == 1
        assert "1 succeeded, 1 failed of 2" in shown.out
        for line in ("train_bad", "FAILED", "train_ok", "SUCCESS", "exit status"):
            assert line in shown.out
        assert "scripts" in shown.err

    @pytest.mark.parametrize(
        ("names", "settings", "code"),
        [
            (("ok",), {}, 0),
            (("bad",), {"allowPartialSuccess": True}, 0),
            (("bad",), {}, 1),
            (("bad",), {"excludeRegex": "("}, 2),
            ((), {"strictDiscovery": True}, 3),
        ],
        ids=["well", "partial success", "a script failed", "bad settings", "nothing discovered"],
    )
    def test_ends_with_the_exit_status_of_the_suite(
        self, tmp_path: Path, names: tuple[str, ...], settings: dict[str, Any], code: int
    ) -> None:
        done = suite(tmp_path, *names, **settings).run()

        assert done.code == code, done.err
        assert done.status["suite"]["exitStatus"] == code

    def test_of_which_nothing_is_to_be_run_is_well_and_has_its_commands(self, tmp_path: Path) -> None:
        folder = suite(tmp_path, "ok", "bad", dryRun=True)

        done = folder.run()

        assert done.code == 0, done.err
        assert statuses(done) == {"bad": "SKIPPED", "ok": "SKIPPED"}
        assert (done.status["shards"]["total"], done.status["shards"]["succeeded"]) == (2, 0)
        assert folder.summary["jobs"][0]["command"][1:] == ["train_bad.py"]
        assert not (folder.output / "results").exists()

    def test_leaves_none_of_a_thousand_lines_out(self, tmp_path: Path) -> None:
        folder = suite(tmp_path, "noisy")

        done = folder.run()

        assert done.code == 0, done.err
        (log,) = folder.output.glob("logs/train_noisy/run_*.log")
        assert log.read_bytes().count(b"x" * 99 + b"\n") == 100_000
        (worker,) = (folder.path / ".shardwise/suite/logs").glob("shard-0-attempt-1.log")
        assert worker.read_bytes().count(b"x" * 99 + b"\n") == 100_000

    def test_waits_between_attempts_as_long_as_it_is_told(self, tmp_path: Path) -> None:
        done = suite(tmp_path, "bad", retries=1, retryDelaySeconds=2).run()
        assert done.code == 1

        (job,) = json.loads(Path(done.status["suite"]["summaryUri"].removeprefix("file://")).read_text())["jobs"]
        first, second = (time.mktime(time.strptime(attempt["start_time"][:19], "%Y-%m-%dT%H:%M:%S"))
                         for attempt in job["attempts_detail"])  # fmt: skip
        assert second - first >= 2


class TestAPlan:
    def test_shows_the_commands_and_writes_nothing(self, tmp_path: Path) -> None:
        folder = suite(tmp_path, "ok", "bad", epochs=3)
        manifest = folder.write()
        before = sorted(tmp_path.rglob("*"))

        shown = folder.command("plan", str(manifest))

        assert shown.code == 0, shown.err
        assert "--epochs 3" in shown.out
        assert "2 at once" in shown.out
        assert sorted(tmp_path.rglob("*")) == before

    def test_warns_of_what_is_odd(self, tmp_path: Path) -> None:
        folder = suite(tmp_path, "ok", exclude=["train_okay"])

        shown = folder.command("plan", str(folder.write()))

        assert "warning: exclude: no job has the id 'train_okay'; did you mean train_ok?" in shown.err

    def test_says_what_can_not_work(self, tmp_path: Path) -> None:
        folder = suite(tmp_path, "ok", only=["nobody"])

        shown = folder.command("plan", str(folder.write()))

        assert shown.code == 2
        assert "spec.engine.scripts: only: no job has such an id" in shown.err


class TestAnInterrupt:
    def test_lets_a_script_end_that_ends_in_its_grace(self, tmp_path: Path) -> None:
        folder = suite(tmp_path, "no_options", "waiting", maxWorkers=1, graceSeconds=60)
        (folder.tree / "train_zzz.py").write_text("print('last')")
        process = folder.start()
        suites.wait_ready(folder.tree, "waiting")
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        for line in process.stderr:
            if "waiting 60 s" in line:
                break
        suites.let_go(folder.tree, "waiting")
        stopped = finish(process)

        assert stopped.code == 130
        found = {job["id"]: job["status"] for job in folder.summary["jobs"]}
        assert found == {"train_no_options": "SUCCESS", "train_waiting": "SUCCESS", "train_zzz": "INTERRUPTED"}
        assert folder.summary["exit_status"] == 130
        assert folder.summary["jobs"][2]["error"] == "Not started: the run was interrupted"
        assert statuses(stopped)["zzz"] == "INTERRUPTED"
        assert stopped.status["suite"]["exitStatus"] == 130
        done = folder.run("--resume")
        assert done.code == 0, done.err
        assert [job["attempts"] for job in folder.summary["jobs"]] == [1, 1, 1]
        assert folder.summary["exit_status"] == 0

    def test_ends_a_script_after_its_grace_and_resume_runs_it_again(
        self, waiting: tuple[SuiteFolder, subprocess.Popen[str]]
    ) -> None:
        folder, process = waiting
        process.send_signal(signal.SIGINT)
        stopped = finish(process)

        assert stopped.code == 130, stopped.err
        assert stopped.status["failures"] == []
        assert folder.summary["exit_status"] == 130
        assert folder.summary["counts"]["interrupted"] == 1
        suites.let_go(folder.tree, "waiting")
        done = folder.run("--resume")
        assert done.code == 0, done.err
        jobs = {job["id"]: job for job in folder.summary["jobs"]}
        assert jobs["train_no_options"]["attempts"] == 1
        assert [a["status"] for a in jobs["train_waiting"]["attempts_detail"]] == ["INTERRUPTED", "SUCCESS"]
        assert done.status["result"]["digest"] == json.loads(folder.by_command().out)["digest"]

    def test_that_comes_twice_leaves_no_process_behind(
        self, waiting: tuple[SuiteFolder, subprocess.Popen[str]]
    ) -> None:
        folder, process = waiting
        script = (folder.tree / "train_waiting.ready").read_text()
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGTERM)

        assert finish(process).code == 130

        _, alive = psutil.wait_procs(
            [psutil.Process(int(script))] if psutil.pid_exists(int(script)) else [], timeout=20
        )
        assert alive == []

    def test_is_not_what_another_start_begins_with(self, waiting: tuple[SuiteFolder, subprocess.Popen[str]]) -> None:
        folder, process = waiting
        process.kill()
        finish(process)
        # Nobody may be left to write to the records when the next begins.
        script = int((folder.tree / "train_waiting.ready").read_text())
        _, alive = psutil.wait_procs([psutil.Process(script)] if psutil.pid_exists(script) else [], timeout=20)
        assert alive == []
        suites.let_go(folder.tree, "waiting")

        done = folder.run("--resume")

        assert done.code == 0, done.err
        assert statuses(done) == {"no_options": "SUCCESS", "waiting": "SUCCESS"}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["asked", "killed"])
def test_workers_that_end_at_random_moments_change_nothing(tmp_path: Path, number: signal.Signals) -> None:
    seed = random.randrange(2**32)
    dice = random.Random(seed)
    # Of workers that are asked to leave none is used up; a kill uses up one, as on a cluster.
    retries = 0 if number is signal.SIGTERM else KILLS
    folder = suite(tmp_path, "no_options", "bad", "slow", maxWorkers=4, retries=retries, graceSeconds=0)
    for copy in range(3):
        (folder.tree / f"train_slow_{copy}.py").write_bytes(suites.SCRIPTS["slow"])
    process = folder.start()
    sent = 0
    while process.poll() is None:
        # Before, while and after a script runs: where exactly is left to chance.
        time.sleep(dice.uniform(0.05, 0.5))
        for victim in workers(process)[:1] if sent < KILLS else ():
            with suppress(psutil.NoSuchProcess):
                victim.send_signal(number)
                sent += 1
    done = finish(process)

    told = f"seed {seed}, {sent} signals: {done.err[-2000:]}"
    assert sent > 3, told
    assert statuses(done) == {
        "bad": "FAILED", "no_options": "SUCCESS", "slow": "SUCCESS", "slow_0": "SUCCESS", "slow_1": "SUCCESS",
        "slow_2": "SUCCESS",
    }, told  # fmt: skip
    assert done.status["result"]["digest"] == json.loads(folder.by_command("--parallel").out)["digest"], told


@pytest.mark.parametrize("name", ["scripts-suite.yaml"])
def test_every_example_that_runs_here_is_well(tmp_path: Path, name: str) -> None:
    folder = Folder(path=tmp_path, samples=0)
    done = folder.command("run", str(EXAMPLES / name), "-o", "json", "--workdir", str(tmp_path / "work"))
    assert done.code == 0, done.err
    manifest = yaml.safe_load((EXAMPLES / name).read_text())["spec"]["engine"]["scripts"]
    tree = tmp_path / "tree"
    # The command line leaves its logs and results in the tree.
    subprocess.run(["cp", "-r", EXAMPLES / manifest["source"], tree], check=True)
    alike = folder.command("suite", "--root", str(tree), "--no-default-jobs", "--parallel", "-o", "json")
    assert json.loads(alike.out)["digest"] == done.status["result"]["digest"]
