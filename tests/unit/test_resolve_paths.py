"""Paths in a manifest are relative to it, wherever the command is started."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from shardwise_api.manifest import resolve_paths
from shardwise_api.runs import Run
from tests.support.manifests import ALL, INGEST, KATO, REST, parse


def spec_of(run: Run) -> dict[str, Any]:
    return run.spec_document()


def test_relative_paths_are_seen_from_the_manifests_folder(tmp_path: Path) -> None:
    run = parse(
        KATO,
        "output.uri=out",
        "engine.kato.tokenizer={file: ../tokenizer.json}",
        "engine.kato.dataset.files.uris=[a.txt, ./b/../c.txt, /abs/d.txt, 's3://bucket/e', 'file:///abs/f', 'file://g']",
    )

    resolved = spec_of(resolve_paths(run, base=tmp_path))

    assert resolved["output"]["uri"] == f"{tmp_path}/out"
    kato = resolved["engine"]["kato"]
    assert kato["tokenizer"]["file"] == f"{tmp_path.parent}/tokenizer.json"
    assert kato["store"]["uri"] == f"sqlite:///{tmp_path}/patterns.db"
    assert kato["dataset"]["files"]["uris"] == [
        f"{tmp_path}/a.txt",
        f"{tmp_path}/c.txt",
        "/abs/d.txt",
        "s3://bucket/e",
        "file:///abs/f",
        f"file://{tmp_path}/g",
    ]


@pytest.mark.parametrize("uri", ["sqlite:////abs/a.db", "mongodb://host:27017/x", "mongodb+srv://host"])
def test_an_absolute_store_stays(tmp_path: Path, uri: str) -> None:
    run = resolve_paths(parse(KATO, f"engine.kato.store.uri={uri}"), base=tmp_path)

    assert spec_of(run)["engine"]["kato"]["store"]["uri"] == uri


@pytest.mark.parametrize(
    ("path", "expected"),
    [("./data", "{base}/data"), ("../data", "{parent}/data"), ("wikitext", "wikitext"), ("org/set", "org/set")],
)
def test_a_name_on_the_hub_is_no_path(tmp_path: Path, path: str, expected: str) -> None:
    run = resolve_paths(parse(REST, f"engine.kato.dataset.hub.path={path}"), base=tmp_path)

    hub = spec_of(run)["engine"]["kato"]["dataset"]["hub"]
    assert hub["path"] == expected.format(base=tmp_path, parent=tmp_path.parent)


def test_an_ingest_runs_paths_are_resolved_too(tmp_path: Path) -> None:
    resolved = spec_of(resolve_paths(parse(INGEST, "output.uri=file://out"), base=tmp_path))

    assert resolved["source"]["files"]["uris"] == [f"{tmp_path}/chunks.json"]
    assert resolved["store"]["uri"] == f"sqlite:///{tmp_path}/chunks.db"
    assert resolved["output"]["uri"] == f"file://{tmp_path}/out"


@pytest.mark.parametrize("text", ALL.values(), ids=ALL)
def test_resolving_leaves_the_given_run_alone_and_happens_once(text: str, tmp_path: Path) -> None:
    run = parse(text)
    before = run.model_copy(deep=True)

    resolved = resolve_paths(run, base=tmp_path)

    assert run == before
    assert resolve_paths(resolved, base=tmp_path / "elsewhere") == resolved


def test_a_relative_base_is_the_working_directorys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    resolved = spec_of(resolve_paths(parse(INGEST), base=Path("sub")))

    assert resolved["source"]["files"]["uris"] == [f"{tmp_path}/sub/chunks.json"]
