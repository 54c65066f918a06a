"""From the rows that the service wrote to an index, and from a question to rows."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from shardwise_jobs.engines.ingest.embed.onnx_model import FOLDER_VARIABLE
from shardwise_jobs.engines.ingest.index import INDEX_FILE, MANIFEST_FILE
from tests.support.cli import SHARDWISE, Finished
from tests.support.ingest_service import ingest_service
from tests.support.ingestion import DATASET, Ingestion, chunks

MADE = chunks(120)


@pytest.fixture(scope="module")
def folder(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the store of a service that has ended."""
    made = tmp_path_factory.mktemp("index")
    with ingest_service(model=model, folder=made) as service:
        assert service.ingest(*MADE, dataset_source=DATASET)["failed"] == 0
    return made


def shardwise(folder: Path, *arguments: str, model: Path, **variables: str) -> Finished:
    done = subprocess.run(
        [SHARDWISE, "ingest", *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env={**os.environ, FOLDER_VARIABLE: str(model), **variables},
        cwd=folder,
        check=False,
    )
    return Finished(code=done.returncode, out=done.stdout, err=done.stderr)


STORE = ("--store", "sqlite:///chunks.db")


def test_the_index_is_the_one_of_a_run_over_the_same_chunks(folder: Path, model: Path, tmp_path: Path) -> None:
    built = shardwise(folder, "index", *STORE, "--dataset", DATASET, "--output", str(tmp_path / "made"), model=model)
    assert (built.code, built.err) == (0, "")
    assert built.out.endswith(f"{INDEX_FILE}: 120 vectors of 24 numbers, Flat\n")
    run = Ingestion(folder=tmp_path / "run", model=model, chunks=MADE)
    run.run()
    for name in (INDEX_FILE, MANIFEST_FILE):
        assert (tmp_path / "made" / name).read_bytes() == (run.output / name).read_bytes()


@pytest.mark.parametrize(
    ("variables", "options", "nprobe"),
    [({}, (), 3), ({"FAISS_NPROBE": "1"}, (), 1), ({"FAISS_NPROBE": "1"}, ("--nprobe", "2"), 2)],
)
def test_an_index_of_lists_looks_into_as_many_as_it_is_told(
    folder: Path, model: Path, tmp_path: Path, variables: dict[str, str], options: tuple[str, ...], nprobe: int
) -> None:
    where = ("--dataset", DATASET, "--output", str(tmp_path), "--kind", "IVF", "--tmd-weight", "0.5")
    assert shardwise(folder, "index", *STORE, *where, *options, model=model, **variables).code == 0
    manifest = json.loads((tmp_path / MANIFEST_FILE).read_text())
    assert (manifest["nlist"], manifest["nprobe"], manifest["tmd_weight"]) == (3, nprobe, 0.5)


def test_a_question_finds_its_row(folder: Path, model: Path, tmp_path: Path) -> None:
    shardwise(folder, "index", *STORE, "--dataset", DATASET, "--output", str(tmp_path), model=model)
    text = MADE[7]["text"]
    found = shardwise(folder, "search", *STORE, "--index", str(tmp_path), text, "-k", "1", "-o", "json", model=model)
    assert (json.loads(found.out)["text"], json.loads(found.out)["score"]) == (text, 1.0)


def test_a_data_set_without_rows_and_a_store_that_is_none_are_named(folder: Path, model: Path, tmp_path: Path) -> None:
    nothing = shardwise(folder, "index", *STORE, "--dataset", "other", "--output", str(tmp_path), model=model)
    assert (nothing.code, nothing.err) == (2, "error: --dataset other: the store has no rows of it\n")
    nowhere = ("--store", "sqlite:///no.db", "--dataset", DATASET, "--output", str(tmp_path))
    assert "no such file" in shardwise(folder, "index", *nowhere, model=model).err
    assert list(tmp_path.iterdir()) == []


def test_the_rows_of_a_data_set_that_is_not_there_have_no_digest(folder: Path, model: Path) -> None:
    nothing = shardwise(folder, "rows", *STORE, "--dataset", "other", model=model)
    assert (nothing.code, nothing.out) == (2, "")
    assert nothing.err == "error: --dataset other: the store has no rows of it\n"
    assert len(shardwise(folder, "rows", *STORE, "--dataset", DATASET, model=model).out.splitlines()) == 120


@pytest.fixture(scope="module")
def built(folder: Path, model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an index without a run's summary."""
    made = tmp_path_factory.mktemp("built")
    assert shardwise(folder, "index", *STORE, "--dataset", DATASET, "--output", str(made), model=model).code == 0
    return made


def test_a_model_s_name_for_an_index_whose_model_has_none_is_refused(folder: Path, model: Path, built: Path) -> None:
    found = shardwise(folder, "search", *STORE, "--index", str(built), "--model", "/nonexistent", "text", model=model)
    assert (found.code, found.out) == (2, "")
    assert found.err.startswith("error: --model: the index is of onnx:tiny@1, and only sentence-transformers takes")


@pytest.mark.parametrize("content", ["{", '{"store": 7}'])
def test_a_summary_that_is_none_is_named(folder: Path, model: Path, built: Path, content: str) -> None:
    summary = built / "summary.json"
    summary.write_text(content)
    found = shardwise(folder, "search", *STORE, "--index", str(built), "text", model=model)
    summary.unlink()
    assert (found.code, found.out) == (2, "")
    assert found.err.startswith(f"error: --index: {summary}: ")
    assert found.err.endswith("; without that file, name the store with --store\n")
