"""A step of several Jobs is made, told to go on and paused as one, and never runs more at once than it may."""

from __future__ import annotations

import json

import pytest

from shardwise_api.manifest import parse_manifest
from shardwise_api.wire import PrepareResult, Step
from shardwise_operator.core.actions import Action, EnsureJob, StopJob, SuspendJob
from shardwise_operator.core.plan import run_document
from shardwise_operator.observe.snapshots import JobSnapshot
from shardwise_operator.shell.apply import ActionExecutor, NameTaken
from shardwise_operator.shell.cache import Cache
from tests.support import manifests
from tests.support.bodies import over
from tests.support.fake_api import FakeApi
from tests.support.fake_cluster import SETTINGS, run_body, run_path
from tests.support.virtual_time import in_virtual_time

OVERRIDES = [{"ids": [id], "resources": {"limits": {"memory": "1Gi"}}} for id in ("a", "b")]
NAMES = ("words", "words-work-1", "words-work-2")
JOBS = "/apis/batch/v1/namespaces/team/jobs/"


class Bench:
    """A suite of nine scripts in three Jobs, five at once."""

    def __init__(self, *more: str) -> None:
        self.api = FakeApi()
        self.cache = Cache(on_change=lambda uid: None)
        self.executor = ActionExecutor(api=self.api, cache=self.cache, settings=SETTINGS)
        changes = ('output={uri: "file:///data/out"}', f"engine.scripts.podOverrides={json.dumps(OVERRIDES)}", *more)
        body = self.api.put(run_path(), run_body(*changes, text=manifests.SCRIPTS))
        self.cache.upsert_run(body)
        self.run = parse_manifest(manifests.changed(manifests.SCRIPTS, *changes), name="test")
        self.run.metadata.name, self.run.metadata.namespace = "words", "team"
        self.run.metadata.uid = body["metadata"]["uid"]
        prepared = PrepareResult(items_total=9, input_fingerprint="x", parts=["3-5", "6-8"])
        self.ensured = EnsureJob(
            step=Step.WORK, completions=9, parallelism=5, document=run_document(self.run, prepared=prepared)
        )

    def execute(self, action: Action, *, jobs: list[JobSnapshot] | None = None) -> None:
        known = self.cache.jobs(self.run.metadata.uid or "") if jobs is None else jobs
        in_virtual_time(self.executor.execute(self.run, action, jobs=known))

    def ensure(self, *, jobs: list[JobSnapshot] | None = None) -> None:
        self.execute(self.ensured, jobs=jobs)

    def known(self) -> list[JobSnapshot]:
        return self.cache.jobs(self.run.metadata.uid or "")

    def status(self, name: str, status: dict[str, object]) -> None:
        body = self.api.put(f"{JOBS}{name}", {**self.api.objects[f"{JOBS}{name}"], "status": status})
        self.cache.upsert_job(body)

    def of(self, field: str) -> dict[str, object]:
        found = {name: self.api.body("Job", name) for name in NAMES}
        return {name: None if body is None else body["spec"][field] for name, body in found.items()}


def test_all_are_made_and_share_the_places() -> None:
    bench = Bench()
    bench.ensure()
    kinds = [call.kind for call in bench.api.written()]
    assert kinds == ["ServiceAccount", "NetworkPolicy", "ConfigMap", "Job", "Job", "Job"]
    assert bench.of("parallelism") == {"words": 2, "words-work-1": 2, "words-work-2": 1}
    assert sorted((seen.part, seen.parts) for seen in bench.known()) == [(0, 3), (1, 3), (2, 3)]


def test_as_they_should_be_they_cost_no_call() -> None:
    bench = Bench()
    bench.ensure()
    before = len(bench.api.calls)
    bench.ensure()
    assert len(bench.api.calls) == before


def test_places_that_get_free_go_to_those_who_can_use_them() -> None:
    bench = Bench()
    bench.ensure()
    bench.status("words", {"completedIndexes": "0-2"})
    bench.ensure()
    assert bench.of("parallelism") == {"words": 2, "words-work-1": 3, "words-work-2": 2}


def test_one_that_is_gone_is_made_anew_and_the_others_stay() -> None:
    bench = Bench()
    bench.ensure()
    uids = {name: bench.api.body("Job", name)["metadata"]["uid"] for name in NAMES}  # type: ignore[index]
    bench.api.remove(f"{JOBS}words-work-1")
    bench.ensure(jobs=[seen for seen in bench.known() if seen.part != 1])
    after = {name: bench.api.body("Job", name)["metadata"]["uid"] for name in NAMES}  # type: ignore[index]
    assert {name for name in NAMES if after[name] != uids[name]} == {"words-work-1"}


def test_a_place_given_away_by_a_call_whose_answer_was_lost_is_not_given_twice() -> None:
    bench = Bench()
    bench.ensure()
    stale = bench.known()
    path = f"{JOBS}words-work-1"
    body = bench.api.objects[path]
    bench.api.put(path, {**body, "spec": {**body["spec"], "parallelism": 3}})
    bench.status("words", {"completedIndexes": "0,1"})
    shown = next(seen for seen in bench.known() if seen.part == 0)

    # As far as it knows a place is free, and it would go to the third one.
    bench.ensure(jobs=[shown, *(seen for seen in stale if seen.part)])

    assert bench.of("parallelism") == {"words": 2, "words-work-1": 3, "words-work-2": 1}


def test_a_pause_is_for_all_that_are_not_over() -> None:
    bench = Bench()
    bench.ensure()
    bench.status("words-work-1", over("Complete", completedIndexes="0-2"))
    bench.execute(SuspendJob(step=Step.WORK))
    assert bench.of("suspend") == {"words": True, "words-work-1": False, "words-work-2": True}
    bench.ensure()
    assert set(bench.of("suspend").values()) == {False}


def test_a_run_that_has_failed_stops_all() -> None:
    bench = Bench()
    bench.ensure()
    bench.execute(StopJob(step=Step.WORK))
    assert set(bench.of("suspend").values()) == {True}


def test_scripts_that_failed_for_good_free_their_places_too() -> None:
    bench = Bench()
    bench.ensure()
    bench.status("words", {"completedIndexes": "0", "failedIndexes": "1,2"})
    bench.ensure()
    assert bench.of("parallelism") == {"words": 2, "words-work-1": 3, "words-work-2": 2}


def test_a_job_that_has_ended_needs_no_place_and_is_not_touched() -> None:
    bench = Bench()
    bench.ensure()
    bench.execute(SuspendJob(step=Step.WORK))
    bench.status("words", over("Failed", "DeadlineExceeded", completedIndexes="0"))
    bench.ensure()
    assert bench.of("parallelism") == {"words": 2, "words-work-1": 3, "words-work-2": 2}
    assert bench.of("suspend") == {"words": True, "words-work-1": False, "words-work-2": False}


def test_under_a_queue_places_stay_and_nobody_is_let_go() -> None:
    bench = Bench('worker={labels: {"kueue.x-k8s.io/queue-name": "q"}}')
    bench.ensure()
    bench.status("words", {"completedIndexes": "0-2"})
    before = len(bench.api.written())
    bench.ensure()
    assert bench.of("parallelism") == {"words": 2, "words-work-1": 2, "words-work-2": 1}
    assert set(bench.of("suspend").values()) == {True}
    assert len(bench.api.written()) == before


def test_one_that_can_not_be_made_holds_up_none_that_can() -> None:
    bench = Bench()
    bench.ensure()
    bench.execute(SuspendJob(step=Step.WORK))
    for name in ("words-work-1", "words-work-2"):
        bench.api.remove(f"{JOBS}{name}")
    foreign = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "words-work-1", "namespace": "team"}}
    bench.api.put(f"{JOBS}words-work-1", {**foreign, "spec": {"parallelism": 1, "suspend": False}, "status": {}})

    with pytest.raises(NameTaken, match="words-work-1"):
        bench.ensure(jobs=[seen for seen in bench.known() if seen.part == 0])

    assert bench.of("suspend") == {"words": False, "words-work-1": False, "words-work-2": False}
    kept = bench.api.body("Job", "words-work-1")
    assert kept is not None
    assert "ownerReferences" not in kept["metadata"]


def test_one_that_somebody_spoiled_is_made_as_it_was() -> None:
    bench = Bench()
    bench.ensure()
    path = f"{JOBS}words-work-1"
    body = bench.api.objects[path]
    annotations = {**body["metadata"]["annotations"], "shardwise.dev/shards": "x"}
    spoiled = bench.api.put(path, {**body, "metadata": {**body["metadata"], "annotations": annotations}})
    bench.cache.upsert_job(spoiled)
    assert sorted(seen.part for seen in bench.known()) == [0, 2]

    bench.ensure()

    mended = bench.api.body("Job", "words-work-1")
    assert mended is not None
    assert mended["metadata"]["annotations"]["shardwise.dev/shards"] == "3-5"
    assert sorted(seen.part for seen in bench.known()) == [0, 1, 2]
