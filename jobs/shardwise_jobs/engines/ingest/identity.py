"""What an ingestion's identity is made of: what its blocks are cut from, and what gives a row its codes and vector."""

from __future__ import annotations

from shardwise_api.runs import IngestRunSpec
from shardwise_jobs.identity import RunIdentity

from .source import Survey


def identity_of(*, spec: IngestRunSpec, survey: Survey, embed_model: str) -> RunIdentity:
    """Return the identity of a run as its manifest and its input are now."""
    return RunIdentity(
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
