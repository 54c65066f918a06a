"""What makes two runs the same run: everything that a block number's meaning rests on.

A ledger says `block 7 of shard 2 is done`; resuming with other shards, blocks or input would read that wrongly, so
the identity is recorded when a run begins and compared whenever it goes on.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from shardwise_api.runs import TrainingRunSpec
from shardwise_jobs.errors import BadConfiguration
from shardwise_jobs.sources import Survey

from .stores.base import KnowledgeBaseConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class RunIdentity:
    """The recorded identity, by manifest field."""

    fields: dict[str, object]

    @classmethod
    def of(cls, *, spec: TrainingRunSpec, config: KnowledgeBaseConfig, survey: Survey) -> RunIdentity:
        """Return the identity of a run as its manifest and its input are now."""
        assert spec.engine.kato is not None
        return cls(
            fields={
                "spec.sharding.strategy": str(spec.sharding.strategy),
                "spec.sharding.shards": spec.sharding.shards,
                "spec.blockSize": spec.block_size,
                "spec.engine.kato.knowledgeBase": spec.engine.kato.knowledge_base,
                "spec.engine.kato.nodes": [
                    f"{node} chunkSize {size}" for node, size in zip(config.nodes, config.chunk_sizes, strict=True)
                ],
                "spec.engine.kato.tokenizer": config.tokenizer,
                "spec.engine.kato.dataset.structure": config.segmentation,
                "spec.engine.kato.dataset": survey.fingerprint,
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
        names = sorted({*then, *self.fields})
        changed = [
            f"{name}: {_short(then.get(name))} then, {_short(self.fields.get(name))} now"
            for name in names
            if then.get(name) != self.fields.get(name)
        ]
        if changed:
            raise BadConfiguration(
                "this run was begun with other settings, and going on would count wrongly; give it another "
                f"metadata.name to train it as a run of its own ({'; '.join(changed)})"
            )


def _short(value: object) -> str:
    # Of a digest the first digits tell two apart.
    return f"{value[:19]}…" if isinstance(value, str) and value.startswith("sha256:") else repr(value)
