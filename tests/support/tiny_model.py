"""An embedding model of eight numbers and no layers, which the default embedder runs like its own: for many starts."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, models, pre_tokenizers

from shardwise_jobs.engines.ingest.embed.bert_graph import Shape, mean_pooled_bert
from shardwise_jobs.engines.ingest.embed.onnx_model import CARD_FILE, GRAPH_FILE, TOKENIZER_FILE, ModelCard

DIMENSION = 8
_MAX_TOKENS = 256


def make(folder: Path, *, seed: int = 1) -> Path:
    """Make a model folder and return it; another seed is another model."""
    dice = np.random.default_rng(seed)
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={letter: number for number, letter in enumerate(letters)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)

    def numbers(*shape: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        return dice.standard_normal(shape).astype(np.float32)

    weights = {
        "embeddings.word_embeddings.weight": numbers(len(letters), DIMENSION),
        "embeddings.position_embeddings.weight": numbers(_MAX_TOKENS, DIMENSION),
        "embeddings.token_type_embeddings.weight": numbers(2, DIMENSION),
        "embeddings.LayerNorm.weight": np.ones(DIMENSION, dtype=np.float32),
        "embeddings.LayerNorm.bias": numbers(DIMENSION),
    }
    graph = mean_pooled_bert(weights, shape=Shape(layers=0, heads=1, epsilon=1e-12)).SerializeToString()
    card = ModelCard(
        name=f"onnx:tiny@{seed}",
        dimension=DIMENSION,
        max_tokens=_MAX_TOKENS,
        graph_sha256=hashlib.sha256(graph).hexdigest(),
    )
    folder.mkdir(parents=True)
    (folder / GRAPH_FILE).write_bytes(graph)
    tokenizer.save(str(folder / TOKENIZER_FILE))
    (folder / CARD_FILE).write_text(json.dumps(asdict(card)))
    return folder
