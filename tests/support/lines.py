"""Input files made of lines: texts, records and broken bytes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def write_lines(path: Path, *lines: bytes | str | dict[str, Any]) -> Path:
    """Write lines, a mapping as JSON, and return the path."""
    coded = (
        line if isinstance(line, bytes) else (line if isinstance(line, str) else json.dumps(line)).encode()
        for line in lines
    )
    path.write_bytes(b"".join(line + b"\n" for line in coded))
    return path
