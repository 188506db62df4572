"""What reading the text in an image costs on one core, and what it costs the second time.

Run: `python bench/image_text.py [images]`. Sentences are drawn on phantoms; each image goes through the stage as the
gateway calls it, once anew and once from its cache. `reading_ms` is what an image costs in CPU time, `detecting_ms`
what one look for letters in a blank one of `max_side` does: their ratio tells of the code, not of the machine.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import statistics
import sys
import time

import numpy as np

from gateway.plugin import Image, Request, Turn
from gateway_image_text import Config, ImageText
from gateway_image_text.engine import Engine
from gateway_image_text.evaluate.draw import Style, draw, encode
from gateway_image_text.evaluate.sentences import sentence
from gateway_image_text.reader import Reader

MAX_CACHED_MS = 2.0
MAX_RATIO = 4.0
"""Looks for letters that one 512 x 512 image with a sentence may cost."""


def _image(data: bytes, side: int) -> Image:
    return Image(
        id="messages[0].content[0]", data=data, media_type="image/png", width=side, height=side,
        digest=hashlib.sha256(data).hexdigest(), source="png",
    )  # fmt: skip


def _request(image: Image) -> Request:
    return Request(id="bench", department="bench", model="none", turns=(Turn(role="user", parts=(image,)),))


async def _measure(side: int, size: int, count: int) -> dict[str, float]:
    config = Config(seconds=60)
    stage = ImageText(Reader(threads=1, max_side=config.max_side), workers=1, cache=config.cache)
    engine, blank = Engine(threads=1), np.zeros((config.max_side, config.max_side, 3), np.uint8)
    reading, cached, detecting = [], [], []
    for number in range(count):
        rng = random.Random(number)
        picture = draw(sentence(rng, harmful=number % 2 == 0), Style(side=side, size=size), rng)
        request = _request(_image(encode(picture, None), side))
        start = time.process_time()
        first = await stage.screen(request)
        reading.append((time.process_time() - start) * 1000)
        start = time.perf_counter()
        again = await stage.screen(request)
        cached.append((time.perf_counter() - start) * 1000)
        assert again == first
        start = time.process_time()
        engine.detect(blank)
        detecting.append((time.process_time() - start) * 1000)
    await stage.aclose()
    middle = statistics.median
    return {
        "side": side, "reading_ms": round(middle(reading), 1), "cached_ms": round(middle(cached), 3),
        "detecting_ms": round(middle(detecting), 1), "ratio": round(middle(reading) / middle(detecting), 2),
    }  # fmt: skip


def main() -> None:
    """Measure, print a line of JSON for each size, and fail where 512 x 512 pixels cost more than they may."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 10
    rows = {}
    for side, size in ((256, 14), (512, 20), (1024, 24), (2048, 32)):
        rows[side] = asyncio.run(_measure(side, size, count))
        print(json.dumps(rows[side]), flush=True)
    worst = rows[512]
    if worst["cached_ms"] > MAX_CACHED_MS or worst["ratio"] > MAX_RATIO:
        raise SystemExit(
            f"more than {MAX_CACHED_MS} ms from the cache, or {MAX_RATIO} looks for letters, at 512 pixels"
        )


if __name__ == "__main__":
    main()
