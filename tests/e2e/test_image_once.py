"""What an image of 5 MB costs on its way through the gateway: one decode, one encode, one base64 each way.

The real application on a socket, in this process, with the real stage `openai` before a server that keeps what it was
sent. Counted is every use of Pillow and of base64 on something large, whoever makes it.
"""

from __future__ import annotations

import asyncio
import base64
import collections
import contextlib
import hashlib
import io
import random
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import uvicorn
from PIL import Image as Picture
from PIL.PngImagePlugin import PngInfo
from support import policy

import gateway.wire.decode
import gateway_openai.wire
from gateway.bootstrap import bootstrap
from gateway.settings import read_settings
from gateway.testing.upstream import ReferenceUpstream
from gateway.values import Image
from gateway.web.app import create_app

LARGE = 1 << 20
COMMENT = "a comment that is no pixel"
MODELS = ("plain", "error-503-once")
"""Whose first answer is good, and whose first answer is a fault, so that the request is sent twice."""


def scan() -> bytes:
    """Draw a PNG of 5 MB with a comment in it: noise, which packs badly."""
    made = Picture.frombytes("RGB", (1320, 1320), random.Random(7).randbytes(1320 * 1320 * 3))
    out, comment = io.BytesIO(), PngInfo()
    comment.add_text("Comment", COMMENT)
    made.save(out, "PNG", compress_level=1, pnginfo=comment)
    assert out.tell() > 5_000_000
    return out.getvalue()


class Counts:
    """How often each of the costly steps was taken on something large, and the images that came of them."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.taken: collections.Counter[str] = collections.Counter()
        self.images: list[Image] = []
        self._patch = patch
        self._count(Picture, "open", "decoded", lambda file, *_: len(file.getbuffer()))
        self._count(Picture.Image, "save", "encoded", lambda picture, *_: picture.width * picture.height)
        self._count(base64, "b64decode", "from base64", lambda text, *_: len(text))
        self._count(base64, "b64encode", "to base64", lambda data, *_: len(data))
        self._count(gateway_openai.wire, "b64encode", "to base64", lambda data, *_: len(data))
        decode = gateway.wire.decode.decode_image

        def kept(*args: Any, **named: Any) -> Image:
            self.images.append(decode(*args, **named))
            return self.images[-1]

        patch.setattr(gateway.wire.decode, "decode_image", kept)

    def _count(self, owner: Any, name: str, step: str, size: Callable[..., int]) -> None:
        own = getattr(owner, name)

        def counted(*args: Any, **named: Any) -> Any:
            if size(*args) >= LARGE:
                self.taken[step] += 1
            return own(*args, **named)

        self._patch.setattr(owner, name, counted)


@contextlib.asynccontextmanager
async def running(folder: Path, upstream: ReferenceUpstream) -> AsyncIterator[tuple[str, dict[str, str]]]:
    """Serve the real application on a socket; gives its address and the departments' keys."""
    policies = folder / "policies"
    policies.mkdir()
    for stream in ("held", "windowed"):
        models = ", ".join(
            f'{name}: {{stage: openai, config: {{base_url: "{upstream.url}", model: {name}}}}}' for name in MODELS
        )
        # no pre-screener looks into the image here: reading its text decodes it once more, in a stage of its own
        text = policy(
            upstream.url, department=stream, stream=stream, prescreen="[{stage: intent, deadline: 20s}]",
            uninspected="allow_uninspected", models=f"{{{models}}}",
        )  # fmt: skip
        (policies / f"{stream}.yaml").write_text(text)
    settings = read_settings({"GATEWAY_DATA_DIR": str(folder / "data"), "GATEWAY_POLICIES_DIR": str(policies)})
    runtime = await bootstrap(settings, sequencing=False)
    keys = {name: (await runtime.store.keys.create(name, ("caller",)))[1] for name in ("held", "windowed")}
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(create_app(runtime), log_config=None, access_log=False, lifespan="on"))
    task = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        while not server.started:
            assert not task.done(), "the server ended before it started"
            await asyncio.sleep(0.01)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1/chat/completions", keys
    finally:
        server.should_exit = True
        await asyncio.wait_for(task, 20)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("stream", ["held", "windowed"])
async def test_a_large_image_costs_one_of_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stream: str, model: str
) -> None:
    data = scan()
    url = "data:image/png;base64," + base64.b64encode(data).decode()
    content = [{"type": "text", "text": "What does this scan show?"}, {"type": "image_url", "image_url": {"url": url}}]
    body = {"model": model, "messages": [{"role": "user", "content": content}], "stream": stream == "windowed"}
    async with (
        ReferenceUpstream("The scan shows no acute abnormality.") as upstream,
        running(tmp_path, upstream) as (address, keys),
        aiohttp.ClientSession(headers={"authorization": f"Bearer {keys[stream]}"}) as session,
    ):
        counts = Counts(monkeypatch)
        async with session.post(address, json=body) as answer:
            told = await answer.text()
        taken = dict(counts.taken)
    assert answer.status == 200 and "abnormality" in told, told
    assert len(upstream.requests) == 1 + (model == "error-503-once")
    assert taken == {"from base64": 1, "decoded": 1, "encoded": 1, "to base64": 1}
    (image,) = counts.images
    assert hashlib.sha256(image.data).hexdigest() == image.digest and len(image.data) >= LARGE
    for asked in upstream.requests:
        (sent,) = asked.images()
        assert hashlib.sha256(sent).hexdigest() == image.digest, "the server has exactly the bytes that were checked"
        assert COMMENT.encode() in data and COMMENT.encode() not in sent, "they were written anew"
