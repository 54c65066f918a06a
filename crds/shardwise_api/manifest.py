"""From a manifest to a run: reads, validates and resolves, and reports everything that is wrong at once.

`shardwise run` has no API server in front of it; what that would refuse is refused here, with a reason per field.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from . import API_VERSION, explain, yaml_text
from . import overrides as overriding
from .rules import Problem, join
from .runs import KINDS, IngestRun, Run, TrainingRun

_METADATA = (
    "name",
    "namespace",
    "labels",
    "annotations",
    "generateName",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "finalizers",
    "managedFields",
    "ownerReferences",
    "selfLink",
)
"""Fields of metav1.ObjectMeta: a manifest may come from `kubectl get -o yaml`."""


class InvalidManifest(ValueError):
    """A manifest that can't be run, with every reason; its text has one line per problem."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems


def load_manifest(path: Path, *, overrides: Sequence[str] = ()) -> Run:
    """Read a manifest file; see `parse_manifest`."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise InvalidManifest([Problem(str(path), "there is no such file")]) from None
    except IsADirectoryError:
        raise InvalidManifest([Problem(str(path), "is a folder, a manifest is a file")]) from None
    except OSError as error:
        raise InvalidManifest([Problem(str(path), f"can't be read: {error.strerror}")]) from error
    except UnicodeDecodeError as error:
        raise InvalidManifest([Problem(str(path), f"is not UTF-8 text (byte {error.start})")]) from error
    return parse_manifest(text, name=str(path), overrides=overrides)


def parse_manifest(text: str, *, name: str, overrides: Sequence[str] = ()) -> Run:
    """Return the run that a manifest's text asks for, defaults filled in.

    `overrides` are `path=value` (see `overrides.apply`). A `status` is left aside, as the API server does with what
    people send; nulls are absent fields.

    Raises:
        InvalidManifest: with all problems found.
    """
    document, problems = yaml_text.read(text, name=name)
    if problems:
        raise InvalidManifest(problems)
    if not isinstance(document, dict):
        found = "a list" if isinstance(document, list) else repr(document)
        raise InvalidManifest([Problem(name, f"must be a mapping of apiVersion, kind, metadata and spec, got {found}")])
    problems = overriding.apply(document, overrides)
    run, invalid = _validate(document)
    problems.extend(invalid)
    if problems or run is None:
        raise InvalidManifest(problems)
    return run


def _validate(document: dict[str, Any]) -> tuple[Run | None, list[Problem]]:
    kind = document.get("kind")
    if not isinstance(kind, str) or kind not in KINDS:
        problems = []
        if document.get("apiVersion") != API_VERSION:
            problems.append(_header("apiVersion", document.get("apiVersion"), [API_VERSION]))
        problems.append(_header("kind", kind, list(KINDS)))
        return None, problems
    run, problems = explain.validate(KINDS[kind], {key: value for key, value in document.items() if key != "status"})
    problems.extend(_metadata_problems(document.get("metadata")))
    return run, problems


def _metadata_problems(metadata: Any) -> list[Problem]:
    """Find what an API server's strict field validation would; nothing here matters to a local run."""
    if not isinstance(metadata, dict):
        return []
    problems = [
        Problem(join("metadata", key), f"unknown field; {explain.suggestion(key, list(_METADATA))}")
        for key in metadata
        if key not in _METADATA
    ]
    for field in ("labels", "annotations"):
        values = metadata.get(field)
        if isinstance(values, dict):
            problems.extend(
                Problem(join(f"metadata.{field}", key), f"must be a string, got {value!r}: put it in quotes")
                for key, value in values.items()
                if not isinstance(value, str | None)
            )
        elif values is not None:
            problems.append(Problem(f"metadata.{field}", f"must be a mapping, got {values!r}"))
    return problems


def _header(field: str, value: Any, known: list[str]) -> Problem:
    if value is None:
        return Problem(field, f"required: {' or '.join(known)}")
    return Problem(field, f"unknown {value!r}; {explain.suggestion(str(value), known)}")


def resolve_paths(run: Run, *, base: Path) -> Run:
    """Return a copy whose relative file paths are absolute, as seen from `base`: the folder of the manifest.

    URIs with a scheme stay as they are, except `sqlite:///relative.db` and `file://relative`.
    """
    base = base.resolve()
    run = run.model_copy(deep=True)
    if run.spec.output is not None:
        run.spec.output.uri = _uri(run.spec.output.uri, base=base)
    if isinstance(run, IngestRun):
        run.spec.source.files.uris = [_uri(uri, base=base) for uri in run.spec.source.files.uris]
        if run.spec.store.uri is not None:
            run.spec.store.uri = _uri(run.spec.store.uri, base=base)
        model = run.spec.embedding.model
        # As with a dataset below: anything else may be a name.
        if model is not None and model.startswith(("./", "../")):
            run.spec.embedding.model = _path(model, base=base)
    else:
        _resolve_kato(run, base=base)
        if run.spec.engine.scripts is not None:
            run.spec.engine.scripts.source = _path(run.spec.engine.scripts.source, base=base)
    return run


def _resolve_kato(run: TrainingRun, *, base: Path) -> None:
    kato = run.spec.engine.kato
    if kato is None:
        return
    if kato.dataset.files is not None:
        kato.dataset.files.uris = [_uri(uri, base=base) for uri in kato.dataset.files.uris]
    hub = kato.dataset.hub
    # Anything else may be a name on the hub, which looks like a relative path.
    if hub is not None and hub.path.startswith(("./", "../")):
        hub.path = _path(hub.path, base=base)
    if kato.tokenizer.file is not None:
        kato.tokenizer.file = _path(kato.tokenizer.file, base=base)
    if kato.store is not None and kato.store.uri is not None:
        kato.store.uri = _uri(kato.store.uri, base=base)


def _path(path: str, *, base: Path) -> str:
    return os.path.normpath(base / Path(path).expanduser())


def _uri(uri: str, *, base: Path) -> str:
    scheme, separator, rest = uri.partition("://")
    if not separator:
        return _path(uri, base=base)
    if scheme == "file":
        return f"file://{_path(rest, base=base)}"
    if scheme == "sqlite" and rest.startswith("/"):
        return f"sqlite:///{_path(rest[1:], base=base)}"
    return uri
