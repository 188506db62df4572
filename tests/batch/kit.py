"""What the tests of batches share: a runtime of small stages over a real store, and batches to put into it."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import datetime as dt
import inspect
import io
import json
from pathlib import Path
from typing import Any

import msgspec
import sqlalchemy as sa
from PIL import Image as Picture
from store.kit import SECRET

from gateway.batch.engine import Engine, Rhythm
from gateway.bootstrap import Runtime
from gateway.pipeline import Built, Pipeline
from gateway.plugin import Choice, Completion, Screening, Text
from gateway.policy.model import LoadedPolicy, Policy, convert
from gateway.records import NOTHING_SAID, Caller, DecisionV1
from gateway.registry import Registry
from gateway.settings import Settings
from gateway.store import Batch, Store, load_keyring
from gateway.store.batch_tables import jobs
from gateway.store.tables import decision_log

CHAT, MODERATIONS = "/v1/chat/completions", "/v1/moderations"
QUICK = Rhythm(tick=0.05, poll=0.05, beat=0.2, rest=0.02, probe=0.05, storing=0.02)


class Screen:
    """Finds a risk of 0.9 in the word `fraud`; reads images where `reads` is set; fails as often as `broken` says."""

    def __init__(self, *, reads: bool = True) -> None:
        self.reads, self.broken, self.asked, self.at_once, self.most = reads, 0, 0, 0, 0

    async def screen(self, request: Any) -> Screening:
        self.asked += 1
        if self.broken:
            self.broken -= 1
            raise RuntimeError("MARKER-OF-CONTENT")
        self.at_once += bool(request.images())
        self.most = max(self.most, self.at_once)
        await asyncio.sleep(0)
        self.at_once -= bool(request.images())
        words = " ".join(text.text for text in request.texts())
        parts = request.parts() if self.reads else request.texts()
        return Screening(risk=0.9 if "fraud" in words else 0.01, inspected=tuple(part.id for part in parts))


class Model:
    """Echoes the question. It fails while `away`, as often as `failing` says for a question, and waits for `hold`."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.away = False
        self.failing: dict[str, int] = {}
        self.raises: type[Exception] = OSError
        self.at_once = self.most = 0
        self.hold = asyncio.Event()
        self.hold.set()
        self.arrived = asyncio.Event()

    def models(self) -> tuple[str, ...]:
        return ("echo",)

    async def complete(self, prompt: Any) -> Completion:
        words = " ".join(text.text for text in prompt.request.turns[-1].parts if isinstance(text, Text))
        self.asked.append(words)
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        self.arrived.set()
        try:
            await self.hold.wait()
            await asyncio.sleep(0)
        finally:
            self.at_once -= 1
        if self.away or self.failing.get(words, 0) > 0:
            self.failing[words] = self.failing.get(words, 0) - 1
            raise self.raises("MARKER-OF-CONTENT")
        choices = (Choice(index=0, text=Text(id="choices[0].content", text=f"you said: {words}")),)
        return Completion(model="echo", choices=choices)


class Audit:
    """Finds nothing; it fails as often as `broken` says."""

    def __init__(self) -> None:
        self.broken = 0

    async def audit(self, prompt: Any, completion: Any) -> tuple[Any, ...]:
        if self.broken:
            self.broken -= 1
            raise RuntimeError("MARKER-OF-CONTENT")
        return ()


class Bench:
    """A store with files, departments over small stages, and engines that work for them."""

    def __init__(self, store: Store, folder: Path, policies: dict[str, dict[str, Any]], shared: bool) -> None:
        self.store, self.screen, self.audit = store, Screen(), Audit()
        self.models: dict[str, Model] = {}
        settings = Settings(
            data_dir=folder, database_url="", broker_url="", policies_dir=folder, max_body_bytes=64 * 1024
        )
        one = Model()
        pipelines = {}
        for department, changes in policies.items():
            model = self.models[department] = one if shared else Model()
            others = {name: Model() for name in changes.get("models", {})}
            self.models |= {f"{department}:{name}": other for name, other in others.items()}
            built = {name: Built(name="echo", version="1", stage=other) for name, other in others.items()}
            pipelines[department] = Pipeline(_policy(department, **changes), self._stages(model), None, built)
        self.runtime = Runtime(
            settings=settings,
            registry=Registry(offers={}),
            store=store,
            pipelines=pipelines,
            stages=(),
        )
        self.engines: list[Engine] = []

    @property
    def model(self) -> Model:
        return self.models["radiology"]

    def _stages(self, model: Model) -> Any:
        stages = {("prescreener", "words"): self.screen, ("backend", "echo"): model, ("auditor", "nothing"): self.audit}
        return {key: Built(name=key[1], version="1", stage=stage) for key, stage in stages.items()}

    def engine(self, name: str = "worker-1", *, beats: bool = False, **rhythm: float) -> Engine:
        made = Engine(self.runtime, name, processes_beat=beats, rhythm=msgspec.structs.replace(QUICK, **rhythm))
        self.engines.append(made)
        return made

    async def submit(
        self, *lines: Any, endpoint: str = CHAT, department: str = "radiology", said: Any = NOTHING_SAID, **more: Any
    ) -> Batch:
        """Make a batch of these lines: bytes as they are, a string as a question, an object as JSON."""
        data = b"\n".join(map(_line, lines)) if not (len(lines) == 1 and isinstance(lines[0], bytes)) else lines[0]
        caller = Caller(key=f"key-{department}", department=department, roles=("caller",))
        until = dt.datetime.now(dt.UTC) + dt.timedelta(days=1)
        async with self.store.files.create(department, caller.key, "batch", "in.jsonl", until) as writer:
            await writer.write(data)
            file = await writer.finish()
        kind = "screen" if endpoint == MODERATIONS else more.pop("kind", "answer")
        return await self.store.batches.create(
            kind=kind, caller=caller, department=department, said=said, endpoint=endpoint, input_file=file.id, **more
        )

    async def run(self, *engines: Engine, seconds: float = 40, until: Any = None) -> None:
        """Let engines work until nothing is left, or `until` holds."""
        ended = asyncio.Event()

        async def one(engine: Engine) -> None:
            end = asyncio.get_running_loop().time() + seconds
            while not ended.is_set() and asyncio.get_running_loop().time() < end:
                await engine.work(seconds=seconds, stopped=ended.is_set)
                if until is None and not await self.unfinished():
                    return
                await asyncio.sleep(0.01)

        async def watch() -> None:
            await holds(until)
            ended.set()

        watching = asyncio.ensure_future(watch() if until else asyncio.sleep(0))
        async with asyncio.timeout(seconds):
            await asyncio.gather(*(one(engine) for engine in engines or (self.engine(),)))
        watching.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watching

    async def unfinished(self) -> bool:
        async with self.store._engine.connect() as connection:
            left = sa.select(sa.func.count()).select_from(jobs).where(jobs.c.state != "done")
            return await connection.scalar(left) > 0

    async def batch(self, batch: Batch) -> Batch:
        found = await self.store.batches.get(batch.id)
        assert found.id == batch.id
        return found

    async def lines(self, file: str | None) -> list[dict[str, Any]]:
        if file is None:
            return []
        whole = b"".join([piece async for piece in self.store.files.read(file)])
        assert whole.endswith(b"\n")
        return [json.loads(line) for line in whole.splitlines()]

    async def ended(self, batch: Batch, status: str = "completed") -> tuple[list[Any], list[Any]]:
        """Give the lines of the output and of the error file of a batch that has ended so."""
        now = await self.batch(batch)
        assert now.status == status, (now.status, now.errors)
        return await self.lines(now.output_file), await self.lines(now.error_file)

    async def decisions(self) -> list[DecisionV1]:
        async with self.store._engine.connect() as connection:
            rows = await connection.execute(
                sa.select(decision_log.c.body).where(decision_log.c.kind == "decision.v1").order_by("sequence")
            )
            return [msgspec.json.decode(bytes(body), type=DecisionV1, strict=False) for (body,) in rows]


async def holds(condition: Any) -> None:
    """Wait until a condition, a function that may be async, holds."""
    while True:
        found = condition()
        if await found if inspect.isawaitable(found) else found:
            return
        await asyncio.sleep(0.01)


def _policy(department: str, **changes: Any) -> LoadedPolicy:
    data = {
        "department": department,
        "revision": 1,
        "backend": {"stage": "echo"},
        "prescreen": [{"stage": "words"}],
        "audit": [{"stage": "nothing"}],
        "tiers": [{"below": 0.5, "budget": {"demonstrations": 0}}],
    } | changes
    return LoadedPolicy(policy=convert(data, Policy), digest="0" * 64, path=f"{department}.yaml")


@contextlib.asynccontextmanager
async def bench(
    url: str, folder: Path, *, shared: bool = True, lock_wait: float = 5.0, **policies: dict[str, Any]
) -> Any:
    """Open a bench; `policies` are changes of each department's policy."""
    keys = load_keyring(folder)
    store = await Store.open(url, secret=SECRET, keyring=keys, files_dir=folder / "files", lock_wait=lock_wait)
    made = Bench(store, folder, policies or {"radiology": {}}, shared)
    try:
        yield made
    finally:
        await store.close()


def chat(custom_id: Any, content: Any = "Is there a fracture?", **more: Any) -> dict[str, Any]:
    body = {"model": "auto", "messages": [{"role": "user", "content": content}]} | more.pop("body", {})
    return {"custom_id": custom_id, "method": "POST", "url": CHAT, "body": body} | more


def moderation(custom_id: str, given: Any) -> dict[str, Any]:
    return {"custom_id": custom_id, "method": "POST", "url": MODERATIONS, "body": {"input": given}}


def picture() -> dict[str, Any]:
    """A part of a message with a small real PNG."""
    target = io.BytesIO()
    Picture.new("RGB", (8, 6), (10, 200, 30)).save(target, "PNG")
    url = "data:image/png;base64," + base64.b64encode(target.getvalue()).decode()
    return {"type": "image_url", "image_url": {"url": url}}


def _line(line: Any) -> bytes:
    if isinstance(line, bytes):
        return line
    return json.dumps(chat(line, line) if isinstance(line, str) else line).encode()
