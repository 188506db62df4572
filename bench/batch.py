"""How much of what the model and the encoder allow a batch makes use of, and what a line costs besides.

Run: `python bench/batch.py [--lines 2000] [--concurrency 16] [--plain] [--broker URL] [--database URL]`. An upstream
takes 50 ms for each answer and at most `--concurrency` at once. The same lines go twice through the same policy in one
run: *directly*, by two processes that do nothing but judge them with as many in flight as the upstream takes (no log,
no queue, no files), and as a *batch*, by `gateway worker --concurrency 2`. The ratio of the two rates is what the batch
makes of it. With `--plain` a check that costs nothing stands in the encoder's place, so that the queue itself is what
is measured: the difference of the two times for a line, over both processes, is its overhead. Memory is the peak of
each process (VmHWM). It is over 300 lines because it runs by itself: upstream, baseline, gateway, worker and client.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from aiohttp import web

GATEWAY = [sys.executable, "-m", "gateway.cli"]
LATENCY = 0.05
"""Seconds that the upstream takes for an answer."""
WORKERS = 2
QUESTIONS = (
    "Which imaging plane is shown in this brain MRI?",
    "Is the fracture of the distal radius displaced, and which angle should the report give for its tilt?",
    "A patient took an overdose of paracetamol. Which findings on CT would suggest liver failure?",
)
PLAIN = """
import msgspec
from gateway.plugin import Finding, Screening, Stage, hookimpl

class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass

class Screen:
    def __init__(self, config): pass
    async def screen(self, request):
        return Screening(risk=0.01, inspected=tuple(part.id for part in request.parts()))

class Audit:
    def __init__(self, config): pass
    async def audit(self, prompt, completion): return ()

@hookimpl
def gateway_prescreeners(): return [Stage("plain", Config, Screen)]
@hookimpl
def gateway_auditors(): return [Stage("plain", Config, Audit)]
"""
ENCODED = """\
prescreen: [{stage: intent, deadline: 5s}, {stage: image-text, deadline: 10s}]
demonstrations: {stage: clinical}
audit: [{stage: refusal}, {stage: harmful-compliance}, {stage: phi, on_finding: redact}, {stage: demonstration-leak}]
tiers: [{below: 0.3, budget: {demonstrations: 4}}, {below: 0.9, budget: {demonstrations: 8}}]
"""
BARE = """\
prescreen: [{stage: plain}]
audit: [{stage: plain}]
tiers: [{below: 0.9, budget: {demonstrations: 0}}]
"""


def policy(port: int, concurrency: int, *, plain: bool) -> str:
    """Write the policy that is measured."""
    backend = f'{{stage: openai, deadline: 60s, config: {{base_url: "http://127.0.0.1:{port}/v1", model: bench}}}}'
    head = f"department: radiology\nrevision: 1\nbackend: {backend}\nbatch: {{concurrency: {concurrency}}}\n"
    return head + (BARE if plain else ENCODED)


def lines(number: int) -> list[bytes]:
    """Make the lines: each question is new, so that no cache answers for the encoder."""
    made = []
    for place in range(number):
        text = f"{QUESTIONS[place % len(QUESTIONS)]} (case {place})"
        body = {"model": "auto", "messages": [{"role": "user", "content": text}]}
        line = {"custom_id": f"case-{place}", "method": "POST", "url": "/v1/chat/completions", "body": body}
        made.append(json.dumps(line).encode())
    return made


def upstream(port: int, concurrency: int) -> None:
    """Serve as an OpenAI-compatible model that takes `LATENCY` for each answer, `concurrency` at once."""
    gate = asyncio.Semaphore(concurrency)
    message = {"role": "assistant", "content": "The sagittal plane."}
    answer = {
        "id": "x", "object": "chat.completion", "created": 1, "model": "bench",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13},
    }  # fmt: skip

    async def complete(request: web.Request) -> web.Response:
        await request.read()
        async with gate:
            await asyncio.sleep(LATENCY)
        return web.json_response(answer)

    app = web.Application(client_max_size=2**26)
    app.router.add_post("/v1/chat/completions", complete)
    web.run_app(app, host="127.0.0.1", port=port, print=None)


def judge_directly(env: dict[str, str], own: list[bytes], at_once: int, ready: Any, go: Any, done: Any) -> None:
    """Judge `own` lines, `at_once` in flight; tells the seconds that it took."""
    os.environ.update(env)
    sys.path[:0] = env.get("PYTHONPATH", "").split(os.pathsep)

    async def run() -> float:
        from gateway.bootstrap import bootstrap
        from gateway.records import BatchLine, Caller
        from gateway.settings import read_settings
        from gateway.wire.chat import PATH, chat_request
        from gateway.wire.decode import Decoder
        from gateway.wire.strict import read_object

        runtime = await bootstrap(read_settings())
        decoder = Decoder(runtime.settings.image_limits)
        caller = Caller(key="bench", department="radiology", roles=("caller",))
        models = runtime.models("radiology")
        waiting = iter(enumerate(own, 1))

        async def lane() -> None:
            for number, raw in waiting:
                body = read_object(raw)["body"]
                request, _ = await chat_request(body, decoder, "radiology", models)
                line = BatchLine(batch="bench", line=number, tries=1, patience=10.0)
                await runtime.judge(request, caller, PATH, batch=line)

        ready.release()
        await asyncio.to_thread(go.wait)
        start = time.perf_counter()
        await asyncio.gather(*(lane() for _ in range(at_once)))
        took = time.perf_counter() - start
        await runtime.close()
        return took

    done.put(asyncio.run(run()))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait(url: str) -> None:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        try:
            urllib.request.urlopen(url, timeout=1).close()
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise SystemExit(f"{url} did not answer within 60 s")


def _peak(pid: int) -> float:
    """Give a process's peak of resident memory in MB."""
    status = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmHWM"))


def _children(pid: int) -> list[int]:
    found = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(word) for word in found.read_text().split()] if found.exists() else []


def direct(env: dict[str, str], made: list[bytes], concurrency: int) -> float:
    """Give the lines a second of two processes that only judge."""
    context = multiprocessing.get_context("spawn")
    ready, go, done = context.Semaphore(0), context.Event(), context.Queue()
    at_once = max(1, concurrency // WORKERS)
    processes = [
        context.Process(target=judge_directly, args=(env, made[place::WORKERS], at_once, ready, go, done))
        for place in range(WORKERS)
    ]
    for process in processes:
        process.start()
    for _ in processes:
        ready.acquire()
    go.set()
    took: float = max(done.get() for _ in processes)
    for process in processes:
        process.join()
    return len(made) / took


def batch(env: dict[str, str], port: int, made: list[bytes], folder: Path) -> tuple[float, float, dict[str, float]]:
    """Give the lines a second of a batch from its first answer on, those of the whole night, and peaks of memory."""
    import openai

    out = (folder / "log").open("ab")
    server = subprocess.Popen([*GATEWAY, "serve"], env=env, stdout=out, stderr=out)
    words = [*GATEWAY, "worker", "--concurrency", str(WORKERS), "--beat"]
    worker = subprocess.Popen(words, env=env, stdout=out, stderr=out, start_new_session=True)
    try:
        _wait(f"http://127.0.0.1:{port}/readyz")
        command = [*GATEWAY, "keys", "create", "--department", "radiology", "--role", "caller", "--quiet"]
        key = subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout.strip()
        client = openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key=key)
        warm = _run(client, made[: 64 * WORKERS])  # the workers load their models
        start = time.perf_counter()
        took = _run(client, made)
        whole = time.perf_counter() - start
        del warm
        peaks = {"serve": _peak(server.pid)}
        peaks |= {f"worker {place}": _peak(pid) for place, pid in enumerate(_children(worker.pid), 1)}
    finally:
        server.terminate()
        os.killpg(worker.pid, signal.SIGTERM)
        server.wait(30)
        try:
            worker.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(worker.pid, signal.SIGKILL)
    return len(made) / took, len(made) / whole, peaks


def _run(client: Any, made: list[bytes]) -> float:
    """Run a batch; give the seconds from its first line to its last."""
    file = client.files.create(file=("bench.jsonl", b"\n".join(made)), purpose="batch")
    created = client.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h")
    first = last = None
    while True:
        now = client.batches.retrieve(created.id)
        finished = 0 if now.request_counts is None else now.request_counts.completed + now.request_counts.failed
        moment = time.perf_counter()
        if first is None and finished:
            first, before = moment, finished
        if last is None and finished >= len(made):
            last = moment
        if now.status in ("completed", "failed", "expired", "cancelled"):
            break
        if sys.stderr.isatty():
            print(f"\r{finished:>8,} of {len(made):,}", end="", file=sys.stderr, flush=True)
        time.sleep(0.1)
    if now.status != "completed" or now.request_counts.completed != len(made):
        raise SystemExit(f"the batch ended as {now.status}: {now.request_counts}")
    if first is None or last is None or first == last:
        return float("nan")
    return (last - first) * len(made) / max(1, len(made) - before)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--lines", type=int, default=2000)
    parser.add_argument("--concurrency", type=int, default=16)
    parser.add_argument("--plain", action="store_true", help="a check that costs nothing in the encoder's place")
    parser.add_argument("--broker", default="filesystem://")
    parser.add_argument("--database")
    parser.add_argument("--no-direct", action="store_true", help="only the batch, for its memory")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "policies").mkdir()
        upstream_port, port = _free_port(), _free_port()
        text = policy(upstream_port, given.concurrency, plain=given.plain)
        (folder / "policies" / "radiology.yaml").write_text(text)
        info = folder / "aside" / "gateway_plain-1.0.dist-info"
        info.mkdir(parents=True)
        (folder / "aside" / "gateway_plain.py").write_text(PLAIN)
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: gateway-plain\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text("[gateway]\nplain = gateway_plain\n")
        env = {k: v for k, v in os.environ.items() if not k.startswith("GATEWAY_")} | {
            "GATEWAY_DATA_DIR": str(folder / "data"),
            "GATEWAY_POLICIES_DIR": str(folder / "policies"),
            "GATEWAY_PORT": str(port),
            "GATEWAY_BROKER_URL": given.broker,
            "GATEWAY_EMBEDDED_WORKER": "false",
            "PYTHONPATH": str(folder / "aside"),
        }
        if given.database:
            env["GATEWAY_DATABASE_URL"] = given.database
        model = multiprocessing.Process(target=upstream, args=(upstream_port, given.concurrency), daemon=True)
        model.start()
        _wait(f"http://127.0.0.1:{upstream_port}/")
        made = lines(given.lines)
        alone = env | {
            "GATEWAY_DATA_DIR": str(folder / "direct"),
            "GATEWAY_DATABASE_URL": f"sqlite:///{folder}/direct.db",
        }
        best = float("nan") if given.no_direct else direct(alone, made, given.concurrency)
        rate, whole, peaks = batch(env, port, made, folder)
        model.terminate()
    print(f"lines                                {given.lines:>10,}")
    print(f"the upstream allows                  {given.concurrency / LATENCY:10.1f} lines/s")
    print(f"directly, two processes              {best:10.1f} lines/s")
    print(f"as a batch                           {rate:10.1f} lines/s   {rate / best:6.1%} of directly")
    print(f"as a batch, upload to output file    {whole:10.1f} lines/s")
    print(f"overhead of a line, both processes   {WORKERS * (1000 / rate - 1000 / best):10.2f} ms")
    for process, peak in peaks.items():
        print(f"peak memory, {process:<23} {peak:10.0f} MB")


if __name__ == "__main__":
    main()
