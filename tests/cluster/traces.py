"""What a living cluster leaves on a machine: asked before a start, and after a removal to prove that it is gone."""

from __future__ import annotations

import json
from pathlib import Path

from . import cgroups, network, processes
from .settings import LAN, POD_RANGE, SERVICE_RANGE, Folders
from .shell import run


def mounts(folders: Folders) -> list[Path]:
    """Mounts below the cluster's folder that the machine sees; nodes keep theirs to themselves, so there are none."""
    points = (Path(line.split()[4]) for line in Path("/proc/self/mountinfo").read_text().splitlines())
    return sorted((point for point in points if point.is_relative_to(folders.root)), reverse=True)


def found(folders: Folders) -> list[str]:
    """Describe every trace of the cluster, in words."""
    return [
        *(f"process {pid}" for pid in sorted(processes.alive(folders))),
        *(f"network namespace {name}" for name in network.namespaces()),
        *(f"link {name}" for name in network.links()),
        *(f"route {route}" for route in _routes()),
        *(f"mount {point}" for point in mounts(folders)),
        *(f"cgroup {folder}" for folder in cgroups.existing()),
        *([f"folder {folders.root}"] if folders.root.exists() else []),
    ]


def _routes() -> list[str]:
    ours = {LAN, POD_RANGE, SERVICE_RANGE}
    return [route["dst"] for route in json.loads(run("ip", "-json", "-4", "route", "show")) if route["dst"] in ours]
