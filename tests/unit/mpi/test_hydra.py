"""Launch lines are run by those who get them: only Hydra's own pass."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from shardwise.engine.errors import BadConfiguration, Temporary
from shardwise_jobs.mpi import hydra
from shardwise_jobs.mpi.hydra import check_line, program

PROXY = program("hydra_pmi_proxy")
LINE = (
    f"{PROXY} --control-port 10.0.0.1:39863 --rmk user --launcher manual --demux poll --pgid 0 --retries 10"
    " --usize -1 --pmi-port 0 --gpus-per-proc -2 --gpu-subdevs-per-proc -2 --proxy-id 2"
)


def test_a_line_of_hydra_for_this_rank_passes() -> None:
    assert check_line(LINE + " ", rank=2, leader="10.0.0.1") == LINE.split()


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("", "not one of Hydra's"),
        ("'", "not one of Hydra's"),
        (f"{PROXY}", "not for rank 2"),
        (LINE.replace(PROXY, "/bin/sh"), "the ranks' images differ"),
        (LINE.replace(PROXY, "hydra_pmi_proxy"), "the ranks' images differ"),
        (LINE + "; reboot", "not one of Hydra's"),
        (LINE + " --exec /bin/sh", "not one of Hydra's"),
        (LINE + " --debug", "not one of Hydra's"),
        (LINE.replace("--rmk user", "--rmk slurm"), "not one of Hydra's"),
        (LINE.replace("--launcher manual", "--launcher ssh"), "not one of Hydra's"),
        (LINE.replace("--proxy-id 2", "--proxy-id 2 --proxy-id 2"), "not one of Hydra's"),
        (LINE.replace("--proxy-id 2", "--proxy-id 1"), "not for rank 2"),
        (LINE.replace("10.0.0.1", "10.0.0.2"), "leads elsewhere"),
        (LINE.replace("10.0.0.1:39863", "10.0.0.1"), "not one of Hydra's"),
    ],
)
def test_any_other_line_is_refused(line: str, why: str) -> None:
    with pytest.raises(Temporary, match=why):
        check_line(line, rank=2, leader="10.0.0.1")


def test_a_missing_mpich_is_named_with_a_way_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BadConfiguration, match=r'pip install "shardwise\[mpi\]", or .* \(sharding.shards: 1\)'):
        hydra.program("mpiexec")
    assert shutil.which("mpiexec") is None
