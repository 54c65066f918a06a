"""A BERT encoder with mean pooling as an ONNX graph, written down from its weights: no torch is needed to export one.

Only operators of the ONNX standard, so that any runtime reads it; the runtime's optimiser fuses them where it can.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, checker, helper, numpy_helper

_OPSET = 17
"""The first with LayerNormalization."""
_IR_VERSION = 8
"""What goes with it: without saying so, a newer library would write files that an older runtime refuses."""
_NEVER = np.float32(np.finfo(np.float32).min)
Weights = Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """The sizes of an encoder that its weights do not tell."""

    layers: int
    heads: int
    epsilon: float


@dataclass(slots=True)
class _Builder:
    """Collects nodes and constants; each call returns the name of a node's output."""

    nodes: list[NodeProto] = field(default_factory=list)
    constants: dict[str, TensorProto] = field(default_factory=dict)

    def constant(self, name: str, value: NDArray[np.generic]) -> str:
        self.constants.setdefault(name, numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def numbers(self, *values: int) -> str:
        return self.constant(f"numbers_{'_'.join(map(str, values))}", np.array(values, dtype=np.int64))

    def scalar(self, value: float) -> str:
        return self.constant(f"scalar_{value:.9g}", np.array(value, dtype=np.float32))

    def node(self, kind: str, *inputs: str, **attributes: Any) -> str:
        name = f"{kind}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], name=name, **attributes))
        return name

    def split3(self, value: str) -> list[str]:
        name = f"Split_{len(self.nodes)}"
        outputs = [f"{name}_{part}" for part in range(3)]
        self.nodes.append(helper.make_node("Split", [value], outputs, name=name, axis=-1))
        return outputs


def mean_pooled_bert(weights: Weights, *, shape: Shape) -> ModelProto:
    """Return the graph: token ids and mask, int64 (texts, tokens), to `mean`, float32 (texts, width), not normalised.

    `weights` have the names of a Hugging Face BERT without its prefix.
    """
    builder = _Builder()
    keep = builder.node("Cast", "attention_mask", to=TensorProto.FLOAT)
    blind = builder.node("Sub", builder.scalar(1.0), builder.node("Unsqueeze", keep, builder.numbers(1, 2)))
    bias = builder.node("Mul", blind, builder.constant("never", np.array(_NEVER)))
    state = _embeddings(builder, weights, shape=shape)
    for layer in range(shape.layers):
        state = _layer(builder, weights, f"encoder.layer.{layer}", state=state, bias=bias, shape=shape)
    column = builder.node("Unsqueeze", keep, builder.numbers(2))
    total = builder.node("ReduceSum", builder.node("Mul", state, column), builder.numbers(1), keepdims=0)
    count = builder.node("ReduceSum", column, builder.numbers(1), keepdims=0)
    builder.nodes.append(helper.make_node("Div", [total, count], ["mean"], name="mean"))
    width = weights["embeddings.word_embeddings.weight"].shape[1]
    return _model(builder, width=width)


def _embeddings(builder: _Builder, weights: Weights, *, shape: Shape) -> str:
    words = builder.constant("words", weights["embeddings.word_embeddings.weight"])
    # One text only, never a pair: its token type is always 0.
    places = (
        weights["embeddings.position_embeddings.weight"] + weights["embeddings.token_type_embeddings.weight"][:1]
    ).astype(np.float32)
    length = builder.node("Gather", builder.node("Shape", "input_ids"), builder.numbers(1), axis=0)
    here = builder.node("Slice", builder.constant("places", places), builder.numbers(0), length)
    found = builder.node("Gather", words, "input_ids", axis=0)
    return _norm(builder, weights, "embeddings.LayerNorm", builder.node("Add", found, here), shape=shape)


def _layer(builder: _Builder, weights: Weights, name: str, *, state: str, bias: str, shape: Shape) -> str:
    parts = [f"{name}.attention.self.{part}" for part in ("query", "key", "value")]
    matrix = builder.constant(f"{name}.qkv", np.concatenate([weights[f"{part}.weight"].T for part in parts], axis=1))
    offset = builder.constant(f"{name}.qkv_bias", np.concatenate([weights[f"{part}.bias"] for part in parts]))
    mixed = builder.node("Add", builder.node("MatMul", state, matrix), offset)
    query, key, value = (
        builder.node("Reshape", part, builder.numbers(0, 0, shape.heads, -1)) for part in builder.split3(mixed)
    )
    width = weights[f"{parts[0]}.weight"].shape[0] // shape.heads
    scores = builder.node(
        "MatMul",
        builder.node("Transpose", query, perm=[0, 2, 1, 3]),
        builder.node("Transpose", key, perm=[0, 2, 3, 1]),
    )
    scaled = builder.node("Div", scores, builder.scalar(math.sqrt(width)))
    chances = builder.node("Softmax", builder.node("Add", scaled, bias), axis=-1)
    seen = builder.node("MatMul", chances, builder.node("Transpose", value, perm=[0, 2, 1, 3]))
    joined = builder.node("Reshape", builder.node("Transpose", seen, perm=[0, 2, 1, 3]), builder.numbers(0, 0, -1))
    attended = _linear(builder, weights, f"{name}.attention.output.dense", joined)
    state = _norm(
        builder, weights, f"{name}.attention.output.LayerNorm", builder.node("Add", attended, state), shape=shape
    )
    inner = _gelu(builder, _linear(builder, weights, f"{name}.intermediate.dense", state))
    outer = _linear(builder, weights, f"{name}.output.dense", inner)
    return _norm(builder, weights, f"{name}.output.LayerNorm", builder.node("Add", outer, state), shape=shape)


def _linear(builder: _Builder, weights: Weights, name: str, value: str) -> str:
    matrix = builder.constant(f"{name}.matrix", weights[f"{name}.weight"].T)
    return builder.node("Add", builder.node("MatMul", value, matrix), builder.constant(name, weights[f"{name}.bias"]))


def _norm(builder: _Builder, weights: Weights, name: str, value: str, *, shape: Shape) -> str:
    scale, offset = (builder.constant(f"{name}.{part}", weights[f"{name}.{part}"]) for part in ("weight", "bias"))
    return builder.node("LayerNormalization", value, scale, offset, axis=-1, epsilon=shape.epsilon)


def _gelu(builder: _Builder, value: str) -> str:
    # x/2 * (1 + erf(x / sqrt 2)), in the order in which optimisers know it.
    error = builder.node("Erf", builder.node("Div", value, builder.scalar(math.sqrt(2))))
    twice = builder.node("Mul", value, builder.node("Add", error, builder.scalar(1.0)))
    return builder.node("Mul", twice, builder.scalar(0.5))


def _model(builder: _Builder, *, width: int) -> ModelProto:
    graph: GraphProto = helper.make_graph(
        builder.nodes,
        "mean_pooled_bert",
        [
            helper.make_tensor_value_info(name, TensorProto.INT64, ["texts", "tokens"])
            for name in ("input_ids", "attention_mask")
        ],
        [helper.make_tensor_value_info("mean", TensorProto.FLOAT, ["texts", width])],
        list(builder.constants.values()),
    )
    model: ModelProto = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR_VERSION, producer_name="shardwise"
    )
    checker.check_model(model, full_check=True)
    return model
