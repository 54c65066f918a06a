"""A cgroup for each node, in every hierarchy: two kubelets that share one kill each other's pods."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from .errors import ClusterError
from .settings import NODES, PREFIX

_ROOT = Path("/sys/fs/cgroup")
_REMOVE_SECONDS = 10.0
# A new cpuset has neither processors nor memory: nothing can run in it before it gets some.
_CPUSET_FILES = ("cpuset.cpus", "cpuset.mems")
_UNIFIED_CONTROLLERS = ("cpuset", "cpu", "io", "memory", "pids")


def create() -> None:
    """Make the nodes' cgroups."""
    for hierarchy in _hierarchies():
        unified = hierarchy / "cgroup.controllers"
        if unified.exists():
            _offer_controllers(hierarchy, available=unified.read_text().split())
        for node in NODES:
            folder = hierarchy / node.namespace
            folder.mkdir(exist_ok=True)
            for name in _CPUSET_FILES:
                if (hierarchy / name).exists():
                    (folder / name).write_text((hierarchy / name).read_text())


def remove() -> None:
    """Remove the nodes' cgroups with all that kubelets made below; their processes must have ended."""
    deadline = time.monotonic() + _REMOVE_SECONDS
    while remaining := existing():
        for top in remaining:
            for folder, _, _ in os.walk(top, topdown=False):
                # The kernel lets go of a dead process a moment after its parent has.
                with suppress(OSError):
                    Path(folder).rmdir()
        if existing() and time.monotonic() > deadline:
            raise ClusterError(f"cgroups that can't be removed: {', '.join(map(str, existing()))}")
        time.sleep(0.05)


def existing() -> list[Path]:
    """Top cgroups that carry the cluster's name."""
    return sorted(folder for hierarchy in _hierarchies() for folder in hierarchy.glob(f"{PREFIX}-*"))


def _hierarchies() -> Iterator[Path]:
    if (_ROOT / "cgroup.procs").exists():
        yield _ROOT
        return
    for folder in sorted(_ROOT.iterdir()):
        # `cpu,cpuacct` is mounted once; its short names are links to it.
        if folder.is_dir() and not folder.is_symlink() and (folder / "cgroup.procs").exists():
            yield folder


def _offer_controllers(hierarchy: Path, *, available: list[str]) -> None:
    for controller in _UNIFIED_CONTROLLERS:
        if controller in available:
            with suppress(OSError):
                (hierarchy / "cgroup.subtree_control").write_text(f"+{controller}")
