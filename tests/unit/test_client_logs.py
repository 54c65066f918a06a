"""Log lines of several workers as one stream, and which pods they are read from."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from shardwise_cli.cluster.client import _split
from shardwise_cli.cluster.loglines import Line, merge, parse
from shardwise_cli.cluster.logs import Selection
from shardwise_cli.cluster.pods import attempts, pod_view, wanted
from tests.support.client import worker_pod


def _line(raw: str) -> Line:
    found = parse(raw)
    assert found is not None
    return found


async def _stream(lines: list[Line]) -> AsyncGenerator[Line, None]:
    for line in lines:
        yield line


def _merged(*logs: list[Line]) -> list[tuple[int, str]]:
    async def collect() -> list[tuple[int, str]]:
        return [(number, line.text) async for number, line in merge([_stream(log) for log in logs])]

    return asyncio.run(collect())


def _pod(name: str, shard: int = 0, *, created: str = "2026-01-01T12:00:00Z", step: str = "work") -> dict[str, Any]:
    pod = worker_pod(name, run="words", uid="1", shard=shard, script="", step=step)
    pod["metadata"] |= {"uid": name, "creationTimestamp": created}
    return pod


def test_a_line_keeps_its_text_as_it_was_written() -> None:
    assert _line("2026-01-01T12:00:00.123456789Z   two  spaces ").text == "  two  spaces "
    assert _line("2026-01-01T12:00:00Z ").text == ""
    assert parse("unable to retrieve container logs") is None


def test_times_differ_to_the_nanosecond_whatever_their_length() -> None:
    stamps = [
        "2026-01-01T12:00:00Z",
        "2026-01-01T12:00:00.000000001Z",
        "2026-01-01T12:00:00.1Z",
        "2026-01-01T12:00:00.100000002Z",
    ]

    moments = [_line(f"{stamp} x").moment for stamp in stamps]

    assert moments == sorted(set(moments))


def test_lines_of_several_logs_come_by_time() -> None:
    first = [_line("2026-01-01T12:00:00Z a"), _line("2026-01-01T12:00:02.5Z c")]
    second = [_line("2026-01-01T12:00:02.25Z b"), _line("2026-01-01T12:00:03Z d")]

    assert _merged(first, second, []) == [(0, "a"), (1, "b"), (0, "c"), (1, "d")]


@given(st.lists(st.lists(st.integers(0, 59), max_size=8).map(sorted), max_size=5))
def test_merging_loses_nothing_and_keeps_the_order_of_each_log(logs: list[list[int]]) -> None:
    lines = [[_line(f"2026-01-01T12:00:{second:02}Z {n}") for n, second in enumerate(log)] for log in logs]

    merged = _merged(*lines)

    for number, log in enumerate(lines):
        assert [text for source, text in merged if source == number] == [line.text for line in log]


@given(st.text(alphabet="ab\n\u2028\r", max_size=30), st.integers(1, 5))
def test_lines_end_at_line_feeds_alone_however_they_arrive(text: str, size: int) -> None:
    async def chunks() -> AsyncGenerator[str, None]:
        for start in range(0, len(text), size):
            yield text[start : start + size]

    async def collect() -> list[str]:
        return [line async for line in _split(chunks())]

    assert asyncio.run(collect()) == (text.split("\n") if text and text[-1] != "\n" else text.split("\n")[:-1])


def test_pods_come_in_the_order_of_a_run_with_older_attempts_first() -> None:
    pods = [
        _pod("end", step="finalize"),
        _pod("one", 1),
        _pod("ten", 10),
        _pod("one-again", 1, created="2026-01-01T12:05:00Z"),
        _pod("look", step="prepare"),
    ]

    ordered = wanted(map(pod_view, pods), steps=frozenset(["prepare", "work", "finalize"]), shards=None)

    assert [pod.name for pod in ordered] == ["look", "one", "one-again", "ten", "end"]
    assert [[pod.name for pod in source] for source in attempts(ordered).values()][1] == ["one", "one-again"]
    assert [pod.label for pod in ordered] == ["prepare", "shard 1", "shard 1", "shard 10", "finalize"]


def test_a_pod_of_a_part_is_of_the_shard_that_it_works_on() -> None:
    pod = _pod("one", 1)
    pod["metadata"]["annotations"] = {"shardwise.dev/shards": "2,7"}
    assert pod_view(pod).label == "shard 7"


def test_a_pod_that_waits_says_why() -> None:
    pod = _pod("a")
    waiting = {"name": "worker", "state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}}
    pod["status"] = {"phase": "Pending", "containerStatuses": [waiting]}
    unscheduled = _pod("b")
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "no node is free"}
    unscheduled["status"] = {"phase": "Pending", "conditions": [condition]}

    assert (pod_view(pod).started, pod_view(pod).waiting) == (False, "ImagePullBackOff: no such image")
    assert pod_view(unscheduled).waiting == "Unschedulable: no node is free"


def test_only_lines_of_one_piece_of_work_need_no_mark() -> None:
    def single(steps: set[str], shards: set[int] | None) -> bool:
        chosen = None if shards is None else frozenset(shards)
        return Selection(steps=frozenset(steps), shards=chosen, tail=None).single

    assert single({"prepare"}, None)
    assert single({"work"}, {3})
    assert not single({"work"}, {3, 4})
    assert not single({"work"}, None)
    assert not single({"prepare", "work"}, None)
