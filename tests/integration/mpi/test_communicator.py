"""The same program alone and under a plain `mpiexec`, as a person starts it by hand."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from shardwise_jobs.mpi.hydra import program
from shardwise_jobs.mpi.settings import mpi_environment
from tests.support.gangs import ROOT
from tests.support.leash import leashed

_PROGRAM = [sys.executable, "-m", "tests.support.ranks", "world"]
_BYTES = 25600


@pytest.mark.parametrize("size", [1, 2, 3])
def test_ranks_of_a_plain_mpiexec_share_one_world(size: int) -> None:
    said = _run([program("mpiexec"), "-n", str(size), *_PROGRAM])
    numbers = sum(range(size))
    # 2**62 so often wraps around, as int64 does.
    words = [numbers, (size * 2**62 + 2**63) % 2**64 - 2**63, size]
    assert said == [size, words, [[0.5 * size, float(numbers)]], _BYTES, "000102", ""]


def test_a_program_that_nobody_started_as_a_rank_is_alone() -> None:
    assert _run(_PROGRAM) == [1, [0, 2**62, 1], [[0.5, 0.0]], _BYTES, "000102", ""]


@pytest.mark.parametrize("missing", ["mpi4py", "a library"])
def test_what_is_missing_for_several_ranks_is_named_with_a_way_out(tmp_path: Path, missing: str) -> None:
    (tmp_path / "mpi4py").mkdir()
    (tmp_path / "mpi4py" / "__init__.py").touch()
    if missing == "a library":
        # What MPI for Python raises where it finds no library.
        (tmp_path / "mpi4py" / "MPI.py").write_text("raise RuntimeError('cannot load MPI library')")
    done = subprocess.run(
        _PROGRAM,
        env={**os.environ, "PMI_RANK": "0", "PMI_SIZE": "2", "PYTHONPATH": str(tmp_path)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "BadConfiguration: several ranks need MPI, which is not here" in done.stderr
    assert 'pip install "shardwise[mpi]"' in done.stderr
    assert "sharding.shards: 1" in done.stderr


def _run(command: list[str]) -> object:
    done = subprocess.run(
        leashed(*command),
        env={**os.environ, **mpi_environment(address="127.0.0.1")},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
