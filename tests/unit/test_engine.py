"""Engines are found by name; one that can't work here says what it lacks."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from shardwise.engine import worker
from shardwise.engine.errors import BadConfiguration


def test_the_engine_that_a_manifest_names_is_loaded() -> None:
    assert worker.load_engine("kato").__name__ == "KatoEngine"


def test_a_name_that_nobody_brings_is_told_with_those_there_are() -> None:
    with pytest.raises(BadConfiguration, match=r"spec\.engine\.magic: this version has no such engine; it has .*kato"):
        worker.load_engine("magic")


@pytest.mark.parametrize(("name", "field"), [("ingest", "kind: IngestRun"), ("difflogic", r"spec\.engine\.difflogic")])
def test_a_library_that_is_missing_is_named_with_the_extra_that_brings_it(
    name: str, field: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "lacking_engine.py").write_text("import nowhere_to_be_found", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    point = EntryPoint(name=name, value="lacking_engine:Engine", group="shardwise.engines")
    monkeypatch.setattr(worker, "entry_points", lambda group: [point])

    with pytest.raises(BadConfiguration, match=rf"{field}: .*nowhere_to_be_found.*shardwise\[{name}\]"):
        worker.load_engine(name)
