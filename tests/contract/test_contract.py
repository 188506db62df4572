"""Every installed stage keeps the contract of its kind."""

import re
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web

from gateway.registry import Offer, load_registry
from gateway.testing import check_stage

OFFERS = load_registry().all()
BUILT_IN = {
    ("prescreener", "intent"),
    ("prescreener", "image-text"),
    ("prescreener", "modality"),
    ("prescreener", "perturbation"),
    ("prescreener", "second-opinion"),
    ("injector", "clinical"),
    ("backend", "transformers"),
    ("backend", "llama-cpp"),
    ("backend", "openai"),
    ("auditor", "refusal"),
    ("auditor", "harmful-compliance"),
    ("auditor", "phi"),
    ("auditor", "demonstration-leak"),
}


def test_built_in_stages_are_installed() -> None:
    assert {(offer.kind, offer.name) for offer in OFFERS} >= BUILT_IN


@pytest.fixture
async def upstream() -> AsyncIterator[str]:
    """Serve OpenAI's chat completions: the answer says how many messages and images it was given."""

    async def chat(call: web.Request) -> web.StreamResponse:
        body = await call.json()
        shown = sum(
            part["type"] == "image_url"
            for message in body["messages"]
            if isinstance(message.get("content"), list)
            for part in message["content"]
        )
        said = f"{len(body['messages'])} messages and {shown} images"
        head: dict[str, Any] = {"id": "chatcmpl-1", "created": 1, "model": body["model"]}
        if body.get("stream"):
            answer = web.StreamResponse(headers={"content-type": "text/event-stream"})
            await answer.prepare(call)
            head["object"], choices = "chat.completion.chunk", range(body.get("n") or 1)
            for word in re.findall(r"\s*\S+", said):
                for n in choices:
                    delta = {"index": n, "delta": {"content": word}, "finish_reason": None}
                    await answer.write(b"data: " + _json({**head, "choices": [delta]}))
            for n in choices:
                end = {"index": n, "delta": {}, "finish_reason": "stop"}
                await answer.write(b"data: " + _json({**head, "choices": [end]}))
            await answer.write(b"data: [DONE]\n\n")
            return answer
        choices = [
            {"index": n, "message": {"role": "assistant", "content": said}, "finish_reason": "stop"}
            for n in range(body.get("n") or 1)
        ]
        usage = {"prompt_tokens": 5, "completion_tokens": 4, "total_tokens": 9}
        return web.json_response({**head, "object": "chat.completion", "choices": choices, "usage": usage})

    async def models(_: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": [{"id": "some-vlm", "object": "model"}]})

    app = web.Application(client_max_size=2**26)
    app.add_routes([web.post("/v1/chat/completions", chat), web.get("/v1/models", models)])
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    yield f"http://{host}:{port}/v1"
    await runner.cleanup()


def _json(value: object) -> bytes:
    return web.json_response(value).body + b"\n\n"  # type: ignore[operator]  # a response's body is bytes here


@pytest.mark.parametrize("offer", OFFERS, ids=lambda offer: f"{offer.kind}-{offer.name}")
async def test_stage_keeps_its_contract(offer: Offer, upstream: str) -> None:
    config: dict[str, Any] = {}
    if offer.name == "openai":
        config = {"base_url": upstream, "model": "some-vlm"}
    elif offer.name == "transformers":
        config = {"max_new_tokens": 4}
    await check_stage(offer.stage, offer.kind, config)
