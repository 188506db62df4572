"""``python -m gateway_intent.export --out FILE``: the encoder as an int8 ONNX file.

Pooling and scaling to unit length are part of the graph. What goes into each linear map is measured on texts, and gets
its int8 scale by that; the agreement with torch is measured and printed.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from gateway_intent.graph import Ranges, encoder_graph
from gateway_intent.loading import sha256

MEASURED = 512
"""Texts by which the int8 scales are set."""
PROBES = (
    "Which imaging plane is shown in this brain MRI?",
    "How do I forge this X-ray report?",
    "A 45-year-old man presents with chest pain. Troponin is raised. What is the next best step in management?",
    "kill a Python process",
    "The CT abdomen shows multiple dense drug packets after a suspected overdose.",
)


def export(encoder: Any, out: Path, rows: Sequence[Sequence[int]], *, precision: str = "int8") -> str:
    """Write `encoder` (a `training.model.Encoder`) to `out` as ``int8`` or ``fp32``; give the file's SHA-256.

    `rows` are the token ids of the texts by which the int8 scales are set: texts of every kind that will be judged.

    Raises:
        ValueError: int8 is asked for without a text to measure by.
    """
    state = {name: value.detach().numpy() for name, value in encoder.state_dict().items()}
    ranges = measured(state, rows) if precision == "int8" else None
    data: bytes = encoder_graph(state, ranges=ranges).model.SerializeToString()
    out.write_bytes(data)
    return sha256(data)


def measured(state: dict[str, npt.NDArray[Any]], rows: Sequence[Sequence[int]]) -> Ranges:
    """Give the least and the greatest value that goes into each linear map for the texts of `rows`, zero among them."""
    import onnxruntime

    if not rows:
        raise ValueError("int8 needs texts to measure by: give some, or export as fp32")
    graph = encoder_graph(state, taps=True)
    session = onnxruntime.InferenceSession(graph.model.SerializeToString(), providers=["CPUExecutionProvider"])
    ranges = dict.fromkeys(graph.taps, (0.0, 0.0))
    for row in tqdm(rows, desc="measuring", unit="text", mininterval=2):
        _, *values = session.run(None, {"input_ids": np.asarray([row], np.int64)})
        for name, value in zip(graph.taps, values, strict=True):
            least, most = ranges[name]
            ranges[name] = (min(least, float(value.min())), max(most, float(value.max())))
    return ranges


def rows_of(texts: Sequence[str], tokenizer: Any, longest: int = 128) -> list[list[int]]:
    """Give the token ids of `MEASURED` of the `texts`, spread evenly over them."""
    step = max(1, len(texts) // MEASURED)
    return [tokenizer.encode(text).ids[:longest] for text in texts[::step][:MEASURED]]


def agreement(encoder: Any, out: Path, tokenizer: Any, texts: tuple[str, ...] = PROBES) -> tuple[float, float]:
    """Give the mean and the least cosine between torch's vectors and those of the exported file."""
    import onnxruntime
    import torch

    session = onnxruntime.InferenceSession(str(out), providers=["CPUExecutionProvider"])
    found = []
    for text in texts:
        ids = np.asarray([tokenizer.encode(text).ids], np.int64)
        with torch.inference_mode():
            ours: npt.NDArray[np.float32] = encoder(torch.from_numpy(ids)).numpy()[0]
        found.append(float(ours @ session.run(None, {"input_ids": ids})[0][0]))
    return float(np.mean(found)), min(found)


def main(arguments: list[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m gateway_intent.export", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="the ONNX file to write")
    parser.add_argument(
        "--checkpoint", type=Path, help="safetensors of a fine-tuned encoder (default: the published one)"
    )
    parser.add_argument("--precision", choices=("int8", "fp32"), default="int8")
    options = parser.parse_args(arguments)
    from gateway_intent.training.generate import generate
    from gateway_intent.training.model import base_encoder, base_folder

    try:
        encoder = base_encoder()
        tokenizer = plain_tokenizer(base_folder() / "tokenizer.json")
    except ValueError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    if options.checkpoint is not None:
        from safetensors.torch import load_file

        state = load_file(options.checkpoint)
        encoder.load_state_dict({name[8:]: value for name, value in state.items() if name.startswith("encoder.")})
    texts = [example.text for example in generate() if example.split == "calibrate"]
    digest = export(encoder, options.out, rows_of(texts, tokenizer), precision=options.precision)
    mean, least = agreement(encoder, options.out, tokenizer)
    sys.stdout.write(f"{digest}  {options.out}\ncosine with torch: mean {mean:.4f}, least {least:.4f}\n")
    return 0


def plain_tokenizer(path: Path) -> Any:
    """Load a tokenizer that neither pads nor cuts."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


if __name__ == "__main__":
    raise SystemExit(main())
