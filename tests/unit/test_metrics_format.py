"""What a person sees of a training: figures in few words, in the bar, in the tables at its end, and in the client."""

from __future__ import annotations

import io
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

from shardwise_api.runs import Run
from shardwise_api.status import Condition, ConditionType, ItemStatus, Phase, Result, RunStatus, ShardStatus
from shardwise_api.wire import Checkpoint, Metric, Step
from shardwise_cli.cluster.details import run_details
from shardwise_cli.cluster.events import Snapshot
from shardwise_cli.cluster.live_display import line, picture
from shardwise_cli.cluster.names import RESOURCES
from shardwise_cli.cluster.run_store import RunStore
from shardwise_cli.cluster.view import view
from shardwise_cli.commands.render import actions, documents
from shardwise_cli.metrics_format import in_a_line, number, short_metrics
from shardwise_cli.progress_bar import ProgressBar
from shardwise_cli.tables import print_run
from shardwise_operator.children import ChildSettings
from tests.support import manifests
from tests.support.client import condition, running

NOW = datetime(2026, 1, 1, 12, 10, tzinfo=UTC)
LEARNED = {"step": 30.0, "softLoss": 0.00012, "hardLoss": 17.0, "hardAccuracy": 0.98765, "wrong": 3.0}
SWEEP = "engine.difflogic.sweep={seeds: [1000, 2, 3]}"


def training(*changes: str) -> Run:
    run = manifests.parse(manifests.DIFFLOGIC, "sharding.shards=3", *changes)
    run.status = RunStatus(
        phase=Phase.RUNNING, items=ItemStatus(total=100, done=30), shards=ShardStatus(total=3, active=3),
        metrics=[Metric(name=name, value=value) for name, value in LEARNED.items()],
        checkpoint=Checkpoint(uri="file:///out/checkpoint.npz", step=20),
    )  # fmt: skip
    return run


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0, "0"), (12345, "12,345"), (0.98765, "0.988"), (3.25e-7, "3.25e-07"), (-1234.5, "-1,234.500")],
)
def test_a_number_keeps_what_matters_of_it(value: float, shown: str) -> None:
    assert number(value) == shown


def test_figures_say_how_well_it_goes_and_a_run_of_another_kind_has_none() -> None:
    assert in_a_line(LEARNED) == "soft 0.00012, hard 17, accuracy 0.988, wrong 3"
    assert short_metrics({"seed": 1000, "wrong": 3}) == {"seed": "1000", "wrong": "3"}
    assert in_a_line({"samples_processed": 100}) == ""


class TestBar:
    def _shown(self, run: Run, capsys: pytest.CaptureFixture[str]) -> str:
        assert run.status is not None
        with ProgressBar(run=run) as bar:
            bar.show(run.status)
        return capsys.readouterr().err

    def test_counts_steps_and_shows_losses_and_ranks(self, capsys: pytest.CaptureFixture[str]) -> None:
        shown = self._shown(training(), capsys)
        assert "30/100" in shown
        assert "steps/s" in shown
        assert "soft=0.00012, hard=17, accuracy=0.988, wrong=3, ranks=3/3" in shown

    def test_of_a_sweep_shows_how_many_seeds_are_solved(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert "seeds=0/3" in self._shown(training(SWEEP), capsys)

    def test_names_the_ranks_that_are_awaited(self, capsys: pytest.CaptureFixture[str]) -> None:
        run = training()
        assert run.status is not None
        run.status.conditions = [
            Condition(
                type=ConditionType.PODS_READY, status="False", reason="WaitingForRanks",
                message="rank 2 of 3 has not come", last_transition_time=NOW,
            )
        ]  # fmt: skip
        assert "life Running (rank 2 of 3 has not come)" in self._shown(run, capsys)

    def test_goes_back_with_a_training_that_lost_a_rank(self, capsys: pytest.CaptureFixture[str]) -> None:
        run = training()
        assert run.status is not None
        with ProgressBar(run=run) as bar:
            bar.show(run.status)
            run.status.items.done = 20
            run.status.phase = Phase.FAILED
            bar.show(run.status)
        assert "20/100" in capsys.readouterr().err

    @pytest.mark.parametrize(("manifest", "unit"), [(manifests.KATO, "samples/s"), (manifests.INGEST, "chunks/s")])
    def test_counts_the_items_of_a_run_by_their_name(
        self, manifest: str, unit: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        run = manifests.parse(manifest)
        run.status = RunStatus(phase=Phase.RUNNING, items=ItemStatus(total=10, done=5, failed=1))
        shown = self._shown(run, capsys)
        assert "6/10" in shown
        assert unit in shown
        assert "errors=1, shards=0/0" in shown


def test_the_end_of_a_training_is_told_in_steps_figures_and_what_it_came_to(
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = training()
    assert run.status is not None
    run.status.result = Result(digest="sha256:1", uri="file:///out", summary={"solved": True, "wrong": 0, "unit": "x"})
    print_run(run, logs=Path("logs"))
    shown = " ".join(capsys.readouterr().out.replace("│", " ").split())
    for told in (
        "steps 30 of 100", "ranks 3", "digest sha256:1", "solved true", "wrong 0", "softLoss 0.00012",
        "checkpoint file:///out/checkpoint.npz (step 20)",
    ):  # fmt: skip
        assert told in shown


def test_the_end_of_a_sweep_is_told_in_seeds(capsys: pytest.CaptureFixture[str]) -> None:
    run = training(SWEEP)
    assert run.status is not None
    run.status.shards = ShardStatus(total=3, succeeded=1, failed=1)
    print_run(run, logs=Path("logs"))
    assert "1 solved, 1 not, of 3" in capsys.readouterr().out


class TestClient:
    def _document(self, **status: Any) -> dict[str, Any]:
        document: dict[str, Any] = yaml.safe_load(manifests.DIFFLOGIC)
        document["metadata"] |= {"namespace": "here", "uid": "u", "creationTimestamp": "2026-01-01T12:00:00Z"}
        metrics = [{"name": name, "value": value} for name, value in LEARNED.items()]
        told = {"metrics": metrics, "checkpoint": {"uri": "s3://b/checkpoint.npz", "step": 20}, **status}
        return document | {"status": running(40, **told)}

    def test_a_line_of_a_log_has_the_figures(self) -> None:
        assert line(view(self._document())).endswith("ETA 3m20s soft 0.00012, hard 17, accuracy 0.988, wrong 3")

    def test_they_stand_below_the_bars_while_it_learns(self) -> None:
        store, stream = RunStore(), io.StringIO()
        store.take(Snapshot(resource=RESOURCES["TrainingRun"], items=[self._document()]))
        Console(file=stream, width=100).print(picture(store, width=100))
        assert "trun/life: soft 0.00012, hard 17, accuracy 0.988, wrong 3" in stream.getvalue()

    def test_a_page_has_the_checkpoint_and_small_numbers(self) -> None:
        stream = io.StringIO()
        Console(file=stream, width=100).print(run_details(view(self._document()), now=NOW))
        assert "s3://b/checkpoint.npz (step 20)" in stream.getvalue()
        assert "0.00012" in stream.getvalue()

    def test_ranks_that_are_awaited_are_a_trouble(self) -> None:
        waiting = condition("PodsReady", "False", "WaitingForRanks", "rank 2 of 3 has not come")
        assert view(self._document(conditions=[waiting])).trouble == "WaitingForRanks: rank 2 of 3 has not come"

    def test_a_status_of_an_older_operator_has_no_checkpoint(self) -> None:
        assert view(self._document(checkpoint=None)).checkpoint is None


class TestRender:
    @pytest.mark.parametrize("changes", [[], [SWEEP]], ids=["ranks", "seeds"])
    def test_shows_every_child_of_a_training(self, changes: list[str]) -> None:
        run = training(*changes, "output={uri: 's3://b/p'}")
        run.metadata.uid = "1234"
        settings = ChildSettings(worker_image="worker:1")
        shown = [yaml.safe_load(text) for text in documents(run, settings=settings, steps=list(Step))]
        kinds = [document["kind"] for document in shown]
        assert kinds.count("Job") == kinds.count("ConfigMap") == 3
        assert kinds.count("Service") == (0 if changes else 1)
        assert [action.completions for action in actions(run)] == [1, 3, 1]
