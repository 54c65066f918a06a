"""How a person names a run on the command line: `NAME`, `trun/NAME` or `irun/NAME`."""

from __future__ import annotations

from dataclasses import dataclass

from shardwise_api import API_VERSION
from shardwise_api.runs import KINDS

from .client import Resource
from .errors import UsageProblem

RESOURCES = {kind: Resource(version=API_VERSION, plural=model.plural) for kind, model in KINDS.items()}
SHORT = {kind: model.short_name for kind, model in KINDS.items()}
_SPELLINGS = {
    spelling.lower(): kind
    for kind, model in KINDS.items()
    for spelling in (kind, model.plural, model.short_name, *(f"{n}.shardwise.dev" for n in (kind, model.plural)))
}


@dataclass(frozen=True, slots=True, kw_only=True)
class RunName:
    """A run as it was asked for; any kind when None."""

    kind: str | None
    name: str

    @property
    def kinds(self) -> tuple[str, ...]:
        """Return the kinds that it may be of."""
        return tuple(KINDS) if self.kind is None else (self.kind,)

    def __str__(self) -> str:
        return self.name if self.kind is None else f"{SHORT[self.kind]}/{self.name}"


def parse(text: str) -> RunName:
    """Read a RUN argument.

    Raises:
        UsageProblem: it is no name of a run.
    """
    kind, slash, name = text.rpartition("/")
    if not slash:
        kind, name = "", text
    if not name or "/" in kind:
        raise UsageProblem(f"{text!r} is not a run: write NAME, trun/NAME or irun/NAME")
    if not kind and slash:
        raise UsageProblem(f"{text!r} is not a run: write NAME, trun/NAME or irun/NAME")
    if kind and kind.lower() not in _SPELLINGS:
        raise UsageProblem(f"{text!r}: {kind!r} is not a kind of run; write trun/{name} or irun/{name}")
    return RunName(kind=_SPELLINGS[kind.lower()] if kind else None, name=name)
