"""Where ranks meet, and by which network they talk."""

from __future__ import annotations

import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from shardwise.engine.errors import BadConfiguration
from shardwise_jobs.mpi import rendezvous
from shardwise_jobs.mpi.communicator import SingleProcess, open_communicator
from shardwise_jobs.mpi.settings import interface_of, mpi_environment


def test_a_file_says_where_rank_0_is_to_its_user_alone(tmp_path: Path) -> None:
    path = tmp_path / "new" / "rendezvous"
    with rendezvous.listen(f"file://{path}") as listener:
        assert listener.getsockname()[0] == "127.0.0.1"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        with rendezvous.connect(f"file://{path}") as calling:
            assert calling.getpeername() == listener.getsockname()
    rendezvous.leave(f"file://{path}")
    with pytest.raises(OSError, match="No such file"):
        rendezvous.connect(f"file://{path}")


@pytest.mark.parametrize("text", ["", "nonsense", "127.0.0.1:", ":1", "\xff:\xff"])
def test_a_file_that_says_nothing_is_looked_at_again_later(tmp_path: Path, text: str) -> None:
    (tmp_path / "rendezvous").write_text(text)
    with pytest.raises(OSError, match="does not say where rank 0 is"):
        rendezvous.connect(f"file://{tmp_path}/rendezvous")


@pytest.mark.parametrize("place", ["http://a:1", "tcp://a", "tcp://:1", "tcp://a:0", "tcp://a:99999"])
def test_any_other_place_is_refused(place: str) -> None:
    for use in (rendezvous.listen, rendezvous.connect):
        with pytest.raises(BadConfiguration, match="neither tcp://host:port nor file:///path"):
            use(place)


def test_ranks_talk_by_the_network_on_which_they_met() -> None:
    assert mpi_environment(address="127.0.0.1")["FI_TCP_IFACE"] == "lo"
    assert interface_of("127.0.0.77") == "lo"
    assert interface_of("203.0.113.1") is None
    assert "FI_TCP_IFACE" not in mpi_environment(address="203.0.113.1")


def test_one_rank_alone_is_its_own_sum() -> None:
    world = open_communicator()
    assert isinstance(world, SingleProcess)
    words, floats = np.array([1, -2]), np.array([0.5])
    world.add(words)
    world.add_floats(floats)
    world.barrier()
    assert (world.rank, world.size, world.broadcast(b"x")) == (0, 1, b"x")
    assert (words.tolist(), floats.tolist()) == ([1, -2], [0.5])


def test_mpi_is_not_imported_before_a_communicator_of_several_ranks_is_opened() -> None:
    program = (
        "import sys, shardwise_jobs.mpi.supervisor, shardwise_jobs.mpi.rank_main, shardwise_jobs.mpi.communicator as w;"
        "w.open_communicator(); sys.exit('mpi4py' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
