"""What of a manifest can't mean in a pod what it means on a laptop: relative paths, unmounted folders, localhost.

`shardwise run` reads paths as relative to the manifest; a pod has no such folder. Said before anything is created,
since the pods would say it minutes later, and less clearly.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath
from urllib.parse import urlsplit

from shardwise_api.file_fields import file_fields, server_fields
from shardwise_api.rules import Problem
from shardwise_api.runs import IngestRun, Run, suite_of

_LOCAL_HOSTS = frozenset({"localhost", "127.0.0.1", "::1", "0.0.0.0"})  # noqa: S104 - recognised, not bound
_WAY_OUT = "give an absolute path on a mounted volume (worker.volumes, worker.volumeMounts) or a URI"


def relative_paths(run: Run) -> list[Problem]:
    """Find paths that only a laptop could resolve."""
    return [
        Problem(field, f"{value!r} is relative, and a pod has no folder of the manifest: {_WAY_OUT}")
        for field, value, path in _paths(run)
        if not path.is_absolute()
    ]


def warnings(run: Run) -> list[Problem]:
    """Find what is likely, but not certain, to fail in a pod."""
    mounts = [PurePosixPath(str(mount.get("mountPath"))) for mount in run.spec.worker.volume_mounts]
    found = [
        Problem(field, f"{value!r} is on no volume that the worker mounts (worker.volumeMounts): {_gone(field)}")
        for field, value, path in _paths(run)
        if path.is_absolute() and not any(path.is_relative_to(mount) for mount in mounts)
    ]
    found += [
        Problem(field, f"{url!r} is the pod itself there: name a Service, as http://NAME.NAMESPACE.svc:8000")
        for field, url in _urls(run)
        if urlsplit(url).hostname in _LOCAL_HOSTS
    ]
    return found


def _gone(field: str) -> str:
    written = field.endswith(("output.uri", "store.uri", "baseOutputDir"))
    return "a pod's own files are read-only" if written else "it has to be in the worker's image"


def _paths(run: Run) -> Iterator[tuple[str, str, PurePosixPath]]:
    """Yield field, value and path of everything that names a file."""
    for found in file_fields(run):
        if (path := found.path()) is not None:
            yield found.field, found.value, PurePosixPath(path)
    scripts = suite_of(run)
    if scripts is not None and scripts.base_output_dir.startswith("/"):
        folder = scripts.base_output_dir
        yield "spec.engine.scripts.baseOutputDir", folder, PurePosixPath(folder)


def _urls(run: Run) -> Iterator[tuple[str, str]]:
    yield from server_fields(run)
    if isinstance(run, IngestRun):
        if (run.spec.store.uri or "").startswith("postgres"):
            yield "spec.store.uri", run.spec.store.uri or ""
        return
    kato = run.spec.engine.kato
    if kato is not None and kato.store is not None and (kato.store.uri or "").startswith("mongodb"):
        yield "spec.engine.kato.store.uri", kato.store.uri or ""
