"""``python -m gateway_intent.train --data DIR --out DIR --seed 0``: make a folder of weights.

Generates the twins, reads the development files, fine-tunes the encoder, exports it, and calibrates the head on
vectors of the exported file. ``--epochs 0`` leaves the encoder as published and fits the head alone.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from gateway_intent.loading import FOLDER, Head, Linear, load, sha256, write_manifest

WINDOW = 128
OVERLAP = 32


def vectors_of(encoder: Path, tokenizer: Any, texts: list[str]) -> Any:
    """Encode the first window of each text with the exported file: (texts, dimensions)."""
    import onnxruntime
    from tqdm import tqdm

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = int(os.environ.get("OMP_NUM_THREADS", 0)) or os.cpu_count() or 1
    session = onnxruntime.InferenceSession(str(encoder), options, providers=["CPUExecutionProvider"])
    made = []
    for text in tqdm(texts, desc="encoding", unit="text", mininterval=2):
        ids = tokenizer.encode(text).ids
        window = ids if len(ids) <= WINDOW else [*ids[: WINDOW - 1], ids[-1]]
        made.append(session.run(None, {"input_ids": np.asarray([window], np.int64)})[0][0])
    return np.asarray(made)


def train(data: Path | None, out: Path, *, seed: int, epochs: float, variants: int, checkpoint: Path | None) -> str:
    """Make a folder of weights in `out`; give the SHA-256 of its manifest.

    Raises:
        ValueError: the data or the published encoder can not be used.
    """
    from gateway_intent.export import agreement, export, plain_tokenizer
    from gateway_intent.training import head as heads
    from gateway_intent.training import rows
    from gateway_intent.training.generate import generate
    from gateway_intent.training.model import base_encoder, base_folder
    from gateway_intent.training.templates import HARMS

    began = time.monotonic()
    source = base_folder()
    examples = generate(seed, variants)
    if data is not None:
        examples += list(rows.load(data))
    training = [example for example in examples if example.split == "train"]
    holding = [example for example in examples if example.split == "calibrate"]
    sys.stderr.write(f"{len(training)} texts to train on, {len(holding)} to calibrate on\n")
    out.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source / "tokenizer.json", out / "tokenizer.json")
    tokenizer = plain_tokenizer(out / "tokenizer.json")
    risk: Linear | None = None
    category: Linear | None = None
    if epochs > 0:
        from safetensors.torch import save_file

        from gateway_intent.training.tune import tune

        model = tune(training, tokenizer, epochs=epochs, seed=seed)
        encoder = model.encoder
        risk, category = model.heads()
        if checkpoint is not None:
            save_file({name: value.contiguous() for name, value in encoder.state_dict().items()}, checkpoint)
    else:
        encoder = base_encoder()
    export(encoder, out / "encoder.onnx")
    sys.stderr.write(
        "cosine with torch: mean {:.4f}, least {:.4f}\n".format(*agreement(encoder, out / "encoder.onnx", tokenizer))
    )
    if risk is None or category is None:
        risk, category = heads.fit_heads(
            vectors_of(out / "encoder.onnx", tokenizer, [example.text for example in training]), training
        )
    held = vectors_of(out / "encoder.onnx", tokenizer, [example.text for example in holding])
    scores = heads.logits(held, risk)
    slope, offset = heads.calibrate(scores, holding)
    sharpen = heads.sharpening(scores, holding, slope, offset)
    head = Head(
        labels=HARMS, risk=_short(risk), category=_short(category),
        slope=round(sharpen * slope, 6), offset=round(sharpen * offset, 6), window=WINDOW, overlap=OVERLAP,
    )  # fmt: skip
    (out / "head.json").write_bytes(msgspec.json.encode(head) + b"\n")
    import torch

    recipe: dict[str, str | int | float | bool | None] = {
        "seed": seed, "epochs": epochs, "variants": variants, "texts": len(training), "data": data is not None,
        "sharpen": sharpen,
        "minutes": round((time.monotonic() - began) / 60, 1), "torch": str(torch.__version__),
        "machine": platform.machine(),
    }  # fmt: skip
    digest = write_manifest(out, recipe)
    load(out, digest)
    return digest


def _short(linear: Linear) -> Linear:
    return Linear(
        weight=tuple(tuple(round(value, 6) for value in row) for row in linear.weight),
        bias=tuple(round(value, 6) for value in linear.bias),
    )


def main(arguments: list[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m gateway_intent.train", description=__doc__)
    parser.add_argument("--data", type=Path, help="folder of the development files (default: templates alone)")
    parser.add_argument(
        "--out", type=Path, default=FOLDER, help="folder to write the weights to (default: the plugin's)"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--epochs", type=float, default=2.0, help="passes over the texts; 0 leaves the encoder as published"
    )
    parser.add_argument("--variants", type=int, default=8, help="pairs made of each template of twins")
    parser.add_argument("--checkpoint", type=Path, help="also keep the fine-tuned encoder here, as safetensors")
    options = parser.parse_args(arguments)
    try:
        digest = train(
            options.data, options.out, seed=options.seed, epochs=options.epochs, variants=options.variants,
            checkpoint=options.checkpoint,
        )  # fmt: skip
    except ValueError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    sys.stdout.write(f"{digest}  {options.out / 'manifest.json'}\n")
    for name in ("encoder.onnx", "tokenizer.json", "head.json"):
        sys.stdout.write(f"{sha256((options.out / name).read_bytes())}  {options.out / name}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
