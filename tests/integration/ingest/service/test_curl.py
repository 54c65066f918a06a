"""The original's request of ten sentences and the document's commands, as a person types them, with the real model."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from shardwise.engine.errors import WorkError
from shardwise_jobs.engines.ingest.embed import onnx_model
from tests.integration.ingest.test_example import CODES
from tests.support import minilm
from tests.support.cli import SHARDWISE
from tests.support.ingest_service import IngestService, ingest_service, rows_of
from tests.support.ollama.process import OllamaProcess
from tests.support.require import missing

SENTENCES = (
    "DNA replication copies genetic information.",
    "Photosynthesis converts light into chemical energy.",
    "Mitochondria produce energy for the cell.",
    "Newton's laws describe motion.",
    "Gravity attracts objects with mass.",
    "Water consists of hydrogen and oxygen.",
    "The French Revolution began in 1789.",
    "Supply and demand set the price in a market.",
    "A binary search halves the interval in each step.",
    "The derivative of a constant is zero.",
)
REQUEST = {
    "chunks": [
        {"text": text, "source_document": "sentences.txt", "chunk_index": at} for at, text in enumerate(SENTENCES)
    ],
    "dataset_source": "parallel_test",
    "skip_cpesh": True,
}
_REPOSITORY = Path(__file__).parents[4]


@pytest.fixture(scope="module")
def mini() -> Path:
    if shutil.which("curl") is None:
        missing("curl", "apt-get install --no-install-recommends curl")
    try:
        return minilm.model_folder()
    except WorkError as error:
        missing(f"the embedding model ({error})", onnx_model.HOW_TO_GET)


@pytest.fixture
def plain(mini: Path, tmp_path: Path) -> Iterator[IngestService]:
    """A service as it is without any setting."""
    with ingest_service(model=mini, folder=tmp_path) as running:
        yield running


def shell(command: str, *, folder: Path) -> str:
    """Run a line as a terminal would, and return what it printed."""
    path = f"{SHARDWISE.parent}{os.pathsep}{os.environ['PATH']}"
    variables = {**os.environ, "PATH": path, onnx_model.FOLDER_VARIABLE: str(minilm.model_folder())}
    done = subprocess.run(
        ["bash", "-c", command], cwd=folder, env=variables, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def curl(url: str, *, folder: Path) -> str:
    (folder / "request.json").write_text(json.dumps(REQUEST), encoding="utf-8")
    return f"curl -sS -X POST {url}/ingest -H 'Content-Type: application/json' -d @request.json"


def test_the_request_of_ten_sentences_works_without_an_llm(plain: IngestService, tmp_path: Path) -> None:
    answer = json.loads(shell(curl(plain.url, folder=tmp_path), folder=tmp_path))
    assert (answer["total_chunks"], answer["successful"], answer["failed"]) == (10, 10, 0)
    assert [result["concept_text"] for result in answer["results"]] == list(SENTENCES)
    assert {result["vector_dimension"] for result in answer["results"]} == {400}
    ids = [result["global_id"] for result in answer["results"]]
    assert [result["child_cpe_ids"] for result in answer["results"]] == [[one] for one in ids[1:]] + [[]]
    assert sorted(ids) == [str(row.cpe_id) for row in rows_of(plain.store)]


def test_and_with_one(mini: Path, llm: OllamaProcess, tmp_path: Path) -> None:
    variables = {"LNSP_LLM_ENDPOINT": llm.url, "LNSP_ENABLE_PARALLEL": "true", "LNSP_MAX_PARALLEL_WORKERS": "10"}
    with ingest_service(model=mini, folder=tmp_path, **variables) as service:
        answer = json.loads(shell(curl(service.url, folder=tmp_path), folder=tmp_path))
    assert answer["successful"] == 10
    assert llm.counters()["done"] == 10


@pytest.mark.slow
def test_the_examples_chunks_become_the_rows_of_the_examples_run(plain: IngestService, tmp_path: Path) -> None:
    request = json.loads((_REPOSITORY / "examples" / "data" / "request-pydocs-500.json").read_text(encoding="utf-8"))
    answer = plain.ingest(*request["chunks"], dataset_source="pydocs", batch_id=request["batch_id"])
    assert answer["successful"] == 500
    printed = shell("shardwise ingest rows --store sqlite:///chunks.db --dataset pydocs | sha256sum", folder=tmp_path)
    assert printed.split()[0] == CODES.removeprefix("sha256:")


def test_the_documents_commands_do_what_it_says(plain: IngestService, tmp_path: Path) -> None:
    section = (_REPOSITORY / "docs" / "ingest.md").read_text(encoding="utf-8").partition("\n## The service\n")[2]
    block = re.findall(r"^```console\n(.*?)^```", section, flags=re.M | re.S)[0]
    serve, post, index, search = (line for line in re.split(r"^\$ ", block, flags=re.M) if line)
    assert serve == "shardwise ingest serve &\n"
    answer = json.loads(shell(post.replace("http://127.0.0.1:8004", plain.url), folder=tmp_path))
    assert answer["successful"] == 2
    assert "2 vectors of 400 numbers" in shell(index, folder=tmp_path)
    nearest = shell(search, folder=tmp_path).splitlines()[1].strip()
    assert nearest == answer["results"][0]["concept_text"]
