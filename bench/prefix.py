"""``python bench/prefix.py``: what 8 fixed demonstrations cost, in the gateway and until the model's first token.

The stages `transformers` and `llama-cpp` keep keys and values of the demonstrations, so that a second request of the
same policy reads its own question alone. Told are, for the embedded model on each, medians of interleaved calls in one
run, their ratio to the call without demonstrations, and how many tokens of a prompt are kept and how many read anew.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable
from typing import Any

from gateway.plugin import Budget, Demonstration, Prompt, Request, Sampling, Text, Turn
from gateway_clinical.injector import Clinical, ClinicalConfig
from gateway_clinical.injector import build as build_injector
from gateway_llama_cpp import Config as LlamaCpp
from gateway_llama_cpp import build as build_llama_cpp
from gateway_transformers import Config as Transformers
from gateway_transformers import build as build_transformers

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


async def choosing(shown: Clinical) -> None:
    """Print what it costs to choose demonstrations."""
    nearest = build_injector(ClinicalConfig(strategy="nearest"))
    times: dict[str, list[float]] = {"fixed": [], "nearest": []}
    for number in range(ROUNDS):
        for question in QUESTIONS:
            asked = request(question, number)
            times["fixed"].append(await timed(shown.inject(asked, BUDGET)))
            times["nearest"].append(await timed(nearest.inject(asked, BUDGET)))
    fixed, near = (statistics.median(values) for values in times.values())
    print(f"choosing 8 demonstrations: fixed {fixed:.3f} ms, nearest {near:.2f} ms")


async def reading(name: str, model: Any, reused: Callable[[], int], shown: tuple[Demonstration, ...]) -> None:
    """Print what demonstrations cost on one model; `reused` counts the tokens of kept prefixes."""
    times: dict[str, list[float]] = {"room": [], "none": [], "warm": []}
    cold = await timed(model.complete(Prompt(request=request("Hello?", 0), demonstrations=shown)))
    await model.complete(Prompt(request=request("Hello?", 0)))
    kept = read = 0
    for number in range(ROUNDS):
        for question in QUESTIONS:
            asked = request(question, number)
            prompt = Prompt(request=asked, demonstrations=shown)
            times["room"].append(await timed(model.room(prompt)))
            times["none"].append(await timed(model.complete(Prompt(request=asked))))
            before, start = reused(), time.perf_counter()
            answer = await model.complete(prompt)
            times["warm"].append((time.perf_counter() - start) * 1000)
            kept += reused() - before
            read += answer.usage.prompt_tokens
    await model.aclose()
    room, none, warm = (statistics.median(values) for values in times.values())
    number = ROUNDS * len(QUESTIONS)
    print(
        f"{name}: first token without demonstrations {none:.1f} ms; with 8 fixed, read anew {cold:.0f} ms, kept"
        f" {warm:.1f} ms, {warm / none:.2f} times\n"
        f"  of {read / number:.0f} tokens of a prompt {kept / number:.0f} are kept, and {(read - kept) / number:.0f}"
        f" read anew; asking whether they fit: {room:.3f} ms"
    )


async def main() -> None:
    """Print the costs."""
    fixed = build_injector(ClinicalConfig())
    shown = await fixed.inject(request(QUESTIONS[0], 0), BUDGET)
    await choosing(fixed)
    transformers = build_transformers(Transformers())
    await reading("transformers", transformers, lambda: transformers.worker.prefixes.reused, shown)
    llama_cpp = build_llama_cpp(LlamaCpp())
    await reading("llama-cpp", llama_cpp, lambda: llama_cpp.writer.reused, shown)


if __name__ == "__main__":
    asyncio.run(main())
