"""Which sessions make room for others, and what they are counted with."""

from __future__ import annotations

import pytest

from shardwise_jobs.services.kato.models import NewSession
from shardwise_jobs.services.kato.sessions import IDLE_SECONDS, NoRoom, Session, SessionNotFound, Sessions

MIB = 1 << 20


def sessions(*, most: int = 3, most_bytes: int = MIB) -> Sessions:
    return Sessions(default_ttl=3600, auto_extend=True, most=most, most_bytes=most_bytes)


def new(found: Sessions, **metadata: str) -> Session:
    return found.create(NewSession(node_id="n", metadata=dict(metadata)))


def unused(session: Session, seconds: float) -> None:
    session.used -= seconds
    session.deadline -= seconds


def test_those_that_are_over_make_room_before_the_idle_and_those_in_use_never() -> None:
    found = sessions()
    over, idle, busy = new(found), new(found), new(found)
    unused(over, 3601)
    unused(idle, 3000)
    new(found)
    assert [found.exists(each.id)[0] for each in (over, idle, busy)] == [False, True, True]
    new(found)
    assert [found.exists(each.id)[0] for each in (idle, busy)] == [False, True]
    assert found.exists(idle.id) == (False, True)
    with pytest.raises(NoRoom):
        new(found)
    with pytest.raises(SessionNotFound):
        found.get(idle.id)
    assert found.count() == 3


def test_the_longest_unused_goes_first_and_one_at_work_stays() -> None:
    found = sessions()
    at_work, longest, lately = new(found), new(found), new(found)
    with found.use(at_work.id):
        unused(at_work, 3000)
        unused(longest, IDLE_SECONDS + 2)
        unused(lately, IDLE_SECONDS + 1)
        new(found)
    assert [found.exists(each.id)[0] for each in (at_work, longest, lately)] == [True, False, True]


def test_room_in_memory_is_made_by_as_many_as_it_takes() -> None:
    found = sessions(most=100)
    large = [new(found, note="x" * 200_000) for _ in range(5)]
    for each in large[:3]:
        unused(each, IDLE_SECONDS + 1)
    new(found, note="x" * 220_000)
    assert sum(found.exists(each.id)[0] for each in large) == 4
    new(found, note="x" * 200_000)
    new(found, note="x" * 200_000)
    assert [found.exists(each.id)[0] for each in large] == [False, False, False, True, True]
    with pytest.raises(NoRoom, match="KATO_SESSION_MEMORY_MIB"):
        new(found, note="x" * 200_000)


def test_what_is_gone_is_no_longer_counted() -> None:
    found = sessions(most=100)
    for _ in range(50):
        each = new(found, note="x" * 200_000)
        found.hold(each, 250_000)
        found.hold(each, 10_000)
        found.delete(each.id)
        # A call that was at work on it ends as if it were still there.
        found.hold(each, 250_000)
