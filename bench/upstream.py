"""An OpenAI-compatible server that answers at once, as a process: `python bench/upstream.py PORT`."""

from __future__ import annotations

import sys

from aiohttp import web

ANSWER = {
    "id": "x",
    "object": "chat.completion",
    "created": 1,
    "model": "bench",
    "choices": [
        {"index": 0, "message": {"role": "assistant", "content": "The sagittal plane."}, "finish_reason": "stop"}
    ],
    "usage": {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13},
}


async def _complete(request: web.Request) -> web.Response:
    await request.read()
    return web.json_response(ANSWER)


if __name__ == "__main__" and len(sys.argv) == 2:
    app = web.Application(client_max_size=2**26)
    app.router.add_post("/v1/chat/completions", _complete)
    web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), print=None)
