"""How many samples a worker may compute at once: as its cores allow and its memory holds, in a pod as on a laptop."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from shardwise_api.runs import TrainingRunSpec
from shardwise_api.wire import Environment

from ..experiments.presets import Experiment
from ..model.automaton import Automaton

_CGROUPS = Path("/sys/fs/cgroup")
_MEMBERSHIP = Path("/proc/self/cgroup")
_SHARE = 0.5
"""Of the memory limit, for samples: the rest is the interpreter's, compiled code and the logits' moments."""
_BUFFERS = 3
"""States there are of a rollout at a time: the soft ones, their gradients by patch, the hard ones."""


def sample_bytes(experiment: Experiment, *, automaton: Automaton, dtype: str) -> int:
    """Return about what one sample in flight needs: its states, and one chunk's activations and gradients."""
    item = 4 if dtype == "f32" else 8
    rollout, cells = experiment.rollout, experiment.rollout.height * experiment.rollout.width
    state = experiment.model.channels * (cells + 1) * item
    chunk = 64 * 2 * (automaton.evaluations + automaton.features) * item
    masks = rollout.steps * cells
    return state * (rollout.steps + 1) + state * 9 * _BUFFERS + chunk + masks + automaton.gates * 4 * 8


def samples_in_flight(*, asked: int | None, samples: int, sample_size: int, sharing: int = 1) -> int:
    """Return how many of `samples` to compute at once, at least 1.

    Args:
        asked: what the manifest says; None: by cores and memory.
        samples: there are.
        sample_size: bytes of one in flight.
        sharing: worker processes that share this machine's cores and memory.
    """
    if asked is not None:
        return max(1, min(asked, samples))
    most = max(1, cores() // sharing)
    limit = memory_limit()
    if limit is not None:
        most = min(most, int(limit * _SHARE / sharing) // max(1, sample_size))
    return max(1, min(most, samples))


def sharing(environment: Mapping[str, str], spec: TrainingRunSpec) -> int:
    """Return how many workers of this run there are on this machine, as far as a worker can tell.

    In a pod a worker has its limits for itself. A local runner starts all ranks, or several seeds, side by side; and
    `mpiexec` says how many ranks it started here.
    """
    if Environment.PARENT in environment or environment.get(Environment.RENDEZVOUS, "").startswith("file:"):
        return spec.sharding.parallelism or spec.sharding.shards
    if Environment.RENDEZVOUS in environment:
        return 1
    for name in ("MPI_LOCALNRANKS", "OMPI_COMM_WORLD_LOCAL_SIZE"):
        if environment.get(name, "").isdigit():
            return max(1, int(environment[name]))
    return 1


def cores() -> int:
    """Return the cores that this process may use: its cgroup's quota, rounded up, and its affinity."""
    most = len(os.sched_getaffinity(0))
    for folder in _groups():
        words = _read(folder / "cpu.max").split()
        if len(words) == 2 and words[0].isdigit() and int(words[1]) > 0:
            most = min(most, -(-int(words[0]) // int(words[1])))
    return max(1, most)


def memory_limit() -> int | None:
    """Return the bytes that this process's cgroup allows it, None when there is no limit."""
    limits = [int(text) for folder in _groups() if (text := _read(folder / "memory.max")).isdigit()]
    return min(limits, default=None)


def _groups() -> Iterator[Path]:
    """Yield the folders of this process's cgroup (version 2) and of those that it is in."""
    for line in _read(_MEMBERSHIP).splitlines():
        if line.startswith("0::"):
            folder = _CGROUPS / line.removeprefix("0::").lstrip("/")
            while folder != _CGROUPS and _CGROUPS in folder.parents:
                yield folder
                folder = folder.parent
    # In a container this is the container's own.
    yield _CGROUPS


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return ""
