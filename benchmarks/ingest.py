"""Ingestion side by side with the original's ways: the LLM, rows, vectors, the pipeline, and runs cut in any way.

`python -m benchmarks.ingest` prints one JSON document; docs/benchmarks.md says how to read it. Exit code 1: rows,
vectors or indexes are not what they must be. Speed is never wrong, it is shown.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from itertools import count
from pathlib import Path

from tests.support import minilm, postgres_server
from tests.support.ingestion import DATASET
from tests.support.ollama.process import OllamaProcess, ollama
from tests.support.postgres_server import PostgresServer
from tests.support.rows import new_run

from shardwise_jobs.engines.ingest.embed.onnx import OnnxEmbedder
from shardwise_jobs.engines.ingest.pipeline import Target

from . import ingest_figures as figures
from . import ingest_rows, ingest_vectors, machine
from .figures import Json, summary
from .ingest_case import LATENCY_SECONDS, Stored, chunks, entries, expected_digest, model_of, prepared_store
from .ingest_figures import FOUR_SLOTS, MANY, ONE_WORKER, OVERLAPPED, PHASES, TEN_SLOTS
from .ingest_runs import OTHERWISE, SHARDS, Outcome
from .ingest_runs import run as run_cut
from .ingest_ways import Work, one_by_one, phase_by_phase, pipelined
from .program import run, say, told

ROWS = 1_000
TEXTS = 96
RUN_CHUNKS = 120
SECTIONS = ("llm", "rows", "vectors", "pipeline", "runs")
_LIBRARIES = ("faiss-cpu", "numpy", "onnxruntime", "psycopg2-binary")


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Chunks that go through an LLM of so many slots in some way."""

    name: str
    way: Callable[[Work], Json]
    chunks: int
    slots: int
    workers: int = 10


LLM = (
    Asked(name=ONE_WORKER, way=one_by_one, chunks=10, slots=10, workers=1),
    Asked(name=TEN_SLOTS, way=pipelined, chunks=10, slots=10),
    Asked(name=FOUR_SLOTS, way=pipelined, chunks=10, slots=4),
    Asked(name=MANY, way=pipelined, chunks=200, slots=10),
)
PIPELINE = (
    Asked(name=PHASES, way=phase_by_phase, chunks=96, slots=10),
    Asked(name=OVERLAPPED, way=pipelined, chunks=96, slots=10),
)


@dataclass
class Benchmark:
    """The measurements, and what was found wrong in what came of them."""

    rounds: int
    folder: Path
    server: PostgresServer
    llm: OllamaProcess
    embedder: OnnxEmbedder
    problems: list[str] = field(default_factory=list)
    found: dict[str, Json] = field(default_factory=dict)
    _numbers: Iterator[int] = field(default_factory=count)

    def asked(self, cases: Sequence[Asked]) -> None:
        """Measure ways of asking in turns, so that a busy minute hits all alike; compare what is stored."""
        taken: dict[str, list[Json]] = {case.name: [] for case in cases}
        vectors: dict[int, set[str]] = {}
        for _ in range(self.rounds):
            for case in cases:
                times, stored = self._ask(case)
                vectors.setdefault(case.chunks, set()).add(stored.vector_digest)
                taken[case.name].append(times)
                say(f"{case.name}: {times['seconds']:.3f} s, {times['cpu_seconds']:.2f} s CPU")
        self._keep(taken)
        if any(len(digests) > 1 for digests in vectors.values()):
            self._wrong("the same chunks have got other vectors in another way")

    def _ask(self, case: Asked) -> tuple[Json, Stored]:
        made = chunks(case.chunks)
        self.llm.reset()
        self.llm.settings(parallel=case.slots, latency_ms=LATENCY_SECONDS * 1000)
        with prepared_store(self.server.new_database(), model=model_of(self.embedder)) as store:
            target = Target(store=store, run=new_run(), shard=0, dataset=DATASET, embed_model=self.embedder.name)
            times = case.way(
                Work(
                    entries=entries(made, folder=self.folder),
                    url=self.llm.url,
                    workers=case.workers,
                    embedder=self.embedder,
                    target=target,
                )
            )
            stored = Stored.of(store)
        self._same(case.name, "rows", stored.rows, case.chunks)
        self._same(case.name, "digest", stored.digest, expected_digest(made, embedder=self.embedder))
        counters = self.llm.counters()
        # One call more loads the model, before the clock starts.
        self._same(case.name, "answers of the LLM", counters["done"], case.chunks + 1)
        self._same(case.name, "slots used at once", counters["most_running"], min(case.workers, case.slots))
        return times, stored

    def rows(self) -> None:
        """Write the same rows one by one and in blocks, and read them back."""
        made = ingest_rows.rows([chunk["text"] for chunk in chunks(ROWS)])
        right = ingest_rows.stored(made)
        taken: dict[str, list[Json]] = {name: [] for name in ingest_rows.WAYS}
        for _ in range(self.rounds):
            for name, way in ingest_rows.WAYS.items():
                uri = self.server.new_database()
                with prepared_store(uri, model=ingest_rows.MODEL) as store:
                    times = way(ingest_rows.rows([one.source_chunk for one in made]), uri=uri, store=store)
                    self._same(name, "rows", Stored.of(store), right)
                taken[name].append({**times, "rows_per_second": ROWS / times["seconds"]})
                say(f"{name}: {taken[name][-1]['rows_per_second']:,.0f} rows/s")
        self._keep(taken)

    def vectors(self) -> None:
        """Embed the same texts in all ways, and compare bits."""
        texts = [chunk["text"] for chunk in chunks(TEXTS)]
        taken: dict[str, list[Json]] = {name: [] for name in ingest_vectors.WAYS}
        others = dict.fromkeys(ingest_vectors.WAYS, 0)
        for _ in range(self.rounds):
            right = None
            for name in ingest_vectors.WAYS:
                times, vectors = ingest_vectors.measured(name, embedder=self.embedder, texts=texts)
                right = vectors if right is None else right
                others[name] = max(others[name], ingest_vectors.other_bits(vectors, right))
                taken[name].append({**times, "texts_per_cpu_second": TEXTS / times["cpu_seconds"]})
                say(f"{name}: {times['seconds']:.2f} s, {times['cpu_seconds']:.2f} s CPU")
        self._keep(taken)
        self.found[figures.OTHER_BITS] = {**others, "texts": TEXTS}
        if others[figures.TEXTS_AT_ONCE]:
            self._wrong(f"{others[figures.TEXTS_AT_ONCE]} of {TEXTS} vectors depend on their neighbours")

    def runs(self) -> None:
        """Run the same chunks whole, cut in several ways, and compare all that a user gets."""
        made = chunks(RUN_CHUNKS)
        self.llm.reset()
        self.llm.settings(parallel=10, latency_ms=20)
        outcomes: dict[str, Outcome] = {}
        for cut in (*SHARDS, *OTHERWISE):
            times, outcomes[cut.name] = run_cut(
                cut,
                folder=self.folder / f"run-{next(self._numbers)}",
                chunks=made,
                url=self.llm.url,
                model=minilm.model_folder(),
                embedder=self.embedder,
            )
            self.found[cut.name] = times
            say(f"{cut.name}: worked {times['work_seconds']:.1f} s, digest {outcomes[cut.name].digest[:19]}…")
        first = outcomes[SHARDS[0].name]
        self._same(SHARDS[0].name, "digest", first.digest, expected_digest(made, embedder=self.embedder))
        self._same(SHARDS[0].name, "rows and vectors", (first.rows, first.ntotal), (RUN_CHUNKS, RUN_CHUNKS))
        differing = [name for name, outcome in outcomes.items() if outcome != first]
        for name in differing:
            for what, value in asdict(outcomes[name]).items():
                self._same(name, what, value, asdict(first)[what])
        self.found[figures.OTHER_CUTS] = {"count": len(differing), "of": len(outcomes), "digest": first.digest}

    def _keep(self, taken: dict[str, list[Json]]) -> None:
        self.found.update({name: summary(rounds) for name, rounds in taken.items()})

    def _same(self, name: str, what: str, found: object, right: object) -> None:
        if found != right:
            self._wrong(f"{name}: {what}: {found} instead of {right}")

    def _wrong(self, text: str) -> None:
        self.problems.append(text)
        say(f"WRONG: {text}")


@contextmanager
def _benchmark(*, rounds: int) -> Iterator[Benchmark]:
    try:
        postgres_server.programs()
    except postgres_server.ServerMissing as error:
        raise SystemExit(f"{error}\n{postgres_server.HOW_TO_GET}") from error
    with (
        tempfile.TemporaryDirectory(prefix="shardwise-bench-") as folder,
        postgres_server.running() as server,
        ollama() as llm,
        closing(OnnxEmbedder(minilm.model_folder())) as embedder,
    ):
        yield Benchmark(rounds=rounds, folder=Path(folder), server=server, llm=llm, embedder=embedder)


def main() -> int:
    """Measure what the command line asks for and print it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ingest", description=__doc__)
    parser.add_argument("--rounds", type=int, default=2, help="medians are shown (default 2)")
    parser.add_argument(
        "--only", nargs="+", choices=SECTIONS, metavar="SECTION", help=f"of these: {', '.join(SECTIONS)}"
    )
    arguments = parser.parse_args()
    if arguments.rounds < 1:
        parser.error("--rounds: at least 1")
    wanted = arguments.only or SECTIONS
    versions = {name: version(name) for name in _LIBRARIES}
    document: Json = {"benchmark": "ingest", "machine": {**machine.describe(), **versions}}
    with _benchmark(rounds=arguments.rounds) as benchmark:
        document["machine"]["postgresql"] = benchmark.server.execute("SHOW server_version")[0][0]
        sections: dict[str, Callable[[], None]] = {
            "llm": lambda: benchmark.asked(LLM),
            "rows": benchmark.rows,
            "vectors": benchmark.vectors,
            "pipeline": lambda: benchmark.asked(PIPELINE),
            "runs": benchmark.runs,
        }
        for section, measure in sections.items():
            if section in wanted:
                measure()
    promises = figures.promises(benchmark.found)
    for promise in promises:
        say(promise.line())
    document["measurements"] = benchmark.found
    document["ratios"] = figures.ratios(benchmark.found)
    document["promises"] = {promise.name: promise.document() for promise in promises}
    return told(document, problems=benchmark.problems)


if __name__ == "__main__":
    run(main)
