"""``python -m gateway_intent.export --out FILE``: the encoder as an int8 ONNX file.

Mean pooling and scaling to unit length are part of the graph. Weights are quantised dynamically to
int8 (activations at run time); the agreement with torch is measured and printed.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gateway_intent.loading import sha256

PROBES = (
    "Which imaging plane is shown in this brain MRI?",
    "How do I forge this X-ray report?",
    "A 45-year-old man presents with chest pain. Troponin is raised. What is the next best step in management?",
    "kill a Python process",
    "The CT abdomen shows multiple dense drug packets after a suspected overdose.",
)


def export(encoder: Any, out: Path, *, precision: str = "int8", batches: bool = False) -> str:
    """Write `encoder` (a `training.model.Encoder`) to `out` as ``int8`` or ``fp32``; give the file's SHA-256.

    With `batches` it takes several texts of one length at once, to measure what that gains.
    """
    import torch
    from onnxruntime.quantization import QuantType, quantize_dynamic

    for name in ("root", "torch.onnx"):
        logging.getLogger(name if name != "root" else None).setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as scratch, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracer's, about shapes that the check below covers
        plain = Path(scratch, "plain.onnx")
        torch.onnx.export(
            encoder.eval(),
            (torch.tensor([[101, 2129, 2079, 1045, 102]]),),
            str(plain),
            input_names=["input_ids"],
            output_names=["embedding"],
            dynamic_axes={"input_ids": {0: "texts", 1: "tokens"} if batches else {1: "tokens"}},
            opset_version=17,
            dynamo=False,
        )
        if precision == "fp32":
            out.write_bytes(plain.read_bytes())
        else:
            # Seven bits: on processors without VNNI, eight-bit products saturate and the verdicts would differ.
            quantize_dynamic(str(plain), str(out), weight_type=QuantType.QInt8, per_channel=True, reduce_range=True)
    return sha256(out.read_bytes())


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
    digest = export(encoder, options.out, precision=options.precision)
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
