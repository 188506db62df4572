"""``python -m gateway_perturbation.train --data DIR --out DIR --seed 0``: make a folder of weights.

Exports the published encoder, makes clean and attacked samples and their signs (the longest part; ``--keep FILE``
keeps them), tries the detector on each source left out, and fits the one that is kept on everything.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import msgspec
import numpy as np

from gateway_perturbation.detector import session
from gateway_perturbation.loading import write_manifest


def train(data: Path, out: Path, *, seed: int, keep: Path | None) -> str:
    """Make a folder of weights in `out`; give the SHA-256 of its manifest.

    Raises:
        ValueError: the data or a package is missing.
    """
    from gateway_perturbation.training import fitting, making, pictures
    from gateway_perturbation.training.encoder import export, network
    from gateway_perturbation.training.measure import measure, table_of

    module = network()
    found = pictures.load(data)
    out.mkdir(parents=True, exist_ok=True)
    cosine = export(module, out / "encoder.onnx")
    sys.stderr.write(f"least cosine of the exported encoder to torch's: {cosine:.6f}\n")
    table = making.make(found, session((out / "encoder.onnx").read_bytes(), 1), seed, keep)
    tried = fitting.out_of_fold(table, seed)
    rules = fitting.rules(table, tried, np.ones(len(tried), bool))
    arrays = fitting.fit(table, np.flatnonzero(table.role != "other"), seed)
    with (out / "detector.npz").open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)
    (out / "detector.json").write_bytes(msgspec.json.format(msgspec.json.encode(rules), indent=1) + b"\n")
    figures = measure(table, tried)
    sys.stderr.write(table_of(figures["clean"], "clean") + table_of(figures["attacks"], "attack"))
    return write_manifest(out, {"seed": seed, "pictures": len(found), "samples": len(tried)})


def main(arguments: list[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m gateway_perturbation.train", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of the development files")
    parser.add_argument("--out", type=Path, required=True, help="folder to write the weights to")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="file (.npz) that keeps the samples' signs, or already holds them")
    options = parser.parse_args(arguments)
    try:
        digest = train(options.data, options.out, seed=options.seed, keep=options.keep)
    except ValueError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    sys.stdout.write(f"{digest}  {options.out / 'manifest.json'}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
