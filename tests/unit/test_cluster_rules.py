"""What a valid manifest must have besides, to run in pods; every problem is said at once, with a way out."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from shardwise_api.runs import TrainingRun
from shardwise_api.status import ConditionType, RunStatus
from shardwise_operator.children.pod import reserved_environment
from shardwise_operator.core.cluster_rules import cluster_problems
from shardwise_operator.core.conditions import set_condition
from tests.support import manifests
from tests.support.fake_cluster import ON_A_CLUSTER


def problems(*changes: str, text: str = manifests.KATO) -> list[str]:
    run = manifests.parse(manifests.changed(text, *changes))
    return cluster_problems(run, reserved=reserved_environment())


def test_a_run_whose_places_all_pods_reach_is_fine() -> None:
    assert problems(*ON_A_CLUSTER) == []
    assert problems(text=manifests.REST) == []


def test_everything_is_said_at_once() -> None:
    found = problems("worker.env=[{name: SHARDWISE_STEP, value: x}]")
    fields = [problem.partition(":")[0] for problem in found]
    assert fields == [
        "spec.output", "spec.engine.kato.store.uri", "spec.engine.kato.dataset.files.uris[0]",
        "spec.worker.env[0].name",
    ]  # fmt: skip


@pytest.mark.parametrize("uri", ["file:///data/x", "s3://b/p", "https://host.example/x", "/data/x"])
def test_what_is_absolute_or_a_uri_is_no_problem(uri: str) -> None:
    assert problems(*ON_A_CLUSTER, f"engine.kato.dataset.files.uris=['{uri}']") == []


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ("engine.kato.dataset.files.uris=[ok.txt]", "spec.engine.kato.dataset.files.uris[0]"),
        ("engine.kato.store={uri: 'sqlite:///patterns.db'}", "spec.engine.kato.store.uri"),
        ("engine.kato.tokenizer={file: tokenizer.json}", "spec.engine.kato.tokenizer.file"),
        ("output={uri: 'file://out'}", "spec.output.uri"),
        ("engine.kato.dataset={hub: {path: ./corpus}}", "spec.engine.kato.dataset.hub.path"),
    ],
)
def test_a_relative_path_is_named(change: str, field: str) -> None:
    (problem,) = problems(*ON_A_CLUSTER, change)
    assert problem.startswith(f"{field}: ")
    assert "is relative" in problem


def test_an_annotation_by_which_the_operator_knows_its_pods_is_not_for_others() -> None:
    mine = 'worker.annotations={"shardwise.dev/shards": "0-3", "example.com/mine": "yes"}'
    assert problems(*ON_A_CLUSTER, mine) == ["spec.worker.annotations: shardwise.dev/shards is the operator's own"]


def test_a_tree_of_scripts_is_on_a_volume() -> None:
    (problem,) = problems("output={uri: 'file:///data/out'}", "engine.scripts.source=scripts", text=manifests.SCRIPTS)
    assert problem.startswith("spec.engine.scripts.source: 'scripts' is relative")


@pytest.mark.parametrize("text", [manifests.INGEST], ids=["ingest"])
def test_an_ingest_run_has_the_same_rules(text: str) -> None:
    assert [problem.partition(":")[0] for problem in problems(text=text)] == [
        "spec.output", "spec.source.files.uris[0]", "spec.store.uri",
    ]  # fmt: skip


@pytest.mark.parametrize("name", sorted(reserved_environment()))
def test_what_the_operator_sets_cannot_be_set(name: str) -> None:
    (problem,) = problems(*ON_A_CLUSTER, f"worker.env=[{{name: A, value: x}}, {{name: {name}, value: x}}]")
    assert problem == f"spec.worker.env[1].name: {name} is set by the operator"


def test_reserved_is_all_that_a_worker_reads_of_the_operator() -> None:
    assert reserved_environment() >= {
        "SHARDWISE_RUN", "SHARDWISE_STEP", "SHARDWISE_OUTPUT", "SHARDWISE_PROGRESS", "SHARDWISE_STORE_URI",
        "JOB_COMPLETION_INDEX", "POD_NAME", "POD_UID",
    }  # fmt: skip


def test_a_variable_that_is_there_twice_is_named() -> None:
    (problem,) = problems(*ON_A_CLUSTER, "worker.env=[{name: A, value: x}, {name: A, value: y}]")
    assert problem == "spec.worker.env[1].name: duplicate variable A"


def test_a_secret_in_a_uri_is_refused_before_a_run_is_accepted_and_not_later() -> None:
    run = manifests.parse(manifests.changed(manifests.REST))
    assert isinstance(run, TrainingRun)
    assert run.spec.engine.kato is not None
    assert run.spec.engine.kato.server is not None
    run.spec.engine.kato.server.url = "http://u:secret@kato:8000"
    (problem,) = cluster_problems(run, reserved=reserved_environment())
    assert problem.startswith("spec.engine.kato.server.url: a password does not belong in a manifest")

    run.status = RunStatus()
    assert cluster_problems(run, reserved=reserved_environment()) == [problem]
    set_condition(run.status, ConditionType.ACCEPTED, value=True, reason="Valid", now=datetime.now(UTC))
    assert cluster_problems(run, reserved=reserved_environment()) == []
