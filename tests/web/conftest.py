"""A runtime that decides by keyword, and the application over it: this room alone, without model and database."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import datetime as dt
import hashlib
import io
import socket
import types

import aiohttp
import pytest
import uvicorn
from litestar.testing import AsyncTestClient
from PIL import Image as Picture

from gateway.errors import Unavailable
from gateway.identity.limiter import Limiter
from gateway.images import Limits
from gateway.pipeline.built import Served
from gateway.pipeline.gone import Gone
from gateway.pipeline.live import Live
from gateway.policy.decision import Admit, Reason, Refuse, Release, Withhold
from gateway.policy.model import LoadedPolicy, Policy, convert
from gateway.records import NOTHING_SAID, Caller, Digester, Outcome, canonical, covers, record_of, require
from gateway.store import Store, load_keyring
from gateway.values import Budget, Choice, Completion, Text, ToolCall, Usage
from gateway.web.app import create_app

KEYS = {
    "key-caller": Caller(key="k1", department="radiology", roles=("caller",)),
    "key-officer": Caller(key="k2", department="radiology", roles=("officer",)),
    "key-auditor": Caller(key="k3", department="radiology", roles=("auditor",)),
    "key-admin": Caller(key="k4", department="pathology", roles=("admin",)),
    "key-elsewhere": Caller(key="k5", department="pathology", roles=("caller", "officer")),
    "key-orphan": Caller(key="k6", department="nowhere", roles=("caller",)),
    "key-none": Caller(key="k7", department="radiology", roles=()),
    "key-colleague": Caller(key="k8", department="radiology", roles=("caller",)),
    "key-operator": Caller(key="k9", department="radiology", roles=("operator",)),
    "key-reviewer": Caller(key="k10", department="radiology", roles=("caller", "officer")),
    "key-everywhere": Caller(key="k11", department="*", roles=("operator",)),
    "key-ada": Caller(key="k12", department="radiology", roles=("caller",), person="ada"),
    "key-ada-too": Caller(key="k13", department="radiology", roles=("caller",), person="ada"),
    "key-named-k1": Caller(key="k14", department="radiology", roles=("caller",), person="k1"),
}


def policy(refuse_as="message"):
    data = {
        "department": "radiology",
        "revision": 1,
        "backend": {"stage": "echo"},
        "prescreen": [{"stage": "words"}],
        "audit": [{"stage": "nothing"}],
        "tiers": [{"below": 0.5, "budget": {"demonstrations": 0}}],
        "refuse_as": refuse_as,
    }
    return LoadedPolicy(policy=convert(data, Policy), digest="0" * 64, path="radiology.yaml")


ARGUMENTS = '{"where": "left lower lobe of the lung"}'


class FakeAnswering:
    """An answer that is held until it is whole."""

    def __init__(self, answer):
        self._answer = answer
        self._first = asyncio.get_running_loop().create_future()
        self.gone = Gone()

    async def run(self):
        try:
            self._first.set_result(await self._answer)
        except Exception as exc:
            self._first.set_exception(exc)
            raise

    async def first(self):
        return await asyncio.shield(self._first)


class FakeRuntime:
    """Answers with an echo, and refuses, withholds or fails on the words `fraud`, `secret`, `broken` and `slow`."""

    def __init__(self, **settings):
        given = {"max_body_bytes": 4 << 20, "image_limits": Limits(), "in_flight": 8}
        given |= {"max_file_bytes": 8 << 20, "file_days": 30} | settings
        self.settings = types.SimpleNamespace(**given)
        self.refuse_as = "message"
        self.checks = (("log", True), ("policies", True))
        self.decided = {}
        self.asked = []
        self.reads = []
        self.closed = False
        self.woken = 0
        self.hold = None
        self.arrived = asyncio.Event()
        self.raises = None
        self.usage = Usage(prompt_tokens=7, completion_tokens=3)
        self.limits = Limiter()
        self.live = Live()
        self.store = types.SimpleNamespace(office=types.SimpleNamespace(read=self._read))

    async def authenticate(self, token):
        return KEYS.get(token)

    def models(self, department):
        if department == "nowhere":
            raise Unavailable(f"no policy covers the department `{department}`; ask the gateway's operator")
        return ("org/model-a", "model-b")

    def served(self, department):
        contexts = {"org/model-a": 8192}
        return tuple(Served(name=n, root=n, context=contexts.get(n)) for n in self.models(department))

    async def wake(self):
        self.woken += 1

    async def ready(self):
        return self.checks

    async def close(self):
        self.closed = True

    async def _read(self, id, caller, endpoint, why=None):
        require(caller, "read")
        self.reads.append((id, caller.key))
        stored = self.decided.get(id)
        return stored if stored is not None and covers(caller, stored.record.department) else None

    def _outcome(self, request, caller, endpoint, context):
        words = " ".join(text.text for text in request.texts())
        admit = Admit(budget=Budget(demonstrations=0, mix=0.5), tier=0, risk=0.1, rule="tiers[0]")
        base = {
            "request": request,
            "caller": caller,
            "policy": policy(self.refuse_as),
            "endpoint": endpoint,
            "started": dt.datetime.now(dt.UTC),
            "ms": 1.0,
            "screening": (),
            "coverage": (),
            "attempts": (),
            "admission": admit,
            "context": context,
        }
        if "fraud" in words:
            refuse = Refuse(reasons=(Reason(code="risk", stage="words"),), rule="tiers", risk=0.9)
            return Outcome(**base | {"admission": refuse, "final": refuse})
        if "secret" in words:
            final = Withhold(reasons=(Reason(code="finding", stage="nothing", label="phi"),), rule="audit[0]")
            return Outcome(**base, final=final)
        if "broken" in words or "slow" in words:
            cause = "raised:OSError" if "broken" in words else "deadline"
            final = Withhold(reasons=(Reason(code="model-failed", stage="echo", cause=cause),), rule="backend")
            return Outcome(**base, final=final)
        choices = tuple(self._choice(i, words, request) for i in range(request.sampling.n))
        answer = Completion(model="own-name", choices=choices, usage=self.usage)
        return Outcome(**base, final=Release(rule="audit"), answer=answer)

    def _choice(self, i, words, request):
        calls = ()
        if request.tools is not None:
            calls = (
                ToolCall(
                    id="call_1",
                    name=Text(id=f"choices[{i}].tool_calls[0].name", text="look"),
                    arguments=Text(id=f"choices[{i}].tool_calls[0].arguments", text=ARGUMENTS),
                ),
            )
        text = Text(id=f"choices[{i}].content", text="" if calls else f"you said: {words}")
        return Choice(index=i, text=text, tool_calls=calls, finish_reason="tool_calls" if calls else "stop")

    def answering(self, request, caller, endpoint, *, context=NOTHING_SAID):
        return FakeAnswering(self.answer(request, caller, endpoint, context=context))

    async def answer(self, request, caller, endpoint, *, context=NOTHING_SAID):
        self.asked.append(request)
        self.arrived.set()
        if self.hold is not None:
            await self.hold.wait()
        if self.raises is not None:
            raise self.raises
        outcome = self._outcome(request, caller, endpoint, context)
        record = record_of(outcome, Digester(b"0" * 32))
        body = canonical(record)
        self.decided[request.id] = types.SimpleNamespace(record=record, bytes=body)
        leaf = hashlib.sha256(b"\x00" + body).hexdigest()
        return types.SimpleNamespace(id=request.id, outcome=outcome, record=record, bytes=body, leaf=leaf)


@pytest.fixture
def runtime():
    return FakeRuntime()


@pytest.fixture
def make_runtime():
    return FakeRuntime


@pytest.fixture
async def client(runtime):
    async with AsyncTestClient(create_app(runtime), raise_server_exceptions=False) as found:
        found.headers["authorization"] = "Bearer key-caller"
        yield found


@pytest.fixture
def png():
    """A small real PNG, as a data URL."""
    target = io.BytesIO()
    Picture.new("RGB", (8, 6), (10, 200, 30)).save(target, "PNG")
    return "data:image/png;base64," + base64.b64encode(target.getvalue()).decode()


@pytest.fixture
async def batching(make_runtime, serving, tmp_path):
    """Serve a gateway with a real store: `async with batching(url) as gate`, with its `store`, `base` and `folder`."""

    @contextlib.asynccontextmanager
    async def serve(url=f"sqlite:///{tmp_path}/log.sqlite3", **settings):
        runtime = make_runtime(**settings)
        folder = tmp_path / "files"
        runtime.store = await Store.open(url, secret=bytes(32), keyring=load_keyring(tmp_path), files_dir=folder)
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(runtime.store.close)
            base = await stack.enter_async_context(serving(runtime))
            session = await stack.enter_async_context(aiohttp.ClientSession())

            async def call(method, path, key="key-caller", **more):
                headers = {"authorization": f"Bearer {key}"} | more.pop("headers", {})
                async with session.request(method, base + path, headers=headers, **more) as answer:
                    return answer.status, answer.headers, await answer.read()

            def client(key="key-caller"):
                from openai import AsyncOpenAI  # takes a second, which few tests need

                return AsyncOpenAI(base_url=f"{base}/v1", api_key=key, max_retries=0)

            yield types.SimpleNamespace(
                runtime=runtime,
                store=runtime.store,
                base=base,
                folder=folder,
                session=session,
                call=call,
                client=client,
            )

    return serve


@pytest.fixture
def serving():
    """Serve a runtime on a real socket: `async with serving(runtime) as base_url`."""

    @contextlib.asynccontextmanager
    async def serve(runtime):
        listener = socket.create_server(("127.0.0.1", 0))
        app = create_app(runtime)
        config = uvicorn.Config(app, log_config=None, access_log=False, server_header=False, lifespan="on")
        server = uvicorn.Server(config)
        app.state.stopping = lambda: server.should_exit
        task = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            while not server.started:
                assert not task.done(), "the server ended before it started"
                await asyncio.sleep(0.01)
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            await asyncio.wait_for(task, 20)

    return serve
