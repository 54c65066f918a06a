"""Whatever bytes a file holds, its reader gives a value or one of our own errors, in one line that names the file."""

from __future__ import annotations

import gzip
import hashlib
import json
import lzma
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardwise.engine.errors import WorkError
from shardwise.engine.files import OutputFolder
from shardwise.engine.sources import LineSource
from shardwise_api.ingest import Dedup, IndexKind, SourceFiles, SourceFormat
from shardwise_api.kato import TokenizerSpec
from shardwise_jobs.engines.difflogic.artifacts import netlist
from shardwise_jobs.engines.difflogic.npz import npz_bytes, read_arrays
from shardwise_jobs.engines.difflogic.step_file import read_step
from shardwise_jobs.engines.difflogic.training import checkpoint
from shardwise_jobs.engines.ingest.embed import onnx_model
from shardwise_jobs.engines.ingest.index import INDEX_FILE, MANIFEST_FILE, VectorIndex
from shardwise_jobs.engines.ingest.source import ChunkFiles
from shardwise_jobs.engines.kato.tokenization import open_tokenizer
from shardwise_jobs.engines.scripts.discovery.config import read_config
from tests.support import tiny_model
from tests.support.examples import examples
from tests.support.rows import MODEL, rows, stored
from tests.unit.difflogic.test_netlist import HALF_ADDER

LINE = b'{"text": "long enough to learn from it", "source_document": "d"}\n'


@dataclass(frozen=True, kw_only=True)
class Reader:
    """How a kind of file is read, and one that is well."""

    read: Callable[[Path], object]
    well: Callable[[Path], bytes]
    name: str


def lines(format: Literal["text", "jsonl"]) -> Callable[[Path], object]:
    def read(path: Path) -> object:
        source = LineSource([str(path)], format=format, column="text", field="files")
        source.survey()
        return list(source.read(range(100)))

    return read


def chunks(format: SourceFormat) -> Callable[[Path], object]:
    def read(path: Path) -> object:
        files = ChunkFiles(SourceFiles(uris=[str(path)], format=format), dataset="d", dedup=Dedup.POSITION)
        survey = files.survey()
        return list(files.entries(range(survey.items_total)))

    return read


def tokenized(path: Path) -> object:
    return open_tokenizer(TokenizerSpec(file=str(path)))("some text, äöü 日本")


def searched(path: Path) -> object:
    """Read an index whose manifest says that its bytes are the right ones, as whoever made the folder can."""
    manifest = json.loads((path.parent / MANIFEST_FILE).read_bytes())
    manifest["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    (path.parent / MANIFEST_FILE).write_text(json.dumps(manifest))
    return VectorIndex.read(path.parent.as_uri()).search(np.ones(MODEL.dimension, dtype=np.float32), k=3)


def index(folder: Path) -> bytes:
    made = sorted(rows(range(20)), key=lambda one: one.cpe_id.bytes)
    VectorIndex.build(
        stored(made), count=20, dimension=MODEL.dimension + 16, kind=IndexKind.FLAT, model=MODEL.name, dataset="d"
    ).write(OutputFolder(folder.as_uri()))
    return (folder / INDEX_FILE).read_bytes()


def tokenizer(folder: Path) -> bytes:
    return (tiny_model.make(folder / "model") / "tokenizer.json").read_bytes()


def card(folder: Path) -> bytes:
    return (tiny_model.make(folder / "model") / onnx_model.CARD_FILE).read_bytes()


def weights(_folder: Path) -> bytes:
    header = json.dumps({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode()
    return len(header).to_bytes(8, "little") + header + bytes(8)


def whole(content: bytes) -> Callable[[Path], bytes]:
    return lambda _folder: content


READERS = {
    "jsonl": Reader(read=lines("jsonl"), well=whole(LINE * 3), name="a.jsonl"),
    "text": Reader(read=lines("text"), well=whole(b"a line that is long enough\n" * 3), name="a.txt"),
    "gzip": Reader(read=lines("jsonl"), well=whole(gzip.compress(LINE * 3)), name="a.jsonl.gz"),
    "xz": Reader(read=lines("jsonl"), well=whole(lzma.compress(LINE * 3)), name="a.jsonl.xz"),
    "zip": Reader(read=lines("jsonl"), well=whole(b""), name="a.jsonl.zip"),
    "zst": Reader(read=lines("jsonl"), well=whole(b"\x28\xb5\x2f\xfd"), name="a.jsonl.zst"),
    "chunks": Reader(read=chunks(SourceFormat.JSONL), well=whole(LINE * 3), name="a.jsonl"),
    "request": Reader(
        read=chunks(SourceFormat.REQUEST),
        well=whole(json.dumps({"chunks": [{"text": "a"}] * 3}).encode()),
        name="a.json",
    ),
    "npz": Reader(read=read_arrays, well=whole(npz_bytes({"a": np.zeros(3), "b": np.array(b"text")})), name="a.npz"),
    "step": Reader(read=read_step, well=whole(npz_bytes({"logits": np.zeros((3, 16))})), name="step.npz"),
    "checkpoint": Reader(
        read=lambda path: checkpoint.opened(path.read_bytes(), name=str(path)),
        well=whole(npz_bytes({"format": np.array(b"1"), "logits": np.zeros((3, 16))})),
        name="checkpoint.npz",
    ),
    "netlist": Reader(
        read=lambda path: netlist.parse(path.read_bytes().decode("utf-8", "replace")),
        well=whole(HALF_ADDER.encode()),
        name="circuit.txt",
    ),
    "index": Reader(read=searched, well=index, name=INDEX_FILE),
    "card": Reader(read=lambda path: onnx_model.read_card(path.parent), well=card, name=onnx_model.CARD_FILE),
    "weights": Reader(read=onnx_model.read_weights, well=weights, name="model.safetensors"),
    "tokenizer": Reader(read=tokenized, well=tokenizer, name="tokenizer.json"),
    "suite": Reader(read=read_config, well=whole(b"jobs:\n- {id: a, script: a.py, args: [1]}\n"), name="jobs.yaml"),
}

CHANGES = st.lists(
    st.tuples(
        st.integers(min_value=0, max_value=4095),
        st.binary(max_size=4)
        | st.sampled_from(
            [b"\xff" * 8, b"\x00" * 8, b"99999999999999999999", b"[[[[[[[[", b"NaN", b"null", b'{"', b"\n"]
        ),
        st.integers(min_value=0, max_value=8),
    ),
    max_size=4,
)


@pytest.mark.parametrize("kind", READERS)
def test_any_bytes(kind: str, tmp_path: Path) -> None:
    reader = READERS[kind]
    content = reader.well(tmp_path)
    path = tmp_path / reader.name

    def judged(changed: bytes) -> None:
        path.write_bytes(changed)
        try:
            reader.read(path)
        except WorkError as error:
            message = str(error)
        else:
            message = "well"
        assert message
        assert len(message) < 5000

    @given(changes=CHANGES, end=st.none() | st.integers(min_value=0, max_value=4096))
    @examples(25)
    def mutated(changes: list[tuple[int, bytes, int]], end: int | None) -> None:
        changed = content
        for position, new, removed in changes:
            at = position % (len(changed) + 1)
            changed = changed[:at] + new + changed[at + removed :]
        judged(changed[:end])

    @given(any_bytes=st.binary(max_size=64))
    @examples(15)
    def arbitrary(any_bytes: bytes) -> None:
        judged(any_bytes)

    mutated()
    arbitrary()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def manifest_of(folder: Path) -> dict[str, Any]:
    index(folder)
    found: dict[str, Any] = json.loads((folder / MANIFEST_FILE).read_bytes())
    return found


@pytest.mark.parametrize("kind", ["manifest", "card"])
def test_any_value_in_a_file_of_fields(kind: str, tmp_path: Path) -> None:
    good = manifest_of(tmp_path) if kind == "manifest" else json.loads(card(tmp_path))
    path = tmp_path / (MANIFEST_FILE if kind == "manifest" else onnx_model.CARD_FILE)

    @given(field=st.sampled_from(sorted(good)), value=JSON)
    @examples(40)
    def changed(field: str, value: object) -> None:
        path.write_text(json.dumps({**good, field: value}))
        try:
            if kind == "card":
                onnx_model.read_card(tmp_path)
            else:
                VectorIndex.read(tmp_path.as_uri()).search(np.ones(MODEL.dimension, dtype=np.float32), k=3)
        except WorkError as error:
            message = str(error)
        else:
            message = "well"
        assert message

    changed()


def test_a_netlist_of_many_channels_costs_no_more_than_its_text() -> None:
    gates = "\n".join(f"p{number} = AND(n, own)" for number in range(2000))
    made = netlist.parse(f"channels 99999\nperceive\n{gates}\nupdate\ng1 = OR(p1.c99998, own.c0)\nnew.c0 = g1\n")
    assert (made.channels, len(made.perceive), made.update[0].a) == (99999, 2000, "p1.c99998")


def test_a_panic_of_the_tokenizer_is_a_bad_configuration(tmp_path: Path) -> None:
    text = json.loads(tokenizer(tmp_path))
    text["model"] = {"type": "Unigram", "unk_id": 99, "vocab": [["a", -1.0]], "byte_fallback": False}
    (tmp_path / "tokenizer.json").write_text(json.dumps(text))
    with pytest.raises(WorkError, match=r"tokenizer"):
        tokenized(tmp_path / "tokenizer.json")
