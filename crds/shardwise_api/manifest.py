"""From a manifest to a run: reads, validates and resolves, and reports everything that is wrong at once.

`shardwise run` has no API server in front of it; what that would refuse is refused here, with a reason per field.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from . import API_VERSION, uris, validation, yaml_reader
from . import overrides as overriding
from .file_fields import file_fields, file_problems, secret_problems
from .rules import Problem, join
from .runs import KINDS, Run

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
    document, problems = yaml_reader.read(text, name=name)
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
    run, problems = validation.validate(KINDS[kind], {key: value for key, value in document.items() if key != "status"})
    problems.extend(_metadata_problems(document.get("metadata")))
    if run is not None:
        # Not yet the schemes: a cluster may know others than this machine.
        problems.extend([*file_problems(run), *secret_problems(run)])
    return run, problems


def _metadata_problems(metadata: Any) -> list[Problem]:
    """Find what an API server's strict field validation would; nothing here matters to a local run."""
    if not isinstance(metadata, dict):
        return []
    problems = [
        Problem(join("metadata", key), f"unknown field; {validation.suggestion(key, list(_METADATA))}")
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
    return Problem(field, f"unknown {value!r}; {validation.suggestion(str(value), known)}")


def resolve_paths(run: Run, *, base: Path) -> Run:
    """Return a copy whose relative file paths are absolute, as seen from `base`: the folder of the manifest.

    URIs with a scheme stay as they are, except `sqlite:///relative.db` and `file://relative`.

    Raises:
        InvalidManifest: a path or URI can't be used here.
    """
    if problems := file_problems(run, schemes=uris.allowed_schemes()):
        raise InvalidManifest(problems)
    base = base.resolve()
    run = run.model_copy(deep=True)
    for field in file_fields(run):
        if field.kind != "path":
            field.assign(uris.resolved(field.value, base=base))
        elif not field.value.startswith("/"):
            field.assign(uris.absolute(field.value, base=base))
    return run
