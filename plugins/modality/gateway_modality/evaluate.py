"""``python -m gateway_modality.evaluate --data DIR``: figures with each source left out, as JSON and as tables.

The heads are fitted anew without the source that is judged, with the shipped encoder. Times are those of the whole
stage on the shipped heads.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import io
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as Pillow

from gateway.plugin import Image, Request, Turn
from gateway_modality import ModalityConfig, build
from gateway_modality.encoder import Encoder
from gateway_modality.loading import load


def times(weights: str | None, repeats: int = 20) -> dict[str, float]:
    """Measure the whole stage, one thread, on blurred noise: median milliseconds of processor time; `again`: cached."""
    screen = build(ModalityConfig(weights=weights))
    found = {}
    rng = np.random.default_rng(0)
    for side in (256, 512, 1024, 2048, 4096):
        taken: list[float] = []
        again: list[float] = []
        for _ in range(max(3, repeats * 256 // side)):
            coarse = Pillow.fromarray(rng.integers(0, 256, (side // 4, side // 4, 3), np.uint8))
            out = io.BytesIO()
            coarse.resize((side, side)).save(out, "PNG", compress_level=1)
            request = _request(out.getvalue(), side)
            for kept in (taken, again):
                began = time.process_time()
                asyncio.run(screen.screen(request))
                kept.append((time.process_time() - began) * 1000)
        found[f"png_{side}"] = round(float(np.median(taken)), 1)
        found["again"] = round(float(np.median(again)), 2)
    return found


def _request(data: bytes, side: int) -> Request:
    image = Image(
        id="messages[0].content[0]", data=data, media_type="image/png", width=side, height=side,
        digest=hashlib.sha256(data).hexdigest(), source="png",
    )  # fmt: skip
    return Request(id="evaluate", department="evaluate", model="none", turns=(Turn(role="user", parts=(image,)),))


def evaluate(data: Path, weights: str | None, seed: int) -> dict[str, Any]:
    """Give all figures.

    Raises:
        ValueError: the data or the weights can not be used.
    """
    from gateway_modality.training import head, pictures
    from gateway_modality.training.measure import measure

    loaded = load(weights)
    found, missing = pictures.load(data, seed)
    vectors = head.encode(found, Encoder(loaded.encoder, threads=1), seed)
    return {**measure(vectors, head.out_of_fold(vectors)), "missing": missing, "milliseconds": times(weights)}


def main(arguments: list[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m gateway_modality.evaluate", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of the development files")
    parser.add_argument("--weights", help="folder of weights (default: the plugin's)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    from gateway_modality.training.measure import table

    try:
        found = evaluate(options.data, options.weights, options.seed)
    except ValueError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    sys.stdout.write(json.dumps(found, indent=1) + "\n")
    for part in ("nested", "final", "changed"):
        sys.stdout.write(f"\n{part}\n\n{table(found, part)}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
