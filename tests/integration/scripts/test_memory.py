"""A script that the kernel kills for want of memory is told from one that was killed by somebody."""

from __future__ import annotations

from pathlib import Path

from tests.support.memory_cgroup import memory_cgroup
from tests.support.suites import plant, run_suite, summary_in

LIMIT = 256 << 20
"""Room for the runner, and not for a script that takes and takes."""


def test_want_of_memory_is_named_and_stops_no_other(tmp_path: Path) -> None:
    plant(tmp_path, "kills_itself", "no_options", "takes_memory")

    with memory_cgroup(limit_bytes=LIMIT) as within:
        done = run_suite(tmp_path, prefix=within)

    assert done.code == 1, done.err
    found = {job["id"].removeprefix("train_"): job for job in summary_in(tmp_path)["jobs"]}
    killed = found["takes_memory"]
    assert (killed["status"], killed["exit_code"], killed["reason"]) == ("FAILED", 137, "OOMKilled")
    assert killed["error"] == "Killed by the kernel: out of memory (exit code 137)"
    by_somebody = found["kills_itself"]
    assert (by_somebody["exit_code"], by_somebody["reason"]) == (137, None)
    assert found["no_options"]["status"] == "SUCCESS"
