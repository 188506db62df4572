"""`GET /v1/models`: the models that the caller's department may use, and ``auto``, which stands for the first."""

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


def models_routes(runtime: Runtime) -> list[HTTPRouteHandler]:
    """Make the routes."""
    created = int(time.time())  # the time from which they are served here; a model does not say when it was made

    def row(name: str) -> dict[str, Any]:
        return {"id": name, "object": "model", "created": created, "owned_by": "medvlm-gateway"}

    async def names(request: HttpRequest[Any, Any, Any]) -> tuple[str, ...]:
        caller = await authenticate(request, runtime, "ask")
        return tuple(dict.fromkeys((*runtime.models(caller.department), AUTO)))

    @get("/v1/models")
    async def list_models(request: HttpRequest[Any, Any, Any]) -> Response[bytes]:
        body = {"object": "list", "data": [row(name) for name in await names(request)]}
        return Response(msgspec.json.encode(body), media_type="application/json")

    @get("/v1/models/{name:path}")
    async def read_model(request: HttpRequest[Any, Any, Any]) -> Response[bytes]:
        known = await names(request)
        name = str(request.path_params["name"]).removeprefix("/")
        if name not in known:
            given = ", ".join(f"`{model}`" for model in known)
            raise NotFound(
                f"there is no model {quote(name)} for this key; give one of {given}",
                code="model_not_found",
                param="model",
            )
        return Response(msgspec.json.encode(row(name)), media_type="application/json")

    return [list_models, read_model]
