"""Trainings as processes: a pod's three steps, a person's command, and ranks that a plain mpiexec starts."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from shardwise.engine.files import OutputFolder
from shardwise_api.wire import Environment, ExitCode, RunResult, Step
from shardwise_jobs.engines.difflogic.training.checkpoint import FILE, digest_of, opened
from shardwise_jobs.engines.difflogic.training.loop import Training
from shardwise_jobs.mpi.communicator import SingleProcess
from tests.support.cli import SHARDWISE, Finished, finish
from tests.support.leash import leashed
from tests.support.require import missing
from tests.support.s3 import s3_server
from tests.support.small_trainings import CROSS, LIFE, trained, training
from tests.support.trainings import manifest
from tests.support.worker import Pods, terminate

STEPS = 12
LIFE_RUN: dict[str, Any] = {**LIFE, "steps": STEPS}
ENDLESS = 10_000_000
MPIEXEC = Path(sys.executable).parent / "mpiexec"


def digest(of: Training, *, folder: Path) -> str:
    """Return the digest of a training within this process."""
    last = trained(of, folder=folder / "expected", world=SingleProcess())
    return f"sha256:{digest_of(logits=last.state.logits, step=last.state.step)}"


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> str:
    return digest(training(LIFE, steps=STEPS), folder=tmp_path_factory.mktemp("alone"))


def pods(folder: Path, difflogic: dict[str, Any], **spec: Any) -> Pods:
    made = manifest(difflogic, output={"uri": str(folder / "out")}, sharding={"shards": 1}, **spec)
    return Pods(folder=folder, manifest=made)


class TestPods:
    """`python -m shardwise_jobs`, one step at a time."""

    def test_the_three_steps_come_to_the_digest_of_this_process(self, tmp_path: Path, expected: str) -> None:
        result = pods(tmp_path, LIFE_RUN).result()
        assert result.digest == expected
        assert result.items.done == STEPS
        assert Path(result.summary["animation"]).read_bytes().startswith(b"GIF89a")

    def test_checkpoint_and_artefacts_may_be_in_an_object_store(self, tmp_path: Path, expected: str) -> None:
        with s3_server() as s3:
            bucket = s3.bucket("trainings")
            run = pods(tmp_path, {**LIFE, "steps": 5})
            run.environment = dict(s3.environment)
            run.manifest["spec"]["output"]["uri"] = f"s3://{bucket}/out"
            assert run.prepare().code == ExitCode.DONE
            assert run.run(Step.WORK).code == ExitCode.DONE
            # It goes on from there.
            run.manifest["spec"]["engine"]["difflogic"]["steps"] = STEPS
            result = run.result()
            assert result.digest == expected
            assert result.uri == f"s3://{bucket}/out/summary.json"

    def test_a_worker_that_is_told_to_end_leaves_a_checkpoint_and_the_next_goes_on(self, tmp_path: Path) -> None:
        run = pods(tmp_path, {**LIFE, "steps": ENDLESS, "checkpointEverySteps": 5})
        assert run.prepare().code == ExitCode.DONE
        reached = 0
        for _ in range(2):
            process = run.start(Step.WORK)
            # It works when its first checkpoint is there.
            _changed(tmp_path / "out" / FILE, process)
            terminate(process)
            ended = run.end(process)
            assert ended.code == ExitCode.TERMINATED, ended.log
            step = int(re.findall(r"stopped after step (\d+); the checkpoint holds it", ended.failure.message)[0])
            assert step > reached
            reached = step
        # The same number of steps in one go.
        of = training(LIFE, steps=reached)
        last = of.read(OutputFolder(str(tmp_path / "out")))
        assert last is not None
        assert last.state.step == reached
        assert f"sha256:{digest_of(logits=last.state.logits, step=reached)}" == digest(of, folder=tmp_path)

    def test_a_seed_that_does_not_converge_leaves_with_3_and_the_sweep_says_which_was_best(
        self, tmp_path: Path
    ) -> None:
        run = pods(tmp_path, {**CROSS, "steps": 40, "sweep": {"seeds": [1, 2]}})
        run.manifest["spec"]["sharding"]["shards"] = 2
        assert run.prepare().code == ExitCode.DONE
        for shard, seed in ((0, 1), (1, 2)):
            ended = run.run(Step.WORK, shard=shard)
            assert (ended.code, ended.failure.reason) == (ExitCode.NOT_CONVERGED, "NotConverged")
            assert f"seed {seed}: 40 steps" in ended.failure.message
        ended = run.run(Step.FINALIZE)
        assert (ended.code, ended.failure.reason) == (ExitCode.BAD_CONFIGURATION, "NoSeedConverged")
        assert (tmp_path / "out/circuit.txt").exists()

    def test_a_sweeps_first_seed_without_error_is_its_result(self, tmp_path: Path) -> None:
        run = pods(tmp_path, {**CROSS, "steps": 400, "sweep": {"seeds": [1, 2]}})
        run.manifest["spec"]["sharding"]["shards"] = 2
        assert run.prepare().code == ExitCode.DONE
        assert run.run(Step.WORK, shard=1).code == ExitCode.DONE
        ended = run.run(Step.FINALIZE)
        assert ended.code == ExitCode.DONE, ended.log
        result = RunResult.model_validate_json(ended.message)
        assert (result.summary["solved"], result.summary["seed"], result.summary["steps"]) == (True, 2, 122)

    @pytest.mark.parametrize(
        ("fields", "said"),
        [
            ({"model": {"updateWidths": [2, 2]}}, r"spec\.engine\.difflogic\.model\.updateWidths: the last is 2"),
            ({"rollout": {"lossChannels": [3]}}, r"spec\.engine\.difflogic\.rollout\.lossChannels: 3"),
            ({"seed": 24}, r"out/checkpoint\.npz: a checkpoint of another experiment: seed is 23 there and 24 here"),
        ],
    )
    def test_what_can_not_work_is_refused_by_prepare_in_one_line(
        self, fields: dict[str, Any], said: str, tmp_path: Path
    ) -> None:
        trained(training(LIFE, steps=4), folder=tmp_path / "out", world=SingleProcess())
        ended = pods(tmp_path, {**LIFE_RUN, **fields}).prepare()
        assert ended.code == ExitCode.BAD_CONFIGURATION
        assert re.search(said, ended.failure.message)
        assert "Traceback" not in ended.log

    def test_a_checkpoint_that_breaks_before_the_work_is_refused_by_it(self, tmp_path: Path) -> None:
        run = pods(tmp_path, LIFE_RUN)
        assert run.prepare().code == ExitCode.DONE
        (tmp_path / "out" / FILE).write_bytes(b"PK\x03\x04 half a file")
        ended = run.run(Step.WORK)
        assert (ended.code, ended.failure.reason) == (ExitCode.BAD_CONFIGURATION, "InvalidInput")
        assert "checkpoint.npz: not a readable npz file" in ended.failure.message

    def test_a_training_that_diverges_is_bad_input(self, tmp_path: Path) -> None:
        run = pods(tmp_path, {**LIFE_RUN, "optimizer": {"lr": 1e200}})
        assert run.prepare().code == ExitCode.DONE
        ended = run.run(Step.WORK)
        assert (ended.code, ended.failure.reason) == (ExitCode.BAD_CONFIGURATION, "InvalidInput")
        assert "step 1: logits have left all bounds" in ended.failure.message
        assert "Warning" not in ended.log


class TestGang:
    """A worker process per rank, as pods have them; they find each other by a file."""

    def test_ranks_come_to_the_digest_of_this_process(self, tmp_path: Path, expected: str) -> None:
        run = pods(tmp_path, LIFE_RUN)
        assert self._ranks(run, 2) == [ExitCode.DONE, ExitCode.DONE]
        ended = run.run(Step.FINALIZE)
        assert ended.code == ExitCode.DONE, ended.log
        assert RunResult.model_validate_json(ended.message).digest == expected

    def test_one_is_told_to_end_and_another_number_goes_on(self, tmp_path: Path) -> None:
        run = pods(tmp_path, {**LIFE, "steps": ENDLESS, "checkpointEverySteps": 20})
        assert self._ranks(run, 2, until=tmp_path / "out" / FILE) == [ExitCode.TEMPORARY, ExitCode.TERMINATED]
        stopped = _step_of(tmp_path / "out")
        # By now the end is near.
        steps = stopped + 10
        run.manifest["spec"]["engine"]["difflogic"]["steps"] = steps
        assert self._ranks(run, 3) == [ExitCode.DONE] * 3
        ended = run.run(Step.FINALIZE)
        assert ended.code == ExitCode.DONE, ended.log
        result = RunResult.model_validate_json(ended.message)
        assert result.digest == digest(training(LIFE, steps=steps), folder=tmp_path)

    def test_without_mpi_prepare_says_what_to_install_and_one_rank_needs_none(self, tmp_path: Path) -> None:
        # In front of the installed package: one that is as good as missing.
        (tmp_path / "mpi4py.py").write_text("raise ImportError('none here')")
        run = pods(tmp_path, LIFE_RUN)
        run.environment = {"PYTHONPATH": str(tmp_path)}
        run.manifest["spec"]["sharding"]["shards"] = 2
        ended = run.prepare()
        assert ended.code == ExitCode.BAD_CONFIGURATION
        assert "spec.sharding.shards: 2 ranks need MPI, which is missing here (none here)" in ended.failure.message
        assert 'pip install "shardwise[mpi]"' in ended.failure.message
        run.manifest["spec"]["sharding"]["shards"] = 1
        assert run.prepare().code == ExitCode.DONE
        assert run.run(Step.WORK).code == ExitCode.DONE

    def _ranks(self, run: Pods, ranks: int, *, until: Path | None = None) -> list[int]:
        """Return the exit codes of ranks; the last is told to end when a file has been written."""
        run.environment = {Environment.RENDEZVOUS: (run.folder / "rendezvous").as_uri()}
        run.manifest["spec"]["sharding"]["shards"] = ranks
        assert run.prepare().code == ExitCode.DONE
        processes = [run.start(Step.WORK, shard=rank) for rank in range(ranks)]
        if until is not None:
            _changed(until, processes[-1])
            terminate(processes[-1])
        return [run.end(process).code for process in processes]


class TestByHand:
    """`shardwise difflogic train`, alone and under mpiexec."""

    def test_alone_it_has_the_digest_of_a_run_and_shows_what_it_has(self, tmp_path: Path, expected: str) -> None:
        done = standalone(tmp_path, LIFE_RUN)
        assert done.code == 0, done.err
        assert f"digest: {expected}" in done.out
        shown = command(tmp_path, "difflogic", "show", str(tmp_path / "out"))
        assert shown.code == 0, shown.err
        assert f"digest: {expected}" in shown.out
        assert f"step: {STEPS}" in shown.out

    @pytest.mark.parametrize("ranks", [2, 3])
    def test_any_number_of_mpis_ranks_has_the_same_digest(self, ranks: int, tmp_path: Path, expected: str) -> None:
        done = standalone(tmp_path, LIFE_RUN, ranks=ranks)
        assert done.code == 0, done.err
        assert done.out.count(f"digest: {expected}") == 1
        assert f"MPI has started {ranks} ranks" in done.err

    def test_ranks_go_on_where_one_process_has_ended(self, tmp_path: Path, expected: str) -> None:
        assert standalone(tmp_path, {**LIFE, "steps": 5}).code == 0
        done = standalone(tmp_path, LIFE_RUN, ranks=2)
        assert done.code == 0, done.err
        assert f"digest: {expected}" in done.out

    def test_ctrl_c_leaves_a_checkpoint_and_says_how_to_go_on(self, tmp_path: Path) -> None:
        process = start_standalone(tmp_path, {**LIFE, "steps": ENDLESS})
        _changed(tmp_path / "out" / FILE, process)
        process.send_signal(signal.SIGINT)
        done = finish(process)
        assert done.code == 130, done.err
        assert "the same command goes on from there" in done.err
        assert "Traceback" not in done.err
        step = int(re.findall(r"stopped after step (\d+)", done.err)[0])
        last = training(LIFE, steps=step).read(OutputFolder(str(tmp_path / "out")))
        assert last is not None
        assert last.state.step == step

    def test_more_ranks_than_samples_is_said_once(self, tmp_path: Path) -> None:
        done = standalone(tmp_path, {**LIFE_RUN, "batchSize": 1}, ranks=2)
        assert done.code == ExitCode.BAD_CONFIGURATION
        assert done.err.count("2 ranks and 1 samples") == 1

    def test_another_experiments_checkpoint_is_refused_by_all_ranks_and_said_once(self, tmp_path: Path) -> None:
        assert standalone(tmp_path, {**LIFE, "steps": 2}).code == 0
        done = standalone(tmp_path, {**LIFE_RUN, "seed": 5}, ranks=2)
        assert done.code != 0
        assert done.err.count("a checkpoint of another experiment") == 1

    @pytest.mark.parametrize(
        ("difflogic", "said"),
        [
            ({**CROSS, "steps": 5, "sweep": {"seeds": [1]}}, "spec.engine.difflogic.sweep: one training only"),
            ({**LIFE_RUN, "stepz": 5}, "stepz"),
            ({**LIFE_RUN, "model": {"kernels": 99}}, "spec.engine.difflogic.model.updateWidths: "),
        ],
    )
    def test_what_it_can_not_train_is_said(self, difflogic: dict[str, Any], said: str, tmp_path: Path) -> None:
        done = standalone(tmp_path, difflogic)
        assert done.code == ExitCode.BAD_CONFIGURATION
        assert said in done.err
        assert "Traceback" not in done.err

    def test_show_says_when_there_is_nothing(self, tmp_path: Path) -> None:
        shown = command(tmp_path, "difflogic", "show", str(tmp_path))
        assert shown.code == ExitCode.BAD_CONFIGURATION
        assert "checkpoint.npz: there is no checkpoint" in shown.err


def start_standalone(folder: Path, difflogic: dict[str, Any], *, ranks: int = 1) -> subprocess.Popen[str]:
    path = folder / "training.yaml"
    path.write_text(yaml.safe_dump(manifest(difflogic)), encoding="utf-8")
    if ranks > 1 and not MPIEXEC.exists():
        missing("mpiexec", 'pip install "shardwise[mpi]"')
    mpiexec = [str(MPIEXEC), "-n", str(ranks)] if ranks > 1 else []
    return subprocess.Popen(
        leashed(*mpiexec, str(SHARDWISE), "difflogic", "train", str(path), "--output", str(folder / "out")),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=dict(os.environ),
        cwd=folder,
    )


def standalone(folder: Path, difflogic: dict[str, Any], *, ranks: int = 1) -> Finished:
    return finish(start_standalone(folder, difflogic, ranks=ranks))


def command(folder: Path, *arguments: str) -> Finished:
    done = subprocess.run(
        [SHARDWISE, *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True, cwd=folder, check=False
    )
    return Finished(code=done.returncode, out=done.stdout, err=done.stderr)


def _step_of(folder: Path) -> int:
    content = OutputFolder(str(folder)).read_bytes(FILE)
    assert content is not None
    return opened(content, name=FILE)[0].state.step


def _changed(path: Path, process: subprocess.Popen[str]) -> None:
    """Return when a process has written a file anew."""
    before = path.stat().st_mtime_ns if path.exists() else None
    while process.poll() is None:
        if path.exists() and path.stat().st_mtime_ns != before:
            return
        # Nobody tells when a file changes; looking now and then is enough.
        time.sleep(0.02)
    out, err = process.communicate()
    raise AssertionError(f"it ended with {process.returncode}: {out}{err}")
