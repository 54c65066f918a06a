"""The operator's memory: never older than it was, and never larger than what is there."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardwise_api.wire import ItemCounts, ProgressReport
from shardwise_operator.shell import cache as cache_module
from shardwise_operator.shell.cache import Cache
from tests.support.bodies import ended, job, pod, running
from tests.support.virtual_time import T0

Body = dict[str, Any]


def run(uid: str = "1234", *, version: int = 1) -> Body:
    metadata = {"uid": uid, "name": "words", "namespace": "team", "resourceVersion": str(version)}
    return {"kind": "TrainingRun", "metadata": metadata}


def report(shard: int = 0, *, done: int = 1, at: float = 0, run: str = "1234") -> ProgressReport:
    time = T0 + timedelta(seconds=at)
    return ProgressReport(run=run, shard=shard, attempt_started=T0, time=time, items=ItemCounts(done=done))


class Ear:
    """A cache, and what it called out."""

    def __init__(self) -> None:
        self.changed: list[str] = []
        self.cache = Cache(on_change=self.changed.append)


def knowing() -> Cache:
    """Return a cache that knows of a run."""
    cache = Ear().cache
    cache.on_watch_event("TrainingRun", run())
    return cache


class TestOrder:
    def test_an_older_event_never_replaces_a_newer_one(self) -> None:
        cache = knowing()
        for body in (job(version=12, spec={"parallelism": 5}), job(version=9, spec={"parallelism": 1})):
            cache.on_watch_event("Job", body)
        for body in (pod(version=12, **ended(0)), pod(version=9, **running())):
            cache.on_watch_event("Pod", body)
        for version in (12, 9):
            cache.on_watch_event("TrainingRun", run(version=version))
        assert [seen.parallelism for seen in cache.jobs("1234")] == [5]
        assert [seen.exit_code for seen in cache.pods("1234")] == [0]
        assert (cache.run("1234") or {})["metadata"]["resourceVersion"] == "12"

    def test_versions_are_numbers_and_no_words(self) -> None:
        cache = knowing()
        cache.on_watch_event("Job", job(version=9))
        cache.on_watch_event("Job", job(version=10, spec={"parallelism": 7}))
        assert [seen.parallelism for seen in cache.jobs("1234")] == [7]

    def test_an_answer_on_its_way_does_not_bring_back_what_was_deleted(self) -> None:
        cache = Ear().cache
        for kind, body in (("TrainingRun", run()), ("Job", job()), ("Pod", pod())):
            cache.on_watch_event(kind, body)
            cache.on_watch_event(kind, body, deleted=True)
            cache.upsert(kind, body)
            cache.on_watch_event(kind, body)
        assert (cache.runs(), cache.jobs("1234"), cache.pods("1234")) == ([], [], [])
        assert [dict(cache.watched(kind)) for kind in ("TrainingRun", "Job", "Pod")] == [{}, {}, {}]

    def test_a_child_made_anew_is_another(self) -> None:
        cache = knowing()
        cache.on_watch_event("Job", job(uid="old"))
        cache.on_watch_event("Job", job(uid="old"), deleted=True)
        cache.on_watch_event("Job", job(uid="new"))
        assert [seen.uid for seen in cache.jobs("1234")] == ["new"]

    def test_an_older_report_says_nothing_new(self) -> None:
        ear = Ear()
        ear.cache.on_watch_event("TrainingRun", run())
        ear.cache.accept(report(done=5, at=10))
        ear.changed.clear()
        ear.cache.accept(report(done=3, at=4))
        assert ear.cache.reports("1234")[0].items.done == 5
        assert ear.changed == []

    @given(st.permutations(range(6)))
    def test_any_order_of_events_comes_to_the_same(self, order: list[int]) -> None:
        cache = knowing()
        events = [
            (job(uid="a", version=1), False), (job(uid="a", version=2, spec={"parallelism": 3}), False),
            (job(uid="a", version=3), True), (job(uid="b", version=4), False),
            (job(uid="b", version=5, spec={"parallelism": 4}), False), (job(uid="b", version=5), False),
        ]  # fmt: skip
        events[5] = events[4]
        for index in order:
            body, deleted = events[index]
            cache.on_watch_event("Job", body, deleted=deleted)
        assert [(seen.uid, seen.parallelism) for seen in cache.jobs("1234")] == [("b", 4)]


class TestCalls:
    def test_every_change_is_called_out_with_its_run(self) -> None:
        ear = Ear()
        ear.cache.on_watch_event("TrainingRun", run())
        ear.cache.on_watch_event("Job", job())
        ear.cache.on_watch_event("Pod", pod())
        ear.cache.accept(report())
        ear.cache.on_watch_event("Pod", pod(), deleted=True)
        ear.cache.evict("Job", "job-work")
        ear.cache.evict("TrainingRun", "1234")
        assert ear.changed == ["1234"] * 7

    def test_forgetting_the_unknown_is_nothing(self) -> None:
        ear = Ear()
        for kind in ("TrainingRun", "Job", "Pod"):
            ear.cache.evict(kind, "nobody")
        assert ear.changed == []

    def test_a_pod_is_found_with_its_run_until_it_goes(self) -> None:
        cache = knowing()
        cache.on_watch_event("Job", job())
        cache.on_watch_event("Pod", pod(3))
        found = cache.pod("pod-work-3")
        assert found is not None
        assert (found[0], found[1].shard) == ("1234", 3)
        cache.on_watch_event("Pod", pod(3), deleted=True)
        assert cache.pod("pod-work-3") is None

    @pytest.mark.parametrize("seen_before", [True, False])
    def test_what_a_pod_did_counts_after_it_has_gone(self, seen_before: bool) -> None:
        cache = knowing()
        cache.on_watch_event("Job", job())
        if seen_before:
            cache.on_watch_event("Pod", pod(version=11, **running()))
        # Its end and its deletion are one event to a watch that lags.
        cache.on_watch_event("Pod", pod(version=13, **ended(0, message='{"shard":0,"items":{"done":7}}')), deleted=True)
        assert not cache.pods("1234")
        assert {shard: one.items.done for shard, one in cache.reports("1234").items()} == {0: 7}

    def test_what_a_pod_of_no_job_of_the_run_said_counts_for_nothing(self) -> None:
        cache = knowing()
        cache.on_watch_event("Pod", pod(version=13, **ended(0, message='{"shard":0,"items":{"done":7}}')), deleted=True)
        assert not cache.reports("1234")

    def test_what_is_no_child_is_left_out(self) -> None:
        ear = Ear()
        stray = job()
        stray["metadata"]["labels"] = {}
        ear.cache.on_watch_event("Job", stray)
        assert ear.changed == []


class TestAuditorsView:
    def test_it_sees_what_the_watch_showed_and_not_what_answers_did(self) -> None:
        cache = Ear().cache
        cache.on_watch_event("Job", job(version=3))
        cache.upsert("Job", job(version=8))
        assert cache.watched("Job") == {"job-work": "3"}

    def test_it_knows_of_what_only_an_answer_has_shown(self) -> None:
        cache = Ear().cache
        cache.upsert("Job", job(version=8))
        assert cache.watched("Job") == {"job-work": ""}

    def test_what_it_has_forgotten_is_gone(self) -> None:
        cache = Ear().cache
        for kind, body in (("TrainingRun", run()), ("Job", job()), ("Pod", pod())):
            cache.on_watch_event(kind, body)
            cache.evict(kind, body["metadata"]["uid"])
            assert cache.watched(kind) == {}
        assert (cache.runs(), cache.jobs("1234"), cache.pods("1234"), cache.pod("pod-work-0")) == ([], [], [], None)


class TestMemory:
    @given(st.lists(st.permutations(["run", "job", "pod"]), min_size=1, max_size=20), st.booleans())
    def test_runs_that_went_leave_nothing_whatever_went_first(self, orders: list[list[str]], watched: bool) -> None:
        cache = Ear().cache
        for number, order in enumerate(orders):
            uid = f"run-{number}"
            bodies = {
                "run": ("TrainingRun", run(uid)), "job": ("Job", job(uid=f"j{number}", run=uid)),
                "pod": ("Pod", pod(uid=f"p{number}", run=uid)),
            }  # fmt: skip
            for kind, body in bodies.values():
                cache.on_watch_event(kind, body)
            cache.accept(report(run=uid))
            for name in order:
                kind, body = bodies[name]
                if watched:
                    cache.on_watch_event(kind, body, deleted=True)
                else:
                    cache.evict(kind, body["metadata"]["uid"])
                # A loop may look until its end.
                assert not (cache.jobs(uid) and "job" in order[: order.index(name) + 1])
                cache.pods(uid), cache.reports(uid)
            cache.accept(report(run=uid))
        assert cache._children == {}
        assert cache._runs == {}
        assert cache._run_of_pod == {}
        assert not any(cache._watched.values())

    def test_looking_for_a_run_that_is_not_there_leaves_nothing(self) -> None:
        cache = Ear().cache
        for number in range(100):
            assert (cache.jobs(f"{number}"), cache.pods(f"{number}"), dict(cache.reports(f"{number}"))) == ([], [], {})
        assert cache._children == {}

    def test_ends_are_remembered_for_a_while_only(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(cache_module, "REMEMBERED_ENDS", 100)
        cache = Ear().cache
        for number in range(150):
            cache.on_watch_event("Pod", pod(uid=f"pod-{number}"))
            cache.on_watch_event("Pod", pod(uid=f"pod-{number}"), deleted=True)
        assert len(cache._ended) == 100
        assert "pod-0" not in cache._ended

    def test_reports_of_a_deleted_run_go_with_it(self) -> None:
        cache = Ear().cache
        cache.on_watch_event("TrainingRun", run())
        cache.on_watch_event("Pod", pod())
        cache.accept(report())
        cache.on_watch_event("TrainingRun", run(), deleted=True)
        assert dict(cache.reports("1234")) == {}
