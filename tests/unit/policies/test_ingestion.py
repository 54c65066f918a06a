"""What is said of an ingestion while it works: the figures of all shards together, which never go back."""

from __future__ import annotations

from shardwise_api.manifest import parse_manifest
from shardwise_api.runs import Run
from shardwise_api.status import RunStatus
from shardwise_api.wire import Metric, ProgressReport
from tests.support import manifests
from tests.support.plans import FINALIZE_DONE, PREPARE_DONE, RESULT, observe, plans, report, work_over, work_view


def ingestion() -> Run:
    """An ingestion in eight shards."""
    run = parse_manifest(manifests.changed(manifests.INGEST, "sharding.shards=8", "output.uri=/data/out"), name="test")
    run.metadata.uid = "1234"
    return run


def told(shard: int, *, at: float = 1, **figures: float) -> ProgressReport:
    """A report with figures."""
    metrics = [Metric(name=name, value=value) for name, value in figures.items()]
    return report(shard, at=at).model_copy(update={"metrics": metrics})


def figures(status: RunStatus) -> dict[str, float]:
    """The status's metrics."""
    return {metric.name: metric.value for metric in status.metrics}


def at_work(*reports: ProgressReport) -> RunStatus:
    """The status of an ingestion of which these reports came."""
    return plans(ingestion(), observe(prepare=PREPARE_DONE, work=work_view(), reports=reports)).status


def test_the_figures_of_all_shards_are_added_up() -> None:
    status = at_work(told(0, inserted=8, tmdSeconds=1.5), told(3, inserted=4, tmdSeconds=0.25, deduplicated=2))

    assert figures(status) == {"inserted": 12, "tmdSeconds": 1.75, "deduplicated": 2}


def test_a_shard_that_nobody_reports_of_any_more_still_counts() -> None:
    run = ingestion()
    before = observe(prepare=PREPARE_DONE, work=work_view(), reports=[told(0, inserted=8), told(1, inserted=4)])
    after = observe(at=9, prepare=PREPARE_DONE, work=work_view(), reports=[told(1, at=9, inserted=5)])

    assert figures(plans(run, before, after).status) == {"inserted": 12}


def test_without_any_report_the_figures_stay() -> None:
    run = ingestion()
    before = observe(prepare=PREPARE_DONE, work=work_view(), reports=[told(0, inserted=8)])

    assert figures(plans(run, before, observe(at=9, prepare=PREPARE_DONE, work=work_view())).status) == {"inserted": 8}


def test_a_figure_that_json_does_not_know_is_left_out() -> None:
    assert figures(at_work(told(0, inserted=1, tmdSeconds=float("inf")))) == {"inserted": 1}


def test_the_results_figures_take_their_place() -> None:
    over = observe(prepare=PREPARE_DONE, work=work_over(), finalize=FINALIZE_DONE, reports=[told(0, inserted=8)])

    assert plans(ingestion(), over).status.metrics == RESULT.metrics
