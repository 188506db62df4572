"""``python -m gateway_perturbation.evaluate --data DIR``: figures with each source left out, as JSON and as tables.

The attacks are made anew (they need the extra `train`), or read from ``--keep FILE``; the detector is fitted anew
without the source that is judged. Times are those of the whole stage on the shipped weights.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from gateway.plugin import Image, Request, Turn
from gateway_perturbation import PerturbationConfig, build
from gateway_perturbation.detector import session
from gateway_perturbation.loading import load


def times(weights: str | None) -> dict[str, float]:
    """Measure the whole stage, one thread, on blurred noise: median milliseconds of processor time; `again`: cached."""
    screen = build(PerturbationConfig(weights=weights))
    found = {}
    rng = np.random.default_rng(0)
    for side in (256, 512, 1024, 2048, 4096):
        taken: list[float] = []
        again: list[float] = []
        for _ in range(5):
            pixels = cv2.resize(rng.integers(0, 256, (side // 4, side // 4, 3), np.uint8), (side, side))
            data = cv2.imencode(".png", pixels, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1].tobytes()
            image = Image(
                id="messages[0].content[0]", data=data, media_type="image/png", width=side, height=side,
                digest=hashlib.sha256(data).hexdigest(), source="png",
            )  # fmt: skip
            request = Request(
                id="evaluate", department="evaluate", model="none", turns=(Turn(role="user", parts=(image,)),)
            )
            for kept in (taken, again):
                began = time.process_time()
                asyncio.run(screen.screen(request))
                kept.append((time.process_time() - began) * 1000)
        found[f"png_{side}"] = round(float(np.median(taken)), 1)
        found["again"] = round(float(np.median(again)), 2)
    return found


def evaluate(data: Path, weights: str | None, seed: int, keep: Path | None) -> dict[str, Any]:
    """Give all figures.

    Raises:
        ValueError: the data, the weights or a package can not be used.
    """
    from gateway_perturbation.training import fitting, making, pictures
    from gateway_perturbation.training.measure import measure

    table = making.make(pictures.load(data), session(load(weights).encoder, 1), seed, keep)
    return {**measure(table, fitting.out_of_fold(table, seed)), "milliseconds": times(weights)}


def main(arguments: list[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m gateway_perturbation.evaluate", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of the development files")
    parser.add_argument("--weights", help="folder of weights (default: the plugin's)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="file (.npz) that keeps the samples' signs, or already holds them")
    options = parser.parse_args(arguments)
    from gateway_perturbation.training.measure import table_of

    try:
        found = evaluate(options.data, options.weights, options.seed, options.keep)
    except ValueError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    sys.stdout.write(json.dumps(found, indent=1) + "\n")
    for part in ("clean", "sources", "attacks"):
        sys.stdout.write(f"\n{table_of(found[part], part)}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
