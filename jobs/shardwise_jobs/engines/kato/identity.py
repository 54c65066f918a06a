"""What a KATO run's identity is made of: what its blocks are cut from, and what they teach."""

from __future__ import annotations

from shardwise.engine.identity import RunIdentity
from shardwise.engine.sources import Survey
from shardwise_api.runs import TrainingRunSpec

from .stores.base import KnowledgeBaseConfig


def identity_of(*, spec: TrainingRunSpec, config: KnowledgeBaseConfig, survey: Survey) -> RunIdentity:
    """Return the identity of a run as its manifest and its input are now."""
    assert spec.engine.kato is not None
    return RunIdentity(
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
