"""``python bench/prefix.py``: what 8 fixed demonstrations cost, in the gateway and until the model's first token.

The embedded model keeps keys and values of the demonstrations, so that a second request of the same policy reads
its own question alone. Told are medians of interleaved calls in one run, and their ratio to the call without
demonstrations.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from collections.abc import Awaitable
from typing import Any

from gateway.plugin import Budget, Prompt, Request, Sampling, Text, Turn
from gateway_clinical.injector import ClinicalConfig
from gateway_clinical.injector import build as build_injector
from gateway_transformers import Config as Model
from gateway_transformers import build as build_model

QUESTIONS = (
    "Is there a pneumothorax on this chest film?",
    "Which lobe does the consolidation lie in?",
    "Is the tip of the tube above the carina?",
    "Does the heart look enlarged to you on this view?",
    "Compare the effusion with the film of last week.",
    "Which view is this, and is it rotated?",
)
ROUNDS = 8
BUDGET = Budget(demonstrations=8, mix=0.5)


def request(text: str, number: int) -> Request:
    """Make a request for one token."""
    turn = Turn(role="user", parts=(Text(id="messages[0].content", text=text),))
    sampling = Sampling(max_tokens=1, temperature=0.0)
    return Request(id=f"dec_{number}", department="bench", model="bench", turns=(turn,), sampling=sampling)


async def timed(call: Awaitable[Any]) -> float:
    """Give the milliseconds of one call, which begins when it is awaited."""
    start = time.perf_counter()
    await call
    return (time.perf_counter() - start) * 1000


async def main() -> None:
    """Print the costs."""
    fixed, nearest = build_injector(ClinicalConfig()), build_injector(ClinicalConfig(strategy="nearest"))
    model = build_model(Model())
    times: dict[str, list[float]] = {name: [] for name in ("fixed", "nearest", "room", "none", "cold", "warm")}
    shown = await fixed.inject(request(QUESTIONS[0], 0), BUDGET)
    times["cold"].append(await timed(model.complete(Prompt(request=request("Hello?", 0), demonstrations=shown))))
    await model.complete(Prompt(request=request("Hello?", 0)))
    for number in range(ROUNDS):
        for question in QUESTIONS:
            asked = request(question, number)
            times["fixed"].append(await timed(fixed.inject(asked, BUDGET)))
            times["nearest"].append(await timed(nearest.inject(asked, BUDGET)))
            times["none"].append(await timed(model.complete(Prompt(request=asked))))
            prompt = Prompt(request=asked, demonstrations=shown)
            times["room"].append(await timed(model.room(prompt)))
            times["warm"].append(await timed(model.complete(prompt)))
    await model.aclose()
    middle = {name: statistics.median(values) for name, values in times.items()}
    sys.stdout.write(
        f"choosing 8 demonstrations: fixed {middle['fixed']:.3f} ms, nearest {middle['nearest']:.2f} ms; "
        f"asking whether they fit: {middle['room']:.3f} ms\n"
        f"first token of the embedded model: without {middle['none']:.1f} ms; 8 fixed, prefix read anew "
        f"{middle['cold']:.0f} ms; prefix kept {middle['warm']:.1f} ms, {middle['warm'] / middle['none']:.2f} times\n"
    )


if __name__ == "__main__":
    asyncio.run(main())
