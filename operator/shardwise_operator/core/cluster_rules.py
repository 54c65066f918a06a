"""What a cluster asks of a run beyond its schema: workers share no folder with whoever wrote the manifest."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from shardwise_api.manifest import resolve_paths
from shardwise_api.runs import Run

OWN_PREFIX = "shardwise.dev/"
_NOWHERE = Path("/shardwise-relative-path")


def cluster_problems(run: Run, *, reserved: Collection[str]) -> list[str]:
    """Return what keeps a valid run from running in pods, as `field: problem and way out`.

    `reserved` are the environment variables that the operator sets itself.
    """
    problems = []
    if run.spec.output is None:
        problems.append(
            "spec.output: required on a cluster: a URI that all pods reach, as s3://bucket/dir or file:///data/NAME on "
            "a volume of worker.volumes"
        )
    for path, value in _relative_paths(run):
        problems.append(
            f"{path}: {value!r} is relative, and pods have no folder of the manifest: give an absolute path on a "
            "volume of worker.volumes, or a URI"
        )
    for key in run.spec.worker.annotations:
        if key.startswith(OWN_PREFIX):
            problems.append(f"spec.worker.annotations: {key} is the operator's own")
    seen = set()
    for index, entry in enumerate(run.spec.worker.env):
        name = entry.get("name")
        if name in reserved:
            problems.append(f"spec.worker.env[{index}].name: {name} is set by the operator")
        elif name in seen:
            # An API server takes no list of them that holds one twice, and says so in words of its own.
            problems.append(f"spec.worker.env[{index}].name: {name} is there twice")
        seen.add(name)
    return problems


def _relative_paths(run: Run) -> Iterator[tuple[str, str]]:
    before = run.spec_document()
    after = resolve_paths(run, base=_NOWHERE).spec_document()
    for (path, given), (_, resolved) in zip(_leaves(before, "spec"), _leaves(after, "spec"), strict=True):
        if given != resolved and str(_NOWHERE) in str(resolved):
            yield path, str(given)


def _leaves(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _leaves(item, f"{path}.{key}")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _leaves(item, f"{path}[{index}]")
    else:
        yield path, value
