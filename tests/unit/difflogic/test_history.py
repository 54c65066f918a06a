"""What is kept of a training's losses depends on its last step alone, and never grows without end."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from shardwise_jobs.engines.difflogic.training.history import MOST_ROWS, History


def grown(history: History, *, first: int, last: int) -> History:
    for step in range(first, last + 1):
        history.add(step, soft_loss=2.0 * step, hard_loss=3.0 * step, hard_accuracy=1 / step)
    return history


@given(steps=st.integers(0, 300), most=st.integers(1, 40), interruptions=st.lists(st.integers(0, 300), max_size=5))
def test_interruptions_leave_no_trace(steps: int, most: int, interruptions: list[int]) -> None:
    history, done = History(most=most), 0
    for step in sorted({min(step, steps) for step in interruptions}):
        history, done = History(grown(history, first=done + 1, last=step).rows, most=most), step
    interrupted = grown(history, first=done + 1, last=steps)
    whole = grown(History(most=most), first=1, last=steps)
    assert interrupted.rows.tobytes() == whole.rows.tobytes()
    assert len(whole.rows) <= most
    # The least power of two that is enough: with the half of it too many would remain.
    kept = whole.rows[:, 0].astype(int).tolist()
    every = kept[0] if kept else 1
    assert kept == list(range(every, steps + 1, every))
    assert every == 1 or steps // (every // 2) > most


def test_a_short_training_keeps_every_step() -> None:
    rows = grown(History(), first=1, last=50).rows
    assert rows[:, 0].tolist() == list(range(1, 51))
    assert rows[9].tolist() == [10, 20, 30, 0.1]
    assert MOST_ROWS == 10_000
