"""Shards that work in blocks, which is what a policy is without anything of its own; and who asks policies."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import shardwise_operator
from shardwise_api.manifest import parse_manifest
from shardwise_api.runs import Run
from shardwise_api.status import ItemStatus
from shardwise_api.wire import PrepareResult, Step
from shardwise_operator.core.observed import JobState
from shardwise_operator.core.policies import policy_of
from tests.support import manifests
from tests.support.plans import observe, report, work_view

OPERATOR = Path(shardwise_operator.__file__).parent
PREPARED = PrepareResult(items_total=100, input_fingerprint="sha256:1")


def run(*changes: str) -> Run:
    return parse_manifest(manifests.changed(manifests.KATO, "sharding={shards: 8}", *changes), name="test")


def test_a_run_has_the_shards_of_its_manifest_and_all_at_once_unless_that_says_otherwise() -> None:
    assert policy_of(run()).shards(PREPARED) == 8
    assert policy_of(run()).parallelism(8) == 8
    assert policy_of(run("sharding.parallelism=3")).parallelism(8) == 3


@pytest.mark.parametrize(("failed", "tolerated"), [(2, True), (3, False)])
def test_as_many_shards_may_fail_as_the_manifest_says(failed: int, tolerated: bool) -> None:
    assert policy_of(run("retry.maxFailedShards=2")).tolerates(failed) is tolerated


def test_a_job_tolerates_no_more_failed_indexes_than_it_has() -> None:
    policy = policy_of(run("retry.maxFailedShards=20", "retry.perShard=4"))
    assert policy.retry(step=Step.WORK, completions=8).max_failed == 8
    assert policy.retry(step=Step.WORK, completions=8).per_index == 4
    assert policy.retry(step=Step.FINALIZE, completions=1).max_failed == 0


def test_committed_items_never_go_back() -> None:
    policy, status = (
        policy_of(run()),
        observe(work=work_view(), reports=[report(0, at=1, done=5), report(1, at=1, done=7)]),
    )
    known = policy.counted_items(ItemStatus(done=20), status)
    assert (known.done, policy.counted_items(ItemStatus(done=3), status).done) == (20, 12)


def test_groups_of_pods_are_for_suites() -> None:
    problem = policy_of(run()).problem_of(PREPARED.model_copy(update={"parts": ["0-3"]}))
    assert problem is not None
    assert problem.startswith("parts: ")


def test_work_that_the_ledger_holds_already_is_skipped() -> None:
    assert policy_of(run()).skips_work(PREPARED.model_copy(update={"already_complete": True}))
    assert not policy_of(run()).skips_work(PREPARED)


def test_the_rate_leaves_out_shards_that_are_over() -> None:
    reports = {0: report(0, at=10, done=100), 1: report(1, at=10, done=50)}
    working = work_view(JobState.RUNNING, completed=frozenset({0}))
    assert policy_of(run()).rate(working, reports) == 5


@pytest.mark.parametrize("room", ["core", "children", "observe", "shell"])
def test_nothing_but_policies_asks_what_kind_a_run_is(room: str) -> None:
    kinds = re.compile(r"is_gang|suite_of|sweep_of|engine_name|IngestRun|engine\.\w+", re.ASCII)
    asking = {
        str(file.relative_to(OPERATOR)): found
        for file in sorted((OPERATOR / room).rglob("*.py"))
        if "policies" not in file.parts
        for found in [kinds.findall(re.sub(r'"""[^"]*"""', "", file.read_text(encoding="utf-8")))]
        if found
    }
    assert asking == {}
