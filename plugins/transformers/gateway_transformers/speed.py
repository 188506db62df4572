"""``python -m gateway_transformers.speed``: how fast the model loads, reads and writes on this machine."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time

from gateway.plugin import Demonstration, Prompt, Request, Sampling, Text, Turn
from gateway_transformers import Config, build

_ASKED = "What does a chest CT show in a patient with pulmonary embolism? Answer in three sentences."


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--path")
    parser.add_argument("--model", default=Config().model)
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--batch", type=int, default=8)
    asked = parser.parse_args()
    start = time.perf_counter()
    backend = build(
        Config(path=asked.path, model=asked.model, dtype=asked.dtype, threads=asked.threads, batch=asked.batch)
    )
    _tell(f"load {time.perf_counter() - start:.1f} s, load average {os.getloadavg()[0]:.1f}")
    asyncio.run(_measure(backend, asked.batch))


async def _measure(backend: object, batch: int) -> None:
    async def ask(*numbers: int, shown: int = 0, tokens: int = 40) -> tuple[float, int]:
        start, busy = time.perf_counter(), time.process_time()
        got = await asyncio.gather(*(backend.complete(_prompt(n, shown, tokens)) for n in numbers))  # type: ignore[attr-defined]  # any backend
        took, cpu = time.perf_counter() - start, time.process_time() - busy
        written = sum(c.usage.completion_tokens for c in got)
        read = sum(c.usage.prompt_tokens for c in got)
        _tell(
            f"  {read} tokens read, {written} written: {took:.2f} s, {cpu:.2f} s of CPU, {written / took:.1f} tokens/s"
        )
        return took, written

    await ask(0, tokens=4)
    _tell("one at a time")
    await ask(1)
    _tell(f"{batch} at once")
    await ask(*range(10, 10 + batch))
    _tell("8 demonstrations, prefix read anew, then kept")
    await ask(2, shown=8, tokens=1)
    await ask(3, shown=8, tokens=1)
    _tell(f"{batch} at once with 8 demonstrations")
    await ask(*range(30, 30 + batch), shown=8)
    await backend.aclose()  # type: ignore[attr-defined]  # any backend


def _prompt(number: int, shown: int, tokens: int) -> Prompt:
    turn = Turn(role="user", parts=(Text(id="messages[0].content", text=f"{number}. {_ASKED}"),))
    demonstrations = tuple(
        Demonstration(
            id=str(n),
            pair=str(n),
            modality="ct",
            question=f"Case {n}: what is seen on this axial CT slice of the chest, and what should follow?",
            answer=f"In case {n} there is a filling defect in a pulmonary artery, in keeping with an embolus."
            " Anticoagulation should be started unless contraindicated, and the referring physician told at once.",
            refuses=False,
        )
        for n in range(shown)
    )
    request = Request(id="speed", department="none", model="auto", turns=(turn,), sampling=Sampling(max_tokens=tokens))
    return Prompt(request=request, demonstrations=demonstrations)


def _tell(line: str) -> None:
    sys.stdout.write(line + "\n")


if __name__ == "__main__":
    main()
