"""The files that pages load: a style sheet and HTMX, each at an address with the digest of its bytes."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

from litestar import get
from litestar.connection import Request as HttpRequest
from litestar.handlers import HTTPRouteHandler
from litestar.response import Response

from gateway.errors import NotFound

_HOME = Path(__file__).parent / "assets"
_TYPES: Mapping[str, str] = MappingProxyType(
    {"console.css": "text/css; charset=utf-8", "htmx.min.js": "text/javascript; charset=utf-8"}
)
_YEAR = 365 * 24 * 3600


@cache
def _read(name: str) -> tuple[bytes, str]:
    data = (_HOME / name).read_bytes()
    return data, hashlib.sha256(data).hexdigest()[:16]


def address(name: str) -> str:
    """Give the address of an asset; it changes with the asset's bytes, so that browsers may keep what they have."""
    return f"/console/assets/{_read(name)[1]}/{name}"


def asset_route() -> HTTPRouteHandler:
    """Make the route."""

    @get("/assets/{digest:str}/{name:str}")
    async def asset(request: HttpRequest[Any, Any, Any]) -> Response[bytes]:
        name = str(request.path_params["name"])
        if name not in _TYPES or request.path_params["digest"] != _read(name)[1]:
            raise NotFound("there is no such file; load the page again")
        kept = {"cache-control": f"public, max-age={_YEAR}, immutable"}
        return Response(_read(name)[0], media_type=_TYPES[name], headers=kept)

    return asset
