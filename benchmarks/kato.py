"""KATO's transports and stores side by side: one run, the same samples, and no figure without the right patterns.

`python -m benchmarks.kato` prints one JSON document; docs/benchmarks.md says how to read it. Exit code 1: a variant
learned something else than the plain computation does.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from itertools import cycle, islice
from pathlib import Path
from statistics import median
from typing import Any

from shardwise_jobs.engines.kato.engine import open_hierarchy

from . import expected, machine
from .expected import Knowledge
from .memory import PeakMemory
from .program import run, say, told
from .training import MANIFEST, Corpus, Trained, kato_of, train, training_run
from .variants import BASELINE, DEFAULT, VARIANTS, Backend, NotHere, Variant

SAMPLES_PATH = MANIFEST.parent / "data" / "pydocs.jsonl"
CORPUS_SAMPLES = 3_000
REPEATED_SAMPLES = 100_000
RATIO_TARGETS = {"rest-batched-4": 28.0, "direct-sqlite-1": 60.0}
THROUGHPUT = "direct-throughput"
THROUGHPUT_TARGET = 2_000.0
MEMORY = "memory"
MEMORY_TARGET_BYTES = 10**9

Json = dict[str, Any]


class Benchmark:
    """The measurements, and what was found wrong with what they learned."""

    def __init__(self, *, samples: int, repeats: int) -> None:
        self.problems: list[str] = []
        self._repeats = repeats
        self._corpus = Corpus(path=SAMPLES_PATH, samples=samples)
        run = training_run(DEFAULT, self._corpus, Backend(store_uri="sqlite:///unused.db"))
        self._block_size = run.spec.block_size
        self._hierarchy = open_hierarchy(kato_of(run))

    def side_by_side(self, variants: Sequence[Variant]) -> Json:
        """Measure variants in rounds, each once per round, so that a busy minute hits all of them alike."""
        started = time.perf_counter()
        wanted = self._expected(self._corpus.samples)
        plain = time.perf_counter() - started
        done: dict[str, list[Trained]] = {variant.name: [] for variant in variants}
        skipped: dict[str, str] = {}
        for turn in range(self._repeats):
            for variant in variants if turn % 2 == 0 else reversed(variants):
                if variant.name in skipped:
                    continue
                try:
                    trained = train(variant, self._corpus)
                except NotHere as error:
                    skipped[variant.name] = str(error)
                    say(f"{variant.name}: skipped: {error}")
                    continue
                self._check(f"{variant.name}, round {turn + 1}", trained, wanted)
                done[variant.name].append(trained)
                say(f"round {turn + 1}/{self._repeats} {variant.name}: {trained.rate:,.1f} samples/s")
        shown = {
            variant.name: {"skipped": skipped[variant.name]}
            if variant.name in skipped
            else _shown(variant, done[variant.name])
            for variant in variants
        }
        return {
            "samples": self._corpus.samples,
            "repeats": self._repeats,
            "block_size": self._block_size,
            "expected": {"digest": wanted.digest, "learns": wanted.learns, "plain_loop_seconds": round(plain, 4)},
            "variants": shown,
            "ratios": _ratios({name: trained for name, trained in done.items() if trained}),
        }

    def throughput(self) -> Json:
        """Measure the default transport over the whole corpus."""
        variant = Variant(name=THROUGHPUT, workers=2)
        wanted = self._expected(CORPUS_SAMPLES)
        done = []
        for turn in range(self._repeats):
            trained = train(variant, Corpus(path=SAMPLES_PATH, samples=CORPUS_SAMPLES))
            self._check(f"{THROUGHPUT}, round {turn + 1}", trained, wanted)
            done.append(trained)
            say(f"round {turn + 1}/{self._repeats} {THROUGHPUT}: {trained.rate:,.1f} samples/s")
        rate = median(trained.rate for trained in done)
        return {"samples": CORPUS_SAMPLES, **_shown(variant, done), **_target(rate, at_least=THROUGHPUT_TARGET)}

    def memory(self) -> Json:
        """Measure eight workers at once over the corpus, and over a far longer one: what they take must not grow."""
        variant = Variant(name=MEMORY, workers=8)
        corpus = self._expected(CORPUS_SAMPLES)
        times, rest = divmod(REPEATED_SAMPLES, CORPUS_SAMPLES)
        measured: list[Json] = []
        with tempfile.TemporaryDirectory(prefix="shardwise-bench-") as folder:
            repeated = Corpus(path=Path(folder) / "repeated.jsonl", samples=REPEATED_SAMPLES)
            with SAMPLES_PATH.open("rb") as lines, repeated.path.open("wb") as stream:
                stream.writelines(islice(cycle(lines), REPEATED_SAMPLES))
            for data, wanted in (
                (Corpus(path=SAMPLES_PATH, samples=CORPUS_SAMPLES), corpus),
                (repeated, corpus * times + self._expected(rest)),
            ):
                peak = PeakMemory()
                trained = train(variant, data, on_tick=peak.look)
                self._check(f"{MEMORY}, {data.samples} samples", trained, wanted)
                megabytes = peak.peak_bytes / 1e6
                say(f"{MEMORY}, {data.samples:,} samples: {megabytes:,.0f} MB, {trained.rate:,.1f} samples/s")
                measured.append(
                    {
                        "samples": data.samples,
                        "peak_pss_bytes": peak.peak_bytes,
                        "looks": peak.looks,
                        "sum_of_peak_rss_bytes": trained.worked.sum_of_peak_rss_bytes,
                        **_shown(variant, [trained]),
                    }
                )
        short, long = (one["peak_pss_bytes"] for one in measured)
        return {
            "what": "highest sum of the workers' PSS (/proc/PID/smaps_rollup)",
            "runs": measured,
            "peak_bytes": max(short, long),
            "target": MEMORY_TARGET_BYTES,
            "reached": max(short, long) < MEMORY_TARGET_BYTES,
            "flat": round(long / short, 3),
        }

    def _expected(self, samples: int) -> Knowledge:
        return expected.learned(hierarchy=self._hierarchy, corpus=SAMPLES_PATH, samples=samples)

    def _check(self, what: str, trained: Trained, wanted: Knowledge) -> None:
        for found, right in ((trained.digest, wanted.digest), (trained.learns, wanted.learns)):
            if found != right:
                self.problems.append(f"{what}: {found} instead of {right}")
                say(f"WRONG: {self.problems[-1]}")


def _shown(variant: Variant, done: Sequence[Trained]) -> Json:
    seconds = [trained.worked.seconds for trained in done]
    last = done[-1]
    shown: Json = {
        "workers": variant.workers,
        "seconds": round(median(seconds), 4),
        "samples_per_second": round(last.worked.done / median(seconds), 2),
        "startup_seconds": round(median(trained.worked.startup_seconds for trained in done), 3),
        "worker_cpu_seconds": round(median(trained.worked.cpu_seconds for trained in done), 4),
        "rounds": [round(one, 4) for one in seconds],
        "learns": last.learns,
        "digest": last.digest,
    }
    if last.worked.calls:
        shown["calls"] = last.worked.calls
    return shown


def _ratios(done: dict[str, list[Trained]]) -> Json:
    if BASELINE.name not in done:
        return {}
    rates = {name: median(trained.rate for trained in rounds) for name, rounds in done.items()}
    baseline = rates.pop(BASELINE.name)
    return {
        f"{name.replace('-', '_')}_vs_sequential": _target(rate / baseline, at_least=RATIO_TARGETS.get(name))
        for name, rate in rates.items()
    }


def _target(value: float, *, at_least: float | None) -> Json:
    shown: Json = {"value": round(value, 2)}
    return shown if at_least is None else {**shown, "target": at_least, "reached": value >= at_least}


def main() -> int:
    """Measure what the command line asks for and print it."""
    names = [variant.name for variant in VARIANTS]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kato", description=__doc__)
    parser.add_argument("--samples", type=int, default=200, help="of the corpus, for the variants (default 200)")
    parser.add_argument("--repeats", type=int, default=3, help="rounds; medians are shown (default 3)")
    parser.add_argument(
        "--only", nargs="+", choices=[*names, THROUGHPUT, MEMORY], metavar="VARIANT",
        help=f"measure only these: {', '.join([*names, THROUGHPUT, MEMORY])}",
    )  # fmt: skip
    parser.add_argument("--skip-memory", action="store_true", help="leave out the measurement that takes a minute")
    arguments = parser.parse_args()
    if not 1 <= arguments.samples <= CORPUS_SAMPLES:
        parser.error(f"--samples: the corpus has {CORPUS_SAMPLES}")
    if arguments.repeats < 1:
        parser.error("--repeats: at least 1")

    wanted = arguments.only or [*names, THROUGHPUT, MEMORY]
    benchmark = Benchmark(samples=arguments.samples, repeats=arguments.repeats)
    found: Json = {"benchmark": "kato", "machine": machine.describe()}
    if variants := [variant for variant in VARIANTS if variant.name in wanted]:
        found.update(benchmark.side_by_side(variants))
    if THROUGHPUT in wanted:
        found["direct_throughput"] = benchmark.throughput()
    if MEMORY in wanted and not arguments.skip_memory:
        found["memory"] = benchmark.memory()
    return told(found, problems=benchmark.problems)


if __name__ == "__main__":
    run(main)
