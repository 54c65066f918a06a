"""The example as a person runs it: no service, the real model, a result that is found again, and questions to it."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from shardwise.engine.errors import WorkError
from shardwise_jobs.engines.ingest.codes import DOMAINS, MODIFIERS, TASKS
from shardwise_jobs.engines.ingest.embed import onnx_model
from tests.support import minilm
from tests.support.cli import SHARDWISE, Finished
from tests.support.require import missing

_EXAMPLES = Path(__file__).parents[3] / "examples"
CODES = "sha256:4a5692a8e6b0bc47eb4839aaea1675393bfe59ec3dc1329bd60a67f1b8cce7f4"
"""Of the example's rows. The narrowest choice of a code is by 4e-5, far more than processors round differently."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example in a folder of its own, run once."""
    try:
        minilm.model_folder()
    except WorkError as error:
        missing(f"the embedding model ({error})", onnx_model.HOW_TO_GET)
    made = tmp_path_factory.mktemp("example")
    (made / "data").mkdir()
    shutil.copy(_EXAMPLES / "ingest-pydocs.yaml", made)
    shutil.copy(_EXAMPLES / "data" / "request-pydocs-500.json", made / "data")
    return made


def shardwise(folder: Path, *arguments: str) -> Finished:
    done = subprocess.run(
        [SHARDWISE, *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env={**os.environ, onnx_model.FOLDER_VARIABLE: str(minilm.model_folder())},
        cwd=folder,
        check=False,
    )
    return Finished(code=done.returncode, out=done.stdout, err=done.stderr)


@pytest.fixture(scope="module")
def status(folder: Path) -> dict[str, Any]:
    finished = shardwise(folder, "run", "ingest-pydocs.yaml", "-o", "json")
    assert finished.code == 0, finished.err
    return finished.status


def metrics(status: dict[str, Any]) -> dict[str, float]:
    return {metric["name"]: metric["value"] for metric in status["metrics"]}


@pytest.mark.slow
def test_the_example_has_500_rows_and_500_vectors(status: dict[str, Any]) -> None:
    assert status["phase"] == "Complete"
    assert status["items"] == {"total": 500, "done": 500, "failed": 0, "skipped": 0}
    found = metrics(status)
    assert (found["rows"], found["ntotal"], found["inserted"], found["deduplicated"]) == (500, 500, 500, 0)
    assert found["embedSeconds"] > 0
    assert found["writeSeconds"] > 0
    assert status["result"]["digest"] == CODES


@pytest.mark.slow
def test_a_second_run_inserts_nothing_and_ends_as_the_first(folder: Path, status: dict[str, Any]) -> None:
    again = shardwise(folder, "run", "ingest-pydocs.yaml", "-o", "json").status
    assert again["result"] == status["result"]
    assert metrics(again)["rows"] == 500
    other = ("--set", "metadata.name=other", "--set", "sharding.shards=3", "--set", "sharding.strategy=Chunked")
    found = shardwise(folder, "run", "ingest-pydocs.yaml", "-o", "json", *other).status
    assert (metrics(found)["inserted"], metrics(found)["rows"], metrics(found)["ntotal"]) == (0, 500, 500)
    assert found["result"]["digest"] == status["result"]["digest"]
    assert found["result"]["summary"]["vectorDigest"] == status["result"]["summary"]["vectorDigest"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("question", "source"),
    [
        ("how do I raise and catch an exception?", "exceptions.html"),
        ("isolated environments for installed packages", "3.3.html"),
        ("quoted-printable encoding of mail", "quopri.html"),
        ("panels that lie above each other on a terminal", "curses.panel.html"),
    ],
)
def test_a_question_finds_what_it_is_about(folder: Path, status: dict[str, Any], question: str, source: str) -> None:
    index = str(Path(status["result"]["uri"].removeprefix("file://")).parent)
    found = shardwise(folder, "ingest", "search", "--index", index, question, "-k", "3", "-o", "json")
    assert found.code == 0, found.err
    answers = [json.loads(line) for line in found.out.splitlines()]
    assert len(answers) == 3
    assert answers[0]["chunk_position"]["source"].endswith(source)
    assert question not in found.out
    assert shardwise(folder, "ingest", "search", "--index", index, question).out.count("\n") == 10


@pytest.mark.slow
def test_a_question_with_codes_is_led_to_rows_that_have_them(folder: Path, status: dict[str, Any]) -> None:
    index = str(Path(status["result"]["uri"].removeprefix("file://")).parent)
    asked = ("ingest", "search", "--index", index, "quoted-printable encoding of mail", "-o", "json")
    last = json.loads(shardwise(folder, *asked, "-k", "50").out.splitlines()[-1])["tmd"]
    labels = {"domain": DOMAINS, "task": TASKS, "modifier": MODIFIERS}
    codes = ",".join(str(labels[field].index(label)) for field, label in last.items())
    found = shardwise(folder, *asked, "--codes", codes, "-k", "1")
    assert json.loads(found.out)["tmd"] == last


@pytest.mark.slow
def test_the_digest_is_that_of_the_printed_rows(folder: Path, status: dict[str, Any]) -> None:
    store = "sqlite:///.shardwise/ingest-pydocs/chunks.db"
    printed = shardwise(folder, "ingest", "rows", "--store", store, "--dataset", "pydocs")
    assert f"sha256:{hashlib.sha256(printed.out.encode()).hexdigest()}" == status["result"]["digest"]


@pytest.mark.slow
def test_a_plan_of_the_example_tells_its_shards_and_writes_nothing(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "data", tmp_path / "data")
    shutil.copy(folder / "ingest-pydocs.yaml", tmp_path)
    before = sorted(tmp_path.rglob("*"))
    planned = shardwise(tmp_path, "plan", "ingest-pydocs.yaml")
    assert planned.code == 0, planned.err
    assert "500" in planned.out
    assert sorted(tmp_path.rglob("*")) == before


def test_a_search_without_its_parts_says_what_is_missing(tmp_path: Path) -> None:
    nothing = shardwise(tmp_path, "ingest", "search", "--index", str(tmp_path), "x")
    assert (nothing.code, nothing.err.startswith("error: index: ")) == (2, True)
    assert shardwise(tmp_path, "ingest", "search", "--index", str(tmp_path), " ").err == "error: TEXT: is blank\n"
    for codes in ("15,14", "15,14,64", "Software,14,9"):
        wrong = shardwise(tmp_path, "ingest", "search", "--index", str(tmp_path), "x", "--codes", codes)
        assert (wrong.code, wrong.err.startswith(f"error: --codes: three numbers as 15,14,9, got '{codes}' (")) == (
            2,
            True,
        )
