"""The default embedder: a model folder (onnx_model.py) on onnxruntime, which is small and needs no torch.

Each call computes one text on one thread, so a vector can depend neither on its neighbours nor on the number of
threads; on a processor that costs no more than batches, for there is no padding to compute.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shardwise.engine.errors import BadConfiguration, panics_are_errors

from .base import EmbeddingFailed, PerTextEmbedder, Vectors, processors, unit
from .onnx_model import GRAPH_FILE, TOKENIZER_FILE, check_graph, ensure, read_card


class OnnxEmbedder:
    """An `Embedder` that runs a model folder; without one, the default model, made first when it isn't there."""

    def __init__(self, folder: Path | None = None, *, threads: int | None = None) -> None:
        try:
            import onnxruntime
            from tokenizers import Tokenizer
        except ImportError as error:
            raise BadConfiguration("embedding.backend onnx needs the extra: pip install 'shardwise[ingest]'") from error
        folder = ensure() if folder is None else folder
        card = read_card(folder)
        check_graph(folder, card=card)
        self.name = card.name
        self.dimension = card.dimension
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        # Its warnings go to the terminal, past every logger.
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(
                str(folder / GRAPH_FILE), options, providers=["CPUExecutionProvider"]
            )
            with panics_are_errors():
                self._tokenizer = Tokenizer.from_file(str(folder / TOKENIZER_FILE))
        except Exception as error:  # both libraries raise classes of their own, or bare Exception
            raise BadConfiguration(f"embedding model {folder}: {error}") from error
        self._tokenizer.enable_truncation(max_length=card.max_tokens)
        self._tokenizer.no_padding()
        self._each = PerTextEmbedder(self._one, dimension=card.dimension, threads=threads or processors())

    def embed(self, texts: Sequence[str]) -> Vectors:
        """See `Embedder.embed`."""
        return self._each.embed(texts)

    def embed_padded(self, texts: Sequence[str]) -> Vectors:
        """Return the vectors of one call for all texts, padded to the longest.

        To measure what batches would give; a row's last bits depend on its neighbours here.
        """
        tokens = [self._tokenizer.encode(text).ids for text in texts]
        ids = np.zeros((len(tokens), max(map(len, tokens), default=0)), dtype=np.int64)
        mask = np.zeros_like(ids)
        for row, found in enumerate(tokens):
            ids[row, : len(found)] = found
            mask[row, : len(found)] = 1
        return unit(self._run(ids, mask))

    def close(self) -> None:
        """See `Embedder.close`."""
        self._each.close()

    def _one(self, text: str) -> NDArray[np.float32]:
        try:
            with panics_are_errors():
                ids = np.array([self._tokenizer.encode(text).ids], dtype=np.int64)
        except Exception as error:  # of the tokenizers library, bare
            raise EmbeddingFailed(f"{self.name}: {TOKENIZER_FILE}: {error}") from error
        row: NDArray[np.float32] = self._run(ids, np.ones_like(ids))[0]
        return row

    def _run(self, ids: NDArray[np.int64], mask: NDArray[np.int64]) -> NDArray[np.float32]:
        try:
            (mean,) = self._session.run(["mean"], {"input_ids": ids, "attention_mask": mask})
        except Exception as error:  # the runtime's classes are many, and its own
            raise EmbeddingFailed(f"{self.name}: {error}") from error
        found: NDArray[np.float32] = mean
        return found
