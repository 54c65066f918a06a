"""One training step of DiffLogic automata, side by side with the same networks in JAX; ranks; and the hard forward.

`python -m benchmarks.difflogic` prints one JSON document; docs/benchmarks.md says how to read it. Every measurement is
a process of its own, held to its processors. Exit code 1: results differ. Speed is never wrong, it is shown.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from . import machine
from .difflogic_case import case
from .difflogic_equal import equality
from .difflogic_figures import differences
from .figures import Json, Promise, ratio, summary
from .program import run, say, told

GOL, CHECKERBOARD = "GameOfLife", "CheckerboardSync"
OURS, GATES, COEFFICIENTS = "shardwise", "gates", "coefficients"
DTYPES = ("f64", "f32")
TOLERANCE = {"f64": 1e-10, "f32": 1e-3}
RANK_STEPS = 30
LONGEST_SECONDS = 240.0
REPOSITORY = Path(__file__).parents[1]


@dataclass
class Benchmark:
    """The measurements, and what was found wrong in them."""

    rounds: int
    original: bool
    folder: Path
    problems: list[str] = field(default_factory=list)
    found: dict[str, Json] = field(default_factory=dict)

    def side_by_side(self, preset: str, *, dtype: str, cpus: int) -> None:
        """Measure all forms of one case in turns, so that a busy minute hits all alike; compare their results."""
        forms = [OURS, COEFFICIENTS]
        # Of the checkerboard it takes minutes and 6 GB.
        if preset == GOL or (self.original and cpus == 1 and dtype == "f64"):
            forms.append(GATES)
        taken: dict[str, list[Json]] = {form: [] for form in forms}
        for number in range(self.rounds):
            for form in forms:
                if form == GATES and preset != GOL and number:
                    continue
                taken[form].append(self._step(preset, form=form, dtype=dtype, cpus=cpus))
        for form, rounds in taken.items():
            name = f"{preset} {dtype} {cpus} {form}"
            if rounds:
                self.found[name] = summary(rounds)
                shown = self.found[name]
                say(
                    f"{name}: {shown['cpu_ms']:.2f} ms CPU, {shown['wall_ms']:.2f} ms, "
                    f"{shown['peak_rss_bytes'] / 1e6:.0f} MB"
                )
        if cpus == 1:
            for form in forms[1:]:
                self._compare(preset, form=form, dtype=dtype)

    def _step(self, preset: str, *, form: str, dtype: str, cpus: int) -> Json:
        results = self._results(preset, form=form, dtype=dtype)
        common = [preset, "--dtype", dtype, "--cpus", str(cpus), "--results", str(results)]
        if form == OURS:
            return self._child("benchmarks.difflogic_rank", *common, "--seconds", "1.5")
        return self._child("benchmarks.difflogic_peer", *common, "--form", form, "--seconds", "1.5")

    def _compare(self, preset: str, *, form: str, dtype: str) -> None:
        ours, peers = (
            dict(np.load(self._results(preset, form=one, dtype=dtype), allow_pickle=False)) for one in (OURS, form)
        )
        found = differences(ours, peers)
        self.found[f"{preset} {dtype} {form} differences"] = found
        say(f"{preset} {dtype}, relative to {form}: gradient {found['gradient']:.1e}, losses {found['losses']:.1e}")
        for what, value in found.items():
            if not value <= TOLERANCE[dtype]:
                self._wrong(f"{preset} {dtype}: {what} differ from {form}'s by {value:.2e}")

    def ranks(self) -> None:
        """Measure one rank and two, each of one thread, in turns."""
        mpiexec = shutil.which("mpiexec", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
        if mpiexec is None:
            self._wrong("no mpiexec: the extra `mpi` is needed")
            return
        taken: dict[int, list[Json]] = {1: [], 2: []}
        gradients = []
        for _ in range(max(self.rounds, 5)):
            for count, rounds in taken.items():
                results = self.folder / f"ranks-{count}.npz"
                rounds.append(
                    self._child(
                        "benchmarks.difflogic_rank", CHECKERBOARD, "--dtype", "f64", "--cpus", "1",
                        "--steps", str(RANK_STEPS), "--results", str(results), before=[mpiexec, "-n", str(count)],
                    )
                )  # fmt: skip
        for count, rounds in taken.items():
            self.found[f"ranks {count}"] = summary(rounds)
            gradients.append(np.load(self.folder / f"ranks-{count}.npz", allow_pickle=False)["gradient"].tobytes())
            say(f"{CHECKERBOARD} f64, {count} ranks: {self.found[f'ranks {count}']['wall_ms']:.2f} ms")
        if gradients[0] != gradients[1]:
            self._wrong("two ranks and one have gradients of other bits")

    def equality(self) -> None:
        """Cut the batch of Game of Life in every way and compare bits; add it up plainly and compare numbers."""
        found = equality(case(GOL))
        self.found["equality"] = asdict(found)
        say(f"{GOL}, {found.ways} ways of cutting the batch: {found.other_bits} have other bits")
        if found.other_bits:
            self._wrong(f"{found.other_bits} of {found.ways} ways of cutting the batch have other bits")

    def hard_forward(self) -> None:
        """Measure the hard forward of 128x128 cells, in words and in floating-point numbers."""
        results = str(self.folder / "hard.npz")
        taken = [
            self._child(
                "benchmarks.difflogic_rank", GOL, "--dtype", "f64", "--cpus", "1", "--hard", "--results", results
            )
            for _ in range(self.rounds)
        ]
        if not all(one["equal"] for one in taken):
            self._wrong("the packed hard forward differs from the floating-point one")
        self.found["hard packed"] = summary([one["packed"] for one in taken])
        self.found["hard float numpy"] = summary([one["float_numpy"] for one in taken])

    def promises(self) -> list[Promise]:
        """Return the figures that were promised, as found."""
        get, equal = self.found.get, self.found.get("equality", {})
        gol, board = f"{GOL} f64 1", f"{CHECKERBOARD} f64 1"
        worst = [
            found["gradient"] for name, found in self.found.items() if name.endswith("differences") and " f64 " in name
        ]
        # Both ranks wait for whichever is disturbed: what they can do shows in the steps that nothing disturbs.
        ranks = ratio(get("ranks 1"), get("ranks 2"), "fastest_ms")
        found = [
            Promise(name="gradients, f64, largest relative difference from autodiff",
                    value=max(worst, default=None), at_most=1e-10),
            Promise(name="1, 2, 3, 4 and 8 ranks, chunks of any size: ways with other bits",
                    value=equal.get("other_bits"), at_most=0),
            Promise(name="loss, difference from the plain sum", value=equal.get("loss"), at_most=1e-10),
            Promise(name="logits, difference from the plain sum", value=equal.get("logits"), at_most=1e-8),
            Promise(name="GoL step, CPU, JAX in the original form by ours",
                    value=ratio(get(f"{gol} {GATES}"), get(f"{gol} {OURS}"), "cpu_ms"), at_least=20),
            Promise(name="GoL step, CPU, JAX in the 4-coefficient form by ours",
                    value=ratio(get(f"{gol} {COEFFICIENTS}"), get(f"{gol} {OURS}"), "cpu_ms"), at_least=2),
            Promise(name="checkerboard step, CPU, JAX in the 4-coefficient form by ours",
                    value=ratio(get(f"{board} {COEFFICIENTS}"), get(f"{board} {OURS}"), "cpu_ms"), at_least=4),
            Promise(name="checkerboard, peak memory of the process, ours by JAX's 4-coefficient form",
                    value=ratio(get(f"{board} {OURS}"), get(f"{board} {COEFFICIENTS}"), "peak_rss_bytes"), at_most=0.2),
            Promise(name="two ranks by one, checkerboard, wall time of undisturbed steps", value=ranks, at_least=1.6),
            Promise(name="hard forward 128x128, CPU, float numpy by packed",
                    value=ratio(get("hard float numpy"), get("hard packed"), "cpu_ms"), at_least=100),
        ]  # fmt: skip
        single = ratio(get(f"{board} {OURS}"), get(f"{CHECKERBOARD} f32 1 {OURS}"), "cpu_ms")
        return [*found, Promise(name="checkerboard step, CPU, f64 by f32", value=single, at_least=1)]

    def _results(self, preset: str, *, form: str, dtype: str) -> Path:
        return self.folder / f"{preset}-{form}-{dtype}.npz"

    def _child(self, module: str, *arguments: str, before: list[str] | None = None) -> Json:
        command = [*(before or []), sys.executable, "-m", module, *arguments]
        # In a group of its own: what mpiexec started goes with it.
        with subprocess.Popen(
            command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True, start_new_session=True
        ) as child:
            try:
                output, _ = child.communicate(timeout=LONGEST_SECONDS)
            except BaseException:
                os.killpg(child.pid, signal.SIGKILL)
                raise
        if child.returncode:
            raise SystemExit(f"{' '.join(command)}: exit code {child.returncode}")
        found: Json = json.loads(output)
        return found

    def _wrong(self, text: str) -> None:
        self.problems.append(text)
        say(f"WRONG: {text}")


def main() -> int:
    """Measure what the command line asks for and print it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.difflogic", description=__doc__)
    parser.add_argument("--rounds", type=int, default=2, help="medians are shown (default 2)")
    parser.add_argument(
        "--original", action="store_true", help="the checkerboard in JAX's original form too: minutes, and 7 GB"
    )
    arguments = parser.parse_args()
    if arguments.rounds < 1:
        parser.error("--rounds: at least 1")
    document: dict[str, Any] = {"benchmark": "difflogic", "machine": machine.describe()}
    with tempfile.TemporaryDirectory() as folder:
        benchmark = Benchmark(arguments.rounds, original=arguments.original, folder=Path(folder))
        for preset in (GOL, CHECKERBOARD):
            for dtype in DTYPES:
                benchmark.side_by_side(preset, dtype=dtype, cpus=1)
            benchmark.side_by_side(preset, dtype="f64", cpus=2)
        benchmark.equality()
        benchmark.ranks()
        benchmark.hard_forward()
    promises = benchmark.promises()
    for promise in promises:
        say(promise.line())
    document["measurements"] = benchmark.found
    document["promises"] = {promise.name: promise.document() for promise in promises}
    return told(document, problems=benchmark.problems)


if __name__ == "__main__":
    run(main)
