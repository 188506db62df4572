"""`GET /healthz`: the process answers. `GET /readyz`: the gateway can do its duty. Both open, and without secrets."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

import msgspec
from litestar import get
from litestar.handlers import HTTPRouteHandler
from litestar.response import Response

from gateway.errors import describe

if TYPE_CHECKING:
    from gateway.bootstrap import Runtime

READY_SECONDS = 5.0
"""The time in which all checks must answer, in seconds."""

_log = logging.getLogger("gateway.web")


def health_routes(runtime: Runtime) -> list[HTTPRouteHandler]:
    """Make the routes."""

    @get("/healthz")
    async def healthz() -> Response[bytes]:
        return Response(b'{"alive":true}', media_type="application/json")

    @get("/readyz")
    async def readyz() -> Response[bytes]:
        try:
            async with asyncio.timeout(READY_SECONDS):
                checks = dict(await runtime.ready())
        except Exception as exc:  # noqa: BLE001 - whatever a check meets, the gateway is not ready
            _log.warning("not ready: %s", describe(exc))
            checks = {"checks": False}
        ready = bool(checks) and all(checks.values())
        body: dict[str, Any] = {"ready": ready, "checks": checks}
        return Response(msgspec.json.encode(body), status_code=200 if ready else 503, media_type="application/json")

    return [healthz, readyz]
