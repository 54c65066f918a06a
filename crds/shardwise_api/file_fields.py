"""Which fields of a run name files: resolved on a laptop, refused when relative on a cluster, judged everywhere."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from . import uris
from .rules import Problem
from .runs import IngestRun, Run

Kind = Literal["path", "input", "output", "store"]
_FOLDERS = ("./", "../", "/")


@dataclass(frozen=True, slots=True, kw_only=True)
class FileField:
    """One path or URI of a run."""

    field: str
    """In manifest spelling, with `spec.`."""
    value: str
    kind: Kind
    """Whether it is always a path, or may be a URI of files that are read or written, or of a store."""
    assign: Callable[[str], None]

    def path(self) -> Path | None:
        """Return the local path that it names, None when it is elsewhere. Raises BadUri as `uris.local_path`."""
        if self.kind == "path":
            return Path(uris.absolute(self.value, base=Path()))
        if self.kind == "store":
            return uris.sqlite_path(self.value) if uris.scheme_of(self.value) == "sqlite" else None
        return uris.local_path(self.value)


def file_fields(run: Run) -> Iterator[FileField]:
    """Yield the fields of a run that name files or stores; what may be a name on a hub only where it can't be."""
    if run.spec.output is not None:
        yield _of(run.spec.output, "uri", "spec.output.uri", "output")
    if isinstance(run, IngestRun):
        yield from _listed(run.spec.source.files.uris, "spec.source.files.uris")
        if run.spec.store.uri is not None:
            yield _of(run.spec.store, "uri", "spec.store.uri", "store")
        if (run.spec.embedding.model or "").startswith(_FOLDERS):
            yield _of(run.spec.embedding, "model", "spec.embedding.model", "path")
        return
    if run.spec.engine.scripts is not None:
        yield _of(run.spec.engine.scripts, "source", "spec.engine.scripts.source", "path")
    kato = run.spec.engine.kato
    if kato is None:
        return
    at = "spec.engine.kato"
    if kato.tokenizer.file is not None:
        yield _of(kato.tokenizer, "file", f"{at}.tokenizer.file", "path")
    if kato.store is not None and kato.store.uri is not None:
        yield _of(kato.store, "uri", f"{at}.store.uri", "store")
    if kato.dataset.files is not None:
        yield from _listed(kato.dataset.files.uris, f"{at}.dataset.files.uris")
    if kato.dataset.hub is not None and kato.dataset.hub.path.startswith(_FOLDERS):
        yield _of(kato.dataset.hub, "path", f"{at}.dataset.hub.path", "path")


def server_fields(run: Run) -> Iterator[tuple[str, str]]:
    """Yield field and URL of each server that a run's workers ask, beside stores."""
    if isinstance(run, IngestRun):
        if run.spec.tmd.url is not None:
            yield "spec.tmd.url", run.spec.tmd.url
    elif run.spec.engine.kato is not None and run.spec.engine.kato.server is not None:
        yield "spec.engine.kato.server.url", run.spec.engine.kato.server.url


def secret_problems(run: Run) -> list[Problem]:
    """Return which URIs of a run hold a secret that its manifest must not hold; those of stores are judged by rules."""
    judged = [
        *(
            (field.field, uris.secret_problem_of(field.value, signed=field.kind == "input"))
            for field in file_fields(run)
            if field.kind in ("input", "output")
        ),
        *((field, uris.secret_problem_of(url)) for field, url in server_fields(run)),
    ]
    return [Problem(field, problem) for field, problem in judged if problem is not None]


def file_problems(run: Run, *, schemes: Iterable[str] | None = None) -> list[Problem]:
    """Return what is wrong with a run's paths and URIs; `schemes` are those allowed, None leaves that open."""
    problems = []
    for field in file_fields(run):
        problem: str | None = None
        try:
            field.path()
        except uris.BadUri as error:
            problem = str(error)
        if problem is None and field.kind in ("input", "output"):
            problem = uris.problem_of(field.value, schemes=schemes)
        if problem is not None:
            problems.append(Problem(field.field, problem))
    return problems


def _of(model: Any, name: str, field: str, kind: Kind) -> FileField:
    return FileField(field=field, value=getattr(model, name), kind=kind, assign=partial(setattr, model, name))


def _listed(values: list[str], field: str) -> Iterator[FileField]:
    for index, value in enumerate(values):
        assign = partial(values.__setitem__, index)
        yield FileField(field=f"{field}[{index}]", value=value, kind="input", assign=assign)
