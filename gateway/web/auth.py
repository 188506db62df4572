"""API keys: who calls, and what the key's roles allow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from litestar.connection import Request as HttpRequest

from gateway.errors import NotAuthenticated, NotPermitted
from gateway.records import Caller

if TYPE_CHECKING:
    from gateway.bootstrap import Runtime

CALLERS = ("caller", "admin")
"""Roles that may ask a model."""

READERS = ("officer", "auditor", "admin")
"""Roles that may read decisions."""

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


async def authenticate(request: HttpRequest[Any, Any, Any], runtime: Runtime, roles: tuple[str, ...]) -> Caller:
    """Tell who calls. It is asked before the body is read.

    Raises NotAuthenticated where the key is missing, unknown or revoked, and NotPermitted where it has none of `roles`.
    """
    caller = await runtime.authenticate(_token(request))
    if caller is None:
        raise NotAuthenticated(f"the API key is unknown or revoked; {_HOW}", code="invalid_api_key")
    if not set(caller.roles) & set(roles):
        has = ", ".join(sorted(caller.roles)) or "none"
        raise NotPermitted(
            f"this needs a key with the role {' or '.join(roles)}, and this key's roles are: {has}; "
            "ask the gateway's operator for another key",
            code="insufficient_permissions",
        )
    return caller
