"""Ranks that meet, work and end as they should."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from tests.support.gangs import FOR_EVER, Gang, until
from tests.support.worker import terminate


def test_ranks_are_workers_in_order_each_with_its_own_environment(gang: Gang) -> None:
    workers = [gang.start(rank, size=3) for rank in (2, 0, 1)]
    results = sorted((worker.result() for worker in workers), key=lambda result: result.rank)
    assert [result.rank for result in results] == [0, 1, 2]
    assert [result.shard for result in results] == ["0", "1", "2"]
    assert {(result.size, result.total, result.steps, result.shared) for result in results} == {(3, 120, 20, "from 0")}
    assert not [worker.log for worker in workers if "assert" in worker.log or "lost" in worker.log]


def test_one_rank_needs_no_mpi(gang: Gang) -> None:
    result = gang.start(0, size=1).result()
    assert (result.rank, result.size, result.total) == (0, 1, 20)


def test_rank_0_tells_whom_it_waits_for_and_that_it_waits_no_more(gang: Gang) -> None:
    leader = gang.start(0, size=3)
    until(lambda: gang.waited(leader) != [])
    assert gang.waited(leader)[0] == "1,2"
    follower = gang.start(2, size=3)
    until(lambda: gang.waited(leader)[-1] == "1")
    last = gang.start(1, size=3)
    for worker in (leader, follower, last):
        worker.result()
    assert gang.waited(leader)[-1] == ""
    assert gang.waited(leader).count("") == 1


def test_a_worker_that_waits_ends_on_sigterm(gang: Gang) -> None:
    leader = gang.start(0, size=3)
    until(lambda: gang.waited(leader) != [])
    follower = gang.start(1, size=3)
    until(lambda: "rank 0 is there" in follower.log)
    for worker in (follower, leader):
        terminate(worker.process)
        assert worker.failure()[:2] == (143, "Interrupted")
    assert not (gang.folder / "rendezvous").exists()


def test_workers_find_a_rank_0_that_was_lost_while_they_waited(gang: Gang) -> None:
    lost = gang.start(0, size=3)
    follower = gang.start(1, size=3)
    until(lambda: "rank 0 is there" in follower.log)
    lost.process.kill()
    for worker in (gang.start(0, size=3), follower, gang.start(2, size=3)):
        assert worker.result().total == 120


def test_a_rank_that_was_lost_before_the_start_may_come_again(gang: Gang) -> None:
    leader = gang.start(0, size=3)
    lost = gang.start(1, size=3)
    until(lambda: bool(gang.waited(leader)) and gang.waited(leader)[-1] == "2")
    lost.process.kill()
    until(lambda: gang.waited(leader)[-1] == "1,2")
    for worker in (gang.start(1, size=3), gang.start(2, size=3), leader):
        assert worker.result().total == 120


@pytest.mark.parametrize("rank", [0, 1])
def test_one_worker_that_is_told_to_stop_stops_all_at_the_same_step(gang: Gang, rank: int) -> None:
    workers = gang.train(2)
    terminate(workers[rank].process)
    assert workers[rank].failure()[:2] == (143, "Interrupted")
    assert workers[1 - rank].failure()[:2] == (75, "Temporary")
    assert len({_stopped(gang, rank) for rank in range(2)}) == 1


def test_all_workers_told_to_stop_are_interrupted(gang: Gang) -> None:
    workers = gang.train(2)
    for worker in workers:
        terminate(worker.process)
    assert {worker.failure()[:2] for worker in workers} == {(143, "Interrupted")}


def test_one_rank_alone_stops_too(gang: Gang) -> None:
    (worker,) = gang.train(1)
    terminate(worker.process)
    assert worker.failure()[:2] == (143, "Interrupted")
    assert _stopped(gang, 0) > 0


def test_training_starts_anew_with_more_ranks_when_one_more_comes(gang: Gang) -> None:
    workers = gang.train(2)
    more = gang.start(2, size=3)
    why = "the number of ranks changes from 2 to 3"
    assert [worker.failure() for worker in workers] == [(75, "Temporary", why)] * 2
    assert len({_stopped(gang, rank) for rank in range(2)}) == 1
    for worker in (gang.start(0, size=3), gang.start(1, size=3), more):
        assert worker.result().size == 3


def test_training_starts_anew_when_one_alone_gets_company(gang: Gang) -> None:
    (worker,) = gang.train(1)
    gang.start(1, size=2)
    assert worker.failure() == (75, "Temporary", "the number of ranks changes from 1 to 2")


def test_training_starts_anew_with_fewer_ranks(gang: Gang) -> None:
    workers = gang.train(3)
    terminate(workers[2].process)
    assert [worker.failure()[0] for worker in workers] == [75, 75, 143]
    for worker in gang.start_all(2):
        assert worker.result().size == 2


def test_a_rank_that_comes_anew_ends_the_training_of_the_others(gang: Gang) -> None:
    workers = gang.train(2)
    anew = gang.start(1, size=2)
    assert [worker.failure() for worker in workers] == [(75, "Temporary", "rank 1 came anew")] * 2
    assert gang.start(0, size=2).result().size == anew.result().size == 2


def test_ranks_that_disagree_about_their_number_look_at_their_documents_again(gang: Gang) -> None:
    leader = gang.start(0, size=2, steps=FOR_EVER)
    until(lambda: gang.waited(leader) != [])
    other = gang.start(1, size=3)
    for worker in (leader, other):
        code, reason, message = worker.failure()
        assert (code, reason) == (75, "Temporary")
        assert "rank 1 is one of 3, rank 0 one of 2" in message


def test_nothing_stays_in_memory_or_on_disk_after_a_kill(gang: Gang) -> None:
    before = _left_behind()
    workers = gang.train(2)
    workers[1].process.kill()
    workers[0].failure()
    workers[1].nothing_is_left()
    assert _left_behind() <= before


def _left_behind() -> set[Path]:
    return {*Path("/dev/shm").glob("mpich_*"), *Path(tempfile.gettempdir()).glob("*hydra*")}


def _stopped(gang: Gang, rank: int) -> int:
    return int((gang.folder / f"stopped-{rank}").read_text())
