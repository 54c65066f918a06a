"""Whoever can reach the rendezvous but is no worker of the run: it holds up nobody and learns nothing."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from shardwise_jobs.mpi.channel import HANDSHAKE_SECONDS, MAX_BYTES, Caller, Channel, ConnectionLost, call
from tests.support.gangs import TOKEN, Gang, Worker, until


@pytest.fixture
def leader(gang: Gang) -> Worker:
    worker = gang.start(0, size=2)
    until(lambda: gang.waited(worker) != [])
    return worker


@pytest.mark.parametrize(
    "words",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\xff\xff\n",
        b"[]\n",
        b'{"rank": true, "size": 2, "challenge": "x", "proof": "y"}\n',
        b'{"rank": 1, "size": 2, "challenge": "x", "proof": "\xc3\xa9"}\n',
        json.dumps({"rank": 1, "size": 2, "challenge": "x", "proof": "0" * 64}).encode() + b"\n",
        b"[" * (MAX_BYTES + 1),
        b"[" * MAX_BYTES + b"\n",
    ],
)
def test_garbage_is_dropped_and_the_run_goes_on(gang: Gang, leader: Worker, words: bytes) -> None:
    with _connected(gang) as stranger:
        stranger.sendall(words)
        assert _read_to_the_end(stranger).count(b"\n") == 1, "more than the challenge was said"
    _completes(gang, leader)
    assert "dropped a caller from 127.0.0.1" in leader.log


def test_a_caller_with_another_runs_token_is_dropped_and_goes_on_calling(gang: Gang, leader: Worker) -> None:
    stranger = gang.start(1, size=2, token="another run's")
    until(lambda: "dropped a caller from 127.0.0.1" in leader.log)
    assert stranger.process.poll() is None
    _completes(gang, leader)


def test_callers_that_say_nothing_are_dropped_in_time_and_are_in_nobodys_way(gang: Gang, leader: Worker) -> None:
    with ExitStack() as stack:
        silent = [stack.enter_context(_connected(gang)) for _ in range(20)]
        _completes(gang, leader)
        for stranger in silent:
            stranger.settimeout(2 * HANDSHAKE_SECONDS)
            _read_to_the_end(stranger)


def test_a_caller_that_dribbles_has_no_longer_than_one_that_is_silent(gang: Gang, leader: Worker) -> None:
    with _connected(gang) as stranger:
        stranger.settimeout(0.5)
        for _ in range(int(4 * HANDSHAKE_SECONDS)):
            try:
                stranger.sendall(b"[")
                if stranger.recv(1000) == b"":
                    break
            except TimeoutError:
                continue
            except ConnectionError:
                break
        else:
            pytest.fail("it is still listened to")
    _completes(gang, leader)


def test_more_silent_callers_than_are_let_in_leave_room_again(gang: Gang, leader: Worker) -> None:
    with ExitStack() as stack:
        for _ in range(100):
            stack.enter_context(_connected(gang))
        _completes(gang, leader)


@pytest.mark.parametrize("rank", [-1, 0, 2, 10**30])
def test_a_rank_that_is_not_awaited_is_dropped(gang: Gang, leader: Worker, rank: int) -> None:
    with _connected(gang) as connection:
        channel = call(connection, token=TOKEN, caller=Caller(rank=rank, size=2))
        with pytest.raises(ConnectionLost):
            _listen(channel)
    _completes(gang, leader)


def test_a_second_worker_of_a_rank_does_not_push_out_one_that_lives(gang: Gang) -> None:
    leader = gang.start(0, size=3)
    first = gang.start(1, size=3)
    until(lambda: bool(gang.waited(leader)) and gang.waited(leader)[-1] == "2")
    with _connected(gang) as connection, pytest.raises(ConnectionLost):
        _listen(call(connection, token=TOKEN, caller=Caller(rank=1, size=3)))
    for worker in (gang.start(2, size=3), first, leader):
        assert worker.result().size == 3


def test_strangers_do_not_disturb_a_training(gang: Gang) -> None:
    workers = gang.train(2)
    with _connected(gang) as stranger:
        stranger.sendall(b"hello\n")
        _read_to_the_end(stranger)
    until(lambda: "dropped a caller" in workers[0].log)
    assert [worker.process.poll() for worker in workers] == [None, None]


def test_a_false_rank_0_is_not_believed(gang: Gang) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        (gang.folder / "rendezvous").write_text(f"127.0.0.1:{listener.getsockname()[1]}\n")
        follower = gang.start(1, size=2)
        listener.settimeout(60)
        connection, _ = listener.accept()
        with connection:
            connection.sendall(b'{"challenge": "00"}\n')
            said = json.loads(connection.makefile("rb").readline())
            assert TOKEN not in str(said)
            connection.sendall(json.dumps({"proof": said["proof"]}).encode() + b"\n")
            assert connection.recv(100) == b""
    leader = gang.start(0, size=2)
    assert follower.result().size == leader.result().size == 2


@contextmanager
def _connected(gang: Gang) -> Iterator[socket.socket]:
    port = int((gang.folder / "rendezvous").read_text().rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        yield connection


def _read_to_the_end(stranger: socket.socket) -> bytes:
    said = b""
    try:
        while data := stranger.recv(1000):
            said += data
    except ConnectionResetError:
        pass
    return said


def _listen(channel: Channel) -> None:
    while True:
        channel.receive()


def _completes(gang: Gang, leader: Worker) -> None:
    for worker in (gang.start(1, size=2), leader):
        assert worker.result().total == 60
