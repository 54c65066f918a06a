"""Chunks become rows in a cluster as on a laptop: each once, whatever happens to pods, and no answer is wasted."""

from __future__ import annotations

import base64
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import faiss
import psycopg2
import pytest
import yaml

from shardwise_api.common import Strategy
from shardwise_api.sharding import shard_items
from shardwise_api.status import ConditionType, RunStatus
from shardwise_jobs.engines.ingest.embed.onnx_model import read_card
from shardwise_jobs.engines.ingest.pipeline import ahead_of
from shardwise_jobs.engines.ingest.stores import Counts, open_store
from shardwise_jobs.engines.ingest.tmd.parser import prompt_for
from tests.support.deletions import Deletion, deleting
from tests.support.expected import REPOSITORY
from tests.support.ingestion import Ingestion, digest_of
from tests.support.minilm import model_folder
from tests.support.ollama import words
from tests.support.trial_stack import TrialStack, trial_stack
from tests.support.workspace import Submitted, Workspace, told

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

EXAMPLE = REPOSITORY / "examples" / "cluster-ingest.yaml"
REQUEST = REPOSITORY / "examples" / "data" / "request-pydocs-500.json"
CHUNKS: list[dict[str, Any]] = json.loads(REQUEST.read_text(encoding="utf-8"))["chunks"]
FEW = 60


@pytest.fixture
def servers(workspace: Workspace, images: dict[str, str]) -> Iterator[TrialStack]:
    """PostgreSQL and a language model of examples/stack, in the workspace."""
    with trial_stack(workspace, images=images) as this:
        yield this


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What the language model was asked, and when; chunks are told by their place in the input."""

    times: dict[int, list[float]]

    @classmethod
    def of(cls, servers: TrialStack) -> Asked:
        """Read the server's log."""
        items = {words.digest(prompt_for(chunk["text"])): item for item, chunk in enumerate(CHUNKS)}
        assert len(items) == len(CHUNKS)
        times: dict[int, list[float]] = {}
        # Prepare has the model loaded by an empty question.
        questions = [call for call in servers.llm.calls() if call["prompt"] != words.digest("")]
        for call in questions:
            times.setdefault(items[call["prompt"]], []).append(call["at"])
        return cls(times=times)

    @property
    def count(self) -> int:
        """All questions."""
        return sum(map(len, self.times.values()))


def test_the_example_has_each_chunk_once_and_asks_no_answered_question_again_while_its_workers_are_deleted(
    workspace: Workspace, servers: TrialStack, images: dict[str, str]
) -> None:
    """As docs/install.md tells: apply, put the chunks on the claim, let the run go on."""
    with workspace.volume("chunks"):
        manifest = _apply_example(workspace, servers, worker=images["worker"])
        run = Submitted(cluster=workspace.cluster, name="pydocs", kind="IngestRun")
        # So quick that a worker gets somewhere in the seconds that it is given, and so slow that it is found at work.
        servers.llm.settings(latency_ms=300)
        run.patch({"suspend": False})
        run.until(lambda status: _metric(status, "tmdSeconds"), what="it shows where its time goes")
        with deleting(run, graces=(30, 0), per_shard=3, at_once=2) as deletions:
            status = run.complete(seconds=800)
        again = _again(workspace, manifest)
        index: Any = faiss.read_index(str(workspace.folder / "chunks" / "results" / "index.faiss"))

    assert len(deletions) >= 4, "it ended before enough could be deleted: take more chunks"
    assert not status.failures, told(status)
    assert (status.items.total, status.items.done, status.items.failed) == (500, 500, 0)
    assert (status.shards.succeeded, status.shards.failed) == (4, 0)
    assert {name: _metric(status, name) for name in ("inserted", "deduplicated", "rows", "ntotal")} == {
        "inserted": 500, "deduplicated": 0, "rows": 500, "ntotal": 500,
    }  # fmt: skip
    assert all(_metric(status, f"{phase}Seconds") > 0 for phase in ("tmd", "embed", "write"))
    assert status.result is not None
    expected = digest_of(CHUNKS, embed_model=read_card(model_folder()).name, dataset="pydocs")
    assert status.result.digest == expected
    assert status.result.summary["index"] == "file:///data/results/index.faiss"
    with closing(open_store(servers.store)) as store:
        assert store.counts() == Counts(entries=500, vectors=500)
        ids = {vector.faiss_id for vector in store.vectors()}
    assert index.ntotal == 500
    assert set(faiss.vector_to_array(index.id_map)) == ids

    _assert_no_answer_was_wasted(Asked.of(servers), deletions, servers, run)
    # Once more into the same data set: nothing is new, and nobody is asked.
    assert again.result is not None
    assert again.result.digest == expected
    assert (_metric(again, "inserted"), _metric(again, "deduplicated")) == (0, 500)
    _assert_secret(workspace, servers, run)


def test_an_ingestion_into_a_file_on_a_volume_needs_no_service_and_has_the_digest_of_one_process(
    workspace: Workspace, tmp_path: Path
) -> None:
    chunks = CHUNKS[:FEW]
    (workspace.folder / "request.json").write_text(json.dumps({"chunks": chunks}), encoding="utf-8")
    # Workers share a file of SQLite on one node only.
    manifest = _manifest(workspace, "alone", store={"uri": "sqlite:////data/chunks.db"}, shards=3)
    manifest["spec"]["worker"]["nodeSelector"] = {"kubernetes.io/hostname": "node1"}
    run = workspace.apply(manifest)
    local = Ingestion(folder=tmp_path, model=model_folder(), chunks=chunks, changes=["spec.datasetSource=pydocs"]).run()

    status = run.complete()
    header, row = workspace.cluster.kubectl("get", "irun").splitlines()

    assert status.result is not None
    assert status.result.digest == local["digest"]
    assert status.result.summary["tmdBackends"] == local["tmdBackends"]
    assert (status.items.done, _metric(status, "inserted"), _metric(status, "ntotal")) == (FEW, FEW, FEW)
    assert header.split() == ["NAME", "PHASE", "PROGRESS", "SHARDS", "RATE", "ETA", "AGE"]
    assert row.split()[:4] == ["alone", "Complete", "100", "3"]
    with closing(open_store(f"sqlite:///{workspace.folder / 'chunks.db'}")) as store:
        assert store.counts() == Counts(entries=FEW, vectors=FEW)


def test_a_store_that_can_not_be_used_is_told_and_a_missing_secret_waited_for(
    workspace: Workspace, servers: TrialStack
) -> None:
    cluster, secret = workspace.cluster, workspace.cluster.get("secret", "postgresql")["data"]
    uri, password = (base64.b64decode(secret[key]).decode() for key in ("uri", "password"))
    (workspace.folder / "request.json").write_text(json.dumps({"chunks": CHUNKS[:FEW]}), encoding="utf-8")
    for name, value in (
        ("wrong", uri.replace(password, "wrong")),
        ("nowhere", uri.replace("postgresql.", "nobody.")),
    ):
        cluster.kubectl("create", "secret", "generic", name, f"--from-literal=uri={value}")
    runs = {
        name: workspace.apply(_manifest(workspace, name, store={"secretRef": {"name": name, "key": "uri"}}))
        for name in ("wrong", "nowhere", "later")
    }

    assert 'secret "later" not found' in runs["later"].refused(ConditionType.PODS_READY, "SecretMissing")
    assert _failure(runs["wrong"]).startswith("InvalidSpec: prepare: postgresql store postgresql.")
    assert "password authentication failed" in _failure(runs["wrong"])
    cluster.kubectl("create", "secret", "generic", "later", f"--from-literal=uri={uri}")
    assert _metric(runs["later"].complete(), "rows") == FEW
    assert _failure(runs["nowhere"]).startswith("StoreUnavailable: prepare: postgresql store nobody.")


def _apply_example(workspace: Workspace, servers: TrialStack, *, worker: str) -> dict[str, Any]:
    cluster = workspace.cluster
    text = EXAMPLE.read_text(encoding="utf-8")
    text = text.replace("shardwise/worker:0.1.0.dev0", worker)
    text = text.replace("http://ollama.shardwise-stack.svc:11434", servers.llm_url)
    objects = list(yaml.safe_load_all(text))
    cluster.apply(*objects)
    cluster.kubectl("wait", "--for=condition=Ready", "pod/chunks-loader", "--timeout=120s")
    given = REQUEST.read_text(encoding="utf-8")
    cluster.kubectl("exec", "--stdin", "chunks-loader", "--", "tee", "/data/request.json", given=given)
    manifest: dict[str, Any] = objects[-1]
    return manifest


def _again(workspace: Workspace, manifest: dict[str, Any]) -> RunStatus:
    manifest["metadata"]["name"] = "again"
    manifest["spec"] |= {"suspend": False, "output": {"uri": "file:///data/again"}}
    return workspace.apply(manifest).complete()


def _manifest(workspace: Workspace, name: str, *, store: dict[str, Any], shards: int = 1) -> dict[str, Any]:
    """An IngestRun of request.json in the workspace's folder, with codes made without a language model."""
    manifest = workspace.manifest(name, sharding={"shards": shards}, blockSize=8)
    manifest["kind"] = "IngestRun"
    del manifest["spec"]["engine"]
    manifest["spec"] |= {
        "source": {"files": {"uris": ["/data/request.json"]}},
        "datasetSource": "pydocs",
        "tmd": {"backend": "embedded"},
        "store": store,
    }
    return manifest


def _assert_no_answer_was_wasted(
    asked: Asked, deletions: Sequence[Deletion], servers: TrialStack, run: Submitted
) -> None:
    """Each chunk is asked for before its block is committed, and again only when a worker on it was deleted."""
    spec = run.body["spec"]
    size, shards = spec["blockSize"], spec["sharding"]["shards"]
    committed = _commits(servers, run)
    lost, under_way = Counter[int](), 0
    for shard in range(shards):
        items = shard_items(strategy=Strategy.ROUND_ROBIN, shards=shards, shard=shard, total=len(CHUNKS))
        ends = {item: committed[shard, position // size] for position, item in enumerate(items)}
        for deletion in (one for one in deletions if one.shard == shard):
            open_items = [item for item, end in ends.items() if end > deletion.at]
            lost.update(open_items)
            under_way += min(len(open_items), ahead_of(workers=spec["workers"], block_size=size) * size)
        for item, end in ends.items():
            assert max(asked.times[item]) < end, f"item {item} was asked for after its block was committed"
            assert len(asked.times[item]) <= 1 + lost[item], f"item {item} was asked for {len(asked.times[item])} times"
    assert len(CHUNKS) <= asked.count <= len(CHUNKS) + under_way


def _commits(servers: TrialStack, run: Submitted) -> dict[tuple[int, int], float]:
    """Return when each block's transaction began: (shard, block) -> seconds since 1970."""
    with closing(psycopg2.connect(servers.store)) as connection, connection.cursor() as cursor:
        cursor.execute(
            "SELECT shard, batch_no, extract(epoch FROM finished_at) FROM ingest_batch WHERE run_uid=%s",
            (run.body["metadata"]["uid"],),
        )
        return {(shard, block): float(seconds) for shard, block, seconds in cursor.fetchall()}


def _assert_secret(workspace: Workspace, servers: TrialStack, run: Submitted) -> None:
    password = base64.b64decode(workspace.cluster.get("secret", "postgresql")["data"]["password"]).decode()
    assert password in servers.store
    shown = [run.body, workspace.cluster.get("jobs,configmaps,events")["items"]]
    summary = (workspace.folder / "chunks" / "results" / "summary.json").read_text(encoding="utf-8")
    assert password not in f"{shown}{summary}"


def _failure(run: Submitted) -> str:
    failed = run.finish(seconds=240).condition(ConditionType.FAILED)
    assert failed is not None, told(run.status)
    return f"{failed.reason}: {failed.message}"


def _metric(status: RunStatus, name: str) -> float:
    return next((metric.value for metric in status.metrics if metric.name == name), 0.0)
