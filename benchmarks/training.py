"""One training of a corpus, as a run of its own on a fresh backend, and what its store holds afterwards."""

from __future__ import annotations

import hashlib
import tempfile
import uuid
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from shardwise.engine.files import OutputFolder
from shardwise.engine.progress import ProgressSender
from shardwise.engine.stop import StopFlag
from shardwise.engine.worker import Context
from shardwise_api.kato import KatoEngine as KatoSpec
from shardwise_api.manifest import load_manifest, resolve_paths
from shardwise_api.runs import TrainingRun
from shardwise_jobs.engines.kato.engine import KatoEngine
from shardwise_jobs.engines.kato.finalize import digest_lines
from shardwise_jobs.engines.kato.names import node_id
from shardwise_jobs.engines.kato.stores import open_store
from shardwise_operator.core.plan import run_document

from . import fleet
from .variants import Backend, Variant, backend

MANIFEST = Path(__file__).parents[1] / "examples" / "kato-pydocs.yaml"


@dataclass(frozen=True, slots=True, kw_only=True)
class Corpus:
    """The first `samples` lines of a JSON-lines file."""

    path: Path
    samples: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """What a training took, and what it came to."""

    worked: fleet.Worked
    learns: list[int]
    """Per node, as the store counts them."""
    digest: str

    @property
    def rate(self) -> float:
        """Samples per second of work."""
        return self.worked.done / self.worked.seconds


def train(variant: Variant, corpus: Corpus, *, on_tick: Callable[[list[int]], None] | None = None) -> Trained:
    """Train a corpus on a fresh store, and a fresh server if any; nothing of it is left.

    Raises:
        NotHere: this machine lacks what the variant needs.
    """
    with tempfile.TemporaryDirectory(prefix="shardwise-bench-") as temporary:
        folder = Path(temporary)
        with backend(variant, folder) as where:
            run = training_run(variant, corpus, where)
            output = OutputFolder((folder / "output").as_uri())
            document = run_document(run)
            quiet = ProgressSender(target=None, run=document.uid, shard=0)
            engine = KatoEngine(Context(document=document, output=output, stop=StopFlag(), progress=quiet))
            document.prepared = engine.prepare(dry_run=False)
            worked = fleet.work(
                document=document,
                folder=folder,
                workers=variant.workers,
                options=variant.worker_options,
                on_tick=on_tick,
            )
            learns, digest = _contents(kato_of(run), where)
    return Trained(worked=worked, learns=learns, digest=digest)


def training_run(variant: Variant, corpus: Corpus, where: Backend) -> TrainingRun:
    """Return the example's run, changed only in what the variant is about."""
    changes = {
        "sharding.shards": variant.workers,
        "sharding.parallelism": variant.workers,
        "engine.kato.transport": "Rest" if variant.rest else "Direct",
        "engine.kato.store.uri": where.store_uri,
        "engine.kato.dataset.files.uris": [str(corpus.path)],
        "engine.kato.dataset.maxSamples": corpus.samples,
    }
    if where.server_url is not None:
        changes["engine.kato.server.url"] = where.server_url
        changes["engine.kato.server.node0BatchSize"] = variant.batch_size
    overrides = [f"{path}={value}" for path, value in changes.items()]
    run = resolve_paths(load_manifest(MANIFEST, overrides=overrides), base=MANIFEST.parent)
    assert isinstance(run, TrainingRun)
    run.metadata.uid = str(uuid.uuid4())
    return run


def kato_of(run: TrainingRun) -> KatoSpec:
    """Return the engine's part of a run."""
    assert run.spec.engine.kato is not None
    return run.spec.engine.kato


def _contents(kato: KatoSpec, where: Backend) -> tuple[list[int], str]:
    # From the store itself, whoever wrote it: what a server says of itself is not evidence.
    learns = []
    digest = hashlib.sha256()
    with closing(open_store(where.store_uri, read_only=True)) as store:
        for node in kato.nodes:
            stored = node_id(kato.knowledge_base, node.name)
            learns.append(store.totals(node_id=stored).total_pattern_frequencies)
            for line in digest_lines(node.name, store.frequencies(node_id=stored)):
                digest.update(line.encode())
    return learns, f"sha256:{digest.hexdigest()}"
