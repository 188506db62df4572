"""Who calls, by an API key or a bearer token; what that allows; and how often it may be done."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from litestar.connection import Request as HttpRequest
from litestar.types import Scope

from gateway.errors import NotAuthenticated, TooMany
from gateway.identity.limiter import Left
from gateway.records import Caller, Permission, require

if TYPE_CHECKING:
    from gateway.bootstrap import Runtime

_LONGEST_TOKEN = 8192  # characters; the gateway's own keys are far shorter, tokens of identity providers are not
_HOW = "send a key of this gateway as `Authorization: Bearer <key>`; `gateway keys create` makes one"
_HEADERS = "gateway.limit.headers"
_NO_GUESS = frozenset({"expired_api_key", "expired_token"})  # the secret was right, only late


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
    """Tell who calls, and count the request. It is asked before the body is read.

    Raises NotAuthenticated where the key is missing, unknown, revoked or expired, NotPermitted where it lacks
    `permission`, TooMany where a limit is reached, and Unavailable where that can not be known.
    """
    caller = await identify(request, runtime, _token(request))
    require(caller, permission)
    await spend(request, runtime, caller, asks=permission == "ask")
    return caller


async def identify(request: HttpRequest[Any, Any, Any], runtime: Runtime, token: str) -> Caller:
    """Tell who holds `token`; addresses that send many wrong ones are not listened to for a while.

    Raises NotAuthenticated, TooMany and Unavailable as `authenticate` does.
    """
    peer = request.client.host if request.client is not None else "unknown"
    failures = runtime.limits.failures
    failures.check(peer, token)
    try:
        caller = await runtime.authenticate(token)
    except NotAuthenticated as exc:
        if exc.code not in _NO_GUESS:
            failures.failed(peer, token)
        raise
    if caller is None:
        failures.failed(peer, token)
        raise NotAuthenticated(f"the API key is unknown or revoked; {_HOW}", code="invalid_api_key")
    failures.passed(token)
    return caller


async def spend(
    request: HttpRequest[Any, Any, Any], runtime: Runtime, caller: Caller, cost: int = 1, *, asks: bool
) -> None:
    """Count `cost` requests of `caller`; the answer's headers tell what is left.

    A call that holds several requests counts the others once it is read. Raises TooMany and Unavailable.
    """
    try:
        left = await runtime.limits.spend(caller, cost, asks=asks)
    except TooMany as exc:
        request.scope["state"][_HEADERS] = [
            (b"x-ratelimit-remaining-requests", b"0"),
            (b"x-ratelimit-reset-requests", f"{exc.retry_after or 1}s".encode()),
        ]
        raise
    if left is not None:
        request.scope["state"][_HEADERS] = _told(left)


def limit_headers(scope: Scope) -> list[tuple[bytes, bytes]]:
    """Give the headers that tell what is left of the limits, as OpenAI names them; none where there is no limit."""
    found: list[tuple[bytes, bytes]] = scope.get("state", {}).get(_HEADERS, [])
    return found


def _told(left: Left) -> list[tuple[bytes, bytes]]:
    return [
        (b"x-ratelimit-limit-requests", str(left.limit).encode()),
        (b"x-ratelimit-remaining-requests", str(left.remaining).encode()),
        (b"x-ratelimit-reset-requests", f"{left.reset}s".encode()),
    ]
