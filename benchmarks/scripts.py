"""Suites of scripts that sleep: how near a parallel run comes to what its workers allow, and that nothing else changes.

`python -m benchmarks.scripts` prints one JSON document; docs/benchmarks.md says how to read it. Each run is the command
that people use, in a process of its own. Exit code 1: results differ. Speed is never wrong, it is shown.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from . import machine
from .figures import Json, Promise
from .program import run, say, told
from .scripts_figures import list_schedule, lost, most_at_once, outcome, uneven

EQUAL_JOBS, EQUAL_WORKERS = 7, 6
UNEVEN_JOBS, UNEVEN_WORKERS = 200, 12
LONGEST_SECONDS = 1800.0
# Every tenth fails and every tenth prints a lot, so that there is something to compare.
SCRIPT = """\
import sys, time
time.sleep({seconds})
print("x" * 100_000 if {number} % 10 == 5 else "slept")
sys.exit(3 if {number} % 10 == 7 else 0)
"""


@dataclass(slots=True, kw_only=True)
class Benchmark:
    """The measurements, and what was found wrong in them."""

    folder: Path
    problems: list[str] = field(default_factory=list)
    found: dict[str, Json] = field(default_factory=dict)

    def equal(self, *, seconds: float, rounds: int) -> None:
        """Run seven equal jobs one by one and on six workers, in turns."""
        tree = self._tree("equal", [seconds] * EQUAL_JOBS)
        taken: dict[str, list[Json]] = {"one by one": [], "six workers": []}
        for _ in range(rounds):
            taken["one by one"].append(self._suite(tree))
            taken["six workers"].append(self._suite(tree, "--parallel", "--max-workers", str(EQUAL_WORKERS)))
        for name, summaries in taken.items():
            best = list_schedule([seconds] * EQUAL_JOBS, workers=1 if name == "one by one" else EQUAL_WORKERS)
            self._note(f"{EQUAL_JOBS} equal jobs, {name}", summaries, best=best)
        self._compare(f"{EQUAL_JOBS} equal jobs", [*taken["one by one"], *taken["six workers"]])
        self._count(taken["six workers"], workers=EQUAL_WORKERS)

    def uneven(self, *, mean: float) -> None:
        """Run two hundred uneven jobs as they are found, and again when it is known how long each takes."""
        seconds = uneven(UNEVEN_JOBS, mean=mean)
        tree = self._tree("uneven", seconds)
        words = ("--parallel", "--max-workers", str(UNEVEN_WORKERS))
        as_found = self._suite(tree, *words)
        self._note("200 uneven jobs, as found", [as_found], best=list_schedule(seconds, workers=UNEVEN_WORKERS))
        longest_first = self._suite(tree, *words)
        # A failed job's time is not remembered; unknown ones begin first, in their order.
        known = {job["id"] for job in as_found["jobs"] if job["status"] == "SUCCESS"}
        numbered = sorted(
            range(UNEVEN_JOBS), key=lambda number: -seconds[number] if _id(number) in known else -float("inf")
        )
        best = list_schedule([seconds[number] for number in numbered], workers=UNEVEN_WORKERS)
        self._note("200 uneven jobs, longest first", [longest_first], best=best)
        self._compare("200 uneven jobs", [as_found, longest_first])
        self._count([as_found, longest_first], workers=UNEVEN_WORKERS)

    def promises(self) -> list[Promise]:
        """Return the figures that were promised, as found."""
        one, six = (
            self.found.get(f"{EQUAL_JOBS} equal jobs, {how}", {}).get("seconds")
            for how in ("one by one", "six workers")
        )
        found = [
            Promise(
                name="7 equal jobs, one by one by six workers", value=one / six if one and six else None, at_least=3.3
            )
        ]
        for how in ("as found", "longest first"):
            measured = self.found.get(f"200 uneven jobs, {how}", {})
            found.append(
                Promise(
                    name=f"200 uneven jobs on {UNEVEN_WORKERS} workers, {how}, over the list schedule",
                    value=measured.get("over_best"),
                    at_most=0.1,
                )
            )
        return [*found, Promise(name="results that differ", value=float(len(self.problems)), at_most=0)]

    def _tree(self, name: str, seconds: Sequence[float]) -> Path:
        tree = self.folder / name
        tree.mkdir()
        for number, one in enumerate(seconds):
            (tree / f"{_id(number)}.py").write_text(SCRIPT.format(seconds=one, number=number), encoding="utf-8")
        return tree

    def _suite(self, tree: Path, *words: str) -> Json:
        program = str(Path(sys.executable).parent / "shardwise")
        command = [program, "suite", "--root", str(tree), "--no-default-jobs", "-o", "json", *words]
        start = time.monotonic()
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, start_new_session=True
        ) as process:
            try:
                output, _ = process.communicate(timeout=LONGEST_SECONDS)
            except BaseException:
                # What it runs goes with it.
                process.send_signal(signal.SIGKILL)
                raise
        if process.returncode not in (0, 1):
            raise SystemExit(f"{' '.join(command)}: exit code {process.returncode}")
        found: Json = json.loads(output)
        found["command_sec"] = round(time.monotonic() - start, 3)
        return found

    def _note(self, name: str, summaries: Sequence[Json], *, best: float) -> None:
        taken = [summary["duration_sec"] for summary in summaries]
        self.found[name] = {
            "seconds": round(median(taken), 3),
            "best_seconds": round(best, 3),
            "over_best": round(lost(median(taken), best), 4),
            "most_at_once": max(map(most_at_once, summaries)),
            "rounds": [{"seconds": round(one["duration_sec"], 3), "command": one["command_sec"]} for one in summaries],
        }
        say(f"{name}: {median(taken):.2f} s, {best:.2f} s at best, {lost(median(taken), best):+.1%}")

    def _compare(self, name: str, summaries: Sequence[Json]) -> None:
        first = summaries[0]
        expected = ["FAILED" if number % 10 == 7 else "SUCCESS" for number in range(len(first["jobs"]))]
        if [status for _, status, _ in outcome(first)] != expected:
            self._wrong(f"{name}: statuses are not those that the scripts ask for")
        for other in summaries[1:]:
            if outcome(other) != outcome(first):
                self._wrong(f"{name}: two runs have other statuses or exit codes")
            if other["digest"] != first["digest"]:
                self._wrong(f"{name}: two runs have other digests")

    def _count(self, summaries: Sequence[Json], *, workers: int) -> None:
        for summary in summaries:
            if most_at_once(summary) != workers:
                self._wrong(f"{most_at_once(summary)} scripts ran at once, on {workers} workers")

    def _wrong(self, text: str) -> None:
        self.problems.append(text)
        say(f"WRONG: {text}")


def _id(number: int) -> str:
    return f"train_{number:03}"


def main() -> int:
    """Measure what the command line asks for and print it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scripts", description=__doc__)
    parser.add_argument("--rounds", type=int, default=1, help="of the equal jobs; medians are shown (default 1)")
    parser.add_argument("--seconds", type=float, default=3.0, help="that an equal job sleeps (default 3)")
    parser.add_argument("--mean", type=float, default=3.0, help="seconds that uneven jobs sleep on average (default 3)")
    arguments = parser.parse_args()
    if arguments.rounds < 1 or arguments.seconds <= 0 or arguments.mean <= 0:
        parser.error("--rounds: at least 1; --seconds and --mean: more than 0")
    document: Json = {"benchmark": "scripts", "machine": machine.describe()}
    with tempfile.TemporaryDirectory() as folder:
        benchmark = Benchmark(folder=Path(folder))
        benchmark.equal(seconds=arguments.seconds, rounds=arguments.rounds)
        benchmark.uneven(mean=arguments.mean)
    promises = benchmark.promises()
    for promise in promises:
        say(promise.line())
    document["measurements"] = benchmark.found
    document["promises"] = {promise.name: promise.document() for promise in promises}
    return told(document, problems=benchmark.problems)


if __name__ == "__main__":
    run(main)
