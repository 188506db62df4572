"""A gateway with its streams held and windowed, and the reference upstream, for benchmarks of streams."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from gateway.testing.upstream import ReferenceUpstream
from gateway.testing.upstream.draft import tokens_of

GATEWAY = [sys.executable, "-m", "gateway.cli"]
WAYS = ("direct", "held", "windowed")
LENGTHS = (1_500, 6_000)
"""Characters of an answer."""

QUESTIONS = (
    "Which imaging plane is shown in this brain MRI?",
    "Is the fracture of the distal radius displaced, and which angle should the report give for its tilt?",
    "A patient took an overdose of paracetamol. Which findings on CT would suggest liver failure?",
)
POLICY = """\
department: {way}
revision: 1
stream: {way}
deadline: 600s
backend: {{stage: openai, config: {{base_url: "{url}", model: plain}}}}
models: {models}
prescreen: [{{stage: intent, deadline: 30s}}, {{stage: image-text, deadline: 30s}}]
demonstrations: {{stage: clinical, deadline: 30s}}
audit:
  [{{stage: refusal, deadline: 30s}}, {{stage: harmful-compliance, deadline: 30s}},
   {{stage: phi, deadline: 30s, on_finding: redact}}, {{stage: demonstration-leak, deadline: 30s}}]
tiers: [{{below: 0.2, budget: {{demonstrations: 4}}}}, {{below: 0.9, budget: {{demonstrations: 8}}}}]
"""
"""Deadlines are long: a machine that is kept busy on purpose must not end what is measured."""

_CASE = re.compile(r"\(case (\d+), (\d+) characters\)")


def text_of(case: int, characters: int) -> str:
    """Give what the model says to a case: numbered lines, cut to so many characters."""
    lines: list[str] = []
    size = 0
    while size < characters:
        lines.append(f"Line {len(lines)} of answer {case}: the lungs are clear and no fracture is seen. ")
        size += len(lines[-1])
    return "".join(lines)[:characters]


def question_of(case: int, characters: int) -> str:
    """Give a question that is new to every cache."""
    return f"{QUESTIONS[case % len(QUESTIONS)]} (case {case}, {characters} characters)"


def _answer(body: dict[str, Any]) -> str:
    case, characters = _CASE.findall(body["messages"][-1]["content"])[-1]
    return text_of(int(case), int(characters))


def _serve(told: Connection, rate: float) -> None:
    """Serve two upstreams, one that keeps to a pace and one that does not, until the process is ended."""

    async def serve() -> None:
        paced, fast = ReferenceUpstream(_answer, rate=rate, keep=0), ReferenceUpstream(_answer, keep=0)
        async with paced, fast:
            told.send((paced.url, fast.url))
            await asyncio.Event().wait()

    asyncio.run(serve())


class Place(Struct, frozen=True, kw_only=True):
    """The gateway and its upstreams. `urls` and `keys` are by way and pace, and by way."""

    urls: dict[tuple[str, str], str]
    keys: dict[str, str]
    base: str
    pid: int


def _policy(way: str, paced: str, fast: str, rate: float, places: int) -> str:
    def model(url: str, name: str) -> dict[str, Any]:
        config = {"base_url": url, "model": name, "max_connections": places, "in_flight": places}
        return {"stage": "openai", "deadline": "600s", "config": config}

    models = {"paced": model(paced, "plain"), "fast": model(fast, "plain")}
    for characters in LENGTHS:
        # of a held stream the model is asked for the whole answer: it comes when the last token would have come
        seconds = len(tokens_of(text_of(1, characters))) / rate
        held = model(fast, f"slow-first:{seconds:.3f}")
        models[f"paced-{characters}"] = held if way == "held" else models["paced"]
    return POLICY.format(way=way, url=fast, models=msgspec.json.encode(models).decode())


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait(url: str) -> None:
    end = time.perf_counter() + 120
    while time.perf_counter() < end:
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=2):
            return
        time.sleep(0.05)
    raise SystemExit(f"{url} did not answer within 120 s")


@contextlib.contextmanager
def served(rate: float, places: int = 100) -> Iterator[Place]:
    """Serve the upstreams and the gateway, each in a process of its own."""
    spawn = multiprocessing.get_context("spawn")
    here, there = spawn.Pipe()
    upstream = spawn.Process(target=_serve, args=(there, rate), daemon=True)
    upstream.start()
    paced, fast = here.recv()
    with tempfile.TemporaryDirectory() as name:
        port = _free_port()
        for way in WAYS[1:]:
            Path(name, f"{way}.yaml").write_text(_policy(way, paced, fast, rate, places))
        env = {k: v for k, v in os.environ.items() if not k.startswith("GATEWAY_")} | {
            "GATEWAY_DATA_DIR": str(Path(name, "data")),
            "GATEWAY_POLICIES_DIR": name,
            "GATEWAY_PORT": str(port),
            "GATEWAY_IN_FLIGHT": str(places),
        }
        out = subprocess.DEVNULL
        server = subprocess.Popen([*GATEWAY, "serve"], env=env, stdout=out, stderr=out)
        try:
            base = f"http://127.0.0.1:{port}"
            _wait(base + "/readyz")
            keys = {way: _key(env, way) for way in WAYS[1:]} | {"direct": ""}
            asked = {"paced": paced, "fast": fast}
            urls = {(way, pace): asked[pace] if way == "direct" else base + "/v1" for way in WAYS for pace in asked}
            yield Place(urls=urls, keys=keys, base=base, pid=server.pid)
        finally:
            server.terminate()
            server.wait(60)
            upstream.terminate()
            upstream.join(10)


def _key(env: dict[str, str], department: str) -> str:
    words = ("keys", "create", "--department", department, "--role", "caller", "--role", "officer", "--quiet")
    made = subprocess.run([*GATEWAY, *words], env=env, capture_output=True, text=True, check=True)
    return made.stdout.strip()
