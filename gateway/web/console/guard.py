"""Who is signed in, and whether a form is the console's own: asked at every request, before anything is read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

import msgspec
from litestar.connection import Request as HttpRequest
from litestar.datastructures import Cookie

from gateway.errors import InvalidRequest, NotAuthenticated, NotPermitted, TooLarge
from gateway.records import Permission, require

if TYPE_CHECKING:
    from gateway.bootstrap import Runtime
    from gateway.store.sessions import Session

Asked = HttpRequest[Any, Any, Any]
"""An HTTP request."""

FORM_BYTES = 64 * 1024
"""A form of the console is never larger."""

FORM_FIELDS = 100
"""A form of the console never has more fields."""

_PLAIN = "gateway-console"


class Form:
    """The fields of a form; of a field that stands twice the last counts."""

    def __init__(self, pairs: list[tuple[str, str]]) -> None:
        self.pairs = tuple(pairs)
        self._fields = dict(pairs)

    def get(self, name: str) -> str:
        """Give a field without the spaces around it; empty where it is missing."""
        return self._fields.get(name, "").strip()


def query_of(request: Asked) -> tuple[tuple[str, str], ...]:
    """Give the fields of the address in their order, empty ones too. Raises InvalidRequest where they are too many."""
    try:
        pairs = parse_qsl(
            request.scope["query_string"].decode("latin-1"), keep_blank_values=True, max_num_fields=FORM_FIELDS
        )
    except ValueError:
        raise InvalidRequest(f"the address has over {FORM_FIELDS} fields; begin anew") from None
    return tuple(pairs)


def is_secure(request: Asked, runtime: Runtime) -> bool:
    """Tell whether people reach the console by https: by `public_url` where it is given, else as the request came."""
    public = runtime.settings.public_url
    return public.startswith("https:") if public else request.scope["scheme"] == "https"


def _name(secure: bool) -> str:
    # browsers take `__Host-` only over https, without a domain and for the whole site: no neighbour can plant it
    return f"__Host-{_PLAIN}" if secure else _PLAIN


def make_cookie(request: Asked, runtime: Runtime, value: str | None) -> Cookie:
    """Make the cookie of a session, or with None the one that takes it away; it ends with the browser."""
    secure = is_secure(request, runtime)
    return Cookie(
        key=_name(secure),
        value=value or "",
        max_age=0 if value is None else None,
        path="/",
        secure=secure,
        httponly=True,
        samesite="strict",
    )


def cookie_of(request: Asked, runtime: Runtime) -> str:
    """Give the cookie that was sent; empty where none was."""
    return request.cookies.get(_name(is_secure(request, runtime)), "")


def check_origin(request: Asked, runtime: Runtime) -> None:
    """Raise NotPermitted unless the form was sent by a page of this console.

    The `Origin` must be the public address where one is given, and else name the host that the request was sent to.
    """
    sent = request.headers.getall("origin", [])
    origin = sent[0] if len(sent) == 1 else ""
    public = runtime.settings.public_url
    if public:
        parts = urlsplit(public)
        good = origin == f"{parts.scheme}://{parts.netloc}"
    else:
        good = bool(origin) and urlsplit(origin).netloc == request.headers.get("host", "")
    if not good:
        raise NotPermitted("this form was not sent by a page of the console; open the console and send it from there")


async def signed_in(request: Asked, runtime: Runtime, permission: Permission | None = None) -> Session:
    """Give the session of whoever asks.

    Raises NotAuthenticated where there is none or it is over, and NotPermitted where it lacks `permission`.
    """
    session = await runtime.store.sessions.find(cookie_of(request, runtime))
    if session is None:
        raise NotAuthenticated("nobody is signed in, or the session is over; sign in")
    session = msgspec.structs.replace(session, caller=await runtime.store.grants.active(session.caller))
    request.state.session = session
    if permission is not None:
        require(session.caller, permission)
    return session


async def read_form(request: Asked) -> Form:
    """Read a form. Raises InvalidRequest where it is none, TooLarge where it is too large."""
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media != "application/x-www-form-urlencoded":
        raise InvalidRequest("this is no form of the console; open the console and send it from there")
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > FORM_BYTES:
            raise TooLarge(f"the form is over {FORM_BYTES} bytes; write less")
    try:
        text = body.decode("ascii")
        pairs = parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=FORM_FIELDS)
    except ValueError:
        raise InvalidRequest("the form can not be read; load the page again and send it from there") from None
    if any("\x00" in word for pair in pairs for word in pair):
        raise InvalidRequest("the form holds a character that no text has (U+0000); remove it")
    return Form(pairs)


async def sent_form(request: Asked, runtime: Runtime, permission: Permission | None = None) -> tuple[Session, Form]:
    """Give the session and the form of a request that changes something.

    Raises NotPermitted where it was not sent by a page of this console or without the session's own token, and what
    `signed_in` and `read_form` raise.
    """
    check_origin(request, runtime)
    session = await signed_in(request, runtime, permission)
    form = await read_form(request)
    if not session.fits(request.headers.get("x-csrf-token") or form.get("csrf")):
        raise NotPermitted("the form's token is not that of this session; load the page again and send it from there")
    return session, form
