"""The encoder's graph, written by hand, against transformers' own model of the same weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gateway_intent.export import export, measured, rows_of
from gateway_intent.graph import encoder_graph, int8

WORDS, WIDTH = 60, 48


@pytest.fixture(scope="module")
def encoder() -> Any:
    """A small encoder with random weights."""
    import torch
    from transformers import BertConfig, BertModel

    from gateway_intent.training.model import Encoder

    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=WORDS, hidden_size=WIDTH, num_hidden_layers=3, num_attention_heads=12, intermediate_size=96,
        initializer_range=0.3, attn_implementation="eager",
    )  # fmt: skip
    return Encoder(BertModel(config, add_pooling_layer=False)).eval()


def texts(length: int, count: int = 7) -> np.ndarray[Any, np.dtype[np.int64]]:
    return np.random.default_rng(length).integers(0, WORDS, (count, length))


def ours(path: Path, ids: np.ndarray[Any, np.dtype[np.int64]]) -> np.ndarray[Any, np.dtype[np.float32]]:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    vectors: np.ndarray[Any, np.dtype[np.float32]] = session.run(None, {"input_ids": ids})[0]
    return vectors


def theirs(encoder: Any, ids: np.ndarray[Any, np.dtype[np.int64]]) -> np.ndarray[Any, np.dtype[np.float32]]:
    import torch

    with torch.inference_mode():
        vectors: np.ndarray[Any, np.dtype[np.float32]] = encoder(torch.from_numpy(ids)).numpy()
    return vectors


@pytest.mark.parametrize("length", [1, 2, 9, 128])
def test_the_graph_is_the_network(encoder: Any, tmp_path: Path, length: int) -> None:
    export(encoder, tmp_path / "plain.onnx", [], precision="fp32")
    assert np.abs(ours(tmp_path / "plain.onnx", texts(length)) - theirs(encoder, texts(length))).max() < 1e-5


@pytest.mark.parametrize("length", [1, 2, 9, 128])
def test_int8_stays_near_it_and_does_not_depend_on_the_batch(encoder: Any, tmp_path: Path, length: int) -> None:
    rows = [row.tolist() for size in (1, 2, 9, 40, 128) for row in texts(size)]
    export(encoder, tmp_path / "int8.onnx", rows)
    together = ours(tmp_path / "int8.onnx", texts(length))
    assert ((together * theirs(encoder, texts(length))).sum(1) > 0.98).all()
    alone = [ours(tmp_path / "int8.onnx", text[np.newaxis])[0] for text in texts(length)]
    assert np.array_equal(together, np.stack(alone))


def test_ranges_hold_every_value_and_zero(encoder: Any) -> None:
    state = {name: value.numpy() for name, value in encoder.state_dict().items()}
    one, both = (measured(state, [row.tolist() for row in texts(9)[:count]]) for count in (1, 2))
    assert len(one) == 3 * 4
    assert all(least <= 0 <= most for least, most in one.values())
    assert all(both[name][0] <= one[name][0] and both[name][1] >= one[name][1] for name in one)
    assert encoder_graph(state, taps=True).taps == tuple(one)


def test_int8_without_texts_to_measure_by_is_refused(encoder: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="needs texts to measure by"):
        export(encoder, tmp_path / "int8.onnx", [])


def test_a_column_of_zeros_stays_zero() -> None:
    values, scale = int8(np.asarray([[0.0, 2.0], [0.0, -1.1]], np.float32), 63)
    assert values.tolist() == [[0, 63], [0, -35]]
    assert np.isfinite(scale).all()


def test_rows_are_spread_over_the_texts() -> None:
    from gateway_intent.export import MEASURED

    class Letters:
        def encode(self, text: str) -> Any:
            return type("Encoding", (), {"ids": [len(text)] * 200})

    rows = rows_of(["x" * number for number in range(3 * MEASURED)], Letters())
    assert [row[0] for row in rows] == list(range(0, 3 * MEASURED, 3))
    assert {len(row) for row in rows} == {128}
