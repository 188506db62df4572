"""What end-to-end tests share: a gateway served for real, a scripted upstream, and plugins installed aside."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
GATEWAY = [sys.executable, "-m", "gateway.cli"]


class Upstream:
    """An OpenAI-compatible server in a thread of its own. `answer` is what it says; `bodies` is what it was sent."""

    def __init__(self, port: int = 0) -> None:
        self._asked_port = port
        self.answer: str | Callable[[dict[str, Any]], str] = "The scan shows no acute abnormality."
        self.delay = 0.0
        self.bodies: list[dict[str, Any]] = []
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        assert self._ready.wait(10)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def _run(self) -> None:
        from aiohttp import web

        async def complete(request: web.Request) -> web.Response:
            body = await request.json()
            self.bodies.append(body)
            await asyncio.sleep(self.delay)
            text = self.answer(body) if callable(self.answer) else self.answer
            choices = [
                {"index": i, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
                for i in range(body.get("n") or 1)
            ]
            usage = {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}
            return web.json_response(
                {
                    "id": "x",
                    "object": "chat.completion",
                    "created": 1,
                    "model": "scripted",
                    "choices": choices,
                    "usage": usage,
                }
            )

        async def start() -> None:
            app = web.Application(client_max_size=2**26)
            app.router.add_post("/v1/chat/completions", complete)
            runner = web.AppRunner(app)
            await runner.setup()
            site = web.TCPSite(runner, "127.0.0.1", self._asked_port)
            await site.start()
            self.port = site._server.sockets[0].getsockname()[1]  # type: ignore[union-attr]
            self._runner = runner
            self._ready.set()

        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(start())
        self._loop.run_forever()
        self._loop.run_until_complete(self._runner.cleanup())
        self._loop.close()

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    server = Upstream()
    yield server
    server.close()


class Served:
    """A gateway that runs as its user runs it."""

    def __init__(self, base: str, env: dict[str, str], process: subprocess.Popen[bytes], log: Path) -> None:
        self.base, self.env, self.process, self.log = base, env, process, log
        self.data = Path(env["GATEWAY_DATA_DIR"])

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*GATEWAY, *words], env=self.env, capture_output=True, text=True, timeout=60)

    def key(self, *roles: str, department: str = "radiology") -> str:
        words = [w for role in roles or ("caller",) for w in ("--role", role)]
        made = self.run("keys", "create", "--department", department, "--quiet", *words)
        assert made.returncode == 0, made.stderr
        assert len(made.stdout.strip().splitlines()) == 1
        return made.stdout.strip()

    def post(self, body: Any, key: str, path: str = "/v1/chat/completions") -> tuple[int, dict[str, str], Any]:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"content-type": "application/json", "authorization": f"Bearer {key}"}
        return self._send(urllib.request.Request(self.base + path, raw, headers))

    def get(self, path: str, key: str = "") -> tuple[int, dict[str, str], Any]:
        return self._send(urllib.request.Request(self.base + path, headers={"authorization": f"Bearer {key}"}))

    def chat(self, content: Any, key: str, **fields: Any) -> tuple[int, dict[str, str], Any]:
        return self.post({"model": "auto", "messages": [{"role": "user", "content": content}], **fields}, key)

    @staticmethod
    def _send(request: urllib.request.Request) -> tuple[int, dict[str, str], Any]:
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, {k.lower(): v for k, v in answer.headers.items()}, json.loads(answer.read())
        except urllib.error.HTTPError as exc:
            return exc.code, {k.lower(): v for k, v in exc.headers.items()}, json.loads(exc.read() or b"null")

    def output(self) -> str:
        return self.log.read_text(errors="replace")

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(10)

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(25)
        finally:
            self.kill()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


Serve = Callable[..., Served]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Start `gateway serve` with these policies (department -> YAML text) in a data folder of its own."""
    with gateways(tmp_path) as start:
        yield start


@contextlib.contextmanager
def gateways(tmp_path: Path) -> Iterator[Serve]:
    """Give what the fixture `serve` gives, for fixtures of a wider scope."""
    running: list[Served] = []

    def start(policies: dict[str, str], env: dict[str, str] | None = None, data: Path | None = None) -> Served:
        folder = tmp_path / f"policies-{len(running)}"
        folder.mkdir()
        for department, text in policies.items():
            (folder / f"{department}.yaml").write_text(text)
        port = free_port()
        environment = {k: v for k, v in os.environ.items() if not k.startswith("GATEWAY_")} | {
            "GATEWAY_DATA_DIR": str(data or tmp_path / f"data-{len(running)}"),
            "GATEWAY_POLICIES_DIR": str(folder),
            "GATEWAY_PORT": str(port),
            "GATEWAY_EMBEDDED_WORKER": "false",  # a test that wants one says so, or takes the fixture `worker`
            **(env or {}),
        }
        log = tmp_path / f"serve-{len(running)}.log"
        with log.open("ab") as out:
            process = subprocess.Popen(
                [*GATEWAY, "serve"], env=environment, stdout=out, stderr=out, start_new_session=True, cwd=tmp_path
            )
        served = Served(f"http://127.0.0.1:{port}", environment, process, log)
        running.append(served)
        end = time.monotonic() + 90
        while time.monotonic() < end:
            assert process.poll() is None, served.output()
            with contextlib.suppress(urllib.error.URLError, OSError):
                urllib.request.urlopen(served.base + "/readyz", timeout=2).close()
                return served
            time.sleep(0.05)
        raise AssertionError("not ready in 90 s: " + served.output())

    try:
        yield start
    finally:
        for served in running:
            served.kill()


class Worker:
    """`gateway worker` as its user runs it, in a process group of its own."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process, self.log = process, log

    def output(self) -> str:
        return self.log.read_text(errors="replace")

    def children(self) -> list[int]:
        found = subprocess.run(["pgrep", "-P", str(self.process.pid)], capture_output=True, text=True, timeout=20)
        return [int(pid) for pid in found.stdout.split()]

    def wait(self, words: str, seconds: float = 60) -> None:
        """Wait until the worker has said these words."""
        end = time.monotonic() + seconds
        while words not in self.output():
            assert time.monotonic() < end and self.process.poll() is None, (words, self.output())
            time.sleep(0.05)

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(20)

    def stop(self) -> int:
        """Ask for the end, and give the exit status."""
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(40)
        finally:
            self.kill()


StartWorker = Callable[..., Worker]


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[StartWorker]:
    """Start `gateway worker` with this environment, such as that of a served gateway; it takes messages then."""
    running: list[Worker] = []

    def start(env: dict[str, str], *words: str, ready: bool = True) -> Worker:
        log = tmp_path / f"worker-{len(running)}.log"
        with log.open("ab") as out:
            process = subprocess.Popen(
                [*GATEWAY, "worker", *words], env=env, stdout=out, stderr=out, start_new_session=True, cwd=tmp_path
            )
        made = Worker(process, log)
        running.append(made)
        if ready:
            made.wait("gateway: worker with")
        return made

    yield start
    for each in running:
        each.kill()


def policy(upstream_url: str, **changes: str) -> str:
    """Write a policy with the built-in stages before a scripted upstream; `changes` replace lines by their key."""
    lines = {
        "department": "radiology",
        "revision": "1",
        "backend": f'{{stage: openai, deadline: 20s, config: {{base_url: "{upstream_url}", model: scripted}}}}',
        "prescreen": "[{stage: intent, deadline: 10s}, {stage: image-text, deadline: 20s}]",
        "demonstrations": "{stage: clinical, deadline: 5s}",
        "audit": "[{stage: refusal}, {stage: harmful-compliance}, {stage: phi, on_finding: redact},"
        " {stage: demonstration-leak}]",
        "tiers": "[{below: 0.3, budget: {demonstrations: 4, mix: 0.5}},"
        " {below: 0.5, budget: {demonstrations: 8, mix: 0.5}}]",
        "over_defense": "{retry: {demonstrations: 16, mix: 0.25}}",
    }
    return "\n".join(f"{key}: {value}" for key, value in (lines | changes).items() if value) + "\n"


FAULTY = """
import asyncio, sys, time
from typing import Any
import msgspec
from gateway.plugin import *

class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    how: str = "good"

async def _break(how: str, good: Any, nonsense: Any) -> Any:
    if how == "raises": raise ValueError("MARKER-IN-EXCEPTION")
    if how == "hangs": await asyncio.sleep(3600)
    if how == "stubborn":
        while True:
            try: await asyncio.sleep(3600)
            except asyncio.CancelledError: pass
    if how == "blocks": time.sleep(1.2)
    if how == "nothing": return None
    if how == "exits": sys.exit(3)
    if how == "nonsense": return nonsense
    return good

class Screen:
    def __init__(self, config): self.how = config.how
    async def screen(self, request):
        return await _break(self.how, Screening(risk=0.01, inspected=tuple(p.id for p in request.parts())),
                            Screening(risk=float("nan"), inspected=()))

class Inject:
    def __init__(self, config): self.how = config.how
    async def inject(self, request, budget):
        demos = tuple(
            Demonstration(id=f"d{i}", pair=f"p{i}", modality="ct", question="Q?", answer="A.", refuses=i % 2 == 0)
            for i in range(budget.demonstrations))
        return await _break(self.how, demos, ("demonstration",))

class Model:
    def __init__(self, config): self.how = config.how
    def models(self): return ("faulty-model",)
    async def complete(self, prompt):
        choices = tuple(Choice(index=i, text=Text(id=f"choices[{i}].content", text="A calm answer."))
                        for i in range(prompt.request.sampling.n))
        return await _break(self.how, Completion(model="faulty-model", choices=choices), {"choices": []})

class Audit:
    def __init__(self, config): self.how = config.how
    async def audit(self, prompt, completion):
        return await _break(self.how, (), [])

@hookimpl
def gateway_prescreeners(): return [Stage("faulty", Config, Screen), Stage("faulty-too", Config, Screen)]
@hookimpl
def gateway_injectors(): return [Stage("faulty", Config, Inject)]
@hookimpl
def gateway_backends(): return [Stage("faulty", Config, Model)]
@hookimpl
def gateway_auditors(): return [Stage("faulty", Config, Audit), Stage("faulty-too", Config, Audit)]
"""


@pytest.fixture
def faulty(tmp_path: Path) -> dict[str, str]:
    """Install a plugin aside whose stages break as their configuration says; gives the environment that finds it."""
    folder = tmp_path / "aside"
    info = folder / "gateway_faulty-9.9.9.dist-info"
    info.mkdir(parents=True)
    (folder / "gateway_faulty.py").write_text(FAULTY)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: gateway-faulty\nVersion: 9.9.9\n")
    (info / "entry_points.txt").write_text("[gateway]\nfaulty = gateway_faulty\n")
    return {"PYTHONPATH": str(folder)}


def faulty_policy(**how: str) -> str:
    """Write a policy of the faulty plugin's stages; `how` breaks one of screen, inject, model, audit."""

    def stage(kind: str, name: str = "faulty") -> str:
        return f"{{stage: {name}, deadline: 500ms, config: {{how: {how.get(kind, 'good')}}}}}"

    return policy(
        "",
        backend=stage("model"),
        prescreen=f"[{stage('screen')}, {{stage: faulty-too}}]",
        demonstrations=stage("inject"),
        audit=f"[{stage('audit')}, {{stage: faulty-too}}]",
        tiers="[{below: 0.5, budget: {demonstrations: 2, mix: 0.5}}]",
        over_defense="",
    )
