"""A watch that shows less than the API server lists is noticed, healed, and at last a reason to start anew."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardwise_operator.shell.api import Api, ApiError
from shardwise_operator.shell.watch_audit import (
    AUDIT_EVERY,
    SILENT_SECONDS,
    STALE_SECONDS,
    Findings,
    Sample,
    WatchAuditor,
    Watched,
    audit,
)  # fmt: skip

_JOBS = "/apis/batch/v1/jobs"
Body = dict[str, Any]


class TestAudit:
    def test_the_first_audit_proves_nothing(self) -> None:
        assert found(before=None, seen={}, listed={"a": "1"}) == ([], [])

    def test_what_is_listed_twice_and_was_never_shown_is_stale(self) -> None:
        before = sample(seen={}, listed={"a": "1"})
        assert found(before=before, seen={}, listed={"a": "1"}) == (["a"], [])

    def test_what_is_listed_twice_and_shown_as_it_was_is_stale(self) -> None:
        before = sample(seen={"a": "1"}, listed={"a": "2"})
        assert found(before=before, seen={"a": "1"}, listed={"a": "2"}) == (["a"], [])

    def test_what_changes_all_the_time_is_stale_when_the_watch_stands_still(self) -> None:
        before = sample(seen={"a": "1"}, listed={"a": "2"})
        assert found(before=before, seen={"a": "1"}, listed={"a": "3"}) == (["a"], [])

    def test_a_watch_a_moment_behind_is_fine(self) -> None:
        before = sample(seen={"a": "1"}, listed={"a": "1"})
        assert found(before=before, seen={"a": "1"}, listed={"a": "2"}) == ([], [])
        before = sample(seen={"a": "1"}, listed={"a": "2"})
        assert found(before=before, seen={"a": "2"}, listed={"a": "3", "b": "4"}) == ([], [])

    def test_what_was_shown_and_is_not_listed_any_more_is_gone(self) -> None:
        before = sample(seen={"a": "1", "b": "2"}, listed={"b": "2"})
        assert found(before=before, seen={"a": "1", "b": "2"}, listed={"b": "2"}) == ([], ["a"])

    def test_what_was_shown_only_just_is_not_gone(self) -> None:
        before = sample(seen={}, listed={})
        assert found(before=before, seen={"a": "1"}, listed={}) == ([], [])

    @given(
        writes=st.lists(st.tuples(st.floats(0, 300), st.sampled_from("abc"), st.booleans()), max_size=30),
        lag=st.floats(0, AUDIT_EVERY - 1),
        slowness=st.floats(0, 1),
    )
    def test_a_watch_that_lives_is_never_blamed(
        self, writes: list[tuple[float, str, bool]], lag: float, slowness: float
    ) -> None:
        history = sorted(writes)
        before = None
        for at in (0.0, 60.0, 120.0, 180.0, 240.0, 300.0):
            now = sample(seen=_state(history, at - lag), listed=_state(history, at + slowness))
            assert audit(before=before, now=now) == Findings(stale=frozenset(), gone=frozenset())
            before = now

    @given(
        writes=st.lists(st.tuples(st.floats(0, 299), st.sampled_from("abc"), st.booleans()), max_size=30),
        died=st.floats(0, 300),
    )
    def test_a_watch_that_died_is_found_out_by_whatever_it_missed(
        self, writes: list[tuple[float, str, bool]], died: float
    ) -> None:
        history = sorted(writes)
        known, truth = _state(history, died), _state(history, 300)
        before = sample(seen=known, listed=truth)
        findings = audit(before=before, now=sample(seen=known, listed=truth))
        assert findings.stale == {uid for uid, version in truth.items() if known.get(uid) != version}
        assert findings.gone == known.keys() - truth.keys()


class TestWatchAuditor:
    def test_a_watch_that_follows_is_no_problem(self) -> None:
        cluster = Cluster()
        for number in range(10):
            cluster.write(f"job-{number % 3}", watch=True)
            cluster.pass_time(AUDIT_EVERY)
        assert cluster.problem() is None
        assert (cluster.refreshed, cluster.forgotten) == ([], [])

    def test_what_a_dead_watch_misses_is_healed_and_becomes_a_problem(self) -> None:
        cluster = Cluster()
        cluster.write("job-0", watch=False)
        cluster.pass_time(AUDIT_EVERY, times=2)
        assert cluster.refreshed == [("Job", "/apis/batch/v1/namespaces/team/jobs/job-0")]
        assert cluster.auditor.stale_seconds("Job") == 2 * AUDIT_EVERY - AUDIT_EVERY
        assert cluster.problem() is None
        cluster.pass_time(AUDIT_EVERY, times=2)
        assert cluster.problem() == "watches miss what happens: Job (180 s)"

    def test_a_watch_that_caught_up_is_no_problem_any_more(self) -> None:
        cluster = Cluster()
        cluster.write("job-0", watch=False)
        cluster.pass_time(AUDIT_EVERY, times=5)
        assert cluster.problem() is not None
        cluster.write("job-0", watch=True)
        cluster.pass_time(AUDIT_EVERY)
        assert cluster.problem() is None
        assert cluster.auditor.stale_seconds("Job") == 0

    def test_a_missed_end_is_made_up_for(self) -> None:
        cluster = Cluster()
        cluster.write("job-0", watch=True)
        cluster.pass_time(AUDIT_EVERY)
        cluster.objects.clear()
        cluster.pass_time(AUDIT_EVERY, times=2)
        assert cluster.forgotten == [("Job", "uid of job-0")]
        cluster.pass_time(AUDIT_EVERY, times=3)
        assert cluster.forgotten == [("Job", "uid of job-0")]
        assert cluster.problem() is None

    def test_an_api_server_that_is_away_becomes_a_problem_until_it_is_back(self) -> None:
        cluster = Cluster()
        cluster.pass_time(AUDIT_EVERY)
        cluster.error = ApiError(status=0, reason="Unreachable", message="no route")
        cluster.pass_time(10, times=14)
        assert cluster.problem() is None
        cluster.pass_time(10, times=2)
        assert cluster.problem() == "no word from the API server for 130 s"
        cluster.error = None
        cluster.pass_time(10)
        assert cluster.problem() is None

    def test_a_missing_right_is_said_once_and_is_no_dead_connection(self, caplog: pytest.LogCaptureFixture) -> None:
        cluster = Cluster()
        cluster.error = ApiError(status=403, reason="Forbidden", message="may not list jobs")
        cluster.pass_time(10, times=60)
        assert cluster.problem() is None
        assert [record.getMessage() for record in caplog.records] == [
            "Job can't be listed: Forbidden: may not list jobs"
        ]

    def test_an_audit_right_after_another_proves_nothing(self) -> None:
        cluster = Cluster()
        cluster.write("job-0", watch=False)
        cluster.pass_time(AUDIT_EVERY)
        cluster.pass_time(1, times=20)
        assert cluster.refreshed == []

    def test_an_auditor_that_stopped_is_a_problem_too(self) -> None:
        cluster = Cluster()
        cluster.clock += SILENT_SECONDS + 1
        assert cluster.problem() == f"no audit of the watches for {SILENT_SECONDS + 1:.0f} s"

    def test_long_lists_are_read_page_by_page(self) -> None:
        cluster = Cluster(page=2)
        for number in range(5):
            cluster.write(f"job-{number}", watch=True)
        cluster.pass_time(AUDIT_EVERY, times=3)
        assert cluster.forgotten == []
        assert cluster.asked[0] == {"limit": "500", "labelSelector": "shardwise.dev/run-uid"}
        assert cluster.asked[1]["continue"] == "2"

    def test_several_namespaces_are_one_kind(self) -> None:
        cluster = Cluster(paths=("/apis/batch/v1/namespaces/a/jobs", "/apis/batch/v1/namespaces/b/jobs"))
        for name in ("a", "b"):
            cluster.write("job", watch=True, namespace=name)
            cluster.write("missed", watch=False, namespace=name)
        cluster.pass_time(AUDIT_EVERY, times=2)
        assert cluster.refreshed == [
            ("Job", "/apis/batch/v1/namespaces/a/jobs/missed"), ("Job", "/apis/batch/v1/namespaces/b/jobs/missed"),
        ]  # fmt: skip
        assert cluster.forgotten == []

    def test_an_object_that_can_t_be_healed_is_tried_again(self) -> None:
        cluster = Cluster()
        cluster.refresh_error = ApiError(status=404, reason="NotFound", message="gone")
        cluster.write("job-0", watch=False)
        cluster.pass_time(AUDIT_EVERY, times=3)
        assert len(cluster.refreshed) == 2

    def test_staleness_counts_from_when_the_change_was_first_listed(self) -> None:
        assert STALE_SECONDS >= 2 * AUDIT_EVERY


class Cluster(Api):
    """Jobs as an API server lists them, a watch that shows what it is told to, and a clock."""

    def __init__(self, *, paths: tuple[str, ...] = (_JOBS,), page: int = 500) -> None:
        self.clock = 0.0
        self.objects: dict[str, Body] = {}
        self.error: ApiError | None = None
        self.refresh_error: ApiError | None = None
        self.refreshed: list[tuple[str, str]] = []
        self.forgotten: list[tuple[str, str]] = []
        self.asked: list[Mapping[str, str]] = []
        self._page = page
        self._version = 0
        self._shown: dict[str, str] = {}
        self.auditor = WatchAuditor(
            api=self,
            watched=(Watched(kind="Job", paths=paths, params={"labelSelector": "shardwise.dev/run-uid"}),),
            seen=lambda kind: self._shown if kind == "Job" else {},
            refresh=self._refresh,
            evict=self._evict,
            clock=lambda: self.clock,
        )

    def write(self, name: str, *, watch: bool, namespace: str = "team") -> None:
        self._version += 1
        uid = f"uid of {name}" if namespace == "team" else f"uid of {namespace}/{name}"
        metadata = {"uid": uid, "name": name, "namespace": namespace, "resourceVersion": str(self._version)}
        self.objects[uid] = metadata
        if watch:
            self._shown[uid] = str(self._version)

    def pass_time(self, seconds: float, *, times: int = 1) -> None:
        """Let time pass, with an audit after each step."""
        for _ in range(times):
            self.clock += seconds
            asyncio.run(self.auditor.audit_all())

    def problem(self) -> str | None:
        return self.auditor.problem()

    async def get(self, path: str, *, params: Mapping[str, str] | None = None, accept: str | None = None) -> Body:
        assert accept == "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
        if self.error is not None:
            raise self.error
        self.asked.append(params or {})
        found = [
            one
            for one in self.objects.values()
            if path in (_JOBS, f"/apis/batch/v1/namespaces/{one['namespace']}/jobs")
        ]
        start = int((params or {}).get("continue", "0"))
        end = start + self._page
        more = {"continue": str(end)} if end < len(found) else {}
        return {"metadata": more, "items": [{"metadata": one} for one in found[start:end]]}

    async def _refresh(self, kind: str, path: str) -> None:
        self.refreshed.append((kind, path))
        if self.refresh_error is not None:
            raise self.refresh_error

    def _evict(self, kind: str, uid: str) -> None:
        self.forgotten.append((kind, uid))
        del self._shown[uid]


def sample(*, seen: dict[str, str], listed: dict[str, str]) -> Sample:
    return Sample(at=0.0, seen=seen, listed=listed)


def found(*, before: Sample | None, seen: dict[str, str], listed: dict[str, str]) -> tuple[list[str], list[str]]:
    findings = audit(before=before, now=sample(seen=seen, listed=listed))
    return sorted(findings.stale), sorted(findings.gone)


def _state(history: list[tuple[float, str, bool]], at: float) -> dict[str, str]:
    """Return what there is at a time: each write makes an object, changes it, or ends it for good."""
    state: dict[str, str] = {}
    generation: dict[str, int] = {}
    for version, (when, name, ends) in enumerate(history):
        if when > at:
            break
        # A name that ended comes back as another object.
        uid = f"{name}-{generation.get(name, 0)}"
        if ends:
            state.pop(uid, None)
            generation[name] = generation.get(name, 0) + 1
        else:
            state[uid] = str(version)
    return state
