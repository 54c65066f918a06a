"""GPUs as the driver's own program tells of them, and as CUDA_VISIBLE_DEVICES leaves them to scripts."""

from __future__ import annotations

from pathlib import Path

import pytest

from shardwise_jobs.engines.scripts.running.provenance import gpu_info


def driver(folder: Path, script: str) -> dict[str, str]:
    program = folder / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return {"PATH": str(folder)}


TWO = 'echo "NVIDIA H200"; echo "NVIDIA L4"'


@pytest.mark.parametrize(
    ("script", "chosen", "devices"),
    [
        (TWO, None, ["NVIDIA H200", "NVIDIA L4"]),
        (TWO, "1", ["NVIDIA L4"]),
        (TWO, "1,0", ["NVIDIA L4", "NVIDIA H200"]),
        (TWO, "0,7,1", ["NVIDIA H200"]),
        (TWO, "-1", []),
        (TWO, "", []),
        (TWO, "GPU-8f3a", ["GPU-8f3a"]),
        ("exit 9", None, []),
        ("echo", None, []),
        ("exit 9", "GPU-8f3a", []),
    ],
)
def test_devices_are_those_that_scripts_will_see(
    tmp_path: Path, script: str, chosen: str | None, devices: list[str]
) -> None:
    environment = driver(tmp_path, script) | ({} if chosen is None else {"CUDA_VISIBLE_DEVICES": chosen})

    found = gpu_info(environment)

    assert (found["devices"], found["device_count"], found["cuda_available"]) == (devices, len(devices), bool(devices))


def test_without_a_driver_there_is_none(tmp_path: Path) -> None:
    assert list(gpu_info({"PATH": str(tmp_path)})) == ["framework", "cuda_available", "device_count", "devices"]
    assert gpu_info({"PATH": str(tmp_path)})["device_count"] == 0
