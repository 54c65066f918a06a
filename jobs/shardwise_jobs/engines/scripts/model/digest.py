"""What two runs of a suite with the same result have in common: a digest over what each job ran, and how it ended.

Neither machine nor time shows in it: the interpreter's path and the base of all outputs are replaced, attempts and
durations are left out.
"""

from __future__ import annotations

from collections.abc import Sequence

from .canonical_json import canonical_json, sha256_of
from .command import portable
from .records import JobRecord


def digest_of(records: Sequence[JobRecord]) -> str:
    """Return `sha256:…` over (id, status, exit code, portable command) of each record, in selection order."""
    lines = (
        canonical_json([record.id, record.status, record.exit_code, portable(record.command, job=record)])
        for record in records
    )
    return sha256_of(b"".join(line + b"\n" for line in lines))
