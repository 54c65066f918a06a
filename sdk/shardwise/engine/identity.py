"""What makes two starts the same run: everything that a block number's meaning rests on, engine by engine.

A ledger says `block 7 of shard 2 is done`; going on with other shards, blocks or input would read that wrongly, so the
identity is recorded when a run begins and compared whenever it goes on.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from .errors import BadConfiguration


@dataclass(frozen=True, slots=True, kw_only=True)
class RunIdentity:
    """The recorded identity, by manifest field."""

    fields: dict[str, object]

    def to_json(self) -> str:
        """Return the identity as JSON text."""
        return json.dumps(self.fields, sort_keys=True)

    def require_same(self, recorded: str) -> None:
        """Compare with what was recorded at the run's begin.

        Raises:
            BadConfiguration: something differs; the message names each field with both values.
        """
        then = json.loads(recorded)
        changed = [
            f"{name}: {_short(then.get(name))} then, {_short(self.fields.get(name))} now"
            for name in sorted({*then, *self.fields})
            if then.get(name) != self.fields.get(name)
        ]
        if changed:
            raise BadConfiguration(
                "this run was begun with other settings, and going on would count wrongly; give it another "
                f"metadata.name to make it a run of its own ({'; '.join(changed)})"
            )


def _short(value: object) -> str:
    # Of a digest the first digits tell two apart.
    return f"{value[:19]}…" if isinstance(value, str) and value.startswith("sha256:") else repr(value)
