"""``python bench/engines.py``: the embedded model under `llama-cpp` and under `transformers`, by turns in one run.

Told are medians and their ratio: tokens a second alone and eight at once (reading the questions included), milliseconds
to the first token of a short prompt and of one with eight demonstrations (read anew, and with its prefix kept), and
seconds and memory that loading takes in a process of its own. At the end stands how many of the greedy answers are the
same to the letter under both.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from gateway.plugin import Budget, Demonstration, Prompt, Request, Sampling, Text, Turn

ENGINES = ("llama-cpp", "transformers")
QUESTIONS = (
    "Is there a pneumothorax on this chest film?",
    "What does a chest CT show in a patient with pulmonary embolism?",
    "Which lobe does the consolidation lie in?",
    "Name three signs of heart failure on a chest radiograph.",
    "How is the Hounsfield scale defined?",
    "When is an MRI better than a CT of the head?",
    "What does ground-glass opacity mean?",
    "Which contrast agents are used in MRI?",
)
WRITTEN = 24
"""Tokens of an answer where writing is measured; fewer where it ends by itself."""

_numbers = itertools.count()


def build(engine: str) -> Any:
    """Load the embedded model, with the stage's defaults."""
    if engine == "llama-cpp":
        import gateway_llama_cpp

        return gateway_llama_cpp.build(gateway_llama_cpp.Config())
    import gateway_transformers

    return gateway_transformers.build(gateway_transformers.Config())


def asked(question: str, shown: tuple[Demonstration, ...] = (), *, tokens: int) -> Prompt:
    """Make a prompt."""
    turn = Turn(role="user", parts=(Text(id="messages[0].content", text=question),))
    sampling = Sampling(max_tokens=tokens, temperature=0.0)
    request = Request(id=f"d{next(_numbers)}", department="bench", model="auto", turns=(turn,), sampling=sampling)
    return Prompt(request=request, demonstrations=shown)


async def speed(model: Any, questions: tuple[str, ...], shown: tuple[Demonstration, ...] = ()) -> float:
    """Give the tokens a second of answers that are written at once."""
    start = time.perf_counter()
    got = await asyncio.gather(*(model.complete(asked(question, shown, tokens=WRITTEN)) for question in questions))
    return float(sum(each.usage.completion_tokens for each in got)) / (time.perf_counter() - start)


async def first(model: Any, question: str, shown: tuple[Demonstration, ...] = ()) -> float:
    """Give the milliseconds to an answer of one token."""
    start = time.perf_counter()
    await model.complete(asked(question, shown, tokens=1))
    return (time.perf_counter() - start) * 1000


async def examples() -> tuple[Demonstration, ...]:
    """Choose eight demonstrations as the shipped policies do."""
    from gateway_clinical.injector import ClinicalConfig
    from gateway_clinical.injector import build as build_injector

    budget = Budget(demonstrations=8, mix=0.5)
    return await build_injector(ClinicalConfig()).inject(asked(QUESTIONS[0], tokens=1).request, budget)


async def measure(rounds: int) -> None:
    """Run both engines by turns and print."""
    import msgspec

    shown = await examples()
    models = {engine: await asyncio.to_thread(build, engine) for engine in ENGINES}
    found: dict[tuple[str, str], list[float]] = {}
    for model in models.values():
        await model.complete(asked("Hello?", tokens=2))
    for number in range(rounds):
        question = QUESTIONS[number % len(QUESTIONS)]
        # another first demonstration in each round: nothing of the prefix has been read before
        anew = msgspec.structs.replace(shown[0], question=f"Case {number}. {shown[0].question}")
        changed = (anew, *shown[1:])
        for engine, model in models.items():
            took = {
                "alone, tokens/s": await speed(model, (question,)),
                "eight at once, tokens/s": await speed(model, QUESTIONS),
                "first token, no demonstrations, ms": await first(model, question),
                "first token, 8 demonstrations read anew, ms": await first(model, question, changed),
                "first token, 8 demonstrations kept, ms": await first(model, question, changed),
                "alone, 8 demonstrations kept, tokens/s": await speed(model, (question,), changed),
                "eight at once, the same, tokens/s": await speed(model, QUESTIONS, changed),
            }
            for name, value in took.items():
                found.setdefault((name, engine), []).append(value)
    alike = 0
    for question in QUESTIONS:
        said = [(await model.complete(asked(question, shown, tokens=24))).choices[0].text for model in models.values()]
        alike += said[0] == said[1]
    for model in models.values():
        await model.aclose()
    table = {key: statistics.median(values) for key, values in found.items()}
    for name in dict.fromkeys(name for name, _ in table):
        tell(name, *(table[name, engine] for engine in ENGINES))
    loading = {engine: alone(engine) for engine in ENGINES}
    tell("loading, s", *(loading[engine][0] for engine in ENGINES))
    tell("memory of the process once it has answered, MiB", *(loading[engine][1] for engine in ENGINES))
    sys.stdout.write(f"{alike} of {len(QUESTIONS)} answers of 24 tokens after 8 demonstrations are the same\n")


def tell(name: str, one: float, other: float) -> None:
    """Print a row."""
    sys.stdout.write(f"{name:<50} llama-cpp {one:8.1f}  transformers {other:8.1f}  ratio {one / other:6.2f}\n")


def alone(engine: str) -> tuple[float, float]:
    """Load an engine in a process of its own; give seconds and MiB."""
    command = [sys.executable, str(Path(__file__)), "--load", engine]
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    seconds, memory = map(float, out.split()[-2:])
    return seconds, memory


def _resident() -> float:
    """Give the resident memory of this process, in MiB."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text("utf-8").splitlines())
    return int(status["VmRSS"].split()[0]) / 1024


async def load(engine: str) -> None:
    """Print the seconds that loading takes, and the resident memory after an answer."""
    start = time.perf_counter()
    model = build(engine)
    took = time.perf_counter() - start
    await model.complete(asked(QUESTIONS[0], tokens=8))
    sys.stdout.write(f"{took:.2f} {_resident():.0f}\n")
    await model.aclose()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--load", choices=ENGINES, help="only load this one, and tell seconds and MiB")
    options = parser.parse_args()
    asyncio.run(load(options.load) if options.load else measure(options.rounds))


if __name__ == "__main__":
    main()
