"""Any sentence-transformers model by name or folder: for GTR-T5 and others that need torch, as an extra.

Texts are computed each in a call of its own, on one thread per call, so that a vector depends on its text alone.
"""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shardwise.engine.errors import BadConfiguration, Unavailable
from shardwise.engine.http_client import adapt_to_hub

from .base import EmbeddingFailed, PerTextEmbedder, Vectors, processors

_PREFIX = "sentence-transformers:"
_DIGEST_LENGTH = 12


class SentenceTransformersEmbedder:
    """An `Embedder` over a sentence-transformers model, on the processor."""

    def __init__(self, model: str, *, threads: int | None = None) -> None:
        try:
            import torch
            from sentence_transformers import SentenceTransformer
        except ImportError as error:
            raise BadConfiguration(
                "embedding.backend sentence-transformers needs the extra: pip install "
                "'shardwise[sentence-transformers]'"
            ) from error
        adapt_to_hub(model)
        try:
            self._model: Any = SentenceTransformer(model, device="cpu")
        except ConnectionError as error:
            raise Unavailable(f"embedding.model {model!r}: {error}") from error
        except Exception as error:  # the libraries below raise whatever comes
            raise BadConfiguration(f"embedding.model {model!r}: {error}") from error
        self._torch: Any = torch
        # Several texts at once instead: a sum split between threads rounds by their number.
        torch.set_num_threads(1)
        self._tokenizing = threading.Lock()
        # A folder's path is the machine's own, and rows are compared between machines.
        called = Path(model).name if Path(model).is_dir() else model
        self.name = f"{_PREFIX}{called}@{_weights_digest(self._model, byte=torch.uint8)}"
        self.dimension = int(_either(self._model, "get_embedding_dimension", "get_sentence_embedding_dimension")())
        self._tokenize = _either(self._model, "preprocess", "tokenize")
        self._each = PerTextEmbedder(self._one, dimension=self.dimension, threads=threads or processors())

    def embed(self, texts: Sequence[str]) -> Vectors:
        """See `Embedder.embed`."""
        return self._each.embed(texts)

    def close(self) -> None:
        """See `Embedder.close`."""
        self._each.close()

    def _one(self, text: str) -> NDArray[np.float32]:
        try:
            # The tokenizer sets its padding anew for each call, which two threads must not do at once.
            with self._tokenizing:
                features = self._tokenize([text])
            with self._torch.inference_mode():
                found: NDArray[np.float32] = self._model(features)["sentence_embedding"][0].float().numpy()
        except Exception as error:  # as above
            raise EmbeddingFailed(f"{self.name}: {error}") from error
        return found


def model_of(name: str) -> str:
    """Return the model that an embedder of this name was opened with; of a folder its last part alone."""
    return re.sub(rf"@[0-9a-f]{{{_DIGEST_LENGTH}}}$", "", name.removeprefix(_PREFIX))


def _weights_digest(model: Any, *, byte: Any) -> str:
    """Return the beginning of the SHA-256 of all weights: the same folder, or the same name, may hold others later."""
    digest = hashlib.sha256()
    # Without the keys themselves: versions of the library differ in how they begin.
    for _, tensor in sorted(model.state_dict().items()):
        numbers = tensor.detach().cpu().contiguous()
        digest.update(f"{numbers.dtype} {tuple(numbers.shape)}".encode())
        # As bytes, for numpy lacks some of its types.
        digest.update(numbers.reshape(-1).view(byte).numpy())
    return digest.hexdigest()[:_DIGEST_LENGTH]


def _either(model: Any, new: str, old: str) -> Any:
    # Later versions of the library have other names for them.
    return getattr(model, new) if hasattr(model, new) else getattr(model, old)
