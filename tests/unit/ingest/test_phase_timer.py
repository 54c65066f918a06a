"""Phase times: what overlaps counts once, and every millisecond is in one lap."""

from __future__ import annotations

from shardwise_jobs.engines.ingest.phase_timer import Phase, PhaseTimer, WithWriting


class Hands:
    """A clock that is moved by hand, in seconds."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


def test_calls_at_once_count_once_and_pauses_do_not_count() -> None:
    now = Hands()
    clock = PhaseTimer(now)
    with clock.running(Phase.TMD):
        now.seconds += 1
        with clock.running(Phase.TMD), clock.running(Phase.EMBED):
            now.seconds += 2
        now.seconds += 4
    now.seconds += 8
    with clock.running(Phase.TMD):
        now.seconds += 16
    assert clock.lap() == {"tmd": 23_000, "embed": 2_000}


def test_a_lap_has_what_is_still_under_way_and_the_next_one_has_the_rest() -> None:
    now = Hands()
    clock = PhaseTimer(now)
    with clock.running(Phase.TMD):
        now.seconds += 1
        assert clock.lap() == {"tmd": 1_000}
        now.seconds += 2
    assert clock.lap() == {"tmd": 2_000}
    now.seconds += 4
    assert clock.lap() == {}


def test_a_phase_that_fails_is_over() -> None:
    now = Hands()
    clock = PhaseTimer(now)
    try:
        with clock.running(Phase.TMD):
            now.seconds += 1
            raise KeyError
    except KeyError:
        now.seconds += 5
    assert clock.lap() == {"tmd": 1_000}


def test_writing_takes_until_it_is_looked_at() -> None:
    now = Hands()
    lap = WithWriting({"tmd": 5.0}, now=now)
    now.seconds += 0.25
    assert dict(lap) == {"tmd": 5.0, "write": 250.0}
    now.seconds += 0.25
    assert dict(lap) == {"tmd": 5.0, "write": 500.0}
    assert len(lap) == 2
