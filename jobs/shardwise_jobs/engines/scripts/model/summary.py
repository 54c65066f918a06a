"""The summary of a suite: the original's keys in its order, then ours, in one JSON file per run.

It is written again after each job, whole each time, so that a runner killed half-way leaves what is known by then. What
two runs with the same result have in common is its digest, over what each job ran and how it ended: neither machine nor
time shows in that, for the interpreter's path and the base of all outputs are replaced, attempts and durations are left
out.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from shardwise.engine.files import OutputFolder, atomic_write

from .command import portable
from .records import JobRecord, SuiteExit, counts_of
from .validation_errors import InvalidSuite

PIPELINE = "AiMedRes Medical AI Training"
"""What the original writes, for readers of its summaries."""
SCHEMA_VERSION = 1
NO_GPU: Mapping[str, Any] = {"framework": None, "cuda_available": False, "device_count": 0, "devices": []}


def summary_of(
    records: Sequence[JobRecord],
    *,
    run_uid: str,
    start_time: datetime,
    end_time: datetime,
    working_directory: str,
    arguments: Mapping[str, Any],
    exit_status: SuiteExit | None,
    git_commit: str | None = None,
    gpu_info: Mapping[str, Any] = NO_GPU,
    python: str | None = None,
) -> dict[str, Any]:
    """Return a run's summary as JSON values.

    Times need a zone. `exit_status` is None while jobs are still running. `arguments` is `SuiteOptions.arguments()`;
    `python` defaults to this interpreter's version.
    """
    duration = (end_time - start_time).total_seconds()
    worked = sum(record.duration_sec or 0.0 for record in records)
    return {
        "pipeline": PIPELINE,
        "start_time_utc": start_time.astimezone(UTC).isoformat(),
        "end_time_utc": end_time.astimezone(UTC).isoformat(),
        "duration_sec": duration,
        "git_commit": git_commit,
        "python": (python or sys.version).replace("\n", " "),
        "working_directory": working_directory,
        "gpu_info": dict(gpu_info),
        "arguments": dict(arguments),
        "jobs": [record.model_dump(mode="json") for record in records],
        "schema_version": SCHEMA_VERSION,
        "run_uid": run_uid,
        "exit_status": None if exit_status is None else int(exit_status),
        "counts": counts_of(records),
        "wall_speedup": round(worked / duration, 3) if duration > 0 else None,
        "digest": digest_of(records),
    }


def summary_name(*, start_time: datetime, run_uid: str) -> str:
    """Return a summary's file name: when the run began (UTC), and its uid, for two runs may begin in one second."""
    uid = re.sub(r"[^A-Za-z0-9.-]", "-", run_uid)
    return f"training_summary_{start_time.astimezone(UTC):%Y%m%d_%H%M%S}_{uid}.json"


def write_summary(place: Path | OutputFolder, summary: Mapping[str, Any]) -> str:
    """Write a summary into a folder so that it appears whole; return its path, or its URI.

    Raises:
        InvalidSuite: the folder can't be written.
        BadConfiguration, Unavailable: as `OutputFolder.write_text`, for such a folder.
    """
    name = summary_name(start_time=datetime.fromisoformat(summary["start_time_utc"]), run_uid=str(summary["run_uid"]))
    text = json.dumps(summary, indent=2) + "\n"
    if isinstance(place, OutputFolder):
        return place.write_text(name, text)
    path = place / name
    try:
        atomic_write(path, text.encode("utf-8"))
    except OSError as error:
        raise InvalidSuite(f"summary_dir: {path}: {error.strerror or error}") from error
    return str(path)


def canonical_json(value: Any) -> bytes:
    """Return a JSON value's one text: keys sorted, no blanks, ASCII only. Raises ValueError for NaN and infinity."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii")


def sha256_of(content: bytes) -> str:
    """Return `sha256:…` of some bytes."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def digest_of(records: Sequence[JobRecord]) -> str:
    """Return `sha256:…` over (id, status, exit code, portable command) of each record, in selection order."""
    lines = (
        canonical_json([record.id, record.status, record.exit_code, portable(record.command, job=record)])
        for record in records
    )
    return sha256_of(b"".join(line + b"\n" for line in lines))
