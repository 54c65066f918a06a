"""The operator benchmark's reading of logs and metrics: a figure read wrongly looks like any other."""

from __future__ import annotations

import json

import pytest
from benchmarks.operator_figures import (
    Histogram,
    by_kind,
    calls,
    histogram,
    most_within,
    number,
    peak_resident_bytes,
    shortest_pause,
    worst_status,
)

from shardwise_api import indexes
from shardwise_api.common import MAX_SHARDS
from shardwise_api.runs import TrainingRun
from tests.support.fake_operator import bare_job, items_of, manifest, size_of

EXPOSITION = """\
# TYPE shardwise_reconcile_seconds histogram
shardwise_reconcile_seconds_bucket{le="0.1"} 8.0
shardwise_reconcile_seconds_bucket{le="1.0"} 10.0
shardwise_reconcile_seconds_bucket{le="+Inf"} 12.0
shardwise_reconcile_seconds_count 12.0
process_cpu_seconds_total 9.3
"""


def _entry(*, audit: str, verb: str, at: str, user: str = "operator", **target: str) -> str:
    target_of = {"objectRef": target} if target else {}
    return json.dumps(
        {"auditID": audit, "verb": verb, "user": {"username": user}, "requestReceivedTimestamp": at, **target_of}
    )


class TestCalls:
    def test_a_watch_with_two_lines_is_one_call(self) -> None:
        line = _entry(audit="a", verb="watch", at="2026-01-01T00:00:00.5Z", resource="pods")
        assert by_kind(calls([line, line], user="operator")) == {"watch pods": 1}

    def test_calls_are_counted_by_verb_and_resource_the_most_frequent_first(self) -> None:
        lines = [
            _entry(audit="a", verb="get", at="2026-01-01T00:00:00Z", resource="jobs"),
            _entry(audit="b", verb="update", at="2026-01-01T00:00:02Z", resource="trainingruns", subresource="status"),
            _entry(audit="c", verb="update", at="2026-01-01T00:00:03Z", resource="trainingruns", subresource="status"),
            _entry(audit="d", verb="get", at="2026-01-01T00:00:04Z"),
        ]
        found = by_kind(calls(lines, user="operator"))
        assert list(found.items()) == [("update trainingruns/status", 2), ("get jobs", 1), ("get discovery", 1)]

    def test_other_users_and_other_times_are_left_out(self) -> None:
        lines = [
            _entry(audit="a", verb="get", at="1970-01-01T00:00:09.999Z", resource="jobs"),
            _entry(audit="b", verb="get", at="1970-01-01T00:00:10Z", resource="pods"),
            _entry(audit="c", verb="get", at="1970-01-01T00:00:20Z", resource="secrets"),
            _entry(audit="d", verb="get", at="1970-01-01T00:00:15Z", user="somebody", resource="nodes"),
        ]
        assert by_kind(calls(lines, user="operator", since=10, until=20)) == {"get pods": 1}

    def test_calls_come_in_the_order_in_which_they_were_received(self) -> None:
        lines = [
            _entry(audit="a", verb="get", at="1970-01-01T00:00:09Z", resource="jobs"),
            _entry(audit="b", verb="get", at="1970-01-01T00:00:01Z", resource="jobs"),
        ]
        assert [call.at for call in calls(lines, user="operator")] == [1.0, 9.0]


class TestMoments:
    def test_two_moments_a_second_apart_are_not_within_a_second(self) -> None:
        assert most_within([1.0, 2.0, 3.0]) == 1

    def test_the_busiest_window_lies_anywhere(self) -> None:
        assert most_within([0.0, 5.9, 6.0, 6.8, 7.0]) == 3

    def test_no_moments_have_no_busiest_window_and_no_pause(self) -> None:
        assert most_within([]) == 0
        assert shortest_pause([4.0]) is None

    def test_the_shortest_pause_is_found_in_any_order(self) -> None:
        assert shortest_pause([3.0, 1.0, 1.25]) == 0.25


class TestHistogram:
    def test_a_quantile_lies_on_a_line_within_its_bucket(self) -> None:
        assert histogram(EXPOSITION, "shardwise_reconcile_seconds").quantile(0.75) == pytest.approx(0.55)

    def test_beyond_the_last_bound_that_bound_is_said(self) -> None:
        assert histogram(EXPOSITION, "shardwise_reconcile_seconds").quantile(0.99) == 1.0

    def test_what_was_there_before_does_not_count(self) -> None:
        before = Histogram(buckets=((0.1, 8.0), (1.0, 8.0), (float("inf"), 8.0)))
        since = histogram(EXPOSITION, "shardwise_reconcile_seconds").since(before)
        assert since.count == 4
        assert since.quantile(0.25) == pytest.approx(0.55)

    def test_of_nothing_there_is_no_quantile(self) -> None:
        found = histogram(EXPOSITION, "shardwise_reconcile_seconds")
        assert found.since(found).quantile(0.5) is None

    def test_what_is_not_there_is_an_error(self) -> None:
        with pytest.raises(ValueError, match="no histogram other"):
            histogram(EXPOSITION, "other")
        with pytest.raises(ValueError, match="no number other"):
            number(EXPOSITION, "other")

    def test_a_plain_number_is_read(self) -> None:
        assert number(EXPOSITION, "process_cpu_seconds_total") == 9.3


class TestMemory:
    def test_the_peak_is_read_in_bytes(self) -> None:
        assert peak_resident_bytes("VmPeak:\t  9 kB\nVmHWM:\t     102 kB\nVmRSS:\t 1 kB\n") == 104_448

    def test_a_process_without_memory_is_an_error(self) -> None:
        with pytest.raises(ValueError, match="no VmHWM"):
            peak_resident_bytes("Name:\tzombie\n")


class TestWorstStatus:
    @pytest.mark.parametrize("shards", [1_000, MAX_SHARDS])
    def test_a_run_with_every_other_shard_failed_keeps_its_status_small(self, shards: int) -> None:
        document = manifest("many", shards=shards)
        run = TrainingRun.model_validate({**document, "metadata": {**document["metadata"], "uid": "uid"}})
        status = worst_status(run)
        assert indexes.from_text(status["shards"]["failedIndexes"]) == set(range(1, shards, 2))
        assert indexes.from_text(status["shards"]["completedIndexes"]) == set(range(0, shards, 2))
        assert len(status["failures"]) == 10
        assert status["phase"] == "Complete"
        assert size_of(status) < 100 * 1024


class TestBareJob:
    def test_it_asks_for_the_pods_of_the_run_and_is_nothing_that_the_operator_watches(self) -> None:
        job = bare_job("bare", shards=7)
        assert job["spec"]["completions"] == job["spec"]["parallelism"] == 7
        assert job["spec"]["template"]["metadata"]["annotations"]["shardwise.test/items"] == str(items_of(7)) == "28"
        labels = [job["metadata"]["labels"], job["spec"]["template"]["metadata"]["labels"]]
        assert all("shardwise.dev/run-uid" not in one and one["shardwise.dev/step"] == "work" for one in labels)
