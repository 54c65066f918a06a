"""What makes two runs the same run: everything that a block number's meaning, or a row, rests on.

A ledger says `block 7 of shard 2 is done`; going on with other shards, blocks or input would read that wrongly, and
with another backend would mix two kinds of rows. So it is recorded when a run begins, and compared when it goes on.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from shardwise_api.runs import IngestRunSpec
from shardwise_jobs.errors import BadConfiguration

from .source import Survey


@dataclass(frozen=True, slots=True, kw_only=True)
class RunIdentity:
    """The recorded identity, by manifest field."""

    fields: dict[str, object]

    @classmethod
    def of(cls, *, spec: IngestRunSpec, survey: Survey, embed_model: str) -> RunIdentity:
        """Return the identity of a run as its manifest and its input are now."""
        return cls(
            fields={
                "spec.sharding.strategy": str(spec.sharding.strategy),
                "spec.sharding.shards": spec.sharding.shards,
                "spec.blockSize": spec.block_size,
                "spec.source": survey.fingerprint,
                "spec.datasetSource": spec.dataset_source,
                "spec.dedup": str(spec.dedup),
                "spec.tmd": " ".join([str(spec.tmd.backend), *([spec.tmd.model] if spec.tmd.model else [])]),
                "spec.embedding": embed_model,
                "items": survey.items_total,
            }
        )

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
                "this run was begun with other settings, and its blocks would mean something else; give it another "
                f"metadata.name to ingest as a run of its own ({'; '.join(changed)})"
            )


def _short(value: object) -> str:
    # Of a digest the first digits tell two apart.
    return f"{value[:19]}…" if isinstance(value, str) and value.startswith("sha256:") else repr(value)
