"""The parts around a model: directions, threads and CPU limits, weights in a file, where a model is looked for."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import numpy as np
import pytest

from shardwise.engine.errors import BadConfiguration
from shardwise_jobs.engines.ingest.embed.base import EmbeddingFailed, PerTextEmbedder, processors, unit
from shardwise_jobs.engines.ingest.embed.onnx_model import CARD_FILE, default_folder, read_card, read_weights


def test_a_direction_is_reckoned_wide_and_rounded_once() -> None:
    vector = np.array([3.0, 4.0], dtype=np.float32)
    assert unit(vector).tolist() == [np.float32(0.6), np.float32(0.8)]
    assert unit(vector).dtype == np.float32


def test_a_row_of_many_has_the_direction_it_has_alone() -> None:
    vectors = np.random.default_rng(1).standard_normal((50, 384)).astype(np.float32)
    assert unit(vectors).tobytes() == b"".join(unit(vector).tobytes() for vector in vectors)


def test_a_tiny_vector_has_a_direction_too() -> None:
    assert unit(np.array([0.0, 1e-30], dtype=np.float32)).tolist() == [0.0, 1.0]


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf])
def test_what_has_no_direction_is_refused(value: float) -> None:
    with pytest.raises(EmbeddingFailed, match="no direction"):
        unit(np.array([[1.0, 0.0], [value, 0.0]], dtype=np.float32))


def test_several_texts_are_computed_at_once_and_come_in_order() -> None:
    # Each waits until the other has begun: on one thread this would never end.
    together = threading.Barrier(2)

    def one(text: str) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
        together.wait()
        return np.array([float(text), 1.0], dtype=np.float32)

    each = PerTextEmbedder(one, dimension=2, threads=2)
    found = each.embed(["0", "1", "2", "3"])
    each.close()
    assert (found[:, 0] / found[:, 1]).tolist() == pytest.approx([0, 1, 2, 3])


@pytest.mark.parametrize("threads", [1, 2])
def test_a_model_of_another_width_than_it_said_is_refused(threads: int) -> None:
    each = PerTextEmbedder(lambda _: np.ones(3, dtype=np.float32), dimension=2, threads=threads)
    with pytest.raises(EmbeddingFailed, match=r"\(3,\) numbers of a text, not 2"):
        each.embed(["a", "b"])
    each.close()


ALLOWED = len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("files", "wanted"),
    [
        ({}, ALLOWED),
        ({"cpu.max": "max 100000\n"}, ALLOWED),
        ({"cpu.max": "50000 100000\n"}, 1),
        ({"cpu.max": "100000 100000\n"}, 1),
        ({"cpu.max": "150000 100000\n"}, min(2, ALLOWED)),
        ({"cpu.max": "99999999 100000\n"}, ALLOWED),
        ({"cpu.max": "nonsense\n"}, ALLOWED),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, ALLOWED),
        ({"cpu/cpu.cfs_quota_us": "80000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 1),
    ],
)
def test_threads_follow_the_cpu_limit(tmp_path: Path, files: dict[str, str], wanted: int) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert processors(cgroups=tmp_path) == wanted


def _weights_file(path: Path, header: object, data: bytes = b"") -> Path:
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


def test_weights_are_read_by_name_and_shape(tmp_path: Path) -> None:
    numbers = np.arange(6, dtype="<f4")
    header = {
        "__metadata__": {"format": "pt"},
        "a": {"dtype": "F32", "shape": [2, 2], "data_offsets": [8, 24]},
        "b": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
        "ids": {"dtype": "I64", "shape": [1], "data_offsets": [0, 8]},
    }
    found = read_weights(_weights_file(tmp_path / "w", header, numbers.tobytes()))
    assert {name: value.tolist() for name, value in found.items()} == {"a": [[2, 3], [4, 5]], "b": [0, 1]}


@pytest.mark.parametrize(
    "about",
    [
        {"dtype": "F32", "shape": [2], "data_offsets": [0, 12]},
        {"dtype": "F32", "shape": [9], "data_offsets": [0, 36]},
        {"dtype": "F32", "shape": [2], "data_offsets": [-8, 0]},
        {"dtype": "F32", "shape": [2]},
    ],
)
def test_tensors_that_reach_beyond_their_file_are_refused(tmp_path: Path, about: dict[str, object]) -> None:
    with pytest.raises(BadConfiguration, match="not a safetensors file"):
        read_weights(_weights_file(tmp_path / "w", {"a": about}, bytes(16)))


def test_a_file_that_is_no_weights_is_refused(tmp_path: Path) -> None:
    (tmp_path / "w").write_bytes(b"\xff" * 64)
    with pytest.raises(BadConfiguration):
        read_weights(tmp_path / "w")
    with pytest.raises(BadConfiguration, match="No such file"):
        read_weights(tmp_path / "none")


def test_an_image_names_its_model_s_folder_and_a_laptop_keeps_it_in_its_cache(tmp_path: Path) -> None:
    cache = {"SHARDWISE_CACHE": str(tmp_path)}
    assert default_folder({"SHARDWISE_MODEL": "/models/minilm", **cache}) == Path("/models/minilm")
    assert default_folder(cache).parent == tmp_path
    assert default_folder({"XDG_CACHE_HOME": "/x"}).parent == Path("/x/shardwise")


@pytest.mark.parametrize("text", ["", "[]", '{"name": "x"}'])
def test_a_card_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / CARD_FILE).write_text(text)
    with pytest.raises(BadConfiguration, match=CARD_FILE):
        read_card(tmp_path)
