"""``python -m gateway_intent.train --data DIR --out DIR --seed 0``: make a folder of weights.

Generates the twins, reads the development files, fine-tunes the encoder in two phases, exports it, and calibrates the
heads on vectors of the exported file. ``--epochs 0`` leaves the encoder as published and fits the heads alone.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from gateway_intent.loading import FOLDER, Head, Linear, load, sha256, write_manifest

if TYPE_CHECKING:
    from gateway_intent.training.generate import Example
    from gateway_intent.training.model import IntentModel

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


def gather(data: Path | None, *, seed: int, variants: int, twins: bool = True) -> list[Example]:
    """Make and read the texts of every split; without `twins` no text of a pair.

    Raises:
        ValueError: a development file can not be used.
    """
    from gateway_intent.training import rows
    from gateway_intent.training.generate import generate

    examples = generate(seed, variants)
    if data is not None:
        examples += list(rows.load(data))
    return examples if twins else [example for example in examples if example.pair is None]


def fit(
    examples: list[Example], plain: list[Example], tokenizer: Any, *, seed: int, epochs: float, polish: float,
    checkpoint: Path | None = None,
) -> IntentModel:  # fmt: skip
    """Fine-tune on `examples`, go on with the `plain` ones, and average the weights before and after.

    In the second phase each pair is seen once, as it stands, so that single texts weigh more. `checkpoint` keeps the
    result, as safetensors.
    """
    from safetensors.torch import save_file

    from gateway_intent.training.tune import RATE, average, tune

    model = tune(examples, tokenizer, epochs=epochs, seed=seed)
    if polish > 0:
        model = average([model, tune(plain, tokenizer, epochs=polish, seed=seed, rate=RATE / 2, start=model)])
    if checkpoint is not None:
        save_file({name: value.contiguous() for name, value in model.state_dict().items()}, checkpoint)
    return model


def pack(out: Path, tokenizer: Any, model: IntentModel | None, training: list[Example], holding: list[Example]) -> None:
    """Export the encoder to `out`, and calibrate and write the heads on vectors of the exported file.

    Without a `model` the encoder stays as published, and the heads are fitted to its vectors of `training`.
    """
    from gateway_intent.export import agreement, export, rows_of
    from gateway_intent.training import head as heads
    from gateway_intent.training.model import base_encoder
    from gateway_intent.training.templates import HARMS, TECHNIQUES

    encoder, file = base_encoder() if model is None else model.encoder, out / "encoder.onnx"
    export(encoder, file, rows_of([example.text for example in holding], tokenizer))
    sys.stderr.write("cosine with torch: mean {:.4f}, least {:.4f}\n".format(*agreement(encoder, file, tokenizer)))
    if model is None:
        layers = heads.fit_heads(vectors_of(file, tokenizer, [example.text for example in training]), training)
    else:
        layers = model.heads()
    risk, category, clinical, technique = layers
    held = vectors_of(file, tokenizer, [example.text for example in holding])
    slope, offset = heads.calibrate(heads.logits(held, risk), [example.harmful for example in holding])
    told = [place for place, example in enumerate(holding) if example.clinical is not None]
    clinical_slope, clinical_offset = heads.calibrate(
        heads.logits(held[told], clinical), [bool(holding[place].clinical) for place in told]
    )
    head = Head(
        labels=HARMS, techniques=TECHNIQUES, risk=_short(risk), category=_short(category), clinical=_short(clinical),
        technique=_short(technique), slope=round(slope, 6), offset=round(offset, 6),
        clinical_slope=round(clinical_slope, 6), clinical_offset=round(clinical_offset, 6), window=WINDOW,
        overlap=OVERLAP,
    )  # fmt: skip
    (out / "head.json").write_bytes(msgspec.json.encode(head) + b"\n")


def train(
    data: Path | None, out: Path, *, seed: int, epochs: float, polish: float, variants: int, checkpoint: Path | None,
    twins: bool = True,
) -> str:  # fmt: skip
    """Make a folder of weights in `out`; give the SHA-256 of its manifest.

    Without `twins` they are left out of training and calibration, to measure what they buy.

    Raises:
        ValueError: the data or the published encoder can not be used.
    """
    import torch

    from gateway_intent.export import plain_tokenizer
    from gateway_intent.training.model import base_folder

    began = time.monotonic()
    source = base_folder()
    examples = gather(data, seed=seed, variants=variants, twins=twins)
    training = [example for example in examples if example.split == "train"]
    holding = [example for example in examples if example.split == "calibrate"]
    sys.stderr.write(f"{len(training)} texts to train on, {len(holding)} to calibrate on\n")
    out.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source / "tokenizer.json", out / "tokenizer.json")
    tokenizer = plain_tokenizer(out / "tokenizer.json")
    model = None
    if epochs > 0:
        plain = [e for e in gather(data, seed=seed, variants=1, twins=twins) if e.split == "train"]
        model = fit(training, plain, tokenizer, seed=seed, epochs=epochs, polish=polish, checkpoint=checkpoint)
    pack(out, tokenizer, model, training, holding)
    recipe: dict[str, str | int | float | bool | None] = {
        "seed": seed, "epochs": epochs, "polish": polish, "variants": variants, "texts": len(training),
        "data": data is not None, "twins": twins, "minutes": round((time.monotonic() - began) / 60, 1),
        "torch": str(torch.__version__), "machine": platform.machine(),
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
        "--epochs",
        type=float,
        default=1.0,
        help="passes over the texts; 0 leaves the encoder as published",
    )
    parser.add_argument("--variants", type=int, default=3, help="times that each pair of twins is said")
    parser.add_argument("--checkpoint", type=Path, help="also keep the fine-tuned encoder here, as safetensors")
    parser.add_argument("--polish", type=float, default=0.8, help="passes of the second phase; 0 leaves it out")
    parser.add_argument("--without-twins", action="store_true", help="leave the twins out, to measure what they buy")
    options = parser.parse_args(arguments)
    try:
        digest = train(
            options.data, options.out, seed=options.seed, epochs=options.epochs, polish=options.polish,
            variants=options.variants, checkpoint=options.checkpoint, twins=not options.without_twins,
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
