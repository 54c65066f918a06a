"""Folders whose names would mean something in a URI: a project's store is its own, and links lead to what they say."""

from __future__ import annotations

from pathlib import Path

import pytest

from shardwise_api.uris import local_path
from tests.support.cli import Folder
from tests.support.expected import digest_of

SAMPLES = 12


@pytest.mark.parametrize(("name", "output"), [("exp#1", None), ("~ 100%41?", "file://out")])
def test_a_run_keeps_to_its_folder(name: str, output: str | None, tmp_path: Path) -> None:
    path = tmp_path / name
    path.mkdir()
    folder = Folder(path=path, samples=SAMPLES)
    if output is not None:
        folder.manifest["spec"]["output"] = {"uri": output}
    done = folder.run()
    assert done.code == 0, done.err
    assert {entry.name for entry in tmp_path.iterdir()} == {name}
    assert (path / "patterns.db").is_file()
    assert done.status["result"]["digest"] == digest_of(SAMPLES)
    summary = local_path(done.status["result"]["uri"])
    assert summary is not None
    assert summary.is_file()
    assert summary.is_relative_to(path / ("out" if output else ".shardwise"))
