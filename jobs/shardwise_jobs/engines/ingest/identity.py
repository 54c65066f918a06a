"""What an ingestion's identity is made of: what its blocks are cut from, and what gives a row its codes and vector."""

from __future__ import annotations

from shardwise.engine.identity import RunIdentity
from shardwise_api.ingest import OnTmdFailure, Tmd
from shardwise_api.runs import IngestRunSpec

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
            "spec.tmd": _who_gives_codes(spec.tmd),
            "spec.embedding": embed_model,
            "items": survey.items_total,
        }
    )


def _who_gives_codes(tmd: Tmd) -> str:
    words = [str(tmd.backend), *([tmd.model] if tmd.model else [])]
    if tmd.on_tmd_failure is OnTmdFailure.EMBEDDED:
        words.append("else embedded")
    return " ".join(words)
