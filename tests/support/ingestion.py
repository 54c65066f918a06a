"""An ingestion as pods do it: a manifest, chunks made of numbers, and what must come of them, reckoned by hand."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shardwise_api import overrides
from shardwise_api.wire import Step
from shardwise_jobs.engines.ingest.codes import Codes
from shardwise_jobs.engines.ingest.embed.onnx_model import FOLDER_VARIABLE
from shardwise_jobs.engines.ingest.finalize import result_digest
from shardwise_jobs.engines.ingest.identifiers import chunk_sha256, cpe_id
from shardwise_jobs.engines.ingest.stores import Counts, RowKey, open_store
from shardwise_jobs.engines.ingest.tmd.parser import prompt_for
from tests.support.ollama import words
from tests.support.worker import Ended, Pods

MODEL = "tinyllama:1.1b"
DATASET = "tests"
_SPEC: dict[str, Any] = {
    "sharding": {"strategy": "RoundRobin", "shards": 2},
    "blockSize": 8,
    "source": {"files": {"uris": [], "format": "request"}},
    "datasetSource": DATASET,
    "workers": 4,
}


def chunk(number: int, **changes: Any) -> dict[str, Any]:
    """Return the chunk of a number, as a request has it: five of them are a document."""
    made = {
        "text": f"Chunk {number} is about {hashlib.sha256(str(number).encode()).hexdigest()}.",
        "source_document": f"doc-{number // 5}",
        "chunk_index": number % 5,
    }
    return {**made, **changes}


def chunks(count: int) -> list[dict[str, Any]]:
    """Return the chunks of the first numbers."""
    return [chunk(number) for number in range(count)]


def digest_of(made: Iterable[Mapping[str, Any]], *, embed_model: str = "onnx:tiny@1", dataset: str = DATASET) -> str:
    """Return the digest of the rows of some chunks, with the codes that the tests' Ollama gives them."""
    keys = []
    for each in made:
        text = each["text"]
        document = each.get("document_id") or each["source_document"]
        own = cpe_id(dataset_source=dataset, document=document, chunk_index=each["chunk_index"], text=text)
        keys.append(
            RowKey(
                cpe_id=own,
                chunk_sha256=chunk_sha256(text),
                codes=Codes(*words.codes(prompt_for(text))),
                tmd_backend=f"ollama-v1:{MODEL}",
                embed_model=embed_model,
            )
        )
    return result_digest(sorted(keys, key=lambda key: key.cpe_id.bytes))


@dataclass(slots=True, kw_only=True)
class Ingestion:
    """One run in a folder of its own; each attribute may be changed before it starts."""

    folder: Path
    model: Path
    store: str = ""
    chunks: Sequence[Any] = ()
    url: str | None = None
    """Of the LLM; none: the embedded backend."""
    name: str = "chunks"
    changes: Sequence[str] = ()
    """Of the spec, as `--set` takes them."""
    environment: Mapping[str, str] = field(default_factory=dict)
    _pods: Pods | None = None

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.store = self.store or f"sqlite:///{self.folder / 'chunks.db'}"
        self.request.write_text(json.dumps({"chunks": list(self.chunks)}), encoding="utf-8")

    @property
    def request(self) -> Path:
        """The input."""
        return self.folder / "request.json"

    @property
    def output(self) -> Path:
        """Where index and summary go."""
        return self.folder / "output"

    @property
    def manifest(self) -> dict[str, Any]:
        """The manifest as it is now."""
        spec = copy.deepcopy(_SPEC)
        spec["source"]["files"]["uris"] = [str(self.request)]
        spec["output"] = {"uri": self.output.as_uri()}
        # A password would be refused in a manifest, so the URI comes as a Secret's would.
        spec["store"] = {"secretRef": {"name": "store", "key": "uri"}}
        if self.url is not None:
            spec["tmd"] = {"backend": "ollama", "url": self.url, "model": MODEL, "retries": 1, "timeoutSeconds": 10}
        made = {
            "apiVersion": "shardwise.dev/v1alpha1",
            "kind": "IngestRun",
            "metadata": {"name": self.name},
            "spec": spec,
        }
        problems = overrides.apply(made, self.changes)
        assert not problems, problems
        return made

    @property
    def pods(self) -> Pods:
        """The run's pods."""
        if self._pods is None:
            self._pods = Pods(
                folder=self.folder,
                manifest=self.manifest,
                environment={
                    FOLDER_VARIABLE: str(self.model),
                    "SHARDWISE_STORE_URI": self.store,
                    "OMP_NUM_THREADS": "1",
                    **self.environment,
                },
            )
        return self._pods

    def prepare(self) -> Ended:
        """Run the prepare step."""
        return self.pods.prepare()

    def work(self, shard: int = 0) -> Ended:
        """Run a shard to its end."""
        return self.pods.run(Step.WORK, shard=shard)

    def finalize(self) -> Ended:
        """Run the finalize step."""
        return self.pods.run(Step.FINALIZE)

    def summary(self) -> dict[str, Any]:
        """Return what the run says of itself."""
        found: dict[str, Any] = json.loads((self.output / "summary.json").read_text(encoding="utf-8"))
        return found

    def run(self) -> dict[str, Any]:
        """Run all steps and return the summary."""
        self.pods.result()
        return self.summary()

    def counts(self) -> Counts:
        """Count rows in the store."""
        with closing(open_store(self.store)) as store:
            return store.counts()

    def blocks(self) -> set[tuple[int, int]]:
        """Return (shard, block) of all that is committed."""
        with closing(open_store(self.store)) as store:
            return {(record.shard, record.block) for record in store.ledger(run=self.pods.uid)}
