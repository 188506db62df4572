"""API keys: who calls, and what the key's roles allow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from litestar.connection import Request as HttpRequest

from gateway.errors import NotAuthenticated
from gateway.records import Caller, Permission, require

if TYPE_CHECKING:
    from gateway.bootstrap import Runtime

_LONGEST_TOKEN = 512  # characters; the gateway's own keys are far shorter
_HOW = "send a key of this gateway as `Authorization: Bearer <key>`; `gateway keys create` makes one"


def _token(request: HttpRequest[Any, Any, Any]) -> str:
    headers = request.headers.getall("authorization", [])
    if not headers:
        raise NotAuthenticated(f"no API key was sent; {_HOW}", code="invalid_api_key")
    scheme, _, token = headers[0].strip().partition(" ")
    token = token.strip()
    well_formed = scheme.lower() == "bearer" and token.isascii() and token.isprintable() and " " not in token
    if len(headers) > 1 or not well_formed or not 0 < len(token) <= _LONGEST_TOKEN:
        raise NotAuthenticated(f"the `Authorization` header holds no API key; {_HOW}", code="invalid_api_key")
    return token


async def authenticate(request: HttpRequest[Any, Any, Any], runtime: Runtime, permission: Permission) -> Caller:
    """Tell who calls. It is asked before the body is read.

    Raises NotAuthenticated where the key is missing, unknown or revoked, and NotPermitted where it lacks `permission`.
    """
    caller = await runtime.authenticate(_token(request))
    if caller is None:
        raise NotAuthenticated(f"the API key is unknown or revoked; {_HOW}", code="invalid_api_key")
    require(caller, permission)
    return caller
