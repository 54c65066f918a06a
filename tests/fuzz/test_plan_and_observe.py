"""Whatever a worker leaves and whoever writes Jobs and pods: a run is planned, and JSON can hold its status."""

from __future__ import annotations

import json
import tracemalloc
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from shardwise_api.manifest import parse_manifest
from shardwise_api.runs import Run
from shardwise_api.status import RunStatus
from shardwise_api.wire import ProgressReport
from shardwise_operator.children import ChildSettings, children_of
from shardwise_operator.core.actions import EnsureJob
from shardwise_operator.core.plan import plan
from shardwise_operator.observe.run import awaited_message, observe, uncounted
from shardwise_operator.observe.snapshots import job_snapshot, pod_snapshot
from shardwise_operator.shell.cache import Cache
from tests.support import manifests
from tests.support.bodies import job, over, pod, running, text
from tests.support.examples import examples

Body = dict[str, Any]
SETTINGS = ChildSettings(worker_image="registry.example/worker:1")
MAX_MEMORY = 64 * 2**20
NUMBERS = st.one_of(
    st.integers(-2, 12), st.sampled_from([2**31 - 1, 2**31, 2**53, 2**53 + 1, 2**63, 10**30, -(2**63) - 1]),
    st.floats(), st.sampled_from([1e308, -0.0, 1e-300]),
)  # fmt: skip
TEXTS = st.one_of(
    st.text(max_size=20),
    st.sampled_from(
        ["", "0", "0-7", "0-99999999999", "9999", "1/2", "2147483647/2147483647", "SUCCESS 1 0 0.2 a", "SUCCESS 1",
         "True", "Complete", "Failed", "FailedIndexes", "\x00", "\ud800", text(3), "2026-01-01", "0001-01-01T00:00:00Z",
         "9999-12-31T23:59:59-23:00"]
    ),
)  # fmt: skip
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, TEXTS),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(TEXTS, inner, max_size=4)),
    max_leaves=8,
)
DEEP = st.integers(1, 3000).map(lambda depth: '{"digest":"x","summary":' + '{"a":' * depth + "1" + "}" * depth + "}")


def fields(**known: st.SearchStrategy[Any]) -> st.SearchStrategy[Body]:
    """Return objects that have some of the fields, each as it should be or anything else."""
    return st.fixed_dictionaries({}, optional={name: st.one_of(good, VALUES) for name, good in known.items()})


COUNTS = fields(done=NUMBERS, failed=NUMBERS, skipped=NUMBERS)
SUITE = fields(
    exitStatus=NUMBERS, counts=fields(total=NUMBERS, success=NUMBERS), jobs=st.lists(TEXTS, max_size=3), message=TEXTS
)
RESULTS = st.one_of(
    VALUES,
    fields(
        digest=TEXTS, uri=TEXTS, items=COUNTS, summary=VALUES, suite=SUITE, warnings=st.lists(TEXTS, max_size=3),
        metrics=st.lists(fields(name=TEXTS, value=NUMBERS), max_size=3),
    ),
    fields(
        itemsTotal=NUMBERS, inputFingerprint=TEXTS, parts=st.lists(TEXTS, max_size=3), details=VALUES,
        alreadyComplete=st.booleans(),
    ),
    fields(shard=NUMBERS, items=COUNTS, seconds=NUMBERS),
    fields(reason=TEXTS, message=TEXTS),
)  # fmt: skip
MESSAGES = st.one_of(RESULTS.map(lambda value: json.dumps(value)), TEXTS, DEEP)
STATUS = fields(
    completedIndexes=TEXTS, failedIndexes=TEXTS, startTime=TEXTS, completionTime=TEXTS,
    conditions=st.lists(fields(type=TEXTS, status=TEXTS, reason=TEXTS, lastTransitionTime=TEXTS), max_size=2),
)  # fmt: skip


def _runs() -> list[Run]:
    overrides = "engine.scripts.podOverrides=[{ids: [ok], resources: {limits: {memory: 1Gi}}}]"
    made = [
        parse_manifest(manifests.changed(manifest, *changes, "activeDeadlineSeconds=3600"), name="test")
        for manifest, changes in (
            (manifests.KATO, ()), (manifests.SCRIPTS, ()), (manifests.SCRIPTS, (overrides,)), (manifests.DIFFLOGIC, ()),
            (manifests.INGEST, ()),
        )
    ]  # fmt: skip
    for run in made:
        run.metadata.uid, run.metadata.namespace = "1234", "team"
    return made


RUNS = _runs()


@st.composite
def jobs(draw: st.DrawFn) -> Body:
    """Draw a Job of the run, of which parts may be anything."""
    step = draw(st.sampled_from(["prepare", "work", "finalize"]))
    annotations = draw(
        fields(
            **{
                "shardwise.dev/termination-message": MESSAGES,
                "shardwise.dev/part": TEXTS,
                "shardwise.dev/shards": TEXTS,
            }
        )
    )
    ended = over(draw(st.sampled_from(["Complete", "Failed"])), draw(TEXTS), completedIndexes="0-7")
    body = job(
        step,
        metadata={"annotations": draw(st.one_of(st.just(annotations), VALUES))},
        spec=draw(fields(completions=NUMBERS, parallelism=NUMBERS, suspend=st.booleans())),
        status=draw(st.one_of(st.just(ended), STATUS, st.just({}))),
    )
    return draw(spoiled(body))


@st.composite
def pods(draw: st.DrawFn) -> Body:
    """Draw a pod of the run, of which parts may be anything."""
    step = draw(st.sampled_from(["prepare", "work", "finalize"]))
    code = draw(st.one_of(st.sampled_from([0, 1, 2, 75, 137]), NUMBERS))
    terminated = {"exitCode": code, "startedAt": text(5), "finishedAt": text(40), "message": draw(MESSAGES)}
    ended = {"phase": "Succeeded", "containerStatuses": [{"name": "worker", "state": {"terminated": terminated}}]}
    status = draw(st.one_of(st.just(ended), st.just(running())))
    return draw(spoiled(pod(draw(st.sampled_from([0, 1, 7, 8, 2**31])), step=step, **status)))


@st.composite
def spoiled(draw: st.DrawFn, body: Body) -> Body:
    """Draw the object as it is, or with one of its parts replaced by anything."""
    if draw(st.booleans()):
        return body
    part = draw(st.sampled_from(["metadata", "spec", "status"]))
    if part == "metadata":
        name = draw(st.sampled_from(["labels", "annotations", "ownerReferences", "creationTimestamp", "namespace"]))
        return {**body, "metadata": {**body["metadata"], name: draw(VALUES)}}
    return {**body, part: draw(VALUES)}


REPORTS = st.fixed_dictionaries(
    {
        "run": st.just("1234"),
        "shard": st.integers(0, 7),
        "attemptStarted": st.datetimes(timezones=st.just(UTC)),
        "time": st.datetimes(timezones=st.just(UTC)),
        "items": st.fixed_dictionaries({"done": st.integers(0, 2**53)}),
        "total": st.one_of(st.none(), st.integers(0, 2**53)),
        "resumed": st.integers(0, 2**53),
        "resumedDone": st.integers(0, 2**53),
        "awaited": st.sampled_from(["", "0", "0-99999999999", "-,-"]),
        "metrics": st.lists(
            st.fixed_dictionaries({"name": st.sampled_from(["stepsPerSecond", "wrong", "x"]), "value": st.floats()}),
            max_size=3,
        ),
    }
).map(ProgressReport.model_validate)


@examples(200)
@given(
    run=st.sampled_from(RUNS),
    job_bodies=st.lists(jobs(), max_size=4),
    pod_bodies=st.lists(pods(), max_size=4),
    reports=st.lists(REPORTS, max_size=3),
)
def test_a_run_is_planned_whatever_is_seen(
    run: Run, job_bodies: list[Body], pod_bodies: list[Body], reports: list[ProgressReport]
) -> None:
    cache = Cache(on_change=lambda uid: None)
    cache.upsert_run({"kind": run.kind, "metadata": {"uid": "1234", "namespace": "team", "resourceVersion": "1"}})
    for body in job_bodies:
        cache.on_watch_event("Job", body)
    for body in pod_bodies:
        cache.on_watch_event("Pod", body)
    run = run.model_copy(deep=True)
    for seconds in (1, 10, 7200):
        now = datetime(2026, 1, 1, 12, tzinfo=UTC) + timedelta(seconds=seconds)
        seen = cache.jobs("1234")
        for job_ in seen:
            awaited_message(job_, cache.pods("1234"))
            uncounted(job_, cache.pods("1234"))
        observed = observe(
            now=now, run_uid="1234", jobs=seen, pods=cache.pods("1234"), reports={r.shard: r for r in reports}
        )
        made = plan(run, observed)
        for action in made.actions:
            if isinstance(action, EnsureJob):
                json.dumps(children_of(run=run, action=action, settings=SETTINGS), allow_nan=False)
        _storable(made.status)
        run.status = made.status
    assert run.status is not None
    assert run.status.finished, "its deadline is over"


@examples(100)
@given(
    kind=st.sampled_from(["Job", "Pod"]), body=st.one_of(VALUES, fields(metadata=VALUES, spec=VALUES, status=STATUS))
)
def test_what_is_no_job_and_no_pod_is_none_of_ours(kind: str, body: Any) -> None:
    assert (job_snapshot(body) if kind == "Job" else pod_snapshot(body)) is None


@examples(30)
@given(result=RESULTS)
def test_what_a_worker_leaves_takes_no_memory(result: Any) -> None:
    run = RUNS[2].model_copy(deep=True)
    kept = {"annotations": {"shardwise.dev/termination-message": json.dumps(result)}}
    seen = job_snapshot(job("prepare", metadata=kept, status=over("Complete")))
    tracemalloc.start()
    try:
        now = datetime(2026, 1, 1, 12, tzinfo=UTC)
        made = plan(run, observe(now=now, run_uid="1234", jobs=[seen] if seen else [], pods=[], reports={}))
        for action in made.actions:
            if isinstance(action, EnsureJob):
                children_of(run=run, action=action, settings=SETTINGS)
        assert tracemalloc.get_traced_memory()[1] < MAX_MEMORY
    finally:
        tracemalloc.stop()


def _storable(status: RunStatus) -> None:
    """Fail if an API server would refuse the status: what is no JSON, and numbers that are no 64 bits."""
    document = status.model_dump(mode="json", by_alias=True, exclude_none=True)
    json.dumps(document, allow_nan=False).encode()
    _within_64_bits(document)
    try:
        RunStatus.model_validate(document)
    except ValidationError as error:
        raise AssertionError("a status that can't be read again") from error


def _within_64_bits(value: Any) -> None:
    if isinstance(value, dict):
        for item in value.values():
            _within_64_bits(item)
    elif isinstance(value, list):
        for item in value:
            _within_64_bits(item)
    elif isinstance(value, int):
        assert -(2**63) <= value < 2**63
