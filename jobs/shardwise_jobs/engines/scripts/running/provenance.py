"""Where the figures of a summary come from: which commit the tree of scripts is of, and which GPUs there are.

The driver is asked for GPUs, for to import a learning framework only to ask it would take seconds. The keys are those
of the original's summary, which asked the framework.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

_SECONDS = 10.0
_FRAMEWORKS = ("torch", "tensorflow")


def gpu_info(environment: Mapping[str, str] = os.environ) -> dict[str, Any]:
    """Return `framework`, `cuda_available`, `device_count` and `devices` (their names) as scripts will find them."""
    devices = _visible(_devices(environment), chosen=environment.get("CUDA_VISIBLE_DEVICES"))
    return {
        "framework": next((name for name in _FRAMEWORKS if find_spec(name) is not None), None),
        "cuda_available": bool(devices),
        "device_count": len(devices),
        "devices": devices,
    }


def _devices(environment: Mapping[str, str]) -> list[str]:
    program = shutil.which("nvidia-smi", path=environment.get("PATH"))
    if program is None:
        return []
    try:
        asked = subprocess.run(
            [program, "--query-gpu=name", "--format=csv,noheader"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        # A driver without a device, or one that hangs: to a script there is no GPU.
        return []
    return [line.strip() for line in asked.stdout.splitlines() if line.strip()]


def _visible(devices: list[str], *, chosen: str | None) -> list[str]:
    """Return those that CUDA_VISIBLE_DEVICES leaves: as CUDA reads it, the first that is not there ends the list."""
    if chosen is None:
        return devices
    left: list[str] = []
    for entry in (part.strip() for part in chosen.split(",")):
        if entry.startswith(("GPU-", "MIG-")) and devices:
            left.append(entry)
        elif entry.isdigit() and int(entry) < len(devices):
            left.append(devices[int(entry)])
        else:
            break
    return left


def commit_of(tree: Path) -> str | None:
    """Return the commit that a tree is of, None where git has nothing to say, or isn't there."""
    try:
        asked = subprocess.run(
            ["git", "rev-parse", "HEAD"],  # noqa: S607 (whichever git there is)
            cwd=tree,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return asked.stdout.strip() or None
