"""A run whose ranks are processes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.gangs import Gang


@pytest.fixture
def gang(tmp_path: Path) -> Iterator[Gang]:
    made = Gang(folder=tmp_path)
    yield made
    made.clear()
