"""The encoder as an ONNX graph, written out node by node: nothing in it that the work does not need.

The linear maps multiply int8 by int8, with the scale of what goes into them fixed beforehand (static quantisation,
Jacob et al., arXiv 1712.05877), so that a text's vector does not depend on the texts beside it in a batch; scales that
are measured at run time would. An exporter's graph of the same network spends a fifth of the time on shapes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from onnx import ModelProto, TensorProto, helper, numpy_helper

Array = npt.NDArray[Any]
Ranges = Mapping[str, tuple[float, float]]
"""The least and the greatest value that goes into each linear map, by its name."""

HEADS = 12
POSITIONS = 512
_FACTORS = 63
"""Factors keep seven bits: on processors without VNNI, eight-bit products saturate and the verdicts would differ."""
_CONTRIB = "com.microsoft"  # onnxruntime's own operators


class Graph(NamedTuple):
    """The model; and, in `taps`, the names of the linear maps whose inputs it gives besides the embedding, in order."""

    model: ModelProto
    taps: tuple[str, ...]


def encoder_graph(state: Mapping[str, Array], *, ranges: Ranges | None = None, taps: bool = False) -> Graph:
    """Write the graph of an encoder: ``input_ids`` (texts, tokens) to ``embedding`` (texts, dimensions), unit length.

    All texts of a batch have one length. `state` is the encoder's state (`training.model.Encoder`). With `ranges` the
    linear maps are int8, without them fp32; `taps` also gives what goes into each, to measure the ranges by.
    """
    return _Writer(state, ranges, taps).write()


def int8(weight: Array, limit: int) -> tuple[Array, Array]:
    """Quantise a (in, out) matrix by column: values within ±`limit`, and the scale of each column."""
    scale = np.maximum(np.abs(weight).max(0), 1e-8) / limit
    return np.clip(np.rint(weight / scale), -limit, limit).astype(np.int8), scale.astype(np.float32)


class _Writer:
    def __init__(self, state: Mapping[str, Array], ranges: Ranges | None, taps: bool) -> None:
        self._state = state
        self._ranges = ranges
        self._taps: dict[str, str] | None = {} if taps else None
        self._nodes: list[Any] = []
        self._constants: list[Any] = []

    def write(self) -> Graph:
        """Write the whole."""
        hidden = self._embedded()
        for place in range(sum(name.endswith("intermediate.dense.weight") for name in self._state)):
            hidden = self._layer(hidden, f"bert.encoder.layer.{place}")
        # A product rather than a sum: its order of adding is the same in every batch.
        tokens = self._op("Shape", "input_ids", start=1, end=2)
        ones = self._op("Expand", self._constant(np.float32(1)), self._op("Concat", self._ints(1), tokens, axis=0))
        total = self._op("Squeeze", self._op("MatMul", ones, hidden), self._ints(1))
        length = self._op("ReduceL2", total, self._ints(1), keepdims=1)
        self._nodes.append(helper.make_node("Div", [total, length], ["embedding"], name="embedding"))
        taps = self._taps or {}
        graph = helper.make_graph(
            self._nodes,
            "intent",
            [helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["texts", "tokens"])],
            [
                helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["texts", len(self._state[_WORDS][0])]),
                *(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in taps.values()),
            ],
            self._constants,
        )
        opsets = [helper.make_opsetid("", 18), helper.make_opsetid(_CONTRIB, 1)]
        return Graph(helper.make_model(graph, opset_imports=opsets, ir_version=9), tuple(taps))

    def _embedded(self) -> str:
        """Look the tokens up, add their places, and even them out."""
        words = self._state[_WORDS]
        if self._ranges is None:
            looked_up = self._op("Gather", self._constant(words), "input_ids")
        else:
            rows, scale = int8(words.T, 127)  # by word
            found = self._op("Gather", self._constant(rows.T), "input_ids")
            scales = self._op("Gather", self._constant(scale[:, np.newaxis]), "input_ids")
            looked_up = self._op("Mul", self._op("Cast", found, to=TensorProto.FLOAT), scales)
        kinds = self._state["bert.embeddings.token_type_embeddings.weight"]
        places = self._state["bert.embeddings.position_embeddings.weight"][:POSITIONS] + kinds[0]
        count = self._op("Shape", "input_ids", start=1, end=2)
        placed = self._op("Slice", self._constant(places), self._ints(0), count, self._ints(0))
        return self._norm(self._op("Add", looked_up, placed), "bert.embeddings.LayerNorm")

    def _layer(self, hidden: str, name: str) -> str:
        attended = self._attention(hidden, f"{name}.attention")
        state = self._norm(self._op("Add", attended, hidden), f"{name}.attention.output.LayerNorm")
        wide = self._op("Gelu", self._linear(state, f"{name}.intermediate.dense"), domain=_CONTRIB)
        return self._norm(
            self._op("Add", self._linear(wide, f"{name}.output.dense"), state), f"{name}.output.LayerNorm"
        )

    def _attention(self, hidden: str, name: str) -> str:
        width = len(self._state[f"{name}.self.query.bias"])
        factors = {"query": 1 / math.sqrt(width // HEADS), "key": 1.0, "value": 1.0}
        mapped = self._maps(hidden, {f"{name}.self.{part}": factor for part, factor in factors.items()})
        query, key, value = self._several("Split", mapped, outputs=3, axis=-1, num_outputs=3)
        heads = self._ints(0, 0, HEADS, width // HEADS)
        query, key, value = (
            self._op("Transpose", self._op("Reshape", each, heads), perm=[0, 2, 1, 3]) for each in (query, key, value)
        )
        scores = self._op("MatMul", query, self._op("Transpose", key, perm=[0, 1, 3, 2]))
        seen = self._op("MatMul", self._op("Softmax", scores, axis=-1), value)
        merged = self._op("Reshape", self._op("Transpose", seen, perm=[0, 2, 1, 3]), self._ints(0, 0, width))
        return self._linear(merged, f"{name}.output.dense")

    def _linear(self, value: str, name: str) -> str:
        return self._maps(value, {name: 1.0})

    def _maps(self, value: str, factors: Mapping[str, float]) -> str:
        """Put `value` through the named linear maps side by side, each of them and its bias times its factor."""
        named = [(name, np.float32(factor)) for name, factor in factors.items()]
        weight = np.concatenate([self._state[f"{name}.weight"].T * factor for name, factor in named], axis=1)
        bias = self._constant(np.concatenate([self._state[f"{name}.bias"] * factor for name, factor in named]))
        name = named[0][0]
        if self._taps is not None:
            self._taps[name] = value
        if self._ranges is None:
            return self._op("Add", self._op("MatMul", value, self._constant(weight)), bias)
        least, most = self._ranges[name]
        step = np.float32((most - least) / 255)
        scale, zero = self._constant(step), self._constant(np.uint8(np.clip(np.rint(-least / step), 0, 255)))
        rows, columns = int8(weight, _FACTORS)
        quantised = self._op("QuantizeLinear", value, scale, zero)
        held = (self._constant(rows), scale, self._constant(columns), zero, "", bias)
        return self._op("MatMulIntegerToFloat", quantised, *held, domain=_CONTRIB)

    def _norm(self, value: str, name: str) -> str:
        held = (self._constant(self._state[f"{name}.{part}"]) for part in ("weight", "bias"))
        return self._op("LayerNormalization", value, *held, axis=-1, epsilon=1e-12)

    def _ints(self, *values: int) -> str:
        return self._constant(np.asarray(values, np.int64))

    def _constant(self, value: npt.ArrayLike) -> str:
        name = f"constant.{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(np.array(value, order="C"), name))
        return name

    def _op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Add a node; give the name of what it gives."""
        return self._several(kind, *inputs, outputs=1, **attributes)[0]

    def _several(self, kind: str, *inputs: str, outputs: int, **attributes: Any) -> list[str]:
        number = len(self._nodes)
        names = [f"{kind}.{number}.{place}" for place in range(outputs)]
        self._nodes.append(helper.make_node(kind, list(inputs), names, name=f"{kind}.{number}", **attributes))
        return names


_WORDS = "bert.embeddings.word_embeddings.weight"
