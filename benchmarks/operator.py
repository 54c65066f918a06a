"""One run with a thousand shards of nothing on fake nodes: what the operator itself costs, and what its status weighs.

`python -m benchmarks.operator` prints one JSON document; docs/benchmarks.md says how to read it. Exit code 1: a run did
not come to the right result, or broke a promise (size of the status, status updates per second). Speed is never wrong.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from tests.cluster.errors import ClusterError
from tests.cluster.fake_nodes import NODES, FakeNodes, fake_nodes
from tests.support.fake_operator import (
    CONFIG_MAPS,
    JOBS,
    OPERATOR_USER,
    RUNS,
    Operator,
    Seen,
    bare_job,
    follow,
    items_of,
    manifest,
    operator_beside,
    remove,
    size_of,
)

from shardwise_api.common import MAX_SHARDS
from shardwise_api.runs import TrainingRun

from . import machine, operator_figures
from .operator_figures import RECONCILES
from .operator_reports import Load
from .program import run, say, told

SHARDS = 1_000
STATUS_BYTES = 100 * 1024
LONGEST_SECONDS = 600.0
# Long enough for all workers to run at once, and then to report for a while.
WORK_SECONDS = 75
REPORT_SECONDS = 30.0
STATUS_UPDATE = "update trainingruns/status"

Json = dict[str, Any]


@dataclass(kw_only=True)
class Round:
    """One bare Job and one run, one after the other."""

    bare: Seen
    run: Seen
    operator: Json
    calls: dict[str, int]
    status_updates: Json


@dataclass
class Benchmark:
    """The rounds, and what was found wrong in them."""

    shards: int
    problems: list[str] = field(default_factory=list)

    def measure(self, here: FakeNodes, operator: Operator, *, rounds: int) -> Json:
        """Run the bare Job and the run in turns, so that a busy minute hits both alike."""
        idle = operator_figures.number(operator.metrics(), "process_resident_memory_bytes")
        done = []
        for turn in range(rounds):
            done.append(self._round(here, operator, number=turn + 1, run_first=turn % 2 == 1))
            one = done[-1]
            say(f"round {turn + 1}/{rounds}: run {one.run.seconds:.1f} s, bare Job {one.bare.seconds:.1f} s")
        return {
            "shards": self.shards,
            "nodes": NODES,
            "run": _seconds([one.run.seconds for one in done]),
            "work_step": _seconds([one.run.work_seconds for one in done]),
            "bare_job": _seconds([one.bare.seconds for one in done]),
            "ratios": {
                "run_vs_bare_job": _ratio([one.run.seconds / one.bare.seconds for one in done]),
                "work_step_vs_bare_job": _ratio([one.run.work_seconds / one.bare.seconds for one in done]),
            },
            "status": self._status(done),
            "operator": {
                "idle_resident_bytes": int(idle),
                "peak_resident_bytes": _peak(operator),
                "rounds": [one.operator for one in done],
            },
            "status_updates": [one.status_updates for one in done],
            "api_calls": [one.calls for one in done],
        }

    def reports(self, here: FakeNodes, operator: Operator) -> Json:
        """Have every worker of a run report its progress for a while."""
        name = "reporting"
        load = Load(
            here=here,
            operator=operator,
            name=name,
            shards=self.shards,
            seconds=REPORT_SECONDS,
            problems=self.problems,
        )
        since = time.time()
        body = manifest(name, shards=self.shards, work_for=f"{WORK_SECONDS}s")
        run = follow(here, path=RUNS, body=body, seconds=LONGEST_SECONDS, tick=load)
        self._check(here, name, run)
        if load.found is None:
            self._wrong(f"{name}: its {self.shards} workers never ran at the same time")
        made = self._calls(here, since)
        return {
            "workers": self.shards,
            **(load.found or {}),
            "status_updates": self._updates(name, run, made),
            "token_reviews": operator_figures.by_kind(made).get("create tokenreviews", 0),
            "peak_resident_bytes": _peak(operator),
        }

    def _calls(self, here: FakeNodes, since: float) -> list[operator_figures.Call]:
        lines = here.folders.audit_log.read_text(encoding="utf-8").splitlines()
        return operator_figures.calls(lines, user=OPERATOR_USER, since=since)

    def _round(self, here: FakeNodes, operator: Operator, *, number: int, run_first: bool) -> Round:
        bare: Seen | None = None
        if not run_first:
            bare = self._bare(here, number)
        before, since = operator.metrics(), time.time()
        name = f"many-{number}"
        run = follow(here, path=RUNS, body=manifest(name, shards=self.shards), seconds=LONGEST_SECONDS)
        after, made = operator.metrics(), self._calls(here, since)
        self._check(here, name, run)
        updates = self._updates(name, run, made)
        remove(here, path=RUNS, name=name)
        return Round(
            bare=bare or self._bare(here, number),
            run=run,
            operator=_work(before, after),
            calls=operator_figures.by_kind(made),
            status_updates=updates,
        )

    def _bare(self, here: FakeNodes, number: int) -> Seen:
        name = f"bare-{number}"
        seen = follow(here, path=JOBS, body=bare_job(name, shards=self.shards), seconds=LONGEST_SECONDS)
        remove(here, path=JOBS, name=name)
        return seen

    def _check(self, here: FakeNodes, name: str, run: Seen) -> None:
        status, items = run.body["status"], items_of(self.shards)
        document = here.call("GET", f"{CONFIG_MAPS}/{name}-finalize")["data"]["run.json"]
        found = {
            "shards": status["shards"]["succeeded"],
            "indexes": status["shards"]["completedIndexes"],
            # Of the pods' results, as the operator added them up: a shard lost or counted twice shows here.
            "items": json.loads(document)["worked"]["done"],
            "digest": status["result"]["digest"],
        }
        right = {
            "shards": self.shards,
            "indexes": f"0-{self.shards - 1}",
            "items": items,
            "digest": "sha256:nothing",
        }
        for what, value in found.items():
            if value != right[what]:
                self._wrong(f"{name}: {what}: {value} instead of {right[what]}")

    def _updates(self, name: str, run: Seen, made: list[operator_figures.Call]) -> Json:
        times = [call.at for call in made if call.what == STATUS_UPDATE]
        worst = operator_figures.most_within(times)
        pause = operator_figures.shortest_pause(times)
        if worst > 1:
            self._wrong(f"{name}: {worst} status updates within a second")
        return {
            "count": len(times),
            "per_second": round(len(times) / run.seconds, 3),
            "worst_second": worst,
            "target": 1,
            "reached": worst <= 1,
            "shortest_pause_seconds": None if pause is None else round(pause, 3),
        }

    def _status(self, done: list[Round]) -> Json:
        largest = max(one.run.largest_status_bytes for one in done)
        worst = {
            shards: size_of(operator_figures.worst_status(_training_run(shards))) for shards in (SHARDS, MAX_SHARDS)
        }
        for what, size in (("seen", largest), *((f"at worst, of {key} shards", size) for key, size in worst.items())):
            if size >= STATUS_BYTES:
                self._wrong(f"status {what}: {size} bytes")
        return {
            "largest_bytes": largest,
            "final_bytes": max(size_of(one.run.body["status"]) for one in done),
            "largest_possible_bytes": {str(shards): size for shards, size in worst.items()},
            "target": STATUS_BYTES,
            "reached": max(largest, *worst.values()) < STATUS_BYTES,
        }

    def _wrong(self, text: str) -> None:
        self.problems.append(text)
        say(f"WRONG: {text}")


def _training_run(shards: int) -> TrainingRun:
    document = manifest("many", shards=shards)
    return TrainingRun.model_validate({**document, "metadata": {**document["metadata"], "uid": "uid"}})


def _work(before: str, after: str) -> Json:
    reconciles = operator_figures.histogram(after, RECONCILES).since(operator_figures.histogram(before, RECONCILES))
    cpu = [operator_figures.number(text, "process_cpu_seconds_total") for text in (before, after)]
    return {
        "cpu_seconds": round(cpu[1] - cpu[0], 2),
        "reconciles": reconciles.count,
        "reconcile_seconds": {"p50": _rounded(reconciles.quantile(0.5)), "p99": _rounded(reconciles.quantile(0.99))},
    }


def _peak(operator: Operator) -> int:
    return operator_figures.peak_resident_bytes(Path(f"/proc/{operator.pid}/status").read_text())


def _seconds(values: list[float]) -> Json:
    return {"seconds": round(median(values), 2), "rounds": [round(one, 2) for one in values]}


def _ratio(values: list[float]) -> Json:
    return {"value": round(median(values), 2), "rounds": [round(one, 2) for one in values]}


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.operator", description=__doc__)
    parser.add_argument("--shards", type=int, default=SHARDS, help=f"of the run and of the bare Job (default {SHARDS})")
    parser.add_argument("--rounds", type=int, default=3, help="medians are shown (default 3)")
    parser.add_argument("--skip-reports", action="store_true", help="leave out the load of progress reports")
    arguments = parser.parse_args()
    if not 1 <= arguments.shards <= MAX_SHARDS:
        parser.error(f"--shards: 1 to {MAX_SHARDS}")
    if arguments.rounds < 1:
        parser.error("--rounds: at least 1")

    benchmark = Benchmark(arguments.shards)
    found: Json = {"benchmark": "operator", "machine": machine.describe()}
    try:
        # What is built, and for how long, is no part of the document.
        with redirect_stdout(sys.stderr), fake_nodes() as here, operator_beside(here) as operator:
            say("etcd, API server, controller manager, scheduler, KWOK and the operator run")
            found.update(benchmark.measure(here, operator, rounds=arguments.rounds))
            if not arguments.skip_reports:
                found["reports"] = benchmark.reports(here, operator)
    except ClusterError as error:
        say(f"error: {error}")
        return 1
    return told(found, problems=benchmark.problems)


if __name__ == "__main__":
    run(main)
