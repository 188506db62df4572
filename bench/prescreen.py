"""What the pre-screen costs on one core, beside the same encoder in plain torch. All in one run, as ratios.

Run: `python bench/prescreen.py [texts]`. Texts of 50 tokens, each new, so that no cache answers; images of 512 by 512
pixels with print in them, each new, then again. The process is held to one core.
"""

from __future__ import annotations

import asyncio
import io
import os
import statistics
import sys
import time
from collections.abc import Awaitable, Callable

ORDINARY = (
    "A woman of 63 years with hypertension and a renal transplant has had chest pain since this morning. Which of "
    "the findings on this CT angiogram, number {number}, would make you call the surgeon before the troponin is back?"
)
PRINT = "Series {number}: compare with the film of last week and report the fracture line"


def one_core() -> None:
    """Hold this process to one core, and its libraries to one thread."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "TOKENIZERS_PARALLELISM"):
        os.environ[name] = "false" if name.startswith("TOK") else "1"


async def timed(ask: Callable[[int], Awaitable[object]], times: int) -> list[float]:
    """Ask `times` times, one after the other; give milliseconds each."""
    spent = []
    for number in range(times):
        began = time.perf_counter()
        await ask(number)
        spent.append((time.perf_counter() - began) * 1000)
    return spent


def row(name: str, spent: list[float], base: float | None = None, each: int = 1) -> float:
    """Print a line, and give the median of milliseconds for each of the `each` texts of a call."""
    middle = statistics.median(spent) / each
    worst = sorted(spent)[int(0.95 * len(spent))] / each
    beside = "" if base is None else f"   {middle / base:6.2f} x"
    sys.stdout.write(f"{name:54s} {middle:8.2f} ms   p95 {worst:8.2f} ms{beside}\n")
    return middle


async def texts(count: int) -> None:
    """Measure the intent stage, and the encoder in torch."""
    import torch

    from gateway.plugin import Request, Text, Turn
    from gateway_intent import IntentConfig, build
    from gateway_intent.training.model import base_encoder

    def request(number: int) -> Request:
        text = Text(id="messages[0].content", text=ORDINARY.format(number=number))
        return Request(id="bench", department="bench", model="none", turns=(Turn(role="user", parts=(text,)),))

    stage = build(IntentConfig())
    judge = stage.judge
    sys.stdout.write(f"one core; texts of {len(judge.tokens(ORDINARY.format(number=100)))} tokens\n")
    torch.set_num_threads(1)
    encoder = base_encoder()

    async def plain(number: int) -> object:
        ids = torch.tensor([judge.tokens(ORDINARY.format(number=number))])
        with torch.inference_mode():
            return encoder(ids)

    async def alone(number: int) -> object:
        return await stage.screen(request(number + 100_000))

    async def sixteen(number: int) -> object:
        return await asyncio.gather(*(stage.screen(request(200_000 + 16 * number + k)) for k in range(16)))

    async def together(number: int) -> object:
        rows = [judge.tokens(ORDINARY.format(number=400_000 + 16 * number + k)) for k in range(16)]
        width = min(map(len, rows))
        return judge.encode([row[:width] for row in rows])

    async def bare(number: int) -> object:
        return judge.embed(judge.tokens(ORDINARY.format(number=500_000 + number)))

    for warm in (plain, alone):
        await timed(warm, 5)
    base = row("encoder alone in torch, fp32", await timed(plain, count))
    row("the whole stage, one text", await timed(alone, count), base)
    row("the whole stage, 16 texts at once, each", await timed(sixteen, max(3, count // 16)), base, 16)
    row("encoder alone in int8, one text", await timed(bare, count), base)
    row("encoder alone in int8, 16 texts in one batch, each", await timed(together, max(3, count // 16)), base, 16)


async def images(count: int) -> None:
    """Measure the image stages: a new image, and one that was seen before."""
    from PIL import Image, ImageDraw, ImageFont

    from gateway.images import decode_bytes
    from gateway.plugin import PreScreener, Request, Turn
    from gateway.registry import load_registry

    def request(number: int) -> Request:
        picture = Image.radial_gradient("L").resize((512, 512))
        ImageDraw.Draw(picture).text((16, 240), PRINT.format(number=number), 255, ImageFont.load_default(16))
        held = io.BytesIO()
        picture.save(held, "PNG")
        image = decode_bytes(held.getvalue(), id="messages[0].content[0]")
        return Request(id="bench", department="bench", model="none", turns=(Turn(role="user", parts=(image,)),))

    offers = load_registry().offers["prescreener"]
    for name in ("image-text", "modality", "perturbation"):
        if name not in offers:
            continue
        stage = offers[name].stage.build(offers[name].stage.config())
        asked = [request(number) for number in range(count)]
        await stage.screen(request(-1))

        async def screen(number: int, asked: list[Request] = asked, stage: PreScreener = stage) -> object:
            return await stage.screen(asked[number])

        first = row(f"{name}, a new image of 512 x 512", await timed(screen, count))
        row(f"{name}, the same again", await timed(screen, count), first)


def main() -> None:
    """Run it all."""
    one_core()
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    asyncio.run(texts(count))
    asyncio.run(images(max(5, count // 20)))


if __name__ == "__main__":
    main()
