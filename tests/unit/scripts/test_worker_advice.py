"""How many workers are advised: the original's table, one per GPU, eight gigabytes each."""

from __future__ import annotations

import pytest

from shardwise_jobs.engines.scripts.terminal.worker_advice import GIGABYTE, advise


@pytest.mark.parametrize(
    ("cores", "gigabytes", "gpus", "workers"),
    [
        (4, 16, 0, (2, 3)),
        (6, 32, 0, (4, 6)),
        (8, 64, 0, (6, 8)),
        (16, 128, 0, (8, 12)),
        (64, 1024, 0, (8, 12)),
        # What is short of one or the other has the row below.
        (16, 32, 0, (4, 6)),
        (4, 128, 0, (2, 3)),
        # A machine of 16 GB shows a little less.
        (4, 15.2, 0, (2, 3)),
        (2, 24, 0, (2, 2)),
        (8, 8, 0, (1, 1)),
        (1, 1, 0, (1, 1)),
        (8, 64, 1, (1, 1)),
        (8, 64, 4, (4, 4)),
    ],
)
def test_a_machine_gets_its_row(cores: int, gigabytes: float, gpus: int, workers: tuple[int, int]) -> None:
    advice = advise(cores=cores, memory_bytes=int(gigabytes * GIGABYTE), gpus=gpus)

    assert (advice.fewest, advice.most) == workers


def test_it_says_what_it_rests_on() -> None:
    assert advise(cores=6, memory_bytes=32 * GIGABYTE, gpus=0).text == "4 to 6 at a time (6 cores, 32 GiB)"
    assert advise(cores=6, memory_bytes=32 * GIGABYTE, gpus=1).text == "1 at a time (one GPU)"
