"""Signing in with an API key, and out again. The key is asked for once; a session that ends by itself stands for it."""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import re
from typing import TYPE_CHECKING, Any

import msgspec
from litestar import get, post
from litestar.connection import Request as HttpRequest
from litestar.handlers import HTTPRouteHandler
from litestar.response import Response

from gateway.errors import NotAuthenticated, NotPermitted, TooMany
from gateway.records import AccessV1, Caller, Permission, may
from gateway.web.auth import identify
from gateway.web.console.guard import check_origin, cookie_of, make_cookie, read_form, sent_form, signed_in
from gateway.web.console.templating import page, see_other

if TYPE_CHECKING:
    from gateway.bootstrap import Runtime

_UNKNOWN = "this key is unknown, revoked or expired"
_LONGEST_TOKEN = 8192  # characters: an OIDC token is longer than a key
_NEXT = re.compile(r"/console/[A-Za-z0-9_./-]*(\?[A-Za-z0-9_.~%&=+:*-]*)?", re.ASCII)
_HOMES: tuple[tuple[Permission, str], ...] = (
    ("search", "/console/decisions"),
    ("review", "/console/reviews"),
    ("verify", "/console/integrity"),
)


def home_of(caller: Caller) -> str | None:
    """Give the first page that `caller` may open; None where there is none."""
    return next((path for permission, path in _HOMES if may(caller, permission)), None)


def _safe_next(text: str) -> str:
    """Give `text` where it is a page of this console, else an empty string: nobody is sent to another site."""
    known = len(text) <= 2000 and _NEXT.fullmatch(text) is not None and ".." not in text and "//" not in text
    return text if known and not text.startswith("/console/sign-in") else ""


def _expiry(token: str) -> dt.datetime | None:
    """Give when a signed token ends; None for an API key. It has been verified already; this only reads it."""
    parts = token.split(".")
    if len(parts) != 3:
        return None
    try:
        claims = msgspec.json.decode(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
        return dt.datetime.fromtimestamp(float(claims["exp"]), dt.UTC)
    except (binascii.Error, msgspec.DecodeError, KeyError, TypeError, ValueError, OverflowError, OSError):
        return None


def _access(caller: Caller, action: str) -> AccessV1:
    now = dt.datetime.now(dt.UTC)
    return AccessV1.of(caller=caller, endpoint="/console/sign-in", decisions=(), at=now, action=action)


async def _enter(request: HttpRequest[Any, Any, Any], runtime: Runtime, token: str) -> tuple[Caller, str]:
    """Tell who holds `token`, and the first page that they may open; raises as `identify` does, and NotPermitted."""
    if not (token.isascii() and token.isprintable() and " " not in token and 0 < len(token) <= _LONGEST_TOKEN):
        raise NotAuthenticated(_UNKNOWN)
    caller = await identify(request, runtime, token)
    home = home_of(caller)
    if home is None:
        raise NotPermitted("this key's roles do not open the console; ask the gateway's operator for another")
    return caller, home


def sign_in_routes(runtime: Runtime) -> list[HTTPRouteHandler]:
    """Make the routes."""

    @get("/")
    async def home(request: HttpRequest[Any, Any, Any]) -> Response[Any]:
        session = await signed_in(request, runtime)
        return see_other(home_of(session.caller) or "/console/sign-in")

    @get("/sign-in")
    async def form_page(request: HttpRequest[Any, Any, Any]) -> Response[Any]:
        back = _safe_next(request.query_params.get("next", ""))
        session = await runtime.store.sessions.find(cookie_of(request, runtime))
        if session is not None and home_of(session.caller):
            return see_other(back or str(home_of(session.caller)))
        return page("sign_in", None, back=back, problem=None)

    @post("/sign-in", status_code=200)
    async def sign_in(request: HttpRequest[Any, Any, Any]) -> Response[Any]:
        check_origin(request, runtime)
        form = await read_form(request)
        back = _safe_next(form.get("next"))
        token = form.get("key")
        try:
            caller, home = await _enter(request, runtime, token)
        except (NotAuthenticated, NotPermitted, TooMany) as exc:
            known = exc.message if exc.code != "invalid_api_key" else _UNKNOWN
            return page("sign_in", None, exc.status, back=back, problem=known)
        caller = msgspec.structs.replace(caller, via="session")
        await runtime.store.decisions.append_event(_access(caller, "sign-in"))
        old = cookie_of(request, runtime)
        if old:  # whatever was there before is over: a session is never carried over a sign-in
            await runtime.store.sessions.close(old)
        cookie, _ = await runtime.store.sessions.open(caller, token, _expiry(token))
        answer = see_other(back or home)
        answer.set_cookie(make_cookie(request, runtime, cookie))
        return answer

    @post("/sign-out", status_code=200)
    async def sign_out(request: HttpRequest[Any, Any, Any]) -> Response[Any]:
        session, _ = await sent_form(request, runtime)
        await runtime.store.sessions.close(cookie_of(request, runtime))
        await runtime.store.decisions.append_event(_access(session.caller, "sign-out"))
        answer = see_other("/console/sign-in")
        answer.set_cookie(make_cookie(request, runtime, None))
        return answer

    return [home, form_page, sign_in, sign_out]
