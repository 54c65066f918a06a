"""Debian's share of the cluster, installed when missing; elsewhere it says what to install."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from .errors import ClusterError
from .shell import run, say

CNI_PROGRAMS = Path("/usr/lib/cni")
"""Where Debian puts the network plugins."""

# Package by the program that shows it to be there.
_PACKAGES = {
    "busybox": "busybox-static",
    "conntrack": "conntrack",
    "containerd": "containerd",
    "ip": "iproute2",
    "iptables": "iptables",
    "kubectl": "kubernetes-client",
    "mount": "mount",
    "nsenter": "util-linux",
    "runc": "runc",
    str(CNI_PROGRAMS / "bridge"): "containernetworking-plugins",
}
_INSTALL_SECONDS = 900


def ensure() -> None:
    """Install what is missing; raise with the list where that can't be done."""
    missing = [package for program, package in _PACKAGES.items() if shutil.which(program) is None]
    if not missing:
        return
    if shutil.which("apt-get") is None:
        raise ClusterError(f"missing, and no apt-get to install them: {' '.join(missing)}")
    say(f"installing {' '.join(missing)}")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    run("apt-get", "update", "-q", environment=environment, timeout=_INSTALL_SECONDS)
    install = ("apt-get", "install", "-qy", "--no-install-recommends", *missing)
    run(*install, environment=environment, timeout=_INSTALL_SECONDS)


def busybox() -> Path:
    """The program that test pods are made of; only a static one runs in an image of its own."""
    path = Path(shutil.which("busybox") or "/bin/busybox").resolve()
    # A program that needs a loader names it right behind its header.
    if b"/ld-linux" in path.read_bytes()[:4096]:
        raise ClusterError(f"{path} is not static: install busybox-static in place of busybox")
    return path
