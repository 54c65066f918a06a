"""The engine's three steps, called as the worker entry calls them; trainings are of a few milliseconds."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from shardwise.engine.errors import BadConfiguration, BadInput, Temporary, WorkError
from shardwise.engine.files import OutputFolder
from shardwise.engine.progress import ProgressSender
from shardwise.engine.stop import StopFlag
from shardwise.engine.worker import Context
from shardwise_api.manifest import parse_manifest
from shardwise_api.wire import (
    MAX_TERMINATION_MESSAGE_BYTES,
    Environment,
    ExitCode,
    PrepareResult,
    ProgressReport,
    RunDocument,
    RunResult,
    ShardResult,
    WorkResult,
)
from shardwise_jobs.engines.difflogic.engine import DifflogicEngine
from shardwise_jobs.engines.difflogic.training.checkpoint import FILE, digest_of
from shardwise_jobs.engines.difflogic.training.runs import trainings_of
from tests.support.manifests import as_yaml
from tests.support.small_trainings import CROSS, LIFE
from tests.support.trainings import manifest

SWEEP = {**CROSS, "steps": 110, "sweep": {"seeds": [2, 1, 3], "stopOnFirst": False}}
"""Of these seeds the second is without error after 89 steps, the others would need more than 110."""


@dataclass(slots=True, kw_only=True)
class Run:
    """A run's engine, step by step."""

    folder: Path
    difflogic: dict[str, Any]
    shards: int = 1
    prepared: PrepareResult | None = None
    worked: WorkResult | None = None
    spec: dict[str, Any] = field(default_factory=dict)

    @property
    def output(self) -> OutputFolder:
        """Where artefacts go."""
        return OutputFolder(str(self.folder / "out"))

    def engine(self, *, shard: int = 0) -> DifflogicEngine:
        """Return the engine as a new process has it."""
        run = parse_manifest(as_yaml(manifest(self.difflogic, sharding={"shards": self.shards})), name="run.yaml")
        document = RunDocument(
            uid="u",
            name="training",
            kind=run.kind,
            spec=run.spec_document(),
            prepared=self.prepared,
            worked=self.worked,
        )
        progress = ProgressSender(target=str(self.folder), run="u", shard=shard)
        return DifflogicEngine(Context(document=document, output=self.output, stop=StopFlag(), progress=progress))

    def prepare(self, *, dry_run: bool = False) -> PrepareResult:
        """Do the prepare step."""
        self.prepared = self.engine().prepare(dry_run=dry_run)
        return self.prepared

    def work(self, *, shard: int = 0) -> ShardResult:
        """Do a shard."""
        return self.engine(shard=shard).work(shard=shard)

    def finalize(self) -> RunResult:
        """Do the finalize step."""
        result = self.engine().finalize()
        message = result.model_dump_json(by_alias=True, exclude_none=True)
        assert len(message.encode()) <= MAX_TERMINATION_MESSAGE_BYTES
        return result

    def report(self, *, shard: int = 0) -> ProgressReport:
        """Return a shard's last report."""
        return ProgressReport.model_validate_json((self.folder / f"shard-{shard}.json").read_bytes())

    @property
    def summary(self) -> dict[str, Any]:
        """What finalize wrote."""
        found: dict[str, Any] = json.loads((self.folder / "out" / "summary.json").read_bytes())
        return found


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(Environment.RENDEZVOUS, raising=False)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(folder=tmp_path, difflogic={**LIFE, "steps": 12})


class TestOneTraining:
    """Shards are ranks; here there is one, which needs nobody."""

    def test_prepare_counts_steps_and_makes_a_token_that_is_new_each_time(self, run: Run) -> None:
        first, second = run.prepare(), run.prepare()
        assert (first.items_total, first.already_complete) == (12, False)
        assert first.input_fingerprint == second.input_fingerprint
        assert first.peer_token is not None
        assert len(first.peer_token) == 64
        assert first.peer_token != second.peer_token

    def test_a_dry_run_writes_nothing_and_makes_no_token(self, run: Run) -> None:
        assert run.prepare(dry_run=True).peer_token is None
        assert not (run.folder / "out").exists()

    def test_work_trains_and_finalize_publishes(self, run: Run) -> None:
        run.prepare()
        assert run.work().items.done == 12
        result = run.finalize()
        last = trainings_of(run.engine()._difflogic, output=run.output)[0].read()
        assert last is not None
        assert result.digest == f"sha256:{digest_of(logits=last.state.logits, step=12)}"
        assert result.uri == run.output.uri_of("summary.json")
        assert (result.items.done, result.items.skipped) == (12, 0)
        assert result.summary["steps"] == 12
        assert result.summary["total"] == 512
        assert {metric.name for metric in result.metrics} >= {"softLoss", "hardLoss", "hardAccuracy", "wrong", "gates"}
        files = {path.name for path in (run.folder / "out").iterdir()}
        assert files >= {"parameters.npz", "circuit.txt", "circuit.svg", "circuit.png", "loss.png", "automaton.gif"}
        assert run.summary["digest"] == result.digest
        assert run.summary["experiment"]["batch_size"] == 8

    def test_a_report_has_the_metrics_that_a_person_wants_and_the_checkpoint(self, run: Run) -> None:
        run.work()
        report = run.report()
        assert (report.items.done, report.total, report.resumed, report.missing_ranks) == (12, 12, 0, "")
        metrics = {metric.name: metric.value for metric in report.metrics}
        assert metrics["step"] == 12
        assert metrics.keys() == {
            "step",
            "softLoss",
            "hardLoss",
            "hardAccuracy",
            "stepsPerSecond",
            "estimatedRemainingSeconds",
            "wrong",
        }
        assert 0 <= metrics["hardAccuracy"] <= 1
        assert metrics["estimatedRemainingSeconds"] == 0
        assert report.checkpoint is not None
        assert (report.checkpoint.uri, report.checkpoint.step) == (run.output.uri_of(FILE), 12)

    def test_more_steps_go_on_from_the_checkpoint_and_say_so(self, run: Run) -> None:
        run.work()
        run.difflogic["steps"] = 20
        assert not run.prepare().already_complete
        assert run.work().items.done == 20
        report = run.report()
        assert (report.resumed, report.resumed_done, report.total) == (12, 12, 20)

    def test_a_complete_training_needs_no_peers(self, run: Run) -> None:
        run.work()
        run.shards = 3
        assert run.prepare().already_complete
        assert run.work(shard=0).items.done == 12
        assert run.work(shard=2).items.done == 0

    def test_steps_that_were_not_needed_are_skipped(self, tmp_path: Path) -> None:
        run = Run(folder=tmp_path, difflogic={**CROSS, "seed": 1, "steps": 400, "stopWhenSolved": True})
        result = run.work()
        assert (result.items.done, result.items.skipped) == (89, 311)
        final = run.finalize()
        assert (final.items.done, final.items.skipped) == (89, 311)
        assert (final.summary["solved"], final.summary["wrong"], final.summary["steps"]) == (True, 0, 89)
        assert run.prepare().already_complete

    def test_finalize_repeats_itself_and_remembers_how_long_it_took(self, run: Run) -> None:
        run.work()
        run.worked = WorkResult(seconds=1.5, workers=2, done=12)
        first, summary = run.finalize(), run.summary
        assert (summary["total_time_seconds"], summary["num_workers"]) == (1.5, 2)
        run.worked = None
        assert run.finalize() == first
        assert run.summary == summary

    def test_finalize_without_a_checkpoint_says_so(self, run: Run) -> None:
        with pytest.raises(BadInput, match=r"out/checkpoint\.npz: there is no checkpoint"):
            run.finalize()

    def test_finalize_of_half_a_training_says_how_far_it_is(self, run: Run) -> None:
        run.work()
        run.difflogic["steps"] = 20
        with pytest.raises(WorkError, match="at step 12 of 20"):
            run.finalize()

    def test_another_experiments_checkpoint_is_refused_before_anything_starts(self, run: Run) -> None:
        run.work()
        run.difflogic["optimizer"] = {"lr": 0.01}
        with pytest.raises(BadInput, match=r"out/checkpoint\.npz: .*optimizer\.lr is 0\.05 there and 0\.01 here"):
            run.prepare()

    def test_fields_that_do_not_fit_are_named_before_anything_starts(self, run: Run) -> None:
        run.difflogic["model"] = {"updateWidths": [1]}
        with pytest.raises(BadConfiguration, match=r"spec\.engine\.difflogic\.model\.updateWidths: "):
            run.engine()

    def test_ranks_without_a_place_to_meet_are_an_error(self, run: Run) -> None:
        run.shards = 2
        run.prepare()
        with pytest.raises(BadConfiguration, match="SHARDWISE_RENDEZVOUS is not set: 2 ranks"):
            run.work()

    def test_ranks_without_a_token_are_an_error(self, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        run.shards = 2
        monkeypatch.setenv(Environment.RENDEZVOUS, (run.folder / "rendezvous").as_uri())
        with pytest.raises(BadConfiguration, match=r"prepared\.peerToken is missing"):
            run.work()


class TestRanks:
    """Their number may change at any moment, and then all meet anew."""

    def test_one_that_is_no_longer_wanted_leaves_without_harm(self, run: Run) -> None:
        run.shards = 2
        run.prepare()
        with pytest.raises(Temporary, match="rank 2 is not one of 2 ranks any more"):
            run.work(shard=2)

    def test_the_first_one_does_not_wait_for_those_that_are_no_longer_wanted(
        self, run: Run, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run.prepare()
        document, rendezvous = run.folder / "run.json", run.folder / "rendezvous"
        document.write_text(run.engine()._context.document.model_dump_json(by_alias=True), encoding="utf-8")
        monkeypatch.setenv(Environment.RUN, str(document))
        monkeypatch.setenv(Environment.RENDEZVOUS, rendezvous.as_uri())
        run.shards = 2
        with pytest.raises(Temporary, match="the number of ranks changes from 2 to 1"):
            run.work()
        assert run.report().missing_ranks == "1"


class TestSweep:
    """Each shard trains a seed of its own, and the best is published."""

    @pytest.fixture
    def sweep(self, tmp_path: Path) -> Run:
        return Run(folder=tmp_path, difflogic=dict(SWEEP), shards=3)

    def test_prepare_counts_all_seeds_steps_and_makes_no_token(self, sweep: Run) -> None:
        prepared = sweep.prepare()
        assert (prepared.items_total, prepared.peer_token, prepared.already_complete) == (330, None, False)

    def test_a_seed_without_error_is_done_and_one_with_leaves_with_3(self, sweep: Run) -> None:
        done = sweep.work(shard=1)
        assert (done.shard, done.items.done, done.items.skipped) == (1, 89, 21)
        with pytest.raises(WorkError, match=r"seed 2: 110 steps, \d of 9 cells wrong") as left:
            sweep.work(shard=0)
        assert left.value.exit_code is ExitCode.NOT_CONVERGED
        assert left.value.reason == "NotConverged"

    def test_a_seed_started_again_after_its_end_says_the_same_at_once(self, sweep: Run) -> None:
        sweep.work(shard=1)
        before = (sweep.folder / "out" / "seed-1" / FILE).stat().st_mtime_ns
        assert sweep.work(shard=1).items.done == 89
        for _ in range(2):
            with pytest.raises(WorkError, match="seed 3: 110 steps"):
                sweep.work(shard=2)
        assert (sweep.folder / "out" / "seed-1" / FILE).stat().st_mtime_ns == before

    def test_the_seed_without_error_is_published(self, sweep: Run) -> None:
        for shard in range(3):
            if shard == 1:
                sweep.work(shard=shard)
            else:
                with pytest.raises(WorkError):
                    sweep.work(shard=shard)
        result = sweep.finalize()
        assert (result.summary["seed"], result.summary["solved"], result.summary["steps"]) == (1, True, 89)
        assert (result.summary["seedsTried"], result.summary["seedsSolved"]) == (3, 1)
        assert [(line["seed"], line["steps"], line["wrong"] == 0) for line in sweep.summary["seeds"]] == [
            (2, 110, False),
            (1, 89, True),
            (3, 110, False),
        ]
        assert (result.items.done, result.items.skipped) == (309, 21)
        assert sweep.prepare().already_complete

    def test_of_several_without_error_the_one_with_the_fewest_steps_wins(self, sweep: Run) -> None:
        sweep.difflogic["steps"] = 400
        for shard in range(3):
            sweep.work(shard=shard)
        assert (sweep.finalize().summary["seed"], sweep.finalize().summary["seedsSolved"]) == (1, 3)

    def test_the_first_ends_the_sweep_when_it_should_and_the_others_may_be_missing(self, sweep: Run) -> None:
        sweep.difflogic["sweep"] = {**SWEEP["sweep"], "stopOnFirst": True}
        sweep.work(shard=1)
        assert sweep.prepare().already_complete
        assert sweep.finalize().summary["seedsTried"] == 1

    def test_all_are_wanted_when_the_first_does_not_end_it(self, sweep: Run) -> None:
        sweep.work(shard=1)
        assert not sweep.prepare().already_complete

    def test_no_seed_without_error_publishes_the_best_and_fails(self, sweep: Run) -> None:
        sweep.difflogic["steps"] = 50
        for shard in range(3):
            with pytest.raises(WorkError):
                sweep.work(shard=shard)
        assert sweep.prepare().already_complete
        with pytest.raises(BadConfiguration, match=r"none of 3 seeds .* within 50 steps; the best, seed") as failed:
            sweep.finalize()
        assert (failed.value.reason, failed.value.exit_code) == ("NoSeedConverged", 2)
        assert (sweep.folder / "out" / "circuit.txt").exists()
        best = min(line["wrong"] for line in sweep.summary["seeds"])
        assert sweep.summary["wrong"] == best

    def test_nothing_at_all_says_so(self, sweep: Run) -> None:
        with pytest.raises(BadInput, match=r"seed-\*/checkpoint\.npz: there is no checkpoint"):
            sweep.finalize()
