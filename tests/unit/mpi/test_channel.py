"""Two workers that prove to each other that they know the run's token."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass

import pytest

from shardwise_jobs.mpi.channel import MAX_BYTES, AuthenticationError, Caller, Channel, ConnectionLost, answer, call

TOKEN = "the run's token"
CALLER = Caller(rank=1, size=3)


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        calling = socket.create_connection(listener.getsockname())
        answering, _ = listener.accept()
    with calling, answering:
        yield calling, answering


@dataclass
class _Met:
    member: Channel
    leader: Channel
    caller: Caller


@pytest.fixture
def met(ends: tuple[socket.socket, socket.socket]) -> Iterator[_Met]:
    calling, answering = ends
    answers: list[tuple[Caller, Channel]] = []
    thread = threading.Thread(target=lambda: answers.append(answer(answering, token=TOKEN)))
    thread.start()
    member = call(calling, token=TOKEN, caller=CALLER)
    thread.join()
    ((caller, leader),) = answers
    with closing(member), closing(leader):
        yield _Met(member, leader, caller)


def test_who_calls_is_known_and_both_may_speak(met: _Met) -> None:
    assert met.caller == CALLER
    met.member.send({"kind": "one"})
    met.member.send({"kind": "two"})
    met.leader.send({"kind": "three"})
    assert [met.leader.receive(), met.leader.receive()] == [{"kind": "one"}, {"kind": "two"}]
    assert met.member.receive() == {"kind": "three"}


def test_each_side_knows_both_addresses(met: _Met) -> None:
    assert {met.leader.here, met.leader.there, met.member.here, met.member.there} == {"127.0.0.1"}


def test_a_message_said_twice_by_somebody_between_is_refused(
    met: _Met, ends: tuple[socket.socket, socket.socket]
) -> None:
    calling, answering = ends
    met.member.send({"kind": "one"})
    words = answering.recv(1000)
    calling.sendall(words + words)
    assert met.leader.receive() == {"kind": "one"}
    with pytest.raises(AuthenticationError, match="not of this connection's peer"):
        met.leader.receive()


def test_a_sides_own_message_sent_back_to_it_is_refused(met: _Met, ends: tuple[socket.socket, socket.socket]) -> None:
    _, answering = ends
    met.member.send({"kind": "one"})
    answering.sendall(answering.recv(1000))
    with pytest.raises(AuthenticationError):
        met.member.receive()


@pytest.mark.parametrize("words", [b"{}\n", b"0 {}\n", b"\xff\n", b"\n"])
def test_words_without_a_mark_are_refused(met: _Met, ends: tuple[socket.socket, socket.socket], words: bytes) -> None:
    ends[0].sendall(words)
    with pytest.raises(AuthenticationError):
        met.leader.receive()


def test_a_message_has_a_bound(met: _Met) -> None:
    met.member.send({"kind": "x" * MAX_BYTES})
    with pytest.raises(AuthenticationError):
        met.leader.receive()


def test_a_closed_connection_is_a_lost_peer(met: _Met) -> None:
    met.member.close()
    with pytest.raises(ConnectionLost):
        met.leader.receive()
    with pytest.raises(ConnectionLost):
        met.member.send({"kind": "one"})


def test_another_token_opens_nothing_on_either_side(ends: tuple[socket.socket, socket.socket]) -> None:
    calling, answering = ends
    caught: list[Exception] = []

    def be_the_leader() -> None:
        try:
            answer(answering, token=TOKEN)
        except AuthenticationError as error:
            caught.append(error)
        answering.close()

    thread = threading.Thread(target=be_the_leader)
    thread.start()
    with pytest.raises(ConnectionLost):
        call(calling, token="another", caller=CALLER)
    thread.join()
    assert [str(error) for error in caught] == ["it does not know this run's token"]


def test_a_members_proof_sent_back_is_none_of_a_leader(ends: tuple[socket.socket, socket.socket]) -> None:
    calling, answering = ends
    heard: list[str] = []

    def pretend() -> None:
        answering.sendall(b'{"challenge": "00"}\n')
        heard.append(answering.makefile("r").readline())
        answering.sendall(json.dumps({"proof": json.loads(heard[0])["proof"]}).encode() + b"\n")

    thread = threading.Thread(target=pretend)
    thread.start()
    with pytest.raises(AuthenticationError, match="does not know"):
        call(calling, token=TOKEN, caller=CALLER)
    thread.join()
    assert TOKEN not in heard[0]
