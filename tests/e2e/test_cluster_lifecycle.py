"""The cluster as a tool: started twice, hurt, half gone, removed. It tells what is wrong and leaves nothing behind."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.cluster import processes, traces
from tests.cluster.settings import NODES, Folders
from tests.e2e.conftest import manage
from tests.support.kube import Cluster, eventually

pytestmark = [pytest.mark.e2e, pytest.mark.breaks_cluster, pytest.mark.timeout(600)]

# What the machine must look like afterwards as it did before; kubelet and kube-proxy like to change these.
_SETTINGS = (
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "kernel/panic",
    "kernel/panic_on_oops",
    "net/ipv4/ip_forward",
    "net/ipv4/conf/all/route_localnet",
    "net/netfilter/nf_conntrack_max",
)


@pytest.fixture
def folders(own_cluster: Cluster) -> Folders:
    """An own cluster, up and well."""
    manage("up")
    return Folders()


def test_a_second_up_finds_it_well_and_changes_nothing(folders: Folders) -> None:
    before = processes.recorded(folders)

    assert "up already" in manage("up").stdout
    assert processes.recorded(folders) == before
    assert manage("status").stdout.count(" Ready ") == len(NODES)


@pytest.mark.parametrize("name", ["kube-scheduler", "kubelet-node1", "containerd-node0"])
def test_a_crash_is_noticed_with_the_end_of_its_log_and_mended_by_up(folders: Folders, name: str) -> None:
    victim = next(process for process in processes.recorded(folders) if process.name == name)
    os.kill(_inner(victim.pid), signal.SIGKILL)
    eventually(lambda: not victim.alive, seconds=60, what=f"{name} ends")

    status = manage("status", check=False)

    assert status.returncode == 1
    assert f"{name} has ended; the end of {victim.log}" in status.stdout
    assert victim.tail().splitlines()[-1] in status.stdout
    assert "removing what an earlier start left" in manage("up").stdout
    assert manage("status").returncode == 0


def test_a_crash_during_the_start_ends_it_with_the_log(own_cluster: Cluster) -> None:
    manage("down")
    words = [sys.executable, "-m", "tests.cluster", "up"]
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as start:
        os.kill(eventually(lambda: _program("kube-apiserver"), seconds=120), signal.SIGKILL)
        _, complaint = start.communicate(timeout=180)

    assert start.returncode == 1
    assert "kube-apiserver has ended; the end of" in complaint


def test_the_machine_looks_afterwards_as_it_did_before(folders: Folders) -> None:
    manage("down")
    before = _machine()
    manage("up")
    assert _settings() == before["settings"]
    assert _machine() != before

    manage("down")

    assert _machine() == before


def test_down_leaves_nothing_and_the_next_start_builds_nothing(folders: Folders) -> None:
    manage("down")

    assert traces.found(folders) == []
    assert not Path("/run/netns").exists() or any(Path("/run/netns").iterdir())
    assert manage("status", check=False).stdout == "the cluster is down\n"
    assert manage("kubeconfig", check=False).returncode == 1
    manage("down")

    assert "building" not in manage("up").stdout


def test_down_works_when_the_record_of_processes_is_lost(folders: Folders) -> None:
    folders.processes.unlink()

    manage("down")

    assert traces.found(folders) == []


def test_down_works_when_the_whole_folder_is_lost(folders: Folders) -> None:
    shutil.rmtree(folders.root)

    manage("down")

    assert traces.found(folders) == []


def test_down_works_when_the_nodes_are_gone(folders: Folders) -> None:
    for process in processes.recorded(folders):
        if process.name.endswith("-init"):
            os.kill(process.pid, signal.SIGKILL)
    eventually(lambda: not any(process.alive for process in processes.recorded(folders)), seconds=60)

    manage("down")

    assert traces.found(folders) == []


@pytest.mark.parametrize("seconds", [0.4, 0.8, 1.5, 3.0, 5.0])
def test_down_and_up_work_after_a_start_that_was_killed(own_cluster: Cluster, seconds: float) -> None:
    manage("down")
    words = [sys.executable, "-m", "tests.cluster", "up"]
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, start_new_session=True) as start:
        time.sleep(seconds)
        os.killpg(start.pid, signal.SIGKILL)

    # After a late kill the next start has to clean up by itself.
    if seconds < 1:
        manage("down")
        assert traces.found(Folders()) == []
    manage("up")

    assert manage("status").returncode == 0


def test_down_ends_nobody_who_took_over_a_pid(folders: Folders) -> None:
    record = folders.processes.read_text()
    process = processes.recorded(folders)[0]
    folders.processes.write_text(record.replace(f'"pid": {process.pid},', f'"pid": {os.getpid()},'))

    manage("down")

    assert traces.found(folders) == []


def test_down_leaves_a_folder_that_no_cluster_made(
    own_cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manage("down")
    precious = tmp_path / "precious" / "file"
    precious.parent.mkdir()
    precious.touch()
    monkeypatch.setenv("SHARDWISE_CLUSTER_DIR", str(precious.parent))

    refused = manage("down", check=False)

    assert refused.returncode == 1
    assert "was not made by a cluster" in refused.stderr
    assert precious.exists()


def _inner(pid: int) -> int:
    """The program behind the one that entered the node's namespaces for it."""
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])


def _program(name: str) -> int | None:
    """The recorded program itself, once it runs."""
    with suppress(OSError, IndexError, StopIteration):
        recorded = next(process for process in processes.recorded(Folders()) if process.name == name)
        inner = _inner(recorded.pid)
        if name in Path(f"/proc/{inner}/cmdline").read_text().partition("\0")[0]:
            return inner
    return None


def _machine() -> dict[str, object]:
    """What the machine itself tells, asked without any help of the package under test."""
    return {
        "settings": _settings(),
        "links": _output("ip", "-oneline", "-brief", "link"),
        "routes": _output("ip", "route", "show", "table", "all"),
        "firewall": _output("iptables-save", "-t", "nat") + _output("iptables-save", "-t", "filter"),
        "mounts": [line.split()[4:] for line in Path("/proc/self/mountinfo").read_text().splitlines()],
        "cgroups": sorted(map(str, Path("/sys/fs/cgroup").glob("*/*"))),
        "programs": sorted(_programs()),
        "folders": [
            sorted(path.name for path in Path(folder).iterdir()) for folder in ("/run", "/var/lib", "/var/log")
        ],
    }


def _settings() -> dict[str, str]:
    values = {name: Path("/proc/sys") / name for name in _SETTINGS}
    return {name: path.read_text() for name, path in values.items() if path.exists()}


def _programs() -> Iterator[tuple[int, str]]:
    """Everybody who runs one of a cluster's programs, or sleeps as a pod does."""
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            name = (entry / "exe").readlink().name
            if name.startswith(("hyperkube", "etcd", "coredns", "containerd", "runc", "busybox", "nsenter", "unshare")):
                yield int(entry.name), name


def _output(*command: str) -> str:
    # Counters of a firewall's chains and its comments change by themselves.
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    return "\n".join(line for line in lines if not line.startswith(("#", ":")))
