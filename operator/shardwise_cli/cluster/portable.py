"""What of a manifest can't mean in a pod what it means on a laptop: relative paths, unmounted folders, localhost.

`shardwise run` reads paths as relative to the manifest; a pod has no such folder. Said before anything is created,
since the pods would say it minutes later, and less clearly.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath
from urllib.parse import urlsplit

from shardwise_api.rules import Problem
from shardwise_api.runs import IngestRun, Run

_LOCAL_HOSTS = frozenset({"localhost", "127.0.0.1", "::1", "0.0.0.0"})  # noqa: S104 - recognised, not bound
_FOLDERS = ("./", "../", "/")
_WAY_OUT = "give an absolute path on a mounted volume (worker.volumes, worker.volumeMounts) or a URI"


def relative_paths(run: Run) -> list[Problem]:
    """Find paths that only a laptop could resolve."""
    return [
        Problem(field, f"{value!r} is relative, and a pod has no folder of the manifest: {_WAY_OUT}")
        for field, value, path in _paths(run)
        if not path.startswith("/")
    ]


def warnings(run: Run) -> list[Problem]:
    """Find what is likely, but not certain, to fail in a pod."""
    mounts = [PurePosixPath(str(mount.get("mountPath"))) for mount in run.spec.worker.volume_mounts]
    found = [
        Problem(field, f"{value!r} is on no volume that the worker mounts (worker.volumeMounts): {_gone(field)}")
        for field, value, path in _paths(run)
        if path.startswith("/") and not any(PurePosixPath(path).is_relative_to(mount) for mount in mounts)
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


def _paths(run: Run) -> Iterator[tuple[str, str, str]]:
    """Yield field, value and path of everything that names a file."""
    for field, value in _values(run):
        scheme, separator, rest = value.partition("://")
        if not separator:
            yield field, value, value
        elif scheme == "file":
            yield field, value, rest
        elif scheme == "sqlite":
            yield field, value, rest.removeprefix("/")


def _values(run: Run) -> Iterator[tuple[str, str]]:
    if run.spec.output is not None:
        yield "spec.output.uri", run.spec.output.uri
    if isinstance(run, IngestRun):
        yield from ((f"spec.source.files.uris[{n}]", uri) for n, uri in enumerate(run.spec.source.files.uris))
        if run.spec.store.uri is not None:
            yield "spec.store.uri", run.spec.store.uri
        model = run.spec.embedding.model
        # As with a dataset below: anything else may be a name.
        if model is not None and model.startswith(_FOLDERS):
            yield "spec.embedding.model", model
        return
    scripts = run.spec.engine.scripts
    if scripts is not None:
        yield "spec.engine.scripts.source", scripts.source
        if scripts.base_output_dir.startswith("/"):
            yield "spec.engine.scripts.baseOutputDir", scripts.base_output_dir
    kato = run.spec.engine.kato
    if kato is None:
        return
    at = "spec.engine.kato"
    if kato.dataset.files is not None:
        yield from ((f"{at}.dataset.files.uris[{n}]", uri) for n, uri in enumerate(kato.dataset.files.uris))
    hub = kato.dataset.hub
    # Anything else may be a name on the hub, which looks like a relative path.
    if hub is not None and hub.path.startswith(_FOLDERS):
        yield f"{at}.dataset.hub.path", hub.path
    if kato.tokenizer.file is not None:
        yield f"{at}.tokenizer.file", kato.tokenizer.file
    if kato.store is not None and kato.store.uri is not None:
        yield f"{at}.store.uri", kato.store.uri


def _urls(run: Run) -> Iterator[tuple[str, str]]:
    if isinstance(run, IngestRun):
        if run.spec.tmd.url is not None:
            yield "spec.tmd.url", run.spec.tmd.url
        if (run.spec.store.uri or "").startswith("postgres"):
            yield "spec.store.uri", run.spec.store.uri or ""
        return
    kato = run.spec.engine.kato
    if kato is not None and kato.server is not None:
        yield "spec.engine.kato.server.url", kato.server.url
    if kato is not None and kato.store is not None and (kato.store.uri or "").startswith("mongodb"):
        yield "spec.engine.kato.store.uri", kato.store.uri or ""
