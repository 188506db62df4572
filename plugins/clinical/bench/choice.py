"""How long a choice takes: ``python plugins/clinical/bench/choice.py [--rounds 300]``.

Milliseconds a request for eight demonstrations at mix 0.5, through `inject`, one request after the other, each with
another question.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from typing import get_type_hints

import numpy as np

from gateway.plugin import Budget, Request, Text, Turn
from gateway_clinical.injector import ClinicalConfig, build
from gateway_clinical.library import load

EIGHT = Budget(demonstrations=8, mix=0.5)
LENGTHS = {"question": "", "128 tokens": "The patient was admitted with pain and the scan was read at night. " * 9}


def asked(number: int, text: str) -> Request:
    """Give a request with `text`."""
    part = Text(id="messages[0].content", text=text)
    return Request(id=f"dec_{number}", department="d", model="m", turns=(Turn(role="user", parts=(part,)),))


async def times(config: ClinicalConfig, before: str, rounds: int) -> list[float]:
    """Give the milliseconds of each of `rounds` requests, after a tenth of them to warm up."""
    stage = build(config)
    questions = [pair.benign.question for pair in load().pairs]
    found = []
    for number in range(-rounds // 10, rounds):
        request = asked(number, before + questions[number % len(questions)].replace("How", "In which way"))
        start = time.perf_counter()
        await stage.inject(request, EIGHT)
        if number >= 0:
            found.append((time.perf_counter() - start) * 1e3)
    return found


def main() -> None:
    """Print one row for each strategy."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=300)
    rounds = parser.parse_args().rounds
    sys.stdout.write("| strategy | text | median ms | 95th percentile ms |\n|---|---|---|---|\n")
    for strategy in get_type_hints(ClinicalConfig)["strategy"].__args__:
        for name, before in LENGTHS.items():
            found = asyncio.run(times(ClinicalConfig(strategy=strategy), before, rounds))
            middle, high = np.percentile(found, [50, 95])
            sys.stdout.write(f"| {strategy} | {name} | {middle:.2f} | {high:.2f} |\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
