"""Ranks that are lost: whatever it is that ends one, the others know within seconds, and nothing is left of any."""

from __future__ import annotations

import os
import signal

import pytest

from tests.support.gangs import FOR_EVER, LIMIT_SECONDS, Gang


@pytest.mark.parametrize("rank", [0, 1])
def test_a_rank_process_that_is_killed_is_its_own_fault_and_nobody_elses(gang: Gang, rank: int) -> None:
    workers = gang.train(3)
    pid = gang.pid(rank)
    assert pid
    os.kill(pid, signal.SIGKILL)
    for other, worker in enumerate(workers):
        code, reason, message = worker.failure(seconds=LIMIT_SECONDS)
        if other == rank:
            assert (code, reason) == (1, "RankKilled")
            assert f"the process of rank {rank} was ended by SIGKILL" in message
        else:
            assert (code, reason) == (75, "Temporary"), message


@pytest.mark.parametrize("rank", [0, 1])
def test_a_worker_that_is_killed_takes_its_rank_with_it_and_the_others_leave(gang: Gang, rank: int) -> None:
    workers = gang.train(3)
    workers[rank].process.kill()
    for other, worker in enumerate(workers):
        if other != rank:
            assert worker.failure(seconds=LIMIT_SECONDS)[:2] == (75, "Temporary")
    workers[rank].nothing_is_left()


@pytest.mark.parametrize("rank", [0, 1])
def test_a_worker_that_falls_silent_is_lost(gang: Gang, rank: int) -> None:
    workers = gang.train(3)
    workers[rank].process.send_signal(signal.SIGSTOP)
    for other, worker in enumerate(workers):
        if other != rank:
            assert worker.failure(seconds=LIMIT_SECONDS)[:2] == (75, "Temporary")
    workers[rank].process.send_signal(signal.SIGCONT)
    assert workers[rank].failure(seconds=LIMIT_SECONDS)[:2] == (75, "Temporary")


def test_a_rank_process_that_falls_silent_holds_nobody_when_it_is_told_to_stop(gang: Gang) -> None:
    workers = gang.train(2)
    pid = gang.pid(1)
    assert pid
    os.kill(pid, signal.SIGSTOP)
    workers[1].process.terminate()
    assert workers[1].failure(seconds=LIMIT_SECONDS)[:2] == (143, "Interrupted")
    assert workers[0].failure(seconds=LIMIT_SECONDS)[:2] == (75, "Temporary")


@pytest.mark.parametrize(
    ("trouble", "reason", "message"),
    [
        ("fail", "SampleFailed", "sample 7 can't be worked on"),
        ("raise", "WorkerFailed", "ZeroDivisionError: made for a test"),
        ("segfault", "RankKilled", "the process of rank 1 was ended by SIGSEGV"),
        ("exit", "WorkerFailed", "rank 1 ended with exit code 9 and left no result"),
        ("mute", "WorkerFailed", "a failure that nobody has agreed upon"),
    ],
)
def test_the_rank_that_fails_says_why_and_the_others_are_not_to_blame(
    gang: Gang, trouble: str, reason: str, message: str
) -> None:
    leader = gang.start(0, size=3, steps=FOR_EVER)
    failing = gang.start(1, size=3, steps=FOR_EVER, trouble=trouble)
    other = gang.start(2, size=3, steps=FOR_EVER)
    assert failing.failure() == (1, reason, message)
    for worker in (leader, other):
        assert worker.failure()[:2] == (75, "Temporary")


def test_a_failure_of_one_rank_alone_is_told_as_it_is(gang: Gang) -> None:
    assert gang.start(0, size=1, trouble="fail").failure() == (1, "SampleFailed", "sample 7 can't be worked on")
    assert gang.start(0, size=1, trouble="segfault").failure()[:2] == (1, "RankKilled")
