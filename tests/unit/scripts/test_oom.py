"""The counter of kills for want of memory, as kernels of both cgroup versions show it, in a container and outside."""

from __future__ import annotations

from pathlib import Path

import pytest

from shardwise_jobs.engines.scripts.running.attempt import OomKills

V1 = "36 31 0:29 {top} /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory"
V2 = "25 20 0:22 {top} /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw"


def machine(root: Path, *, cgroup: str, mount: str, counter: str, content: str) -> OomKills:
    files = {"proc/self/cgroup": cgroup, "proc/self/mountinfo": mount, counter: content}
    for name, text in {**files, "proc/vmstat": "nr_free_pages 5\noom_kill 99\n"}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return OomKills(root=root)


@pytest.mark.parametrize(
    ("cgroup", "mount", "counter", "content"),
    [
        (
            "4:memory:/user/me\n0::/",
            V1.format(top="/"),
            "sys/fs/cgroup/memory/user/me/memory.oom_control",
            "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n",
        ),
        (
            "9:cpu,cpuacct:/x\n4:memory:/kubepods/pod1/c1\n",
            V1.format(top="/kubepods/pod1/c1"),
            "sys/fs/cgroup/memory/memory.oom_control",
            "oom_kill 3\n",
        ),
        (
            "4:memory:/kubepods/pod1/c1/own\n",
            V1.format(top="/kubepods/pod1/c1"),
            "sys/fs/cgroup/memory/own/memory.oom_control",
            "oom_kill 3\n",
        ),
        (
            "0::/user.slice/me\n",
            V2.format(top="/"),
            "sys/fs/cgroup/user.slice/me/memory.events",
            "low 0\nhigh 0\nmax 12\noom 4\noom_kill 3\noom_group_kill 0\n",
        ),
        ("0::/\n", V2.format(top="/"), "sys/fs/cgroup/memory.events", "oom 4\noom_kill 3\n"),
        ("0::/../..\n", V2.format(top="/kubepods/c1"), "sys/fs/cgroup/memory.events", "oom_kill 3\n"),
    ],
    ids=["v1", "v1 in a container", "v1 below a container", "v2", "v2 in a namespace", "v2 seen from elsewhere"],
)
def test_the_own_cgroup_counts(tmp_path: Path, cgroup: str, mount: str, counter: str, content: str) -> None:
    assert machine(tmp_path, cgroup=cgroup, mount=mount, counter=counter, content=content).count() == 3


def test_without_a_cgroup_the_machine_counts(tmp_path: Path) -> None:
    assert machine(tmp_path, cgroup="0::/\n", mount="", counter="sys/nothing", content="").count() == 99


def test_where_nothing_counts_nothing_is_known(tmp_path: Path) -> None:
    assert OomKills(root=tmp_path).count() is None
