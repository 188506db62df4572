"""`GET /v1/models`: the models that the caller's department may use, and ``auto``, which stands for the first.

A row is OpenAI's, with what vLLM says beside: `root`, the model behind the name, and `max_model_len`, how many tokens
of prompt and answer it may be given at once, where that is known.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import msgspec
from litestar import get
from litestar.connection import Request as HttpRequest
from litestar.handlers import HTTPRouteHandler
from litestar.response import Response

from gateway.errors import NotFound
from gateway.web.auth import authenticate
from gateway.wire.chat import AUTO
from gateway.wire.words import quote

if TYPE_CHECKING:
    from gateway.bootstrap import Runtime
    from gateway.pipeline.built import Served


def models_routes(runtime: Runtime) -> list[HTTPRouteHandler]:
    """Make the routes."""
    created = int(time.time())  # the time from which they are served here; a model does not say when it was made

    def row(name: str, model: Served) -> dict[str, Any]:
        told = {"id": name, "object": "model", "created": created, "owned_by": "medvlm-gateway"}
        told |= {"root": model.root, "parent": None}
        return told if model.context is None else told | {"max_model_len": model.context}

    async def rows(request: HttpRequest[Any, Any, Any]) -> dict[str, dict[str, Any]]:
        caller = await authenticate(request, runtime, "ask")
        models = runtime.served(caller.department)
        found = {model.name: row(model.name, model) for model in models}
        return found | {AUTO: row(AUTO, models[0])} if models and AUTO not in found else found

    @get("/v1/models")
    async def list_models(request: HttpRequest[Any, Any, Any]) -> Response[bytes]:
        body = {"object": "list", "data": list((await rows(request)).values())}
        return Response(msgspec.json.encode(body), media_type="application/json")

    @get("/v1/models/{name:path}")
    async def read_model(request: HttpRequest[Any, Any, Any]) -> Response[bytes]:
        known = await rows(request)
        name = str(request.path_params["name"]).removeprefix("/")
        if name not in known:
            given = ", ".join(f"`{model}`" for model in known)
            raise NotFound(
                f"there is no model {quote(name)} for this key; give one of {given}",
                code="model_not_found",
                param="model",
            )
        return Response(msgspec.json.encode(known[name]), media_type="application/json")

    return [list_models, read_model]
