"""Vectors of texts: a call for each, several texts at once as the product does, and padded batches of one call."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from shardwise.engine.blocks import blocks
from shardwise_jobs.engines.ingest.embed.base import Vectors
from shardwise_jobs.engines.ingest.embed.onnx import OnnxEmbedder

from .figures import Json
from .ingest_case import Stopwatch
from .ingest_figures import TEXTS_AT_ONCE, TEXTS_ONE, TEXTS_PADDED
from .ingest_ways import BLOCK_SIZE


def one_by_one(embedder: OnnxEmbedder, texts: Sequence[str]) -> Vectors:
    """Embed a text per call, the next one when the last one is done: the original without its batches."""
    return np.concatenate([embedder.embed([text]) for text in texts])


def at_once(embedder: OnnxEmbedder, texts: Sequence[str]) -> Vectors:
    """Embed a block per call: the product's way, a text per call of the model and as many calls as processors."""
    return np.concatenate([embedder.embed(part) for _, part in blocks(texts, block_size=BLOCK_SIZE, first=0)])


def padded(embedder: OnnxEmbedder, texts: Sequence[str]) -> Vectors:
    """Embed a block in one call of the model, padded to the longest text: the original with its batches."""
    return np.concatenate([embedder.embed_padded(part) for _, part in blocks(texts, block_size=BLOCK_SIZE, first=0)])


WAYS: dict[str, Callable[[OnnxEmbedder, Sequence[str]], Vectors]] = {
    TEXTS_ONE: one_by_one,
    TEXTS_AT_ONCE: at_once,
    TEXTS_PADDED: padded,
}


def measured(way: str, *, embedder: OnnxEmbedder, texts: Sequence[str]) -> tuple[Json, Vectors]:
    """Return the times of a way and the vectors that came of it."""
    watch = Stopwatch()
    vectors = WAYS[way](embedder, texts)
    return watch.read(), vectors


def other_bits(found: Vectors, right: Vectors) -> int:
    """Return how many rows differ, be it in one bit."""
    return int(np.any(found.view(np.uint32) != right.view(np.uint32), axis=1).sum())
